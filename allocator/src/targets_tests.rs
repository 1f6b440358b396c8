//! What becomes of groups as they come, change and go.

use super::*;
use crate::testing::config_in;

/// The job `web` with these further keys.
fn job(keys: &str) -> Arc<ScrapeConfig> {
    let config = config_in(&format!("scrape_configs:\n- job_name: web\n{keys}"));
    Arc::clone(&config.scrape_configs[0])
}

const TWO_SOURCES: &str = "  http_sd_configs: [{url: 'http://a/'}, {url: 'http://b/'}]\n";
const ONE_SOURCE: &str = "  http_sd_configs: [{url: 'http://a/'}]\n";

fn group(name: &str, addresses: &[&str]) -> Arc<Group> {
    Arc::new(Group {
        source: Arc::from(name),
        labels: Packed::from_pairs([("group", name)]),
        targets: addresses.iter().map(|address| Packed::from_pairs([("__address__", address)])).collect(),
    })
}

fn changes(upsert: &[Arc<Group>], removed: &[&str], complete: bool) -> Found {
    let removed = removed.iter().map(|name| Arc::from(*name)).collect();
    Found::Changes { upsert: upsert.to_vec(), removed, complete }
}

fn failed() -> Found {
    Found::Failed("down".to_owned())
}

/// The instances of the active targets, sorted.
fn active(job: &JobTargets) -> Vec<&str> {
    let instances = job.active().values().map(|found| found.target.labels.get("instance").unwrap());
    let mut instances: Vec<&str> = instances.collect();
    instances.sort_unstable();
    instances
}

#[test]
fn a_changed_group_replaces_its_own_targets_only() {
    let mut job = JobTargets::new(job(ONE_SOURCE));
    assert!(job.update(0, changes(&[group("g", &["a:1", "b:1"]), group("h", &["c:1"])], &[], true)));
    let kept = Arc::clone(job.active().values().find(|t| t.target.labels.get("group") == Some("h")).unwrap());
    assert!(job.update(0, changes(&[group("g", &["b:1", "d:1"])], &[], false)));
    assert_eq!(active(&job), ["b:1", "c:1", "d:1"]);
    assert!(Arc::ptr_eq(&kept, &job.active()[&kept.target.id]), "the other group was not touched");
    assert!(!job.update(0, changes(&[group("g", &["b:1", "d:1"])], &[], false)), "nothing changed");
    assert!(job.update(0, changes(&[], &["g"], false)));
    assert_eq!((active(&job), job.discovered()), (vec!["c:1"], 1));
}

#[test]
fn one_more_group_at_the_head_of_a_list_takes_no_other_target_away() {
    let rules = "  relabel_configs: [{regex: group, action: labeldrop}]\n";
    let mut job = JobTargets::new(job(&format!("{ONE_SOURCE}{rules}")));
    let list = |addresses: &[&str]| {
        let groups = addresses.iter().enumerate();
        Found::All(groups.map(|(place, address)| group(&place.to_string(), &[address])).collect())
    };
    let mut left = |addresses: &[&str]| {
        job.update(0, list(addresses));
        let mut living = BTreeMap::new();
        let mut left = Vec::new();
        for (target, is_active) in job.take_changes() {
            if is_active {
                living.insert(target.target.id, target);
            } else if living.get(&target.target.id).is_none_or(|living| Arc::ptr_eq(living, &target)) {
                left.push(target.target.labels.get("instance").unwrap().to_owned());
            }
        }
        left
    };
    assert!(left(&["a:1", "b:1", "c:1"]).is_empty());
    assert!(left(&["new:1", "a:1", "b:1", "c:1"]).is_empty());
    assert_eq!(left(&["a:1", "b:1", "c:1"]), ["new:1"]);
    assert_eq!(left(&["c:1", "b:1"]), ["a:1"]);
}

#[test]
fn two_targets_with_one_identity_are_one_and_the_second_takes_over() {
    // The group's label would tell them apart.
    let rules = "  relabel_configs: [{regex: group, action: labeldrop}]\n";
    let mut job = JobTargets::new(job(&format!("{ONE_SOURCE}{rules}")));
    job.update(0, changes(&[group("g", &["a:1", "a:1"]), group("h", &["a:1"])], &[], true));
    assert_eq!((active(&job), job.duplicates(), job.discovered()), (vec!["a:1"], 2, 3));
    job.update(0, changes(&[], &["g"], false));
    assert_eq!((active(&job), job.duplicates()), (vec!["a:1"], 0));
    let left = job.active().values().next().unwrap();
    assert_eq!(left.discovered_labels(&job.config).get("group"), Some("h"));
    job.update(0, changes(&[], &["h"], false));
    assert!(job.active().is_empty());
}

