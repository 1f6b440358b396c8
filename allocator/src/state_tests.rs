//! What the allocator tells whom, and when.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use promring_model::config::{ConfigSource, Discovery, load};
use promring_proto::api::Health;

use super::*;
use crate::discovery::Failure;

struct Text(String);

impl ConfigSource for Text {
    fn read(&self, _path: &Path) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }

    fn glob(&self, _pattern: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _name: &str) -> Option<String> {
        None
    }
}

/// A configuration whose job `web` has the targets `t:1` to `t:n`.
fn config(targets: usize, keys: &str) -> Config {
    let targets: Vec<String> = (1..=targets).map(|n| format!("'t:{n}'")).collect();
    let text = format!(
        "allocator: {{settle: 5s, lapse: 15s}}\nscrape_configs:\n- job_name: web\n  static_configs: [{{targets: [{}]}}]\n{keys}",
        targets.join(", ")
    );
    let loaded = load(Path::new("test.yml"), &Text(text));
    loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}

/// Tells the state what its static sources find.
fn discover(state: &mut State, config: &Config) {
    for job in &config.scrape_configs {
        for (source, discovery) in job.discovery.iter().enumerate() {
            if let Discovery::Static(groups) = discovery {
                state.discovered(&job.job_name, source, Found::all(groups));
            }
        }
    }
}

/// A state with these targets and scrapers, at the time 10,000.
fn settled(config: &Config, scrapers: &[&str]) -> State {
    let mut state = State::new(config, 0);
    discover(&mut state, config);
    for scraper in scrapers {
        report(&mut state, scraper, 1_000);
    }
    state.advance(10_000);
    state
}

fn report(state: &mut State, scraper: &str, now_ms: i64) -> ReportAnswer {
    state.report(scraper, Report { full: true, ..Report::default() }, now_ms).unwrap()
}

/// The instances that a scraper is told, as if it held nothing.
fn assigned(state: &State, scraper: &str) -> BTreeSet<String> {
    let Some(answer) = state.assignment(scraper, None) else { return BTreeSet::new() };
    let targets = answer.upsert.values().flat_map(|job| &job.targets);
    targets.map(|target| target.labels.get("instance").unwrap().to_owned()).collect()
}

#[test]
fn every_target_has_exactly_one_owner() {
    let state = settled(&config(100, ""), &["a", "b", "c"]);
    let parts = ["a", "b", "c"].map(|scraper| assigned(&state, scraper));
    assert_eq!(parts.iter().map(BTreeSet::len).sum::<usize>(), 100);
    assert_eq!(parts.iter().flatten().collect::<BTreeSet<_>>().len(), 100);
    assert!(parts.iter().all(|part| part.len() > 25), "{:?}", parts.each_ref().map(BTreeSet::len));
}

#[test]
fn nothing_is_given_out_before_discovery_has_synced_and_the_scrapers_have_settled() {
    let config = config(2, "");
    let mut state = State::new(&config, 0);
    report(&mut state, "a", 0);
    assert!(!state.advance(6_000));
    assert!(state.readiness().unwrap_err().contains("web"));
    assert_eq!(state.assignment("a", None), None);
    discover(&mut state, &config);
    assert!(state.advance(6_001));
    assert_eq!(state.readiness(), Ok(()));

    let mut state = State::new(&config, 0);
    discover(&mut state, &config);
    state.advance(60_000);
    assert!(state.readiness().unwrap_err().contains("no scraper"));
    report(&mut state, "a", 60_000);
    state.advance(64_999);
    assert!(state.readiness().unwrap_err().contains("settle"));
    assert!(state.advance(65_000));
}

