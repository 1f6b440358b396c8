//! The parsers over the same metrics in each format: what a steady scrape costs (find each sample, read its value,
//! hash its series), what a first scrape costs (take every series apart), and prometheus-parse beside it.

#[path = "common/bodies.rs"]
mod bodies;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use promring_proto::exposition::encode_delimited;
use promring_scraper::parse::protobuf::HistogramOptions;
use promring_scraper::parse::text::TextParser;
use promring_scraper::parse::{Format, Item, Parser};

use bodies::{families, print};

/// Hands every item to `item` and counts the samples.
fn each<'b>(format: Format, body: &'b [u8], mut item: impl FnMut(&Item<'b>)) -> u64 {
    let mut parser = Parser::of(format, HistogramOptions::default(), body);
    let mut samples = 0;
    while let Some(found) = parser.next_item().expect("a good body") {
        samples += u64::from(matches!(found, Item::Sample(_)));
        item(&found);
    }
    samples
}

/// What a steady scrape does: a hash and a value a sample.
fn steady(format: Format, body: &[u8]) -> u64 {
    each(format, body, |item| {
        if let Item::Sample(sample) = item {
            black_box((sample.series.identity(), sample.value, sample.timestamp_ms));
        }
    })
}

/// What the first scrape does: takes every series apart.
fn first(format: Format, body: &[u8]) -> u64 {
    each(format, body, |item| {
        if let Item::Sample(sample) = item {
            let _ = black_box(sample.series.pairs());
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

fn benches(criterion: &mut Criterion) {
    let bodies = [
        ("text", Format::Text, print(&families(false), false).into_bytes()),
        ("openmetrics", Format::OpenMetrics, print(&families(false), true).into_bytes()),
        ("openmetrics_exemplars", Format::OpenMetrics, print(&families(true), true).into_bytes()),
        ("protobuf", Format::Protobuf, encode_delimited(&families(false))),
    ];
    for (name, format, body) in &bodies {
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
            // It wants lines of its own, which is part of what it costs.
            let text = String::from_utf8(body.clone()).expect("text");
            group.sample_size(10);
            group.bench_with_input(BenchmarkId::from_parameter("prometheus_parse"), &text, |bench, text| {
                bench.iter(|| {
                    let lines = text.lines().map(|line| Ok(line.to_owned()));
                    prometheus_parse::Scrape::parse(lines).expect("a good body")
                });
            });
        }
        group.finish();
    }
}

criterion_group!(parse, benches);
criterion_main!(parse);