#[test]
fn of_equal_targets_of_a_group_the_last_is_shown() {
    let rules = "  relabel_configs: [{regex: container, action: labeldrop}]\n";
    let mut job = JobTargets::new(job(&format!("{ONE_SOURCE}{rules}")));
    let pod = |containers: [&str; 3]| {
        let target = |name| Packed::from_pairs([("__address__", "a:1"), ("container", name)]);
        Arc::new(Group {
            source: Arc::from("pod"),
            labels: Packed::from_pairs([("group", "pod")]),
            targets: containers.map(target).into_iter().collect(),
        })
    };
    for containers in [["app", "sidecar", "last"], ["one", "two", "three"], ["three", "two", "one"]] {
        job.update(0, changes(&[pod(containers)], &[], false));
        let shown = job.active().values().next().unwrap().discovered_labels(&job.config);
        assert_eq!((shown.get("container"), job.duplicates()), (Some(containers[2]), 2));
    }
}

#[test]
fn a_dropped_target_is_shown_with_the_rule_and_a_broken_one_with_its_error() {
    let rules = "  relabel_configs: [{source_labels: [x], regex: y, action: drop}, {source_labels: [__address__], regex: 'no.*', action: drop}]\n  keep_dropped_targets: 2\n";
    let mut job = JobTargets::new(job(&format!("{ONE_SOURCE}{rules}")));
    job.update(0, changes(&[group("g", &["no:1", "a/b", "yes:1"])], &[], true));
    let (dropped, count) = (job.dropped(), job.dropped_count());
    let reasons: Vec<_> = dropped.iter().map(|target| (target.dropped_by_rule, &*target.error)).collect();
    assert_eq!((reasons[0], count), ((Some(1), ""), 2));
    assert!(reasons[1].1.contains("a/b"), "{reasons:?}");
    assert_eq!(dropped[0].discovered_labels.get("group"), Some("g"));
    job.update(0, changes(&[group("h", &["no:2", "no:3"])], &[], false));
    let (dropped, count) = (job.dropped(), job.dropped_count());
    assert_eq!((dropped.len(), count), (2, 4), "keep_dropped_targets bounds what is listed");
}

#[test]
fn what_a_restarted_source_no_longer_tells_goes_when_it_is_complete() {
    let mut job_targets = JobTargets::new(job(ONE_SOURCE));
    job_targets.update(0, changes(&[group("g", &["a:1"]), group("h", &["b:1"])], &[], true));
    job_targets.reconfigure(job(&format!("{ONE_SOURCE}  metrics_path: /other\n")));
    assert!(job_targets.is_synced());
    assert_eq!(active(&job_targets), ["a:1", "b:1"]);
    let path = |job: &JobTargets| {
        let target = job.active().values().next().unwrap().target.unpack(&job.config).unwrap();
        target.url.unwrap().path().to_owned()
    };
    assert_eq!(path(&job_targets), "/other", "the new rules hold at once");
    job_targets.update(0, changes(&[group("h", &["b:1"])], &[], false));
    assert_eq!(active(&job_targets), ["a:1", "b:1"], "a partial list takes nothing away");
    assert!(job_targets.update(0, changes(&[], &[], true)));
    assert_eq!(active(&job_targets), ["b:1"]);
}

#[test]
fn what_a_changed_source_has_told_stays_until_the_one_that_came_instead_has_synced() {
    let mut job_targets = JobTargets::new(job(TWO_SOURCES));
    job_targets.update(0, Found::All(vec![group("g", &["a:1"])]));
    job_targets.update(1, Found::All(vec![group("g", &["b:1"])]));
    // Another path as well: old targets go by the rules in force.
    let changed = TWO_SOURCES.replace("http://b/", "http://c/") + "  metrics_path: /other\n";
    job_targets.reconfigure(job(&changed));
    assert!(!job_targets.is_synced());
    let synced: Vec<bool> = job_targets.sources().map(|source| source.synced).collect();
    assert_eq!((synced, active(&job_targets)), (vec![true, false], vec!["a:1", "b:1"]));
    let is_new = |found: &Arc<Discovered>| found.target.labels.get("__metrics_path__") == Some("/other");
    assert!(job_targets.active().values().all(is_new));
    job_targets.update(1, failed());
    // It is changed once more before it ever answered.
    job_targets.reconfigure(job(&changed.replace("http://c/", "http://d/")));
    assert_eq!(active(&job_targets), ["a:1", "b:1"]);
    assert!(job_targets.update(0, Found::All(vec![group("g", &["a:2"])])));
    assert_eq!(active(&job_targets), ["a:2", "b:1"], "a source that fails holds up no other");
    assert!(job_targets.update(1, Found::All(vec![group("g2", &["c:1"])])));
    assert_eq!((active(&job_targets), job_targets.discovered()), (vec!["a:2", "c:1"], 2));
    job_targets.reconfigure(job(ONE_SOURCE));
    assert_eq!((active(&job_targets), job_targets.is_synced()), (vec!["a:2"], true), "nothing came instead");
}

