//! Targets that are gone and come back. One thread runs it all: what a test does without waiting, no loop sees in parts.

use std::sync::Arc;
use std::time::Duration;

use promring_model::handover::Grant;
use promring_model::labels::LabelsBuilder;
use promring_model::slots::Slots;
use promring_model::target::Target;
use promring_net::clock::now_ms;

use super::node::*;
use crate::send::tests::receiver::Receiver;

const GRANT: Grant = Grant { incoming: None, outgoing: None };

/// A scraper that has scraped its target a few times.
async fn scraping(scene: &Scene) -> Node {
    let node = Node::start("a", &scene.config).await;
    node.told(1, &[(&scene.target, GRANT)], &[]);
    until("it scrapes", || samples(&scene.receiver, "x").len() >= 2).await;
    node
}

/// So many more slots are scraped.
async fn scraped(receiver: &Receiver, slots: usize) {
    let before = samples(receiver, "up").len();
    until("it is scraped", || samples(receiver, "up").len() >= before + slots).await;
}

/// The target with another label of this name.
fn relabelled(scene: &Scene, name: &str) -> Target {
    let mut labels = LabelsBuilder::from_labels(&scene.target.labels);
    labels.set(name, "another");
    Target::from_final_labels(&scene.config.scrape_configs[0], labels.build()).unwrap()
}

/// A moment after a slot. Gives the next one.
async fn after_a_slot(target: &Target) -> i64 {
    let slot = slot_after(target, 0);
    until_time(slot + 100).await;
    slot_after(target, 0)
}

/// So that the loops see what they were told.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn markers(samples: &[(i64, bool)]) -> Vec<i64> {
    samples.iter().filter(|(_, stale)| *stale).map(|(time, _)| *time).collect()
}

/// Tells it that the target is gone and that this one is there; again and again, `waits` says whether it sees the one before it
/// hears of the other. False: a slot came in between, as the machine was busy.
async fn flaps(node: &Node, scene: &Scene, back: &Target, waits: &[bool]) -> bool {
    let next = after_a_slot(&scene.target).await;
    let mut there = &scene.target;
    for (waits, counter) in waits.iter().zip((2..).step_by(2)) {
        node.told_all(counter, &[], &[], &[there]);
        if *waits {
            a_moment().await;
        }
        node.told(counter + 1, &[(back, GRANT)], &[]);
        there = back;
        if *waits {
            a_moment().await;
        }
    }
    now_ms() < next
}

/// A scraper whose target was gone and is back as this one, all within a slot.
async fn flapped(back: impl Fn(&Scene) -> Target, waits: &[bool]) -> (Scene, Node) {
    let attempt = async || {
        let scene = Scene::start("x 1\n").await;
        let a = scraping(&scene).await;
        flaps(&a, &scene, &back(&scene), waits).await.then_some((scene, a))
    };
    within_a_slot(attempt).await
}

#[tokio::test]
async fn a_target_that_is_back_before_its_next_slot_loses_none_and_gets_no_marker() {
    let once: [&[bool]; 4] = [&[true], &[false], &[true, true], &[false, false, true]];
    for waits in once {
        let (scene, a) = flapped(|scene| scene.target.clone(), waits).await;
        scraped(&scene.receiver, 3).await;
        for name in ["x", "up"] {
            let samples = samples(&scene.receiver, name);
            assert!(markers(&samples).is_empty(), "{waits:?}: {samples:?}");
            assert_every_slot_once(&scene.target, &samples);
        }
        a.stop().await;
    }
}