#[test]
fn a_source_that_fails_holds_up_the_others_no_longer_than_its_patience() {
    let keys = "- job_name: cloud\n  http_sd_configs: [{url: 'http://dead/'}]\n";
    let config = config(2, keys);
    let mut state = State::new(&config, 0);
    discover(&mut state, &config);
    let failure = |for_good| Found::Failed(Failure { message: "it is down".to_owned(), for_good });
    state.discovered("cloud", 0, failure(false));
    report(&mut state, "a", 0);
    report(&mut state, "a", 29_000);
    state.advance(29_999);
    assert!(state.readiness().is_err());
    assert!(state.advance(30_000));
    let answer = state.assignment("a", None).unwrap();
    assert_eq!((answer.upsert["web"].synced, answer.upsert["web"].targets.len()), (true, 2));
    assert!(!answer.upsert["cloud"].synced, "scrapers keep what they have of it");

    let mut state = State::new(&config, 0);
    discover(&mut state, &config);
    state.discovered("cloud", 0, failure(true));
    report(&mut state, "a", 0);
    assert!(state.advance(5_000), "nobody waits for a source that will never sync");
}

#[test]
fn the_targets_of_a_lost_scraper_go_to_the_others_and_only_those() {
    let mut state = settled(&config(100, ""), &["a", "b", "c"]);
    let before = ["a", "b"].map(|scraper| assigned(&state, scraper));
    for now in [12_000, 17_000] {
        report(&mut state, "a", now);
        report(&mut state, "b", now);
        state.advance(now);
    }
    assert_eq!(state.membership().takers().collect::<Vec<_>>(), ["a", "b"]);
    let after = ["a", "b"].map(|scraper| assigned(&state, scraper));
    assert!(before[0].is_subset(&after[0]) && before[1].is_subset(&after[1]));
    assert_eq!(after[0].len() + after[1].len(), 100);
    let told = state.assignment("c", Some(Version { term: 1, counter: 1 })).unwrap();
    assert_eq!((told.moved.len(), told.gone.len()), (100 - before[0].len() - before[1].len(), 0));
}

#[test]
fn while_no_scraper_is_left_assignments_stay_as_they_are() {
    let mut state = settled(&config(10, ""), &["a"]);
    assert!(!state.advance(100_000));
    assert_eq!(assigned(&state, "a").len(), 10, "it may be alive and cut off");
}

#[test]
fn a_restart_of_the_allocator_moves_nothing() {
    let config = config(100, "");
    let mut before = settled(&config, &["a", "b"]);
    // A third scraper that came later leaves owners that no fresh placement would give.
    report(&mut before, "c", 10_000);
    report(&mut before, "a", 10_000);
    report(&mut before, "b", 10_000);
    before.advance(10_001);
    let mut after = State::new(&config, 20_000);
    discover(&mut after, &config);
    for scraper in ["a", "b", "c"] {
        let held = before.assignment(scraper, None).unwrap();
        let targets: Vec<TargetReport> = held
            .upsert
            .values()
            .flat_map(|job| &job.targets)
            .map(|target| TargetReport {
                health: Health::Up,
                samples: 500,
                ..TargetReport::unknown(target.id)
            })
            .collect();
        after.report(scraper, Report { full: true, targets, ..Report::default() }, 20_000).unwrap();
    }
    after.advance(26_000);
    for scraper in ["a", "b", "c"] {
        assert_eq!(assigned(&after, scraper), assigned(&before, scraper));
        assert!(!assigned(&after, scraper).is_empty());
    }
}

#[test]
fn a_scraper_that_tells_only_changes_to_a_new_allocator_is_asked_for_everything() {
    let mut state = State::new(&config(1, ""), 0);
    let answer = state.report("a", Report::default(), 0).unwrap();
    assert!(answer.full);
    assert!(!report(&mut state, "a", 1).full);
}

#[test]
fn a_target_that_is_no_longer_discovered_is_gone_and_a_changed_path_has_moved() {
    let first = config(2, "");
    let mut state = settled(&first, &["a"]);
    let held = state.assignment("a", None).unwrap().version;
    let second = config(1, "  metrics_path: /other\n");
    state.apply_config(&second);
    discover(&mut state, &second);
    assert!(state.advance(10_001));
    let answer = state.assignment("a", Some(held)).unwrap();
    assert_eq!(answer.base, Some(held));
    assert_eq!(answer.upsert["web"].targets.len(), 1, "t:1 under its new path");
    assert_eq!((answer.gone.len(), answer.moved.len()), (1, 1), "t:2 is gone, t:1's old self was replaced");
}

