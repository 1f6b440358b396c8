//! What two scrapers sent, scrape by scrape.

use std::collections::BTreeMap;

use promring_proto::remote_write::STALE_NAN_BITS;
use promring_proto::remote_write::v2::Histogram;

use super::script::Case;
use crate::recorder::{Pairs, Record, Recorded, What};

/// The label that every target has: its job, whatever the exposition says that the job is.
const CASE: &str = "case";

/// A divergence that shows in every family: which series are marked, and which count as added, when a scrape fails after
/// a part of its body was read.
pub(super) const AFTER_A_FAILURE: &str = "any/markers-after-a-failed-scrape";

/// Another one: where two texts are one series, Prometheus's agent sends both samples.
pub(super) const TWO_TEXTS: &str = "any/two-texts-of-one-series";

/// A series of native histograms ends with a marker of its own type; Prometheus's agent writes a float's.
pub(super) const MARKER_OF_A_HISTOGRAM: &str = "any/marker-of-a-native-histogram";

/// And another: Prometheus does not send samples from before its start.
pub(super) const BEFORE_THE_START: &str = "any/samples-from-before-the-start";

/// Unix milliseconds with fewer digits than this are long ago.
const BEFORE_DIGITS: usize = 13;

/// What one client sent of one case: for each scrape, and apart from them where an exposition had times of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) scrapes: Vec<Vec<String>>,
    pub(super) apart: Vec<String>,
}

/// Records by case.
pub(super) fn by_case(recorded: &Recorded) -> BTreeMap<String, Vec<&Record>> {
    let mut cases: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    for record in &recorded.records {
        let case = value(&record.labels, CASE).unwrap_or("none");
        cases.entry(case.to_owned()).or_default().push(record);
    }
    cases
}

/// The times of a case's scrapes: those of `up`, its last marker included.
pub(super) fn scrape_times(records: &[&Record]) -> Vec<i64> {
    let ups = records.iter().filter(|record| value(&record.labels, "__name__") == Some("up"));
    let mut times: Vec<i64> = ups.map(|record| record.time_ms).collect();
    times.sort_unstable();
    times.dedup();
    times
}

/// Samples and markers that came after one of their series that is as new or newer: no receiver takes them. `records`: in the
/// order in which they came.
pub(super) fn out_of_order(records: &[&Record]) -> Vec<String> {
    let mut last: BTreeMap<&Pairs, i64> = BTreeMap::new();
    let points = records.iter().filter(|record| !matches!(record.what, What::Exemplar { .. }));
    points
        .filter(|record| {
            last.insert(&record.labels, record.time_ms).is_some_and(|last| last >= record.time_ms)
        })
        .map(|record| format!("@{} {}", record.time_ms, shown(record)))
        .collect()
}

/// What was sent of a case in its first `scrapes` scrapes. `counts`: which records are looked at.
pub(super) fn sent(records: &[&Record], scrapes: usize, counts: fn(&Record) -> bool) -> Sent {
    let times = scrape_times(records);
    let mut sent = Sent { scrapes: vec![Vec::new(); scrapes], apart: Vec::new() };
    for record in records.iter().filter(|record| counts(record)) {
        let text = shown(record);
        match times.binary_search(&record.time_ms) {
            Ok(at) if at < scrapes => sent.scrapes[at].push(text),
            Ok(_) => {}
            Err(_) => sent.apart.push(format!("@{} {text}", record.time_ms)),
        }
    }
    sent.scrapes.iter_mut().for_each(|lines| lines.sort());
    sent.apart.sort();
    sent
}

/// Each step in which two clients differ, by `family/step`, with what differs. What differs apart from scrapes goes by
/// `family/times`.
pub(super) fn differences(case: &Case, ours: &Sent, theirs: &Sent) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut before: Option<String> = None;
    let mut failed_once = false;
    for (at, step) in case.steps.iter().enumerate() {
        let (mut more, mut less) = difference(&ours.scrapes[at], &theirs.scrapes[at]);
        let markers = markers_of_histograms(&mut more, &mut less);
        if !markers.is_empty() {
            let text: &mut String = found.entry(MARKER_OF_A_HISTOGRAM.to_owned()).or_default();
            text.push_str(&format!("scrape {at} of {}: {markers:?}\n", case.job));
        }
        let seconds: Vec<String> = less
            .extract_if(.., |line| has_sample(line, &ours.scrapes[at]) && !has_sample(line, &more))
            .collect();
        if !seconds.is_empty() {
            let text: &mut String = found.entry(TWO_TEXTS.to_owned()).or_default();
            text.push_str(&format!("scrape {at} of {}: {seconds:?}\n", case.job));
        }
        // What is known of a body that was not taken as a whole is one divergence for all of them.
        let is_down = |line: &String| line.starts_with("up{") && line.ends_with(" 0.0");
        let failed = [ours, theirs].iter().all(|sent| sent.scrapes[at].iter().any(is_down));
        failed_once |= failed;
        if more.is_empty() && less.is_empty() {
            before = failed.then(|| AFTER_A_FAILURE.to_owned());
            continue;
        }
        // What a step left behind shows in the next one as markers and as series that are new.
        let aftermath = |line: &&String| line.ends_with(" stale") || line.starts_with("scrape_series_added{");
        let name = match before.take() {
            Some(name) if more.iter().chain(&less).all(|line| aftermath(&line)) => name,
            _ if failed && more.iter().chain(&less).all(|line| aftermath(&line)) => {
                AFTER_A_FAILURE.to_owned()
            }
            // Prometheus goes on knowing what a refused body has shown.
            _ if failed_once
                && more.iter().chain(&less).all(|line| line.starts_with("scrape_series_added{")) =>
            {
                AFTER_A_FAILURE.to_owned()
            }

            _ => format!("{}/{}", case.family, step.name),
        };
        let body = String::from_utf8_lossy(&step.body);
        let excerpt: String = body.chars().take(200).collect();
        let text: &mut String = found.entry(name.clone()).or_default();
        text.push_str(&format!("scrape {at} of {}, body {excerpt:?}\n", case.job));
        more.iter().for_each(|line| text.push_str(&format!("   only promring: {line}\n")));
        less.iter().for_each(|line| text.push_str(&format!("   only Prometheus: {line}\n")));
        before = Some(if failed { AFTER_A_FAILURE.to_owned() } else { name });
    }
    let (mut more, less) = difference(&ours.apart, &theirs.apart);
    let is_old =
        |line: &mut String| line[1..].split(' ').next().is_some_and(|time| time.len() < BEFORE_DIGITS);
    let old: Vec<String> = more.extract_if(.., is_old).collect();
    if !old.is_empty() {
        found.insert(BEFORE_THE_START.to_owned(), format!("{old:?}\n"));
    }
    if !more.is_empty() || !less.is_empty() {
        let mut text = format!("times of {}\n", case.job);
        more.iter().for_each(|line| text.push_str(&format!("   only promring: {line}\n")));
        less.iter().for_each(|line| text.push_str(&format!("   only Prometheus: {line}\n")));
        found.insert(format!("{}/times", case.family), text);
    }
    found
}

