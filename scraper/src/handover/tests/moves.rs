//! A target that changes its owner.

use std::sync::atomic::Ordering;

use promring_model::config::HttpClientConfig;
use promring_model::handover::Grant;
use promring_model::slots::Slots;
use promring_model::target::Target;
use promring_net::client::HttpClient;
use promring_net::clock::now_ms;

use super::node::*;

/// One that has the target, one that is going to, and T, which the first has accepted and the second knows.
async fn change_owner(a: &Node, b: &Node, target: &Target) -> i64 {
    // A moment after a slot, so that much time is left before the next one.
    change_owner_at(a, b, target, || slot_after(target, 700) + 20).await
}

/// The same, at a T that is chosen when all is prepared.
async fn change_owner_at(a: &Node, b: &Node, target: &Target, at: impl Fn() -> i64) -> i64 {
    a.told(2, &[(target, outgoing())], &[(M, terms(a, b, None, false, false))]);
    b.told(2, &[(target, incoming())], &[(M, terms(a, b, None, false, false))]);
    b.reports("it is prepared", |report| report.prepared).await;
    let at = at();
    a.told(3, &[(target, outgoing())], &[(M, terms(a, b, Some(at), false, false))]);
    a.reports("it stops at T", |report| report.settled == Some(at)).await;
    b.told(3, &[(target, incoming())], &[(M, terms(a, b, Some(at), true, false))]);
    at
}