#[test]
fn over_the_target_limit_every_target_is_listed_with_the_refusal() {
    let state = settled(&config(3, "  target_limit: 2\n"), &["a"]);
    let answer = state.assignment("a", None).unwrap();
    let refusal = answer.upsert["web"].refusal.as_deref();
    assert_eq!(refusal, Some("target_limit exceeded (number of targets: 3, limit: 2)"));
}

#[test]
fn more_scrapers_than_may_be_known_are_refused() {
    let mut state = State::new(&config(1, ""), 0);
    for n in 0..SCRAPERS_MAX {
        report(&mut state, &format!("s-{n}"), 0);
    }
    assert!(state.report("one-more", Report::default(), 0).is_err());
    assert!(state.report("s-1", Report::default(), 0).is_ok());
}

#[test]
fn a_scraper_whose_ordinal_goes_away_is_told_and_takes_nothing_any_more() {
    let two = config(30, "");
    let mut state = settled(&two, &["scraper-0", "scraper-1", "scraper-10", "host"]);
    assert!(state.assigned("scraper-1") > 0 && !report(&mut state, "scraper-1", 11_000).leaving);
    let mut one = two.clone();
    one.allocator.replicas = Some(1);
    state.apply_config(&one);
    discover(&mut state, &one);
    for (name, leaving) in [("scraper-0", false), ("scraper-1", true), ("scraper-10", true), ("host", false)]
    {
        assert_eq!(report(&mut state, name, 12_000).leaving, leaving, "{name}");
    }
    state.advance(12_000);
    assert_eq!((state.assigned("scraper-1"), state.assigned("scraper-10")), (0, 0));
    assert_eq!(state.assigned("scraper-0") + state.assigned("host"), 30);
    // It is wanted again.
    state.apply_config(&two);
    discover(&mut state, &two);
    assert!(!report(&mut state, "scraper-1", 13_000).leaving);
    state.advance(13_000);
    assert!(state.assigned("scraper-1") > 0);
}

/// A report of a scraper that holds these targets of `held`.
fn holding(held: &Assignment) -> Report {
    let targets = held.upsert.values().flat_map(|job| &job.targets);
    let targets = targets.map(|target| TargetReport { samples: 500, ..TargetReport::unknown(target.id) });
    Report { full: true, targets: targets.collect(), ..Report::default() }
}

#[test]
fn after_a_restart_targets_of_a_source_that_syncs_late_stay_where_they_are() {
    let config = config(
        60,
        "- job_name: late\n  static_configs: [{targets: ['l:1', 'l:2', 'l:3', 'l:4', 'l:5', 'l:6']}]\n",
    );
    let names = ["a", "b", "c"];
    let mut before = settled(&config, &names[..2]);
    // A third scraper that came later leaves owners that no fresh placement would give.
    report(&mut before, "c", 10_000);
    before.advance(10_001);
    let held = names.map(|name| before.assignment(name, None).unwrap());
    let mut after = State::new(&config, 20_000);
    for (name, held) in names.iter().zip(&held) {
        // The first report of a scraper that has run all the time has changes only.
        assert!(after.report(name, Report::default(), 20_000).unwrap().full);
        after.report(name, holding(held), 20_001).unwrap();
    }
    let mut web = config.clone();
    web.scrape_configs.truncate(1);
    discover(&mut after, &web);
    for now_ms in [30_000, 40_000, 50_000] {
        names.iter().for_each(|name| drop(report(&mut after, name, now_ms)));
        after.advance(now_ms);
    }
    assert_eq!(after.readiness(), Ok(()));
    let told = after.assignment("a", None).unwrap();
    assert!(!told.upsert["late"].synced && told.upsert["late"].targets.is_empty());
    discover(&mut after, &config);
    assert!(after.advance(50_001));
    for name in names {
        assert_eq!(assigned(&after, name), assigned(&before, name), "{name}");
    }
    assert!(after.claims.is_empty(), "they have served");
}

