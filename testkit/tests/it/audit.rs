//! Faults planted into a stream of samples that has none, each of which the audit has to report, and nothing else.

use std::time::Duration;

use promring_model::config::ScrapeConfig;
use promring_model::labels::Labels;
use promring_model::relabel::Rules;
use promring_proto::remote_write::stale_marker;
use promring_testkit::audit::{
    Absence, Audit, Counts, ExpectError, ExpectedTarget, Exposed, Finding, Kind, Report, ReportSeries,
    Source, TargetNumber,
};

use crate::config::{job, rule};

/// Samples as they arrive.
type Stream = Vec<(Labels, f64, i64)>;

/// Unix milliseconds; slots of any offset lie on both sides of it.
const START: i64 = 1_800_000_000_000;
const INTERVAL: i64 = 10_000;
/// Slots of each series in the window.
const SLOTS: i64 = 12;
const END: i64 = START + SLOTS * INTERVAL;

/// Four targets of three series.
fn targets() -> Vec<ExpectedTarget> {
    let exposed: Vec<Exposed> =
        [("http_requests_total", "200", true), ("http_requests_total", "500", true), ("busy", "", false)]
            .map(|(name, code, monotone)| Exposed {
                labels: Labels::from_pairs([("__name__", name), ("code", code), ("env", "exposed")]),
                monotone,
            })
            .into();
    let group = Labels::from_pairs([("env", "test")]);
    let external = Labels::from_pairs([("cluster", "one"), ("env", "never")]);
    let target = |number: usize| {
        let own = Labels::from_pairs([("__address__", format!("10.0.0.{number}:80"))]);
        let config = job("shop", Duration::from_millis(INTERVAL as u64));
        ExpectedTarget::new(&config, &external, &group, &own, &exposed).unwrap().unwrap()
    };
    (0..4).map(target).collect()
}

/// What arrives of these targets when all is well, from three slots before the window to three after it.
fn clean(targets: &[ExpectedTarget]) -> Stream {
    let mut stream = Vec::new();
    for target in targets {
        let slots = target.slots();
        let first = slots.next_after(START) - 3 * INTERVAL;
        for slot in (0..SLOTS + 6).map(|at| first + at * INTERVAL) {
            for series in &target.series {
                stream.push((series.labels.clone(), value(target, series.source, slot), slot));
            }
        }
    }
    // As it arrives: by time, the series of a scrape together.
    stream.sort_by_key(|(_, _, time)| *time);
    stream
}

fn value(target: &ExpectedTarget, source: Source, slot: i64) -> f64 {
    match source {
        Source::Exposed(index) => (slot - START) as f64 / 10.0 + f64::from(index),
        Source::Report(ReportSeries::Up) => 1.0,
        Source::Report(ReportSeries::Duration) => 0.004,
        Source::Report(ReportSeries::Scraped) => f64::from(target.scraped),
        Source::Report(ReportSeries::PostRelabelling) => f64::from(target.kept.unwrap()),
        Source::Report(ReportSeries::Added) => 0.0,
    }
}

fn feed(audit: &mut Audit, stream: &Stream) {
    for (labels, value, time) in stream {
        audit.sample(labels, *value, *time);
    }
}

/// The report after a stream with these faults planted.
fn audit(
    plan: impl FnOnce(&mut Audit, &[TargetNumber]),
    plant: impl FnOnce(&mut Stream, &[ExpectedTarget]),
) -> Report {
    let targets = targets();
    let mut audit = Audit::new();
    audit.window(START, END);
    let numbers: Vec<TargetNumber> =
        targets.iter().map(|target| audit.expect(target.clone()).unwrap()).collect();
    plan(&mut audit, &numbers);
    let mut stream = clean(&targets);
    plant(&mut stream, &targets);
    feed(&mut audit, &stream);
    assert_eq!(audit.totals().samples, stream.len() as u64);
    audit.report(END + 3 * INTERVAL)
}

