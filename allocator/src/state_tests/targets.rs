//! Targets that come, change and go.

use std::collections::BTreeSet;

use promring_model::labels::Labels;
use promring_model::target::{ADDRESS, TargetGroup};

use super::*;
use crate::discovery::Found;
use crate::state::State;
use crate::targets::JobTargets;

#[test]
fn every_target_has_exactly_one_owner() {
    let mut fleet = Fleet::new(&config(100, ""), &["a", "b", "c"]);
    let shares = fleet.shares();
    assert!(shares.values().all(|share| share.len() > 25), "{:?}", shares.values().map(BTreeSet::len));
}

#[test]
fn nothing_is_given_out_before_discovery_has_synced_and_the_scrapers_have_settled() {
    let config = config(2, "");
    let mut fleet = Fleet::unsettled(&config, &["a"]);
    fleet.state = State::new(&config, 0);
    fleet.state.lead(1, true, 0);
    fleet.run(4_000);
    assert!(fleet.state.readiness().unwrap_err().contains("web"));
    assert_eq!(fleet.state.assignment("a", None), None);
    discover(&mut fleet.state, &config);
    fleet.run(2_000);
    assert_eq!(fleet.state.readiness(), Ok(()));

    let mut fleet = Fleet::unsettled(&config, &[]);
    fleet.run(60_000);
    assert!(fleet.state.readiness().unwrap_err().contains("no scraper"));
    fleet.join("a");
    fleet.run(5_000);
    assert!(fleet.state.readiness().unwrap_err().contains("settle"));
    fleet.run(1_000);
    assert_eq!(fleet.state.readiness(), Ok(()));
}

const WITH_A_CLOUD: &str = "- job_name: cloud\n  http_sd_configs: [{url: 'http://dead/'}]\n";

#[test]
fn a_source_that_fails_holds_nobody_up_and_the_allocator_is_ready_once_it_has_failed_for_30_seconds() {
    let mut fleet = Fleet::unsettled(&config(2, WITH_A_CLOUD), &["a"]);
    fleet.state.discovered("cloud", 0, Found::Failed("it is down".to_owned()));
    fleet.run(6_000);
    let answer = fleet.state.assignment("a", None).unwrap();
    assert_eq!((answer.upsert["web"].synced, answer.upsert["web"].targets.len()), (true, 2));
    assert!(!answer.upsert["cloud"].synced, "scrapers keep what they have of it");
    assert_eq!(fleet.state.assigns(), Ok(()));
    fleet.run(23_000);
    assert!(fleet.state.readiness().unwrap_err().contains("cloud"));
    fleet.run(2_000);
    assert_eq!(fleet.state.readiness(), Ok(()));
}

#[test]
fn a_source_that_says_nothing_counts_as_failing_after_5_seconds() {
    let mut fleet = Fleet::unsettled(&config(2, &WITH_A_CLOUD.replace("cloud", "mute")), &["a"]);
    fleet.run(4_000);
    assert!(!fleet.state.may_begin(), "it may answer any moment");
    let status = |fleet: &Fleet| {
        let job = fleet.state.jobs().find(|job| job.config.job_name == "mute").unwrap();
        (job.failed(), job.sources().next().unwrap())
    };
    assert_eq!((status(&fleet).0, &*status(&fleet).1.last_error), (0, ""));
    fleet.run(3_000);
    let answer = fleet.state.assignment("a", None).unwrap();
    assert_eq!((answer.upsert["web"].synced, answer.upsert["web"].targets.len()), (true, 2));
    assert!(!answer.upsert["mute"].synced, "scrapers keep what they have of it");
    let (failed, source) = status(&fleet);
    assert!(failed == 1 && !source.synced && source.last_error.contains("nothing has come"), "{source:?}");
    fleet.run(26_000);
    assert!(fleet.state.readiness().unwrap_err().contains("mute"), "it has not failed for 30 s");
    fleet.run(4_000);
    assert_eq!(fleet.state.readiness(), Ok(()));
    // It answers after all.
    let group = TargetGroup {
        targets: vec![Labels::from_pairs([(ADDRESS, "late:1")])],
        labels: Labels::default(),
        source: "0".to_owned(),
    };
    fleet.state.discovered("mute", 0, Found::all([&group]));
    fleet.run(1_000);
    assert_eq!((status(&fleet).0, &*status(&fleet).1.last_error), (0, ""));
    assert_eq!(fleet.state.assignment("a", None).unwrap().upsert["mute"].targets.len(), 1);
}

