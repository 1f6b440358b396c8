//! The audit: what it expects, faults planted into a stream of samples that has none, and planned ends. Each fault
//! has to be reported, and nothing else.

mod expected;
mod planned;
mod planted;

use std::time::Duration;

use promring_model::labels::Labels;
use promring_testkit::audit::{
    Audit, Counts, ExpectedTarget, Exposed, Finding, Kind, Report, ReportSeries, Source, TargetNumber,
};

use crate::config::job;

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
