//! Planned ends: with their marker, without it, and with too much.

use promring_proto::remote_write::stale_marker;
use promring_testkit::audit::{Absence, ExpectError};

use super::*;

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
