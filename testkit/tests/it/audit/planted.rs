//! Faults planted one at a time.

use promring_proto::remote_write::stale_marker;

use super::*;

#[test]
fn a_clean_stream_has_no_finding() {
    let report = planted(|_, _| {});
    assert!(report.counts.is_clean(), "{report}");
    assert_eq!(report.findings, []);
    assert_eq!((report.targets, report.series, report.slots), (4, 4 * 8, 4 * 8 * SLOTS as u64));
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