/// Both of them, while the target that the first has scraped goes to the second; and T.
async fn on_the_move(scene: &Scene) -> (Node, Node, i64) {
    let (a, b) = scene.two_nodes().await;
    a.told(1, &[(&scene.target, Grant::default())], &[]);
    until("a scrapes", || samples(&scene.receiver, "x").len() >= 2).await;
    let at = change_owner(&a, &b, &scene.target).await;
    (a, b, at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_slot_is_scraped_once_and_only_what_vanished_at_the_cut_over_is_marked() {
    let scene = Scene::start("stays 1\nvanishes 1\n").await;
    let Scene { exporter, receiver, target, .. } = &scene;
    let (a, b) = scene.two_nodes().await;
    a.told(1, &[(target, Grant::default())], &[]);
    b.told(1, &[], &[]);
    until("a scrapes", || samples(receiver, "up").len() >= 2).await;
    let at = change_owner(&a, &b, target).await;
    // Between the last scrape of the one and the first of the other.
    until_time(at + 150).await;
    exporter.set(Some("stays 1\n"));
    a.reports("all is sent", |report| report.all_sent).await;
    b.told(4, &[(target, incoming())], &[(M, terms(&a, &b, Some(at), true, true))]);
    until("b's samples arrive", || {
        samples(receiver, "up").iter().filter(|(time, _)| *time >= at).count() >= 3
    })
    .await;
    // The key is b's for good.
    a.told(5, &[], &[]);
    b.told(5, &[(target, Grant::default())], &[]);
    let arrived = samples(receiver, "up").len();
    until("and more of them", || samples(receiver, "up").len() >= arrived + 4).await;
    b.stop().await;
    let up = samples(receiver, "up");
    assert_every_slot_once(target, &up);
    assert!(up.iter().all(|(_, stale)| !stale));
    assert_eq!(samples(receiver, "stays"), up);
    let vanished = samples(receiver, "vanishes");
    let (last, before) = vanished.split_last().unwrap();
    assert!(before.iter().all(|(time, stale)| *time < at && !stale));
    let first_of_b: Vec<i64> = up.iter().map(|(time, _)| *time).filter(|time| *time >= at).take(2).collect();
    assert!(last.1 && first_of_b.contains(&last.0), "{last:?} of {first_of_b:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_dies_at_the_cut_over_gets_its_markers() {
    let scene = Scene::start("lives 1\n").await;
    let Scene { exporter, receiver, target, .. } = &scene;
    let (a, b) = scene.two_nodes().await;
    a.told(1, &[(target, Grant::default())], &[]);
    until("a scrapes", || samples(receiver, "lives").len() >= 2).await;
    let at = change_owner(&a, &b, target).await;
    until_time(at + 150).await;
    exporter.set(None);
    a.reports("all is sent", |report| report.all_sent).await;
    b.told(4, &[(target, incoming())], &[(M, terms(&a, &b, Some(at), true, true))]);
    until("the marker arrives", || samples(receiver, "lives").last().is_some_and(|(_, stale)| *stale)).await;
    let slots = samples(receiver, "up").len();
    until("some more slots", || samples(receiver, "up").len() >= slots + 3).await;
    let lives = samples(receiver, "lives");
    assert_eq!(lives.iter().filter(|(_, stale)| *stale).count(), 1, "once: {lives:?}");
    assert!(lives.last().unwrap().0 >= at);
    assert_every_slot_once(target, &samples(receiver, "up"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_target_is_not_scraped_and_one_of_an_unknown_job_is_not_prepared() {
    let scene = Scene::start("x 1\n").await;
    let Scene { exporter, receiver, target: known, .. } = &scene;
    let mut unknown = known.clone();
    unknown.job = "unknown".into();
    let (a, b) = scene.two_nodes().await;
    b.told(2, &[(&unknown, incoming())], &[(M, terms(&a, &b, None, false, false))]);
    assert!(!b.move_report().await.prepared);
    b.told(3, &[(known, incoming())], &[(M, terms(&a, &b, None, false, false))]);
    b.reports("it is prepared", |report| report.prepared).await;
    until_time(slot_after(known, 3 * INTERVAL_MS)).await;
    assert_eq!(exporter.scrapes.load(Ordering::Relaxed), 0);
    // T that has passed when it is heard of: the next slot is the first.
    let heard_ms = now_ms();
    b.told(4, &[(known, incoming())], &[(M, terms(&a, &b, Some(heard_ms - 5_000), true, true))]);
    until("it is scraped", || !samples(receiver, "up").is_empty()).await;
    assert!(samples(receiver, "up")[0].0 > heard_ms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_called_sent_before_it_is_acknowledged() {
    let scene = Scene::start("x 1\n").await;
    let Scene { receiver, away, target, .. } = &scene;
    let (a, b) = scene.two_nodes().await;
    a.told(1, &[(target, Grant::default())], &[]);
    until("a scrapes", || !samples(receiver, "up").is_empty()).await;
    away.store(true, Ordering::Relaxed);
    let at = change_owner(&a, &b, target).await;
    until_time(at + 3 * INTERVAL_MS).await;
    let report = a.move_report().await;
    assert!(report.sent.is_empty() && !report.all_sent, "{report:?}");
    away.store(false, Ordering::Relaxed);
    let report = a.reports("all is sent", |report| report.all_sent).await;
    assert!(report.sent.contains("prod"));
    let of_a = samples(receiver, "up").into_iter().filter(|(time, _)| *time < at);
    assert!(of_a.count() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_a_reload_takes_away_holds_up_no_move() {
    let scene = Scene::start("x 1\n").await;
    let Scene { receiver, away, config, target, .. } = &scene;
    let (a, b) = scene.two_nodes().await;
    a.told(1, &[(target, Grant::default())], &[]);
    until("a scrapes", || !samples(receiver, "up").is_empty()).await;
    away.store(true, Ordering::Relaxed);
    let at = change_owner(&a, &b, target).await;
    until_time(at + INTERVAL_MS).await;
    assert!(!a.move_report().await.all_sent);
    let mut without = config.clone();
    without.remote_write.clear();
    a.scraper.apply_config(std::sync::Arc::new(without)).unwrap();
    a.reports("there is nothing to be sent", |report| report.all_sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taker_that_no_allocator_answers_asks_the_giver_and_nobody_else_is_told() {
    let scene = Scene::start("x 1\n").await;
    let Scene { receiver, target, .. } = &scene;
    let (a, b) = scene.two_nodes().await;
    a.told(2, &[(target, outgoing())], &[(M, terms(&a, &b, None, false, false))]);
    b.told(2, &[(target, incoming())], &[(M, terms(&a, &b, None, false, false))]);
    let at = slot_after(target, 4_500) + 20;
    let client = HttpClient::new(&HttpClientConfig::default()).unwrap().connections();
    let ask = |by: &str| client.get(format!("{}/api/v1/handover/{}?by={by}", a.address, target.key)).send();
    assert_eq!(ask("b").await.unwrap().status(), 404, "nothing is final");
    a.told(3, &[(target, outgoing())], &[(M, terms(&a, &b, Some(at), false, false))]);
    a.reports("it stops at T", |report| report.settled == Some(at)).await;
    assert_eq!(ask("c").await.unwrap().status(), 404);
    let word = ask("b").await.unwrap().text().await.unwrap();
    assert!(word.contains(&format!("\"until\":{at}")), "{word}");
    b.reports("it begins at T", |report| report.settled == Some(at)).await;
    a.reports("all is sent", |report| report.all_sent).await;
    // The allocator is there again.
    b.told(3, &[(target, incoming())], &[(M, terms(&a, &b, Some(at), true, true))]);
    until("b scrapes", || samples(receiver, "up").iter().filter(|(time, _)| *time >= at).count() >= 3).await;
    assert_every_slot_once(target, &samples(receiver, "up"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_gone_while_it_moves_is_marked_by_whoever_has_it() {
    let scene = Scene::start("x 1\n").await;
    let Scene { receiver, target, .. } = &scene;
    let (a, b, at) = on_the_move(&scene).await;
    until_time(at + 3 * INTERVAL_MS).await;
    a.reports("all is sent", |report| report.all_sent).await;
    b.told_all(4, &[], &[(M, terms(&a, &b, Some(at), true, true))], &[target]);
    a.told_all(4, &[], &[(M, terms(&a, &b, Some(at), true, true))], &[target]);
    until("the markers arrive", || samples(receiver, "up").last().is_some_and(|(_, stale)| *stale)).await;
    let x = samples(receiver, "x");
    assert_eq!(x.iter().filter(|(_, stale)| *stale).count(), 1);
    assert_every_slot_once(target, &x);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_gone_before_its_first_slot_elsewhere_is_marked_there() {
    // Before T, and between T and that slot. Where it has a slot before T, it is marked by who had it.
    for after_ms in [-150, 100] {
        let scene = Scene::start("x 1\n").await;
        let Scene { receiver, target, .. } = &scene;
        let (a, b, at) = on_the_move(&scene).await;
        until_time(at + after_ms).await;
        // Markers are the taker's business by now.
        a.told(4, &[], &[(M, terms(&a, &b, Some(at), true, false))]);
        b.told_all(4, &[], &[(M, terms(&a, &b, Some(at), true, false))], &[target]);
        a.reports("all is sent", |report| report.all_sent).await;
        b.told(5, &[], &[(M, terms(&a, &b, Some(at), true, true))]);
        until("the markers arrive", || samples(receiver, "up").last().is_some_and(|(_, stale)| *stale)).await;
        a.stop().await;
        b.stop().await;
        let (x, up) = (samples(receiver, "x"), samples(receiver, "up"));
        let next = Slots::new(target.interval, target.key).next_after(at + after_ms);
        for series in [x, up] {
            let (last, before) = series.split_last().unwrap();
            assert_eq!(*last, (next, true), "{after_ms} ms: {series:?} and T {at}");
            assert!(before.iter().all(|(time, stale)| *time < at && !stale), "{after_ms} ms: {series:?}");
        }
    }
}

/// A target that is gone so long before T, and back so long before it, where slots are 800 and 300 ms before T; what the receiver has of it,
/// and T. `marked_by_giver`: as one whose markers are the giver's, not the taker's. None: the machine was too busy.
async fn back_about_t(
    marked_by_giver: bool,
    gone_ms: i64,
    back_ms: i64,
) -> Option<(Target, [Vec<(i64, bool)>; 2], i64)> {
    let scene = Scene::start("x 1\n").await;
    let Scene { receiver, target, .. } = &scene;
    let (a, b) = scene.two_nodes().await;
    a.told(1, &[(target, Grant::default())], &[]);
    until("a scrapes", || samples(receiver, "x").len() >= 2).await;
    let at = change_owner_at(&a, &b, target, || slot_after(target, 1_200) + 300).await;
    until_time(at - gone_ms).await;
    let moves = [(M, terms(&a, &b, Some(at), true, false))];
    let gone: &[&Target] = if marked_by_giver { &[target] } else { &[] };
    a.told_all(4, &[], &moves, gone);
    if !marked_by_giver {
        b.told_all(4, &[], &moves, &[target]);
    }
    let in_time = now_ms() < at - gone_ms + 100;
    until_time(at - back_ms).await;
    a.told(5, &[(target, outgoing())], &moves);
    b.told(5, &[(target, incoming())], &moves);
    let in_time = in_time && now_ms() < at - back_ms + 100;
    a.reports("all is sent", |report| report.all_sent).await;
    b.told(6, &[(target, incoming())], &[(M, terms(&a, &b, Some(at), true, true))]);
    until("b scrapes", || samples(receiver, "up").iter().filter(|(time, _)| *time >= at).count() >= 3).await;
    a.stop().await;
    b.stop().await;
    let received = [samples(receiver, "x"), samples(receiver, "up")];
    in_time.then(|| (scene.target.clone(), received, at))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_back_goes_on_and_a_slot_before_t_that_it_was_away_for_has_its_marker() {
    // Within a slot, whoever is to mark it; over a slot, and back at T only; within one that is the taker's.
    let cases =
        [(true, 250, 150), (false, 250, 150), (false, 700, 150), (false, 700, -100), (false, 150, -100)];
    for (marked_by_giver, gone_ms, back_ms) in cases {
        let attempt = async || back_about_t(marked_by_giver, gone_ms, back_ms).await;
        let (target, received, at) = within_a_slot(attempt).await;
        for samples in received {
            let markers: Vec<i64> =
                samples.iter().filter(|(_, stale)| *stale).map(|(time, _)| *time).collect();
            let missed = if gone_ms > 300 { vec![at - 300] } else { Vec::new() };
            assert_eq!(markers, missed, "{marked_by_giver} {gone_ms} {at}: {samples:?}");
            assert_every_slot_once(&target, &samples);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_gone_ends_with_markers_at_its_next_slot() {
    let scene = Scene::start("x 1\n").await;
    let Scene { receiver, config, target, .. } = &scene;
    let a = Node::start("a", config).await;
    a.told(1, &[(target, Grant::default())], &[]);
    until("a scrapes", || samples(receiver, "x").len() >= 2).await;
    a.told_all(2, &[], &[], &[target]);
    until("the markers arrive", || samples(receiver, "up").last().is_some_and(|(_, stale)| *stale)).await;
    let x = samples(receiver, "x");
    assert_eq!(x.iter().filter(|(_, stale)| *stale).count(), 1);
    assert_every_slot_once(target, &x);
}