#[tokio::test]
async fn one_that_comes_back_at_another_path_goes_on_and_one_with_other_labels_is_another() {
    let of_another_path = |scene: &Scene| {
        let back = relabelled(scene, "__param_of");
        assert!(back.key == scene.target.key && back.id != scene.target.id);
        back
    };
    let (scene, a) = flapped(of_another_path, &[true]).await;
    scraped(&scene.receiver, 3).await;
    let went_on = samples(&scene.receiver, "x");
    assert!(markers(&went_on).is_empty(), "{went_on:?}");
    assert_every_slot_once(&scene.target, &went_on);
    a.stop().await;
    let scene = Scene::start("x 1\n").await;
    let back = relabelled(&scene, "instance");
    assert!(back.key != scene.target.key);
    let a = scraping(&scene).await;
    let next = after_a_slot(&scene.target).await;
    a.told_all(2, &[], &[], &[&scene.target]);
    a.told(3, &[(&back, GRANT)], &[]);
    scraped(&scene.receiver, 4).await;
    let samples = samples(&scene.receiver, "x");
    let slots = Slots::new(scene.target.interval, scene.target.key);
    assert_eq!(markers(&samples).len(), 1, "{samples:?}");
    assert!(slots.slot_at(markers(&samples)[0]) >= next);
    let others = Slots::new(back.interval, back.key);
    let after = samples.iter().filter(|(time, stale)| !stale && others.slot_at(*time) == *time);
    assert!(after.count() >= 2, "{samples:?}");
    a.stop().await;
}

#[tokio::test]
async fn one_that_is_back_after_the_slot_of_its_markers_goes_on_with_the_next_slot() {
    for sees_the_slot in [true, false] {
        let scene = Scene::start("x 1\n").await;
        let a = scraping(&scene).await;
        let next = after_a_slot(&scene.target).await;
        a.told_all(2, &[], &[], &[&scene.target]);
        if sees_the_slot {
            until("the marker", || !markers(&samples(&scene.receiver, "x")).is_empty()).await;
        } else {
            // Its loop gets no time before it is back.
            a_moment().await;
            std::thread::sleep(Duration::from_millis((next + 20 - now_ms()).max(0) as u64));
        }
        let before = now_ms();
        a.told(3, &[(&scene.target, GRANT)], &[]);
        let after = now_ms();
        scraped(&scene.receiver, 3).await;
        for name in ["x", "up"] {
            let samples = samples(&scene.receiver, name);
            assert_eq!(markers(&samples).len(), 1, "{samples:?}");
            assert!(samples.is_sorted_by(|one, next| one.0 < next.0), "{samples:?}");
            let at = samples.iter().position(|(_, stale)| *stale).unwrap();
            let slots = Slots::new(scene.target.interval, scene.target.key);
            let first = slots.slot_at(samples[at + 1].0);
            assert!(first >= slots.next_after(before) && first <= slots.next_after(after), "{samples:?}");
            assert_every_slot_once(&scene.target, &samples[at + 1..]);
        }
        a.stop().await;
    }
}

/// A scraper that has the target by a move, and two scrapes of it behind the fence, which opens when the target is back as granted;
/// and whether that was before its next slot.
async fn flapped_behind_a_fence(waits: bool) -> (Scene, Node, bool) {
    let scene = Scene::start("x 1\n").await;
    let Scene { receiver, target, .. } = &scene;
    let (a, b) = scene.two_nodes().await;
    b.told(2, &[(target, incoming())], &[(M, terms(&a, &b, None, false, false))]);
    b.reports("it is prepared", |report| report.prepared).await;
    let moves = [(M, terms(&a, &b, Some(slot_after(target, 100)), true, false))];
    b.told(3, &[(target, incoming())], &moves);
    until("two scrapes are behind the fence", || b.scraper.queues()[0].samples >= 12).await;
    let next = after_a_slot(target).await;
    b.told_all(4, &[], &moves, &[target]);
    if waits {
        until_time(next + 20).await;
    }
    // Still by its move, and then as its own.
    b.told(5, &[(target, incoming())], &moves);
    let is_before = now_ms() < next;
    b.told(6, &[(target, GRANT)], &[]);
    scraped(receiver, 4).await;
    (scene, b, is_before)
}