#[test]
fn a_list_that_comes_in_is_waited_for_up_to_30_seconds() {
    let mut fleet = Fleet::unsettled(&config(2, WITH_A_CLOUD), &["a"]);
    for _ in 0..29 {
        fleet.state.discovered("cloud", 0, Found::Arriving);
        fleet.run(1_000);
    }
    assert!(fleet.state.assigns().unwrap_err().contains("cloud"));
    assert_eq!(fleet.state.jobs().map(JobTargets::failed).sum::<usize>(), 0);
    fleet.state.discovered("cloud", 0, Found::Arriving);
    fleet.run(2_000);
    assert_eq!(fleet.state.assigns(), Ok(()));
    assert!(fleet.state.readiness().is_err(), "it does not fail");
    // It stops coming, says that it failed, and begins again: the failure counts from its first moment.
    fleet.run(8_000);
    fleet.state.discovered("cloud", 0, Found::Failed("the list broke off".to_owned()));
    fleet.run(15_000);
    fleet.state.discovered("cloud", 0, Found::Arriving);
    let failures = fleet.state.jobs().map(|job| job.sources().next().unwrap().last_error);
    assert!(failures.collect::<String>().contains("broke off"), "until the whole list is there");
    fleet.run(14_000);
    assert_eq!(fleet.state.readiness(), Ok(()));
}

#[test]
fn while_a_source_fails_nobody_is_given_what_a_scraper_may_have_that_has_not_told_yet() {
    let config = config(4, WITH_A_CLOUD);
    let mut fleet = Fleet::unsettled(&config, &["a", "b"]);
    fleet.state.discovered("cloud", 0, Found::All(Vec::new()));
    fleet.run(10_000);
    // The allocator starts again; all that it finds is claimed, but not by everybody, and a source fails.
    fleet.state = State::new(&config, fleet.now_ms);
    fleet.state.lead(1, true, fleet.now_ms);
    discover(&mut fleet.state, &config);
    fleet.state.discovered("cloud", 0, Found::Failed("it is down".to_owned()));
    fleet.run(8_000);
    assert!(fleet.state.assigns().unwrap_err().contains("tell what they have"));
    fleet.run(15_000);
    assert_eq!(fleet.state.assigns(), Ok(()));
}

#[test]
fn the_targets_of_a_source_that_has_not_told_yet_stay_where_they_are() {
    let with = |targets: &str| {
        config(4, &format!("- job_name: other\n  static_configs: [{{targets: [{targets}]}}]\n"))
    };
    let config = with("'o:1', 'o:2', 'o:3', 'o:4'");
    let mut fleet = Fleet::new(&config, &["a", "b"]);
    let before = fleet.shares();
    // The allocator starts again, and one source is silent for longer than its patience.
    fleet.state = State::new(&config, fleet.now_ms);
    fleet.state.lead(1, true, fleet.now_ms);
    let mut web = config;
    web.scrape_configs.truncate(1);
    discover(&mut fleet.state, &web);
    fleet.run(40_000);
    assert_eq!(fleet.state.assigns(), Ok(()));
    let held = |fleet: &mut Fleet| ["a", "b"].map(|name| fleet.scrapes(name));
    assert_eq!(held(&mut fleet), ["a", "b"].map(|name| before[name].clone()), "without a gap");
    // It tells: what is still there stays where it was, what is not is gone.
    let fewer = with("'o:1', 'o:2', 'o:3'");
    discover(&mut fleet.state, &fewer);
    fleet.run(3_000);
    let mut expected = before;
    for share in expected.values_mut() {
        share.remove("o:4");
    }
    assert_eq!(fleet.shares(), expected);
    let marked: Vec<String> = fleet.scrapers.values().flat_map(|scraper| scraper.marked.clone()).collect();
    assert_eq!(marked, ["o:4"]);
}

#[test]
fn a_target_that_is_no_longer_discovered_is_gone_and_a_changed_path_has_moved() {
    let mut fleet = Fleet::new(&config(2, ""), &["a"]);
    let held = fleet.scraper("a").told.as_ref().unwrap().version;
    fleet.reconfigure(&config(1, "  metrics_path: /other\n"));
    fleet.run(1_000);
    let answer = fleet.scraper("a").told.clone().unwrap();
    assert_eq!(answer.base, Some(held));
    assert_eq!(answer.upsert["web"].targets.len(), 1, "t:1 under its new path");
    assert_eq!((answer.gone.len(), answer.moved.len()), (1, 1), "t:2 is gone, t:1's old self was replaced");
    assert_eq!(fleet.scraper("a").marked, ["t:2"]);
    let whole = fleet.state.assignment("a", None).unwrap();
    assert_eq!(
        (whole.base, whole.gone),
        (None, answer.gone),
        "who missed it hears of it in a whole answer too"
    );
}