#[test]
fn a_job_that_a_scraper_does_not_get_goes_to_those_that_have_it() {
    let keys = "- job_name: new\n  static_configs: [{targets: ['n:1', 'n:2', 'n:3', 'n:4', 'n:5', 'n:6', 'n:7', 'n:8']}]\n";
    let config = config(30, keys);
    let mut state = settled(&config, &["a", "b", "c"]);
    let new = |state: &State, scraper: &str| {
        let assigned = assigned(state, scraper).into_iter().filter(|instance| instance.starts_with('n'));
        assigned.collect::<BTreeSet<_>>()
    };
    let web = |state: &State| ["a", "b", "c"].map(|scraper| &assigned(state, scraper) - &new(state, scraper));
    let (first, web_before) = (["a", "b", "c"].map(|scraper| new(&state, scraper)), web(&state));
    assert!(first.iter().all(|part| !part.is_empty()), "{first:?}");
    let lacking = |state: &mut State, scraper: &str, now_ms: i64| {
        let unknown_jobs = vec!["new".to_owned(), "nobody-has-this".to_owned()];
        let report = Report { full: true, unknown_jobs, ..Report::default() };
        state.report(scraper, report, now_ms).unwrap();
    };
    let mut now_ms = 11_000;
    while now_ms < 41_000 {
        lacking(&mut state, "a", now_ms);
        ["b", "c"].iter().for_each(|scraper| drop(report(&mut state, scraper, now_ms)));
        assert!(!state.advance(now_ms), "for 30 s it is waited for");
        now_ms += 2_000;
    }
    assert!(state.advance(41_000));
    assert_eq!(new(&state, "a"), BTreeSet::new());
    assert!(
        first[1].is_subset(&new(&state, "b")) && first[2].is_subset(&new(&state, "c")),
        "what was there stays"
    );
    assert_eq!(new(&state, "b").len() + new(&state, "c").len(), 8);
    assert_eq!(web(&state), web_before, "the other job is not touched");
    lacking(&mut state, "a", 42_000);
    assert!(!state.advance(42_000), "a heartbeat that says the same changes nothing");

    // Its file has come: what is new may go there again.
    report(&mut state, "a", 43_000);
    state.advance(43_000);
    let (b, c) = (new(&state, "b"), new(&state, "c"));
    for (scraper, now_ms) in [("b", 44_000), ("c", 44_000)] {
        lacking(&mut state, scraper, now_ms);
    }
    for now_ms in (46_000..=74_000).step_by(2_000) {
        report(&mut state, "a", now_ms);
        ["b", "c"].iter().for_each(|scraper| lacking(&mut state, scraper, now_ms));
        state.advance(now_ms);
    }
    assert_eq!(new(&state, "a"), &b | &c, "now it is the only one that has it");

    // Nobody has it any more: it stays, as one of them may get it.
    for now_ms in (76_000..=108_000).step_by(2_000) {
        ["a", "b", "c"].iter().for_each(|scraper| lacking(&mut state, scraper, now_ms));
        state.advance(now_ms);
    }
    assert_eq!(["a", "b", "c"].iter().map(|scraper| new(&state, scraper).len()).sum::<usize>(), 8);
}

#[test]
fn external_labels_that_differ_from_those_of_most_scrapers_are_told() {
    let mut state = settled(&config(1, ""), &["a", "b", "c"]);
    let mut report = |name: &str, hash: &str| {
        let report = Report { full: true, external_labels_hash: hash.to_owned(), ..Report::default() };
        state.report(name, report, 10_000).unwrap();
        ["a", "b", "c"].map(|name| state.external_labels_differ(name))
    };
    report("a", "1");
    report("b", "1");
    assert_eq!(report("c", "2"), [false, false, true]);
    assert_eq!(report("c", "1"), [false, false, false]);
}
