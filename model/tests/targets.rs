//! From discovered labels to targets, as Prometheus does it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may fail")]

use std::path::{Path, PathBuf};

use promring_model::config::{ConfigSource, ScrapeConfig, load};
use promring_model::labels::Labels;
use promring_model::target::{Assembled, DiscoveredLabels, TargetError};

struct One(&'static str);

impl ConfigSource for One {
    fn read(&self, _: &Path) -> Result<Vec<u8>, String> {
        Ok(self.0.into())
    }

    fn glob(&self, _: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

fn job(config: &'static str) -> ScrapeConfig {
    let loaded = load(Path::new("a.yml"), &One(config));
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    ScrapeConfig::clone(&config.scrape_configs[0])
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    Labels::from_pairs(pairs)
}

fn error(job: &ScrapeConfig, own: &Labels) -> TargetError {
    match DiscoveredLabels::new(job, &Labels::default(), own).assemble() {
        Assembled::Invalid(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_parameter_of_the_target_or_its_group_beats_the_jobs() {
    let job = job("scrape_configs: [{job_name: a, params: {module: [http], path: [one], verbose: ['1']}}]");
    let group = labels([("__param_module", "tcp")]);
    let own = labels([("__address__", "a:1"), ("__param_path", "two")]);
    let discovered = DiscoveredLabels::new(&job, &group, &own).build();
    assert_eq!(discovered.get("__param_module"), Some("tcp"));
    assert_eq!(discovered.get("__param_path"), Some("two"));
    assert_eq!(discovered.get("__param_verbose"), Some("1"));
}

#[test]
fn the_group_gives_a_target_no_address() {
    let job = job("scrape_configs: [{job_name: a}]");
    let (group, own) = (labels([("__address__", "a:1")]), Labels::default());
    assert_eq!(DiscoveredLabels::new(&job, &group, &own).build().get("__address__"), None);
}

#[test]
fn the_jobs_switches_for_histograms_are_labels_that_rules_and_targets_change() {
    let job = job("scrape_configs:
- job_name: a
  scrape_native_histograms: true
  relabel_configs: [{target_label: __convert_classic_histograms_to_nhcb__, replacement: 'true'}]");
    let own = labels([("__address__", "a:1"), ("__always_scrape_classic_histograms__", "1")]);
    let group = Labels::default();
    let discovered = DiscoveredLabels::new(&job, &group, &own);
    assert_eq!(discovered.build().get("__convert_classic_histograms_to_nhcb__"), Some("false"));
    let Assembled::Target(target) = discovered.assemble() else { panic!("a target") };
    assert_eq!(target.labels.get("__scrape_native_histograms__"), Some("true"));
    assert_eq!(target.labels.get("__convert_classic_histograms_to_nhcb__"), Some("true"));
    assert_eq!(target.labels.get("__always_scrape_classic_histograms__"), Some("1"));
}

#[test]
fn labels_that_make_no_url_make_a_target_whose_scrapes_fail() {
    let job = job("scrape_configs: [{job_name: a, params: {x: [y z]}}]");
    for (own, url, reason) in [
        (labels([("__address__", "a:1"), ("__scheme__", "ftp")]), "ftp://a:1/metrics?x=y+z", "http"),
        (labels([("__address__", "a:91000")]), "http://a:91000/metrics?x=y+z", "port"),
        (labels([("__address__", "my host")]), "http://my%20host/metrics?x=y+z", "domain"),
    ] {
        let group = Labels::default();
        let Assembled::Target(target) = DiscoveredLabels::new(&job, &group, &own).assemble() else {
            panic!("a target")
        };
        let error = target.url.as_ref().unwrap_err();
        assert_eq!((&*error.url, &*target.scrape_url()), (url, url));
        assert!(error.reason.contains(reason), "{error}");
        assert_eq!(target.labels.get("instance"), own.get("__address__"));
    }
}

#[test]
fn a_switch_that_is_neither_on_nor_off_makes_no_target() {
    let job = job("scrape_configs: [{job_name: a}]");
    let own = labels([("__address__", "a:1"), ("__scrape_native_histograms__", "yes")]);
    let told = error(&job, &own).to_string();
    assert_eq!(told, "__scrape_native_histograms__ is \"yes\": it must be true or false");
}

#[test]
fn of_labels_that_a_labelmap_makes_one_the_jobs_beat_the_groups_and_those_the_targets_own() {
    let discovered = |regex: &str, group: &Labels, own: &Labels| {
        let text = format!(
            "scrape_configs: [{{job_name: a, params: {{q: [param]}}, relabel_configs: [{{regex: '{regex}', replacement: to, action: labelmap}}]}}]"
        );
        let loaded = load(Path::new("a.yml"), &One(text.leak()));
        let job = ScrapeConfig::clone(&loaded.config.unwrap().scrape_configs[0]);
        let discovered = DiscoveredLabels::new(&job, group, own);
        let traced = discovered.trace().last().unwrap().after.get("to").unwrap().to_owned();
        let Assembled::Target(target) = discovered.assemble() else { panic!("a target") };
        assert_eq!(target.labels.get("to"), Some(&*traced), "{regex}");
        traced
    };
    let group = labels([("b", "group"), ("__scheme__", "https"), ("__a", "group")]);
    let own = labels([("__address__", "a:1"), ("z", "own"), ("__metrics_path__", "/own")]);
    let of = |regex: &str| discovered(regex, &group, &own);
    assert_eq!(of("b|z"), "group");
    assert_eq!(of("z|__metrics_path__"), "own");
    assert_eq!(of("b|__metrics_path__"), "group", "the job gives a path only where there is none");
    assert_eq!(of("b|job|z|__address__"), "a");
    assert_eq!(of("job|__scheme__"), "a", "the scheme is the group's");
    assert_eq!(of("job|__scrape_interval__"), "1m");
    assert_eq!(of("__scrape_timeout__|__scrape_interval__"), "10s");
    assert_eq!(of("job|__scrape_native_histograms__"), "false");
    assert_eq!(of("job|__param_q|__scrape_interval__|b"), "param");
}

#[test]
fn a_labelmap_of_labels_that_rules_set_goes_by_when_they_were_set_first() {
    let job = job("scrape_configs:
- job_name: a
  relabel_configs:
  - {target_label: a, replacement: rule}
  - {target_label: b, replacement: rule}
  - {regex: 'a|b|job', replacement: to, action: labelmap}");
    let (group, own) = (labels([("b", "group")]), labels([("__address__", "a:1")]));
    let Assembled::Target(target) = DiscoveredLabels::new(&job, &group, &own).assemble() else {
        panic!("a target")
    };
    assert_eq!(
        target.labels.get("to"),
        Some("rule"),
        "of a, which came last: b has the place of the group's"
    );
    assert_eq!(target.labels.get("b"), Some("rule"));
}

#[test]
fn a_path_is_escaped_as_go_does_and_an_address_is_a_host_and_a_port() {
    let job = job("scrape_configs: [{job_name: a}]");
    let group = Labels::default();
    let url = |address: &str, path: &str| {
        let own = labels([("__address__", address), ("__metrics_path__", path)]);
        let Assembled::Target(target) = DiscoveredLabels::new(&job, &group, &own).assemble() else {
            panic!("a target")
        };
        target.url.map(|url| url.to_string()).map_err(|error| error.reason)
    };
    for (path, escaped) in [
        ("/m", "/m"),
        ("/m?x=1&y=2", "/m%3Fx=1&y=2"),
        ("/m%41", "/m%2541"),
        ("/m\nb c ", "/m%0Ab%20c%20"),
        ("m#u", "/m%23u"),
        ("/u;v=1|b\\c", "/u;v=1%7Cb%5Cc"),
        ("/é(1)", "/%C3%A9%281%29"),
    ] {
        assert_eq!(url("a:1", path), Ok(format!("http://a:1{escaped}")), "{path:?}");
    }
    for address in ["user:pw@a:1", "a:1?b=c", "a:1#b", "a:1\\b", "%61:1"] {
        assert_eq!(url(address, "/m"), Err("the address is not a host and a port".to_owned()), "{address}");
    }
}