#[test]
fn of_two_targets_of_one_key_one_may_go_and_end_its_series() {
    let two = "  metrics_path: /one\n  relabel_configs: [{source_labels: [__address__], regex: '.*', target_label: instance, replacement: same}]\n";
    let mut fleet = Fleet::new(&config(2, two), &["a", "b"]);
    let owner =
        fleet.scrapers.iter().find(|(_, s)| !s.held.is_empty()).map(|(name, _)| name.clone()).unwrap();
    assert_eq!(fleet.scraper(&owner).held.len(), 2, "they share a scraper");
    fleet.reconfigure(&config(1, two));
    fleet.run(1_000);
    let answer = fleet.scraper(&owner).told.clone().unwrap();
    assert_eq!((answer.gone.len(), answer.moved.len()), (1, 0), "nobody is its successor");
    assert_eq!(fleet.scraper(&owner).held.len(), 1);
}

#[test]
fn over_the_target_limit_every_target_is_listed_with_the_refusal() {
    let fleet = Fleet::new(&config(3, "  target_limit: 2\n"), &["a"]);
    let answer = fleet.state.assignment("a", None).unwrap();
    let refusal = answer.upsert["web"].refusal.as_deref();
    assert_eq!(refusal, Some("target_limit exceeded (number of targets: 3, limit: 2)"));
    assert_eq!(answer.upsert["web"].targets.len(), 3);
}

#[test]
fn a_change_is_told_to_those_whom_it_concerns_and_to_nobody_else() {
    let mut fleet = Fleet::new(&config(60, ""), &["a", "b", "c"]);
    fleet.run(20_000);
    fleet.reconfigure(&config(59, ""));
    let news = fleet.state.advance(fleet.now_ms);
    let owner = ["a", "b", "c"].into_iter().find(|name| fleet.scrapes(name).contains("t:60")).unwrap();
    assert_eq!(news.iter().map(|name| &**name).collect::<Vec<_>>(), [owner]);
    assert!(fleet.state.advance(fleet.now_ms).is_empty(), "told once");
}

#[test]
fn what_is_told_piece_by_piece_is_what_is_told_as_a_whole() {
    let mut fleet = Fleet::new(&config(60, ""), &["a", "b"]);
    fleet.join("c");
    for targets in [60, 55, 70, 64, 61, 90, 12, 60] {
        fleet.reconfigure(&config(targets, if targets % 2 == 0 { "" } else { "  metrics_path: /odd\n" }));
        fleet.run(4_000);
        for name in ["a", "b", "c"] {
            let whole = fleet.state.assignment(name, None).unwrap();
            let whole: BTreeSet<_> = whole.upsert["web"].targets.iter().map(|target| target.id).collect();
            assert_eq!(fleet.scraper(name).held.keys().copied().collect::<BTreeSet<_>>(), whole, "{name}");
        }
    }
    fleet.settle();
    fleet.shares();
}

#[test]
fn a_changed_payload_with_the_same_identity_is_updated_in_place_and_told_to_nobody() {
    let rules = "  relabel_configs: [{regex: extra, action: labeldrop}]\n";
    let mut fleet = Fleet::new(&config(3, rules), &["a"]);
    let group = |extra: &str| TargetGroup {
        source: "group".to_owned(),
        labels: Labels::from_pairs([("extra", extra)]),
        targets: (1..=3).map(|n| Labels::from_pairs([(ADDRESS, format!("t:{n}"))])).collect(),
    };
    fleet.state.discovered("web", 0, Found::all([&group("before")]));
    fleet.run(1_000);
    let version = fleet.state.version_of("a");
    fleet.state.discovered("web", 0, Found::all([&group("after")]));
    assert!(fleet.state.advance(fleet.now_ms).is_empty());
    assert_eq!(fleet.state.version_of("a"), version);
    let job = fleet.state.jobs().next().unwrap();
    let extras = job.active().values().map(|target| target.discovered_labels(&job.config));
    assert!(extras.map(|labels| labels.get("extra") == Some("after")).eq([true; 3]));
}

#[test]
fn an_answer_is_written_as_the_assignment_that_it_stands_for() {
    let other = "- job_name: other\n  static_configs: [{targets: ['o:1']}]\n";
    let mut fleet = Fleet::new(&config(60, other), &["a", "b"]);
    let held = fleet.state.version_of("a");
    fleet.reconfigure(&config(58, &format!("  target_limit: 5\n{other}")));
    fleet.join("c");
    for _ in 0..20 {
        fleet.run(1_000);
        for (name, held) in [("a", None), ("a", held), ("b", None), ("c", None)] {
            let written = fleet.state.answer(name, held).map(|answer| serde_json::to_value(&answer).unwrap());
            let meant = fleet.state.assignment(name, held);
            assert_eq!(written, meant.map(|assignment| serde_json::to_value(assignment).unwrap()));
        }
    }
    assert!(fleet.scrapers["c"].held.len() > 5, "there were moves");
}