#[test]
fn what_a_changed_source_has_told_stays_though_another_new_one_before_it_has_synced() {
    let http = |urls: &[&str]| {
        let urls: Vec<String> = urls.iter().map(|url| format!("{{url: 'http://{url}/'}}")).collect();
        job(&format!("  http_sd_configs: [{}]\n", urls.join(", ")))
    };
    let mut job_targets = JobTargets::new(http(&["a"]));
    job_targets.update(0, Found::All(vec![group("g", &["a:1", "a:2"])]));
    job_targets.reconfigure(http(&["new", "a?x=1"]));
    assert!(job_targets.update(0, Found::All(vec![group("g", &["n:1"])])));
    job_targets.update(1, failed());
    assert_eq!(active(&job_targets), ["a:1", "a:2", "n:1"], "whose successor is down");
    // Places change, the one that has synced is changed, and a third one comes: it is still the one that fails.
    job_targets.reconfigure(http(&["third", "a?x=1", "newer"]));
    assert_eq!(active(&job_targets), ["a:1", "a:2", "n:1"]);
    job_targets.update(0, Found::All(Vec::new()));
    job_targets.update(2, Found::All(Vec::new()));
    assert_eq!(
        active(&job_targets),
        ["a:1", "a:2"],
        "nothing keeps the targets of one whose successors have told theirs"
    );
    // It is changed as well: now it waits for that one.
    job_targets.reconfigure(http(&["third", "newer", "a?x=2"]));
    job_targets.update(0, Found::All(Vec::new()));
    assert_eq!(active(&job_targets), ["a:1", "a:2"]);
    assert!(job_targets.update(2, Found::All(vec![group("g2", &["a:2"])])));
    assert_eq!(
        (active(&job_targets), job_targets.discovered(), job_targets.duplicates()),
        (vec!["a:2"], 1, 0)
    );
    // Nothing waits for one that is no more.
    job_targets.reconfigure(http(&["third", "newer", "a?x=3"]));
    assert_eq!(active(&job_targets), ["a:2"]);
    job_targets.reconfigure(http(&["third", "newer"]));
    assert_eq!((active(&job_targets), job_targets.discovered()), (vec![], 0));
}

#[test]
fn a_group_that_the_only_successor_tells_anew_is_not_there_twice() {
    let mut job_targets = JobTargets::new(job(ONE_SOURCE));
    job_targets.update(0, Found::All(vec![group("g", &["a:1"]), group("h", &["b:1"])]));
    job_targets.reconfigure(job(&ONE_SOURCE.replace("http://", "http://new-")));
    assert_eq!(active(&job_targets), ["a:1", "b:1"]);
    // It has not told everything yet: of the other group it may still tell.
    assert!(job_targets.update(0, changes(&[group("g", &["a:2"])], &[], false)));
    assert_eq!((active(&job_targets), job_targets.discovered()), (vec!["a:2", "b:1"], 2));
    assert!(job_targets.update(0, changes(&[group("g", &["a:3"])], &[], false)));
    assert_eq!(active(&job_targets), ["a:3", "b:1"]);
    assert!(job_targets.update(0, changes(&[], &[], true)));
    assert_eq!((active(&job_targets), job_targets.discovered()), (vec!["a:3"], 1));
}

#[test]
fn a_target_that_the_file_has_no_more_goes_at_once_however_other_sources_do() {
    let keys = |targets: &str| format!("  static_configs: [{{targets: [{targets}]}}]\n{ONE_SOURCE}");
    let mut job_targets = JobTargets::new(job(&keys("'a:1', 'b:1'")));
    let place = |job: &JobTargets, kind: &str| job.sources().position(|source| source.kind == kind).unwrap();
    let of_http = place(&job_targets, "http_sd_configs");
    job_targets.reconfigure(job(&keys("'a:1', 'b:1'")));
    assert_eq!(active(&job_targets), ["a:1", "b:1"], "nobody has to tell them");
    job_targets.update(of_http, Found::All(vec![group("g", &["h:1"])]));
    job_targets.update(of_http, failed());
    assert!(job_targets.is_synced());
    job_targets.reconfigure(job(&keys("'a:1', 'c:1'")));
    assert!(job_targets.is_synced(), "a list that was told once still holds");
    assert_eq!(active(&job_targets), ["a:1", "c:1", "h:1"]);
    job_targets.reconfigure(job(ONE_SOURCE));
    assert_eq!((active(&job_targets), job_targets.is_synced()), (vec!["h:1"], true));
}

