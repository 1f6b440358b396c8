//! A board is made of the last one and of what has changed since, beside whoever asks.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use promring_model::target::TargetId;
use proptest::prelude::*;

use super::*;
use crate::discovery::Group;
use crate::packed::Packed;

pub(super) const JOBS: &str = "scrape_configs:\n\
    - {job_name: web, http_sd_configs: [{url: 'http://a/'}]}\n\
    - {job_name: db, http_sd_configs: [{url: 'http://b/'}]}\n";

/// Tells that the group is this: a target for each path, all of one key.
pub(super) fn tell(allocator: &Allocator, job: &str, name: usize, paths: &[usize], complete: bool) {
    let (name, address) = (format!("g{name}"), format!("t{name}:80"));
    let target = |path: &usize| {
        Packed::from_pairs([("__address__", &*address), ("__metrics_path__", &format!("/{path}"))])
    };
    let source: Arc<str> = Arc::from(name);
    let group = Group {
        source: Arc::clone(&source),
        labels: Packed::from_pairs::<&str, &str>([]),
        targets: paths.iter().map(target).collect(),
    };
    let (upsert, removed) =
        if paths.is_empty() { (vec![], vec![source]) } else { (vec![Arc::new(group)], vec![]) };
    allocator.state().discovered(job, 0, Found::Changes { upsert, removed, complete });
}

/// What each member has of each job.
fn told(allocator: &Allocator) -> BTreeMap<(String, String), Vec<TargetId>> {
    let board = allocator.board().unwrap();
    let lists = board.shares.iter().flat_map(|(member, share)| {
        share.iter().map(move |(job, list)| {
            let ids = list.iter().map(|target| target.target.id).collect();
            ((member.to_string(), job.to_string()), ids)
        })
    });
    lists.collect()
}

#[tokio::test]
async fn a_change_of_one_target_leaves_the_lists_of_others_alone() {
    let allocator = discovered(&format!("{STATIC}{JOBS}"), Callers::default());
    tell(&allocator, "db", 0, &[0], true);
    for name in 0..90 {
        tell(&allocator, "web", name, &[0], true);
    }
    advance(&allocator);
    let before = allocator.board().unwrap();
    tell(&allocator, "web", 7, &[1], true);
    advance(&allocator);
    let after = allocator.board().unwrap();
    let same = |name: &&Arc<str>| Arc::ptr_eq(&before.shares[*name], &after.shares[*name]);
    assert_eq!((after.shares.len(), after.shares.keys().filter(same).count()), (3, 2));
    assert_ne!(before.version, after.version);
}

/// With one thread, whatever holds that up shows.
#[tokio::test]
async fn the_making_of_a_board_holds_no_thread_that_serves() {
    let allocator = allocator(&format!("{STATIC}scrape_configs:\n{}", job("web", 9, "")));
    let (at_work, is_at_work) = mpsc::channel();
    let (done, is_done) = mpsc::channel::<()>();
    let working = allocator.clone();
    let worker = std::thread::spawn(move || {
        let _pool = working.pool();
        at_work.send(()).unwrap();
        // The time is for who waits here before the test has asked.
        let _told_or_late = is_done.recv_timeout(Duration::from_secs(10));
    });
    is_at_work.recv().unwrap();
    let advancing = allocator.clone();
    let advancing = tokio::spawn(async move { advancing.advance().await });
    tokio::task::yield_now().await;
    assert_eq!(ask(&allocator, "/http_sd/a").await.0, StatusCode::OK);
    assert!(!advancing.is_finished(), "it waits for the pool");
    done.send(()).unwrap();
    advancing.await.unwrap();
    worker.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever came before, the board is the one that a look at everything leads to, and every target has one owner.
    #[test]
    fn boards_made_of_changes_are_those_made_of_everything(
        steps in prop::collection::vec(
            prop_oneof![
                8 => (0..2_usize, 0..30_usize, prop::collection::vec(0..4_usize, 0..4), any::<bool>())
                    .prop_map(|(job, name, paths, complete)| Some((job, name, paths, complete))),
                1 => Just(None),
            ],
            1..60,
        ),
        nodes in any::<bool>(),
    ) {
        let strategy = if nodes { ", strategy: per-node" } else { "" };
        let selected = SELECTED.replace("namespace: n", &format!("namespace: n{strategy}"));
        let allocator = discovered(&format!("{selected}{JOBS}"), Callers::default());
        let names = ["a", "b", "c", "d"];
        let mut members = 1;
        let ready = |count: usize| {
            let seen = names[..count].iter().map(|name| (*name, Presence::Ready, Some("north")));
            pods(&seen.collect::<Vec<_>>())
        };
        allocator.set_roster(ready(members));
        for job in ["web", "db"] {
            tell(&allocator, job, 99, &[0], true);
        }
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Some((job, name, paths, complete)) => tell(&allocator, ["web", "db"][job], name, &paths, complete),
                None => {
                    members = (members + 1 + at % 2) % names.len() + 1;
                    allocator.set_roster(ready(members));
                }
            }
            advance(&allocator);
            let made_of_changes = told(&allocator);
            let mut ids: Vec<TargetId> = made_of_changes.values().flatten().copied().collect();
            ids.sort_unstable();
            let mut active: Vec<TargetId> =
                allocator.state().jobs().flat_map(|job| job.active().keys().copied().collect::<Vec<_>>()).collect();
            active.sort_unstable();
            prop_assert_eq!(ids, active);
            let version = allocator.board().unwrap().version;
            allocator.state().forget_touched();
            advance(&allocator);
            prop_assert_ne!(allocator.board().unwrap().version, version, "there is another board");
            prop_assert_eq!(told(&allocator), made_of_changes);
        }
    }
}
