//! What is expected, worked out from what exporters list and how the job is configured.

use std::time::Duration;

use promring_model::config::ScrapeConfig;
use promring_model::labels::Labels;
use promring_model::relabel::Rules;
use promring_testkit::audit::{Audit, ExpectError, ExpectedTarget, Exposed};

use super::*;
use crate::config::{job, rule};

/// What is expected of a target of this job that exposes these series.
fn expected(config: &ScrapeConfig, exposed: &[Labels]) -> Result<Option<ExpectedTarget>, ExpectError> {
    let exposed: Vec<Exposed> =
        exposed.iter().map(|labels| Exposed { labels: labels.clone(), monotone: false }).collect();
    let own = Labels::from_pairs([("__address__", "a:80"), ("__meta_kind", "test")]);
    ExpectedTarget::new(config, &Labels::from_pairs([("cluster", "one")]), &Labels::default(), &own, &exposed)
}

#[test]
fn expected_labels_are_merged_as_a_scraper_merges_them() {
    let targets = targets();
    let series: Vec<String> = targets[0].series.iter().map(|series| series.labels.to_string()).collect();
    let tail = r#"env="test", exported_env="exposed", instance="10.0.0.0:80", job="shop"}"#;
    assert_eq!(series[0], format!(r#"{{__name__="http_requests_total", cluster="one", code="200", {tail}"#));
    assert_eq!(
        series[3],
        r#"{__name__="up", cluster="one", env="test", instance="10.0.0.0:80", job="shop"}"#
    );
    assert_eq!(series.len(), 3 + 5);
}

#[test]
fn displaced_labels_take_the_prefix_until_it_is_free_and_short_names_go_first() {
    let exposed = Labels::from_pairs([("__name__", "a"), ("exported_job", "e"), ("job", "j")]);
    let exposed = [Exposed { labels: exposed, monotone: false }];
    let group = Labels::from_pairs([("exported_job", "te")]);
    let own = Labels::from_pairs([("__address__", "a:80")]);
    let config = job("shop", Duration::from_secs(10));
    let target = ExpectedTarget::new(&config, &Labels::default(), &group, &own, &exposed).unwrap().unwrap();
    assert_eq!(
        target.series[0].labels.to_string(),
        r#"{__name__="a", exported_exported_exported_job="e", exported_exported_job="j", exported_job="te", instance="a:80", job="shop"}"#
    );
}

#[test]
fn honoured_labels_win_over_those_of_the_target() {
    let mut config = job("shop", Duration::from_secs(10));
    config.honor_labels = true;
    let exposed = Labels::from_pairs([("__name__", "a"), ("env", "exposed")]);
    let group = Labels::from_pairs([("env", "test"), ("team", "red")]);
    let own = Labels::from_pairs([("__address__", "a:80")]);
    let exposed = [Exposed { labels: exposed, monotone: false }];
    let target = ExpectedTarget::new(&config, &Labels::default(), &group, &own, &exposed).unwrap().unwrap();
    let expected = r#"{__name__="a", env="exposed", instance="a:80", job="shop", team="red"}"#;
    assert_eq!(target.series[0].labels.to_string(), expected);
}

#[test]
fn relabelling_decides_what_is_expected() {
    let mut config = job("shop", Duration::from_secs(10));
    config.metric_relabel = Rules::new(vec![
        rule("keep", &["__name__"], "http_.*", ""),
        rule("labeldrop", &[], "pod_ip|instance_id", ""),
        rule("", &["service"], "(.+)", "service_name"),
        rule("labeldrop", &[], "service", ""),
    ]);
    let exposed = [
        Labels::from_pairs([
            ("__name__", "http_requests_total"),
            ("pod_ip", "10.0.0.1"),
            ("service", "cart"),
        ]),
        Labels::from_pairs([("__name__", "go_goroutines")]),
        // Without the label that goes, it is the same series as the first.
        Labels::from_pairs([
            ("__name__", "http_requests_total"),
            ("pod_ip", "10.0.0.2"),
            ("service", "cart"),
        ]),
    ];
    let target = expected(&config, &exposed).unwrap().unwrap();
    let series: Vec<String> = target.series[..2].iter().map(|series| series.labels.to_string()).collect();
    let common = r#"cluster="one", instance="a:80", job="shop""#;
    assert_eq!(
        series,
        [
            format!(r#"{{__name__="http_requests_total", {common}, service_name="cart"}}"#),
            format!(r#"{{__name__="up", {common}}}"#),
        ]
    );
    assert_eq!((target.scraped, target.kept), (3, None), "two became one");
    let target = expected(&config, &exposed[..2]).unwrap().unwrap();
    assert_eq!((target.scraped, target.kept), (2, Some(1)));
}

#[test]
fn a_target_that_relabelling_drops_is_not_expected() {
    let mut config = job("shop", Duration::from_secs(10));
    config.relabel = Rules::new(vec![rule("drop", &["__meta_kind"], "test", "")]);
    assert!(expected(&config, &[]).unwrap().is_none());
}

#[test]
fn what_every_scrape_would_fail_of_is_an_error_and_not_an_expectation() {
    let mut config = job("shop", Duration::from_secs(10));
    config.metric_relabel = Rules::new(vec![rule("labeldrop", &[], "__name__", "")]);
    let error = expected(&config, &[Labels::from_pairs([("__name__", "a")])]).unwrap_err();
    assert!(error.to_string().contains("without a name"), "{error}");
    config.relabel = Rules::new(vec![rule("labeldrop", &[], "__address__", "")]);
    assert!(matches!(expected(&config, &[]), Err(ExpectError::Target(_))));
}

#[test]
fn a_series_of_two_targets_is_refused() {
    let targets = targets();
    let mut audit = Audit::new();
    audit.expect(targets[0].clone()).unwrap();
    let error = audit.expect(targets[0].clone()).unwrap_err();
    assert!(matches!(error, ExpectError::Twice(_)), "{error}");
    assert_eq!(audit.expected(), (1, 8));
}

#[test]
fn an_expectation_survives_json() {
    for target in targets() {
        let json = serde_json::to_string(&target).unwrap();
        let read: ExpectedTarget = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (read.slots(), &read.series, &read.labels),
            (target.slots(), &target.series, &target.labels)
        );
    }
}

#[test]
fn a_target_expected_later_owes_nothing_before() {
    let mut targets = targets();
    let mut audit = Audit::new();
    audit.window(START, END);
    for target in &mut targets {
        target.from_ms = START + 5 * INTERVAL;
        audit.expect(target.clone()).unwrap();
    }
    let mut stream = clean(&targets);
    stream.retain(|(_, _, time)| *time > START + 5 * INTERVAL);
    feed(&mut audit, &stream);
    let report = audit.report(END);
    assert!(report.counts.is_clean(), "{report}");
    assert_eq!(report.slots, 4 * 8 * (SLOTS - 5) as u64);
}
