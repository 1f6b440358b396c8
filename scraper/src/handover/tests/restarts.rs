//! What a scraper knows after a restart.

use std::sync::atomic::Ordering;

use promring_model::handover::{Grant, MoveId, MoveReport, Version};
use promring_net::clock::now_ms;

use super::node::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_nothing_is_scraped_until_an_allocator_has_said_that_it_still_holds() {
    let scene = Scene::start("x 1\n").await;
    let Scene { exporter, receiver, config, target, .. } = &scene;
    let a = Node::start("a", config).await;
    a.told(1, &[(target, Grant::default())], &[]);
    until("it scrapes", || !samples(receiver, "up").is_empty()).await;
    until("it is saved", || a.scraper.without_targets().is_some()).await;
    let a = a.restart().await;
    assert_eq!(a.scraper.manager().targets().count(), 1, "it knows its target");
    assert!(a.scraper.readiness()().is_err());
    let scrapes = exporter.scrapes.load(Ordering::Relaxed);
    until_time(slot_after(target, 3 * INTERVAL_MS)).await;
    assert_eq!(exporter.scrapes.load(Ordering::Relaxed), scrapes);
    // The same version once more.
    a.told(1, &[(target, Grant::default())], &[]);
    assert!(a.scraper.readiness()().is_ok());
    until("it scrapes again", || exporter.scrapes.load(Ordering::Relaxed) > scrapes + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scraper_that_cannot_save_reports_as_long_as_it_is_in_no_move() {
    let scene = Scene::start("x 1\n").await;
    let target = &scene.target;
    let (a, b) = scene.two_nodes().await;
    a.set_saves(false);
    a.told(1, &[(target, Grant::default())], &[]);
    until("it reports all the same", || a.scraper.without_targets().is_some()).await;
    assert!(a.scraper.readiness()().is_ok());
    a.told(2, &[(target, outgoing())], &[(M, terms(&a, &b, Some(slot_after(target, 60_000)), false, false))]);
    assert!(a.scraper.without_targets().is_none(), "others would go by what it may forget");
    a.set_saves(true);
    assert!(a.move_report().await.settled.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_behind_a_fence_waits_on_after_a_restart_and_comes_first_when_it_opens() {
    let scene = Scene::start("x 1\n").await;
    let Scene { receiver, target, .. } = &scene;
    let (a, b) = scene.two_nodes().await;
    let at = slot_after(target, 100);
    let told = |b: &Node, counter, sent| {
        b.told(counter, &[(target, incoming())], &[(M, terms(&a, b, Some(at), true, sent))]);
    };
    b.told(2, &[(target, incoming())], &[(M, terms(&a, &b, None, false, false))]);
    b.reports("it is prepared", |report| report.prepared).await;
    told(&b, 3, false);
    let queued = |b: &Node| b.scraper.queues()[0].samples;
    until("two scrapes are behind the fence", || queued(&b) >= 12).await;
    until("it is saved", || b.scraper.without_targets().is_some()).await;
    let held = queued(&b);
    let b = b.restart().await;
    assert!(queued(&b) >= held);
    told(&b, 3, false);
    until("two more", || queued(&b) >= held + 12).await;
    assert_eq!(samples(receiver, "up"), [], "nothing is sent");
    told(&b, 4, true);
    until("all arrive", || samples(receiver, "up").len() >= 5).await;
    // Over: the normal way again.
    b.told(5, &[(target, Grant::default())], &[]);
    let destination = b.scraper.shared.destinations.in_force().remove(0);
    until("the fence is gone", || destination.fences() == 0).await;
    let arrived = samples(receiver, "up").len();
    until("and more arrive", || samples(receiver, "up").len() >= arrived + 2).await;
    let times: Vec<i64> = samples(receiver, "up").into_iter().map(|(time, _)| time).collect();
    assert!(times.is_sorted_by(|one, next| one < next), "{times:?}");
}

/// The move by which the target goes on.
const ON: MoveId = MoveId(Version { term: 1, counter: 4 });

/// What a scraper reports of that.
async fn word_of_on(node: &Node) -> MoveReport {
    node.move_reports().await.into_iter().find(|word| word.id == ON).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_behind_a_fence_is_not_called_sent_after_a_restart_though_its_target_has_gone_on() {
    let scene = Scene::start("x 1\n").await;
    let Scene { receiver, target, .. } = &scene;
    let (a, b) = scene.two_nodes().await;
    // It comes from a, which cannot send what it has.
    let at = slot_after(target, 100);
    let (closed, open) = (terms(&a, &b, Some(at), true, false), terms(&a, &b, Some(at), true, true));
    b.told(2, &[(target, incoming())], &[(M, terms(&a, &b, None, false, false))]);
    b.reports("it is prepared", |report| report.prepared).await;
    b.told(3, &[(target, incoming())], &[(M, closed.clone())]);
    until("two scrapes are behind the fence", || b.scraper.queues()[0].samples >= 12).await;
    // It goes on, and b knows nothing more of it but that.
    let until_ms = slot_after(target, 700) + 20;
    let asked = terms(&b, &a, Some(until_ms), false, false);
    let gone = terms(&b, &a, Some(until_ms), true, false);
    let both = Grant { incoming: Some(M), outgoing: Some(ON) };
    b.told(4, &[(target, both)], &[(M, closed.clone()), (ON, asked)]);
    assert_eq!(word_of_on(&b).await.settled, Some(until_ms));
    until_time(until_ms).await;
    let moves = [(M, closed), (ON, gone.clone())];
    b.told(5, &[], &moves);
    until("it is saved", || b.scraper.without_targets().is_some()).await;
    let b = b.restart().await;
    b.told(5, &[], &moves);
    until_time(now_ms() + 2 * INTERVAL_MS).await;
    let word = word_of_on(&b).await;
    assert!(word.sent.is_empty() && !word.all_sent, "{word:?}");
    assert_eq!(samples(receiver, "up"), [], "nothing is sent");
    b.told(6, &[], &[(M, open), (ON, gone)]);
    until("all is sent", || !samples(receiver, "up").is_empty()).await;
    while !word_of_on(&b).await.all_sent {}
    let up = samples(receiver, "up");
    assert_every_slot_once(target, &up);
    assert!(up.len() >= 2 && up.iter().all(|(time, _)| (at..until_ms).contains(time)), "{up:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_that_fails_as_the_process_stood_still_says_nothing_of_its_target() {
    let scene = Scene::start("x 1\n").await;
    let Scene { receiver, target, exporter, .. } = &scene;
    let (a, _b) = scene.two_nodes().await;
    a.told(1, &[(target, Grant::default())], &[]);
    until("it is scraped", || samples(receiver, "x").len() >= 2).await;
    exporter.held.send_replace(true);
    let before = exporter.scrapes.load(Ordering::Relaxed);
    until("a scrape is under way", || exporter.scrapes.load(Ordering::Relaxed) > before).await;
    // The clock jumps, as it does for whoever was stopped, and the answer is none.
    let gate = &a.scraper.shared.environment.gate;
    gate.with(|member| member.tick(now_ms() + 60_000));
    exporter.set(None);
    exporter.held.send_replace(false);
    a.stop().await;
    let up = samples(receiver, "up");
    assert!(samples(receiver, "x").iter().chain(&up).all(|(_, stale)| !stale), "nobody marks it");
    assert_eq!(up.len(), samples(receiver, "x").len(), "nor says that it is down");
}