/// Takes out the markers that one has as a histogram's and the other as a float's, and gives their series.
fn markers_of_histograms(more: &mut Vec<String>, less: &mut Vec<String>) -> Vec<String> {
    let of_histograms = more.iter().filter_map(|line| line.strip_suffix(" histogram stale"));
    let mut series: Vec<String> = of_histograms.map(str::to_owned).collect();
    series.retain(|series| less.contains(&format!("{series} stale")));
    more.retain(|line| {
        !line.strip_suffix(" histogram stale").is_some_and(|one| series.iter().any(|s| s == one))
    });
    less.retain(|line| !line.strip_suffix(" stale").is_some_and(|one| series.iter().any(|s| s == one)));
    series
}

/// Whether the series of a sample has one among `sent`.
fn has_sample(line: &str, sent: &[String]) -> bool {
    let series = line.rsplit_once(' ').map(|(series, _)| series).unwrap_or_default();
    sent.iter().any(|other| other.rsplit_once(' ').is_some_and(|(other, _)| other == series))
}

/// What only the one has, and what only the other has, of two sorted lists.
pub(super) fn difference<T: Ord + Clone>(one: &[T], other: &[T]) -> (Vec<T>, Vec<T>) {
    let (mut more, mut less) = (Vec::new(), Vec::new());
    let (mut a, mut b) = (one.iter().peekable(), other.iter().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x == y => {
                a.next();
                b.next();
            }
            (Some(x), Some(y)) if x < y => more.extend(a.next().cloned()),
            (Some(_), None) => more.extend(a.next().cloned()),
            (_, Some(_)) => less.extend(b.next().cloned()),
            (None, None) => return (more, less),
        }
    }
}

fn shown(record: &Record) -> String {
    let series = series(&record.labels);
    match &record.what {
        What::Sample(STALE_NAN_BITS) => format!("{series} stale"),
        // It is another one each time.
        What::Sample(_) if value(&record.labels, "__name__") == Some("scrape_duration_seconds") => {
            format!("{series} some seconds")
        }
        What::Sample(bits) => match f64::from_bits(*bits) {
            // Prometheus's encoder loses the sign of a zero.
            0.0 => format!("{series} 0.0"),
            nan if nan.is_nan() => format!("{series} NaN of {bits:x}"),
            value => format!("{series} {value:?}"),
        },
        What::Histogram(histogram) if histogram.sum.to_bits() == STALE_NAN_BITS => {
            format!("{series} histogram stale")
        }
        What::Histogram(histogram) => format!("{series} {}", shown_histogram(histogram)),
        What::Exemplar { labels, value } => format!("{series} exemplar {} {value:?}", self::series(labels)),
    }
}

fn shown_histogram(histogram: &Histogram) -> String {
    // Its time is compared as every other is.
    format!("{:?}", Histogram { timestamp: 0, start_timestamp: 0, ..histogram.clone() })
}

fn series(labels: &Pairs) -> String {
    let name = value(labels, "__name__").unwrap_or_default();
    // What is as it always is would only hide the rest.
    let case = value(labels, CASE).unwrap_or_default();
    let usual = |name: &str, value: &str| match name {
        "__name__" | CASE => true,
        "job" => value == case,
        "instance" => value.starts_with("127.0.0.1:"),
        _ => false,
    };
    let others = labels.iter().filter(|(name, value)| !usual(name, value));
    let pairs: Vec<String> = others.map(|(name, value)| format!("{name}={value:?}")).collect();
    let lacking: Vec<&str> = ["job", "instance"]
        .into_iter()
        .filter(|name| !case.is_empty() && value(labels, name).is_none())
        .collect();
    let lacking = if lacking.is_empty() { String::new() } else { format!(" without {lacking:?}") };
    format!("{name}{{{}}}{lacking}", pairs.join(","))
}

pub(super) fn value<'l>(labels: &'l Pairs, name: &str) -> Option<&'l str> {
    labels.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
}
