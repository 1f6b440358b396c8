//! What comes late since others have gone on with this scraper's targets.

use promring_model::handover::{Grant, Member, MemberOptions, Name, Saved, SavedKey, Told, Version};
use promring_model::target::TargetKey;
use promring_net::clock::now_ms;

use super::*;

const KEY: TargetKey = TargetKey(7);

fn version(counter: u64) -> Version {
    Version { term: 1, counter }
}

/// The gate of a scraper that has just been started again and had one key before.
fn gate() -> Arc<Gate> {
    let keys = vec![SavedKey { key: KEY, grant: Grant::default() }];
    let saved = Saved { promised: 1, version: Some(version(1)), keys, ..Saved::default() };
    Gate::new(Member::restored(Name::from("a"), MemberOptions::default(), 2, saved, now_ms()))
}

/// An allocator answers: the key is still this scraper's, or somebody else's.
fn told(gate: &Gate, has_key: bool) {
    let grants = has_key.then_some((KEY, Grant::default())).into_iter().collect();
    let told = Told { version: version(2), grants, moves: Default::default(), gone: Default::default() };
    let now_ms = now_ms();
    assert!(gate.with(|member| member.apply(told, now_ms, now_ms)).is_some());
}

/// A sample that comes too late, in this encoding, of a scraper that hears only later whether it was replaced. Returns how many
/// samples are out of order, and how many late after a loss.
async fn refused(encoding: Encoding, has_key: bool) -> [(u64, u64); 2] {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let (gate, dir) = (gate(), tempfile::tempdir().unwrap());
    let sending = Sending::open_behind(&gate, dir.path(), destination("prod", &receiver.url, ""));
    let counted = || (sending.refused("out_of_order"), sending.refused("late_after_loss"));
    // It stands for what another scraper has sent.
    append_as(encoding, &sending.queues[0], 0, &[("a", 100)]);
    sending.start();
    receiver.samples(1).await;
    append_as(encoding, &sending.queues[0], 0, &[("a", 10), ("b", 10)]);
    // The refusal is there, and nobody has said yet what it means.
    receiver.requests(2).await;
    assert_eq!(counted(), (0, 0));
    assert!(sending.queues[0].stats().pending.records > 0);
    told(&gate, has_key);
    sending.drained().await;
    assert_eq!(receiver.stored()["b"], [10], "only what is refused alone is given up");
    let before = counted();
    let told_ms = now_ms();
    while now_ms() <= told_ms {
        tokio::task::yield_now().await;
    }
    // What is queued from now on, nobody has overtaken.
    append_as(encoding, &sending.queues[0], 0, &[("a", 20)]);
    sending.drained().await;
    [before, counted()]
}

#[tokio::test]
async fn what_was_queued_before_a_loss_was_learnt_of_and_comes_late_counts_as_that() {
    for encoding in [Encoding::V1, Encoding::V2] {
        assert_eq!(refused(encoding, false).await, [(0, 1), (1, 1)], "{encoding:?}");
    }
}

#[tokio::test]
async fn what_is_out_of_order_after_a_restart_in_which_nobody_took_the_targets_counts_as_that() {
    for encoding in [Encoding::V1, Encoding::V2] {
        assert_eq!(refused(encoding, true).await, [(1, 0), (2, 0)], "{encoding:?}");
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_word_on_a_loss() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let (gate, dir) = (gate(), tempfile::tempdir().unwrap());
    let sending = Sending::open_behind(&gate, dir.path(), destination("prod", &receiver.url, ""));
    sending.append(&[("a", 100)]);
    sending.start();
    receiver.samples(1).await;
    sending.append(&[("a", 10)]);
    receiver.requests(2).await;
    // Nobody ever says anything.
    sending.senders[0].yield_queue().await;
    assert_eq!((sending.refused("out_of_order"), sending.refused("late_after_loss")), (1, 0));
}