fn planted(plant: impl FnOnce(&mut Stream, &[ExpectedTarget])) -> Report {
    audit(|_, _| {}, plant)
}

/// The one finding of the kind that is the only one.
fn only(report: &Report, kind: Kind, counts: Counts) -> Finding {
    assert_eq!(report.counts, counts, "{report}");
    assert!(!report.counts.is_clean());
    let examples: Vec<&Finding> = report.findings.iter().filter(|finding| finding.kind == kind).collect();
    assert_eq!(examples.len(), 1, "{report}");
    examples[0].clone()
}

/// The slot with this number in the window, 0-based.
fn slot(target: &ExpectedTarget, number: i64) -> i64 {
    target.slots().next_after(START) + number * INTERVAL
}

/// Where in the stream the sample of this series and slot is.
fn position(stream: &Stream, labels: &Labels, time: i64) -> usize {
    stream.iter().position(|(l, _, t)| l == labels && *t == time).unwrap()
}

/// The counter that the faults are planted in.
fn victim(targets: &[ExpectedTarget]) -> (&ExpectedTarget, Labels) {
    (&targets[2], targets[2].series[1].labels.clone())
}

#[test]
fn a_clean_stream_has_no_finding() {
    let report = planted(|_, _| {});
    assert!(report.counts.is_clean(), "{report}");
    assert_eq!(report.findings, []);
    assert_eq!((report.targets, report.series, report.slots), (4, 4 * 8, 4 * 8 * SLOTS as u64));
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

/// What is expected of a target of this job that exposes these series.
fn expected(config: &ScrapeConfig, exposed: &[Labels]) -> Result<Option<ExpectedTarget>, ExpectError> {
    let exposed: Vec<Exposed> =
        exposed.iter().map(|labels| Exposed { labels: labels.clone(), monotone: false }).collect();
    let own = Labels::from_pairs([("__address__", "a:80"), ("__meta_kind", "test")]);
    ExpectedTarget::new(config, &Labels::from_pairs([("cluster", "one")]), &Labels::default(), &own, &exposed)
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
fn a_missing_slot_is_a_gap_at_the_beginning_in_the_middle_and_at_the_end_of_the_window() {
    for number in [0, 5, SLOTS - 1] {
        let report = planted(|stream, targets| {
            let (target, labels) = victim(targets);
            stream.remove(position(stream, &labels, slot(target, number)));
        });
        let gap = only(&report, Kind::Gap, Counts { gaps: 1, ..Counts::default() });
        let targets = targets();
        let (target, labels) = victim(&targets);
        assert_eq!(
            (gap.labels, gap.from_ms, gap.to_ms),
            (labels, slot(target, number), slot(target, number))
        );
        assert_eq!(report.gaps.len(), 1);
        assert_eq!(report.gaps[0].labels, target.labels);
    }
}

#[test]
fn slots_missing_outside_the_window_are_no_gap() {
    for number in [-1, SLOTS] {
        let report = planted(|stream, targets| {
            let (target, labels) = victim(targets);
            stream.remove(position(stream, &labels, slot(target, number)));
        });
        assert!(report.counts.is_clean(), "{report}");
    }
}

#[test]
fn the_gap_of_a_whole_target_is_one_example_with_its_length() {
    let report = planted(|stream, targets| {
        let (from, to) = (slot(&targets[1], 3), slot(&targets[1], 6));
        stream.retain(|(labels, _, time)| {
            labels.get("instance") != targets[1].labels.get("instance") || !(from..=to).contains(time)
        });
    });
    let gap = only(&report, Kind::Gap, Counts { gaps: 4 * 8, ..Counts::default() });
    assert_eq!(gap.to_ms - gap.from_ms, 3 * INTERVAL);
    assert_eq!(
        (report.gaps[0].slots, report.gaps[0].series, report.gaps[0].longest_ms),
        (32, 8, 4 * INTERVAL)
    );
}

#[test]
fn a_missing_target_is_reported_as_one() {
    let report = planted(|stream, targets| {
        stream.retain(|(labels, ..)| labels.get("instance") != targets[3].labels.get("instance"));
    });
    let counts = Counts { missing_targets: 1, gaps: 8 * SLOTS as u64, ..Counts::default() };
    let finding = only(&report, Kind::MissingTarget, counts);
    assert_eq!(finding.labels, targets()[3].labels);
    assert_eq!(report.findings.len(), 1, "its gaps need no examples of their own");
}

#[test]
fn a_missing_series_is_reported_as_one() {
    let report = planted(|stream, targets| {
        let (_, labels) = victim(targets);
        stream.retain(|(l, ..)| *l != labels);
    });
    let finding = only(
        &report,
        Kind::MissingSeries,
        Counts { missing_series: 1, gaps: SLOTS as u64, ..Counts::default() },
    );
    assert_eq!(finding.labels, victim(&targets()).1);
}

#[test]
fn a_second_sample_of_a_slot_is_a_duplicate_whatever_its_time() {
    for later_ms in [0, 1, 4_000, INTERVAL - 1] {
        let report = planted(|stream, targets| {
            let (target, labels) = victim(targets);
            let at = position(stream, &labels, slot(target, 7));
            let (labels, value, time) = stream[at].clone();
            stream.insert(at + 1, (labels, value + 0.1, time + later_ms));
        });
        let finding = only(&report, Kind::Duplicate, Counts { duplicates: 1, ..Counts::default() });
        assert_eq!(finding.from_ms, slot(victim(&targets()).0, 7) + later_ms);
    }
}

#[test]
fn a_duplicate_outside_the_window_is_one_too() {
    let report = planted(|stream, targets| {
        let (target, labels) = victim(targets);
        let at = position(stream, &labels, slot(target, -2));
        let (labels, value, time) = stream[at].clone();
        stream.insert(at + 1, (labels, value + 1.0, time));
    });
    only(&report, Kind::Duplicate, Counts { duplicates: 1, ..Counts::default() });
}

#[test]
fn the_same_sample_again_is_a_duplicate_that_was_sent_again() {
    let report = planted(|stream, targets| {
        let (target, labels) = victim(targets);
        let at = position(stream, &labels, slot(target, 7));
        stream.insert(at + 1, stream[at].clone());
    });
    only(&report, Kind::Duplicate, Counts { duplicates: 1, resent: 1, ..Counts::default() });
    assert!(report.counts.is_clean_but_resent());
}

#[test]
fn a_whole_request_that_comes_again_is_sent_again_not_out_of_order() {
    let targets = targets();
    let mut audit = Audit::new();
    audit.window(START, END);
    for target in &targets {
        audit.expect(target.clone()).unwrap();
    }
    let stream = clean(&targets);
    let (old, new) = stream.split_at(stream.len() / 2);
    assert!(!audit.request(b"first"));
    feed(&mut audit, &old.to_vec());
    assert!(audit.request(b"first"));
    feed(&mut audit, &old.to_vec());
    assert!(!audit.request(b"second"));
    feed(&mut audit, &new.to_vec());
    let report = audit.report(END);
    let again = old.len() as u64;
    assert_eq!(report.counts, Counts { duplicates: again, resent: again, ..Counts::default() }, "{report}");
}

#[test]
fn two_samples_in_the_wrong_order_are_out_of_order_and_leave_no_gap() {
    let report = planted(|stream, targets| {
        let (target, labels) = victim(targets);
        let one = position(stream, &labels, slot(target, 4));
        let two = position(stream, &labels, slot(target, 5));
        stream.swap(one, two);
    });
    let finding = only(&report, Kind::OutOfOrder, Counts { out_of_order: 1, ..Counts::default() });
    assert_eq!(finding.from_ms, slot(victim(&targets()).0, 4));
}

#[test]
fn a_late_sample_counts_for_the_slot_that_it_lies_in() {
    let report = planted(|stream, targets| {
        let (target, labels) = victim(targets);
        let at = position(stream, &labels, slot(target, 4));
        stream[at].2 += INTERVAL - 1;
    });
    assert!(report.counts.is_clean(), "{report}");
}

#[test]
fn a_staleness_marker_of_a_living_series_is_a_stray() {
    let report = planted(|stream, targets| {
        let (target, labels) = victim(targets);
        let time = slot(target, 4);
        let at = position(stream, &labels, time);
        stream.insert(at + 1, (labels, stale_marker(), time + 5));
    });
    let finding = only(&report, Kind::StrayMarker, Counts { stray_markers: 1, ..Counts::default() });
    assert_eq!(finding.labels, victim(&targets()).1);
}

#[test]
fn a_marker_in_place_of_a_sample_leaves_a_gap_too() {
    let report = planted(|stream, targets| {
        let (target, labels) = victim(targets);
        let at = position(stream, &labels, slot(target, 4));
        stream[at].1 = stale_marker();
    });
    only(&report, Kind::StrayMarker, Counts { stray_markers: 1, gaps: 1, ..Counts::default() });
}

#[test]
fn a_series_that_nobody_expects_is_reported_once() {
    let stranger = Labels::from_pairs([("__name__", "stranger")]);
    let report = planted(|stream, _| {
        stream.push((stranger.clone(), 1.0, START));
        stream.push((stranger.clone(), 1.0, START + INTERVAL));
    });
    let finding = only(&report, Kind::UnexpectedSeries, Counts { unexpected_series: 1, ..Counts::default() });
    assert_eq!(finding.labels, stranger);
}

#[test]
fn a_counter_that_goes_down_and_a_gauge_that_does_not_matter() {
    let report = planted(|stream, targets| {
        let (target, labels) = victim(targets);
        let at = position(stream, &labels, slot(target, 4));
        stream[at].1 -= 2_000.0;
        let at = position(stream, &target.series[2].labels, slot(target, 4));
        stream[at].1 -= 2_000.0;
    });
    let finding = only(&report, Kind::UnexpectedValue, Counts { unexpected_values: 1, ..Counts::default() });
    assert_eq!(finding.labels, victim(&targets()).1);
}

#[test]
fn a_target_that_counts_as_down_or_lacks_samples_shows_in_its_report_series() {
    for series in [ReportSeries::Up, ReportSeries::Scraped, ReportSeries::PostRelabelling] {
        let report = planted(|stream, targets| {
            let (target, _) = victim(targets);
            let labels = &target.series.iter().find(|s| s.source == Source::Report(series)).unwrap().labels;
            let at = position(stream, labels, slot(target, 4));
            stream[at].1 -= 1.0;
        });
        let finding =
            only(&report, Kind::UnexpectedValue, Counts { unexpected_values: 1, ..Counts::default() });
        assert_eq!(finding.labels.get("__name__"), Some(series.name()));
    }
}

#[test]
fn labels_that_no_sender_may_send_and_times_beyond_all_times_are_malformed() {
    let mut audit = Audit::new();
    let encode = |pairs: &[(&str, &str)]| {
        let mut out = Vec::new();
        promring_proto::remote_write::v1::encode_labels(pairs.iter().copied(), &mut out);
        out
    };
    audit.sample_encoded(&encode(&[("b", "1"), ("a", "1")]), 1.0, START);
    audit.sample_encoded(&encode(&[("a", "1"), ("a", "1")]), 1.0, START);
    audit.sample_encoded(&encode(&[("a", "")]), 1.0, START);
    audit.sample_encoded(&[], 1.0, START);
    audit.sample_encoded(&encode(&[("a", "1")]), 1.0, i64::MAX);
    audit.sample_encoded(&encode(&[("a", "1")]), 1.0, i64::MIN);
    assert_eq!(audit.report(START).counts, Counts { malformed: 6, ..Counts::default() });
}

#[test]
fn a_series_that_ends_as_planned_needs_its_marker_and_nothing_more() {
    let (target, labels) = {
        let targets = targets();
        let (target, labels) = victim(&targets);
        (target.clone(), labels)
    };
    let gone_at = slot(&target, 6) + 2_000;
    let plan = |audit: &mut Audit, numbers: &[TargetNumber]| {
        assert_eq!(audit.expect_series_absence(numbers[2], &labels, Absence::vanished(gone_at)), 1);
    };
    let end = |stream: &mut Stream| stream.retain(|(l, _, time)| *l != labels || *time < gone_at);
    let marker = (labels.clone(), stale_marker(), slot(&target, 7));
    let insert = |stream: &mut Stream, sample: (Labels, f64, i64)| {
        let at = stream.partition_point(|(_, _, time)| *time <= sample.2);
        stream.insert(at, sample);
    };

    let ended = audit(plan, |stream, _| {
        end(stream);
        insert(stream, marker.clone());
    });
    assert!(ended.counts.is_clean(), "{ended}");

    let unmarked = audit(plan, |stream, _| end(stream));
    only(&unmarked, Kind::MissingMarker, Counts { missing_markers: 1, ..Counts::default() });

    let marked_twice = audit(plan, |stream, _| {
        end(stream);
        insert(stream, marker.clone());
        insert(stream, (labels.clone(), stale_marker(), slot(&target, 8)));
    });
    only(&marked_twice, Kind::StrayMarker, Counts { stray_markers: 1, ..Counts::default() });

    let living_on = audit(plan, |stream, _| {
        end(stream);
        insert(stream, marker.clone());
        insert(stream, (labels.clone(), 1e9, slot(&target, 9)));
    });
    only(&living_on, Kind::SampleAfterEnd, Counts { samples_after_end: 1, ..Counts::default() });

    let cut_short = audit(plan, |stream, _| {
        end(stream);
        insert(stream, marker.clone());
        stream.remove(position(stream, &labels, slot(&target, 5)));
    });
    only(&cut_short, Kind::Gap, Counts { gaps: 1, ..Counts::default() });
}

#[test]
fn a_target_that_goes_down_keeps_its_report_series_and_marks_the_others() {
    let targets = targets();
    let target = &targets[2];
    let (down_at, up_at) = (slot(target, 4), slot(target, 8));
    let exposed = |labels: &Labels| target.series[..3].iter().any(|series| series.labels == *labels);
    let down = |stream: &mut Stream| {
        for (labels, value, time) in stream.iter_mut() {
            if labels.get("instance") != target.labels.get("instance") || !(down_at..up_at).contains(time) {
                continue;
            }
            match labels.get("__name__") {
                Some("up" | "scrape_samples_scraped" | "scrape_samples_post_metric_relabeling") => {
                    *value = 0.0;
                }
                _ if exposed(labels) => *value = stale_marker(),
                _ => {}
            }
        }
        // One marker a series.
        stream.retain(|(labels, _, time)| !exposed(labels) || !(down_at + 1..up_at).contains(time));
    };
    let plan = |audit: &mut Audit, numbers: &[TargetNumber]| {
        audit.expect_absence(numbers[2], Absence::down(down_at).until(up_at));
    };
    let report = audit(plan, |stream, _| down(stream));
    assert!(report.counts.is_clean(), "{report}");
    assert_eq!(report.slots, (4 * 8 * SLOTS - 3 * 4) as u64);

    let unplanned = audit(|_, _| {}, |stream, _| down(stream));
    assert_eq!((unplanned.counts.stray_markers, unplanned.counts.gaps), (3, 12), "{unplanned}");
    assert_eq!(unplanned.counts.unexpected_values, 3 * 4, "up and the two counts of samples");

    let still_up = audit(plan, |stream, _| {
        down(stream);
        let up = Source::Report(ReportSeries::Up);
        let labels = &target.series.iter().find(|series| series.source == up).unwrap().labels;
        let at = position(stream, labels, slot(target, 5));
        stream[at].1 = 1.0;
    });
    only(&still_up, Kind::UnexpectedValue, Counts { unexpected_values: 1, ..Counts::default() });
}

#[test]
fn a_removed_target_ends_as_a_whole_within_the_time_that_removal_takes() {
    let targets = targets();
    let target = &targets[2];
    let removed_at = slot(target, 4) + 1;
    let settle_ms = 2 * INTERVAL;
    let plan = |audit: &mut Audit, numbers: &[TargetNumber]| {
        let target = audit.find_target(&Labels::from_pairs([("instance", "10.0.0.2:80")])).unwrap();
        assert_eq!(target, numbers[2]);
        audit.expect_absence(target, Absence::removed(removed_at, settle_ms));
    };
    for last_slot in [4, 5, 6] {
        let report = audit(plan, |stream, _| {
            let marker_at = slot(target, last_slot) + 500;
            stream.retain(|(labels, _, time)| {
                labels.get("instance") != target.labels.get("instance") || *time < marker_at
            });
            stream.extend(
                target.series.iter().map(|series| (series.labels.clone(), stale_marker(), marker_at)),
            );
        });
        assert!(report.counts.is_clean(), "{report}");
    }
    let unmoved = audit(plan, |_, _| {});
    assert_eq!(unmoved.counts.missing_markers, 8);
    assert!(unmoved.counts.samples_after_end > 0);
}

#[test]
fn gaps_show_while_the_window_is_still_open() {
    let targets = targets();
    let mut audit = Audit::new();
    audit.window(START, i64::MAX);
    for target in &targets {
        audit.expect(target.clone()).unwrap();
    }
    let mut stream = clean(&targets);
    let (target, labels) = victim(&targets);
    let hole = slot(target, 4);
    stream.remove(position(&stream, &labels, hole));
    let now = hole + INTERVAL / 2;
    stream.retain(|(_, _, time)| *time <= now);
    feed(&mut audit, &stream);
    assert_eq!(audit.gaps(hole - 1), 0, "not due yet");
    assert_eq!(audit.gaps(hole), 1);
    assert_eq!(audit.gaps(now), 1);
    assert_eq!(audit.report(now).counts.gaps, 1);
    assert_eq!(
        audit.gaps(now + 2 * INTERVAL),
        1 + 2 * 32,
        "what does not come is missing once its time is over"
    );
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
fn windows_absences_and_intervals_from_anywhere_do_no_harm() {
    let mut target = targets()[0].clone();
    target.interval = Duration::from_millis(u64::MAX);
    assert!(matches!(Audit::new().expect(target.clone()), Err(ExpectError::Interval(_))));
    target.interval = Duration::from_millis(1);
    target.from_ms = i64::MIN;
    for (from_ms, to_ms) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (0, START)] {
        let mut audit = Audit::new();
        audit.window(from_ms, to_ms);
        let number = audit.expect(target.clone()).unwrap();
        audit.expect_absence(number, Absence { from_ms, to_ms, settle_ms: i64::MAX, whole: true });
        audit.expect_absence(
            number,
            Absence { from_ms: to_ms, to_ms: from_ms, settle_ms: i64::MIN, whole: true },
        );
        audit.sample(&target.series[0].labels, 1.0, START);
        audit.sample(&target.series[0].labels, stale_marker(), START + 1);
        let _ = (audit.report(i64::MAX), audit.report(i64::MIN), audit.gaps(START));
    }
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
fn without_an_expectation_order_and_duplicates_are_checked_all_the_same() {
    let labels = Labels::from_pairs([("__name__", "a")]);
    let mut audit = Audit::new();
    for time in [1_000, 2_000, 2_000, 1_500, 3_000] {
        audit.sample(&labels, 1.0, time);
    }
    let report = audit.report(10_000);
    assert_eq!(report.counts, Counts { duplicates: 1, resent: 1, out_of_order: 1, ..Counts::default() });
    let last = audit.last_samples("a");
    assert_eq!((last[0].timestamp_ms, last[0].value.as_str(), last[0].samples), (3_000, "1", 5));
    assert_eq!(audit.last_samples("b"), []);
}
