//! The parsers over the same metrics in each format: what a steady scrape costs (find each sample, read its value,
//! hash its series), what a first scrape costs (take every series apart), and prometheus-parse beside it. At the end it prints
//! each as samples and bytes a second, by the least CPU time of many turns.

#![allow(clippy::print_stderr, reason = "a benchmark tells figures")]

#[path = "common/bodies.rs"]
mod bodies;
#[path = "common/cpu.rs"]
mod cpu;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use promring_model::labels::SpareLabels;
use promring_proto::exposition::{MetricType, encode_delimited};
use promring_scraper::parse::protobuf::HistogramOptions;
use promring_scraper::parse::text::TextParser;
use promring_scraper::parse::{Format, Item, Parser};

use bodies::{families, print};
use cpu::cpu_time;

/// The figures are the least of so many turns.
const TURNS: usize = 60;

/// Hands every item to `item` and counts the samples.
fn each<'b>(format: Format, body: &'b [u8], mut item: impl FnMut(&Item<'b>)) -> u64 {
    let mut parser = Parser::of(format, HistogramOptions::default(), body);
    let mut samples = 0;
    loop {
        // Looked at where it is: to move an item takes as long as to read it.
        let found = parser.next_item();
        let Some(found) = found.as_ref().expect("a good body") else { return samples };
        samples += u64::from(matches!(found, Item::Sample(_)));
        item(found);
    }
}

/// What a steady scrape does: a hash and a value a sample.
fn steady(format: Format, body: &[u8]) -> u64 {
    each(format, body, |item| {
        if let Item::Sample(sample) = item {
            black_box((sample.series.identity(), sample.value, sample.timestamp_ms));
        }
    })
}

/// What the first scrape does: takes every series apart, into labels in order.
fn first(format: Format, body: &[u8]) -> u64 {
    let mut spare = SpareLabels::default();
    each(format, body, |item| {
        if let Item::Sample(sample) = item {
            let mut labels = spare.take();
            let emptied = sample.series.labels(&mut labels);
            let _ = black_box((&labels, emptied));
            spare.keep(labels);
        }
    })
}

/// Name, labels and values alone, without metadata.
fn split(body: &[u8]) {
    let mut parser = TextParser::new(body);
    while let Some(sample) = parser.next_sample().expect("a good body") {
        black_box((sample.value, sample.timestamp_ms));
    }
}

/// prometheus-parse wants lines of its own, which is part of what it costs.
fn theirs(text: &str) -> prometheus_parse::Scrape {
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    prometheus_parse::Scrape::parse(lines).expect("a good body")
}

fn bodies() -> [(&'static str, Format, Vec<u8>); 4] {
    [
        ("text", Format::Text, print(&families(false), false).into_bytes()),
        ("openmetrics", Format::OpenMetrics, print(&families(false), true).into_bytes()),
        ("openmetrics_exemplars", Format::OpenMetrics, print(&families(true), true).into_bytes()),
        ("protobuf", Format::Protobuf, encode_delimited(&families(false))),
    ]
}

fn benches(criterion: &mut Criterion) {
    for (name, format, body) in &bodies() {
        let elements = steady(*format, body);
        let mut group = criterion.benchmark_group(*name);
        group.throughput(Throughput::ElementsAndBytes { elements, bytes: body.len() as u64 });
        group.bench_with_input(BenchmarkId::from_parameter("steady"), body, |bench, body| {
            bench.iter(|| steady(*format, body));
        });
        group.bench_with_input(BenchmarkId::from_parameter("first"), body, |bench, body| {
            bench.iter(|| first(*format, body));
        });
        if *format == Format::Text {
            group.bench_with_input(BenchmarkId::from_parameter("split"), body, |bench, body| {
                bench.iter(|| split(body));
            });
            let text = String::from_utf8(body.clone()).expect("text");
            group.sample_size(10);
            group.bench_with_input(BenchmarkId::from_parameter("prometheus_parse"), &text, |bench, text| {
                bench.iter(|| theirs(text));
            });
        }
        group.finish();
    }
}

/// Tells what a parser takes; gives nanoseconds a sample.
fn tell<T>(what: &str, samples: u64, bytes: usize, turns: usize, mut once: impl FnMut() -> T) -> f64 {
    let least = (0..turns).map(|_| cpu_time(1, &mut once)).min().unwrap_or(Duration::MAX).as_secs_f64();
    let (ns, per_second) = (least * 1e9 / samples as f64, samples as f64 / least);
    let (millions, megabytes) = (per_second / 1e6, bytes as f64 / least / 1e6);
    eprintln!("{what}: {ns:.1} ns a sample, {millions:.2}M samples/s, {megabytes:.0} MB/s");
    ns
}

fn figures(_: &mut Criterion) {
    for (name, format, body) in &bodies() {
        let samples = steady(*format, body);
        eprintln!("{name}: {samples} samples of {:.0} bytes", body.len() as f64 / samples as f64);
        tell(&format!("{name}, steady"), samples, body.len(), TURNS, || steady(*format, body));
        tell(&format!("{name}, first"), samples, body.len(), TURNS, || first(*format, body));
    }
    // Of a histogram it makes one sample. All else that this body has both read alike.
    let mut families = families(false);
    families.retain(|family| family.r#type() == MetricType::Gauge);
    let text = print(&families, false);
    assert_eq!(ours_listed(&text), theirs_listed(&text));
    let samples = steady(Format::Text, text.as_bytes());
    let ours = tell("what both read alike, steady", samples, text.len(), TURNS, || {
        steady(Format::Text, text.as_bytes())
    });
    let apart = tell("what both read alike, taken apart", samples, text.len(), TURNS, || {
        first(Format::Text, text.as_bytes())
    });
    let theirs =
        tell("what both read alike, prometheus-parse", samples, text.len(), TURNS / 10, || theirs(&text));
    eprintln!(
        "prometheus-parse takes {:.0} times as long, {:.0} times with every series taken apart",
        theirs / ours,
        theirs / apart
    );
}

/// Labels, the name among them, and value.
type Listed = Vec<(Vec<(String, String)>, f64)>;

fn ours_listed(text: &str) -> Listed {
    let mut listed = Listed::new();
    each(Format::Text, text.as_bytes(), |item| {
        if let Item::Sample(sample) = item {
            let pairs = sample.series.pairs().expect("a good series").into_iter();
            let mut pairs: Vec<_> = pairs.map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
            pairs.sort();
            listed.push((pairs, sample.value));
        }
    });
    listed
}

fn theirs_listed(text: &str) -> Listed {
    let sample = |sample: prometheus_parse::Sample| {
        let prometheus_parse::Value::Gauge(value) = sample.value else { unreachable!("only gauges") };
        let mut pairs: Vec<_> = sample.labels.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        pairs.push(("__name__".to_owned(), sample.metric));
        pairs.sort();
        (pairs, value)
    };
    theirs(text).samples.into_iter().map(sample).collect()
}

criterion_group!(parse, benches, figures);
criterion_main!(parse);