#[test]
fn a_source_that_fails_keeps_its_targets_and_says_why() {
    let mut job = JobTargets::new(job(ONE_SOURCE));
    job.update(0, Found::All(vec![group("g", &["a:1"])]));
    assert!(!job.update(0, failed()));
    assert_eq!(active(&job), ["a:1"]);
    let status = job.sources().next().unwrap();
    assert_eq!((status.synced, &*status.last_error, &*status.kind), (true, "down", "http_sd_configs"));
    job.update(0, Found::All(vec![group("g", &["a:1"])]));
    assert_eq!(job.sources().next().unwrap().last_error, "");
}

mod any_order {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever came before, the targets are those of the groups that there are.
        #[test]
        fn of_changes_leads_to_the_same_targets(
            steps in prop::collection::vec((0..4_usize, prop::collection::vec(0..5_usize, 0..4)), 1..40),
        ) {
            let rules = "  relabel_configs: [{regex: group, action: labeldrop}]\n";
            let config = super::job(&format!("{ONE_SOURCE}{rules}"));
            let mut job = JobTargets::new(Arc::clone(&config));
            let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (name, addresses) in steps {
                let name = format!("g{name}");
                let addresses: Vec<String> = addresses.iter().map(|n| format!("t:{n}")).collect();
                let texts: Vec<&str> = addresses.iter().map(String::as_str).collect();
                if addresses.is_empty() {
                    job.update(0, changes(&[], &[&name], false));
                    groups.remove(&name);
                } else {
                    job.update(0, changes(&[group(&name, &texts)], &[], false));
                    groups.insert(name, addresses);
                }
                let all: Vec<String> = groups.values().flatten().cloned().collect();
                let unique: std::collections::BTreeSet<&str> = all.iter().map(String::as_str).collect();
                prop_assert_eq!(active(&job), unique.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(job.duplicates() as usize, all.len() - unique.len());
                prop_assert_eq!(job.discovered(), all.len());
            }
        }

        /// Groups that come and go together: a target that is there before and after never leaves in between.
        #[test]
        fn of_groups_that_change_together_takes_nothing_away_that_stays(
            batches in prop::collection::vec(
                (prop::collection::vec(prop::collection::vec(0..6_usize, 0..3), 5), any::<bool>()),
                1..20,
            ),
        ) {
            let rules = "  relabel_configs: [{regex: group, action: labeldrop}]\n";
            let mut job = JobTargets::new(super::job(&format!("{ONE_SOURCE}{rules}")));
            for (groups, is_whole) in batches {
                let before: Vec<TargetId> = job.active().keys().copied().collect();
                let texts = groups.iter().map(|addresses| addresses.iter().map(|n| format!("t:{n}")).collect());
                let texts: Vec<Vec<String>> = texts.collect();
                let (mut upsert, mut removed) = (Vec::new(), Vec::new());
                for (place, addresses) in texts.iter().enumerate() {
                    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
                    let name = format!("g{place}");
                    if addresses.is_empty() { removed.push(name) } else { upsert.push(group(&name, &addresses)) }
                }
                let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
                job.update(0, if is_whole { Found::All(upsert) } else { changes(&upsert, &removed, false) });
                let all: Vec<&str> = texts.iter().flatten().map(String::as_str).collect();
                let unique: std::collections::BTreeSet<&str> = all.iter().copied().collect();
                prop_assert_eq!(active(&job), unique.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!((job.duplicates() as usize, job.discovered()), (all.len() - unique.len(), all.len()));
                let mut living: BTreeMap<TargetId, Arc<Discovered>> = BTreeMap::new();
                for (target, is_active) in job.take_changes() {
                    let id = target.target.id;
                    if is_active {
                        living.insert(id, target);
                    } else if living.get(&id).is_none_or(|living| Arc::ptr_eq(living, &target)) {
                        let stays = before.contains(&id) && job.active().contains_key(&id);
                        prop_assert!(!stays, "{:?} left and came back", target.target.labels.get("instance"));
                    }
                }
            }
        }
    }
}
