//! Several allocators, of which one leads.

use promring_proto::api::StateView;

use super::changes::{JOBS, tell};
use super::*;

/// Brings the pool of one of several allocators up to date, which leads in this term, or was told this by the one that does.
fn advance(allocator: &Allocator, term: Option<u64>, view: Option<&StateView>) {
    let mut pool = allocator.pool();
    let _nobody_asks = allocator.state().advance(now_ms());
    pool.as_mut().unwrap().follow(term, view);
    let look = pool.as_mut().unwrap().look(&mut allocator.state());
    if let Some(look) = look {
        pool.as_mut().unwrap().take(look);
        allocator.publish(pool.as_ref());
    }
}

fn view(allocator: &Allocator) -> StateView {
    allocator.pool().as_ref().unwrap().view().unwrap()
}

#[tokio::test]
async fn a_follower_tells_what_the_leader_does_and_goes_on_from_there_when_it_leads() {
    use Presence::Ready;
    let by_node = SELECTED.replace("namespace: n", "namespace: n, strategy: per-node");
    for settings in [SELECTED, &by_node] {
        let text = format!("{settings}scrape_configs:\n{}", job("web", 200, ""));
        let new = || discovered(&text, Callers::default());
        let (leader, follower, other) = (new(), new(), new());
        let tell = |allocator: &Allocator, names: &[&str], term, view: Option<&StateView>| {
            let ready: Vec<_> = names.iter().map(|name| (*name, Ready, Some("north"))).collect();
            allocator.set_roster(pods(&ready));
            advance(allocator, term, view);
        };
        let shares = async |allocator: &Allocator| {
            [share(allocator, "a").await, share(allocator, "b").await, share(allocator, "c").await]
        };
        for names in [&["a", "b"][..], &["a", "b", "c"], &["a", "c"], &["a", "b", "c"]] {
            tell(&leader, names, Some(5), None);
        }
        let placed = shares(&leader).await;
        tell(&other, &["a", "b", "c"], Some(5), None);
        assert_ne!(shares(&other).await, placed, "a fresh placement is another one");

        tell(&follower, &["a", "b", "c"], None, None);
        let (status, body) = ask(&follower, "/scrape_configs").await;
        assert_eq!(
            (status, is_no_yaml(&body)),
            (StatusCode::SERVICE_UNAVAILABLE, true),
            "nobody has told yet"
        );
        let told = view(&leader);
        advance(&follower, None, Some(&told));
        assert_eq!(shares(&follower).await, placed);
        assert!(follower.readiness()().is_ok());
        assert!(follower.pool().as_ref().unwrap().view().is_none(), "only a leader tells");
        // One that is not ready has nothing to tell yet.
        let owners = BTreeMap::new();
        advance(&follower, None, Some(&StateView { version: "6-1".parse().unwrap(), ready: false, owners }));
        assert_eq!(shares(&follower).await, placed);

        advance(&follower, Some(7), Some(&told));
        assert_eq!(shares(&follower).await, placed, "nothing moves");
        assert!(view(&follower).version > told.version);
        tell(&follower, &["a", "b", "c", "d"], Some(7), None);
        let (after, new) = (shares(&follower).await, share(&follower, "d").await);
        assert!((45..=58).contains(&new.len()), "{}", new.len());
        assert!(after.iter().zip(&placed).all(|(after, before)| after.is_subset(before)));
        // The first one, which leads no more, tells what the new leader does.
        let newest = view(&follower);
        advance(&leader, None, Some(&newest));
        assert_eq!((shares(&leader).await, share(&leader, "d").await), (after.clone(), new.clone()));
        // What was told before this one led is nothing new when it leads no more.
        advance(&follower, None, Some(&told));
        assert_eq!((shares(&follower).await, share(&follower, "d").await), (after.clone(), new));
        // A Lease that was deleted begins with a low term again.
        advance(&follower, None, Some(&StateView { version: "1-3".parse().unwrap(), ..told }));
        assert_eq!((shares(&follower).await, share(&follower, "d").await), (placed, BTreeSet::new()));
    }
}

#[tokio::test]
async fn a_follower_whose_file_has_another_strategy_goes_on_telling_what_the_leader_does() {
    use Presence::Ready;
    let new =
        || discovered(&format!("{SELECTED}scrape_configs:\n{}", job("web", 200, "")), Callers::default());
    let (leader, follower) = (new(), new());
    for allocator in [&leader, &follower] {
        allocator.set_roster(pods(&[("a", Ready, Some("north")), ("b", Ready, Some("north"))]));
    }
    advance(&leader, Some(5), None);
    let told = view(&leader);
    advance(&follower, None, Some(&told));
    let by_node = SELECTED.replace("namespace: n", "namespace: n, strategy: per-node");
    let by_node = format!("{by_node}scrape_configs:\n{}", job("web", 200, ""));
    follower.take_config(&config(&by_node));
    advance(&follower, None, Some(&told));
    for name in ["a", "b"] {
        assert_eq!(share(&follower, name).await, share(&leader, name).await);
    }
    assert!(follower.readiness()().is_ok());
    advance(&follower, Some(6), Some(&told));
    for name in ["a", "b"] {
        assert_eq!(share(&follower, name).await, share(&leader, name).await, "nothing moves");
    }
}

#[tokio::test]
async fn while_a_source_fails_what_another_has_taken_back_is_forgotten_and_what_none_has_told_of_is_kept() {
    let new = || discovered(&format!("{STATIC}{JOBS}"), Callers::default());
    let leader = new();
    for name in 0..30 {
        tell(&leader, "web", name, &[0], true);
        tell(&leader, "db", name, &[0], true);
    }
    advance(&leader, Some(5), None);
    let told = view(&leader);
    let keys = |view: &StateView| view.owners.values().map(Vec::len).sum::<usize>();
    let sets = |view: &StateView| -> Vec<BTreeSet<_>> {
        view.owners.values().map(|keys| keys.iter().copied().collect()).collect()
    };
    assert_eq!(keys(&told), 60);
    let next = new();
    for name in 0..30 {
        tell(&next, "web", name, &[0], true);
    }
    next.state().discovered("db", 0, Found::Failed("it is down".to_owned()));
    advance(&next, None, Some(&told));
    advance(&next, Some(6), Some(&told));
    assert_eq!(sets(&view(&next)), sets(&told), "no source has told yet that they are gone");
    for round in 0..5 {
        for name in 0..10 {
            tell(&next, "web", 100 * round + name, &[0], true);
            tell(&next, "web", 900, &[round], true);
        }
        advance(&next, Some(6), Some(&told));
        for name in 0..10 {
            tell(&next, "web", 100 * round + name, &[], true);
        }
        advance(&next, Some(6), Some(&told));
    }
    assert_eq!(
        keys(&view(&next)),
        20 + 1 + 30,
        "those of the web, and those that another one knew of the db"
    );
    for name in 0..29 {
        tell(&next, "db", name, &[0], name == 28);
    }
    advance(&next, Some(6), Some(&told));
    let now = view(&next);
    assert_eq!(keys(&now), 20 + 1 + 29, "what did not come back is gone");
    let of_db = |allocator: &Allocator| {
        let state = allocator.state();
        let db = state.jobs().find(|job| job.config.job_name == "db").unwrap();
        db.active().values().map(|target| target.target.key).collect::<BTreeSet<_>>()
    };
    let kept = of_db(&next);
    for (now, told) in sets(&now).iter().zip(sets(&told)) {
        assert_eq!(now & &kept, &told & &kept, "what came back is where it was");
    }
}