#[tokio::test]
async fn one_that_was_gone_behind_a_fence_loses_no_slot_before_which_it_is_back() {
    let attempt = async || {
        let (scene, node, is_before) = flapped_behind_a_fence(false).await;
        is_before.then_some((scene, node))
    };
    let (Scene { receiver, target, .. }, b) = within_a_slot(attempt).await;
    for name in ["x", "up"] {
        let samples = samples(&receiver, name);
        assert!(markers(&samples).is_empty(), "{samples:?}");
        assert_every_slot_once(&target, &samples);
    }
    b.stop().await;
}

#[tokio::test]
async fn one_that_is_back_later_is_marked_behind_the_fence_and_goes_on_after_that() {
    let (Scene { receiver, .. }, b, is_before) = flapped_behind_a_fence(true).await;
    assert!(!is_before);
    until("the marker", || !markers(&samples(&receiver, "x")).is_empty()).await;
    scraped(&receiver, 3).await;
    for name in ["x", "up"] {
        let samples = samples(&receiver, name);
        assert_eq!(markers(&samples).len(), 1, "{samples:?}");
        assert!(samples.is_sorted_by(|one, next| one.0 < next.0), "{samples:?}");
        assert!(!samples.last().unwrap().1);
    }
    b.stop().await;
}

#[tokio::test]
async fn one_that_is_given_away_and_back_before_its_end_is_as_if_it_had_never_been_away() {
    let attempt = async || {
        let scene = Scene::start("x 1\n").await;
        let a = scraping(&scene).await;
        let Scene { target, .. } = &scene;
        let (given, next) = (Grant { incoming: None, outgoing: Some(M) }, after_a_slot(target).await);
        let b = Node::start("b", &scene.config).await;
        let moves = [(M, terms(&a, &b, Some(now_ms() + 60_000), false, false))];
        a.told(2, &[(target, given)], &moves);
        a.told_all(3, &[], &moves, &[target]);
        a_moment().await;
        a.told(4, &[(target, given)], &moves);
        (now_ms() < next).then_some((scene, a, b))
    };
    let (scene, a, b) = within_a_slot(attempt).await;
    scraped(&scene.receiver, 3).await;
    let samples = samples(&scene.receiver, "x");
    assert!(markers(&samples).is_empty(), "{samples:?}");
    assert_every_slot_once(&scene.target, &samples);
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn one_that_is_gone_is_marked_where_the_scraper_stops_before_its_next_slot() {
    let scene = Scene::start("x 1\n").await;
    let a = scraping(&scene).await;
    let next = after_a_slot(&scene.target).await;
    a.told_all(2, &[], &[], &[&scene.target]);
    let stopped = now_ms();
    a.stop().await;
    for name in ["x", "up"] {
        let samples = samples(&scene.receiver, name);
        let (last, before) = samples.split_last().unwrap();
        assert!(last.1 && before.iter().all(|(_, stale)| !stale), "{samples:?}");
        assert!(before.iter().all(|(time, _)| *time < last.0), "{samples:?}");
        assert!((stopped..=next).contains(&last.0), "{samples:?} of {stopped} to {next}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_new_when_it_comes_back_counts() {
    let attempt = async || {
        let scene = Scene::start("x 1\ny 1\n").await;
        let a = scraping(&scene).await;
        let rule = ", metric_relabel_configs: [{source_labels: [__name__], regex: y, action: drop}]";
        let config = Arc::new(scene.exporter.config_with(&scene.receiver, rule));
        let next = after_a_slot(&scene.target).await;
        a.told_all(2, &[], &[], &[&scene.target]);
        a_moment().await;
        a.scraper.apply_config(config).unwrap();
        a.told(3, &[(&scene.target, GRANT)], &[]);
        (now_ms() < next).then_some((scene, a))
    };
    let (scene, a) = within_a_slot(attempt).await;
    scraped(&scene.receiver, 3).await;
    let (x, y) = (samples(&scene.receiver, "x"), samples(&scene.receiver, "y"));
    assert!(markers(&x).is_empty(), "{x:?}");
    assert_every_slot_once(&scene.target, &x);
    assert_eq!(markers(&y).len(), 1, "{y:?}");
    assert_every_slot_once(&scene.target, &y);
    assert!(y.last().unwrap().1);
    a.stop().await;
}
