//! What a scrape costs between the body in memory and the encoded, compressed block in the queue (on the disk of the
//! temporary directory): a steady one, by both versions of remote write, and a first one with five relabelling rules.
//! What of it the queue takes, from the compressed block to its file, is measured once more alone.

#![allow(
    clippy::panic,
    clippy::print_stderr,
    reason = "a benchmark that cannot go on has failed, and tells figures"
)]

#[path = "common/bodies.rs"]
mod bodies;
#[path = "common/cpu.rs"]
mod cpu;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use promring_model::config::{Config, ConfigSource, Discovery, load};
use promring_model::target::{Assembled, DiscoveredLabels, Target};
use promring_proto::exposition::encode_delimited;
use promring_scraper::labelsets::Shared;
use promring_scraper::parse::protobuf::HistogramOptions;
use promring_scraper::parse::{Format, Found, Item, Parser};
use promring_scraper::queue::{RecordMeta, Volume};
use promring_scraper::rules::{Classes, SeriesRules};
use promring_scraper::send::open_queue;
use promring_scraper::series::{Scratch, SeriesCache};
use promring_scraper::sink::{self, Destination, Sink};

use cpu::cpu_time;

/// The queue keeps no more than this: what is older gives way.
const FILE: &str = "
global: {external_labels: {cluster: bench, replica: '0'}}
remote_write: [{url: 'http://127.0.0.1:9/', protobuf_message: MESSAGE}]
scraper: {queue: {max_bytes: 64MB, fsync: never}}
scrape_configs:
- job_name: bench
  static_configs: [{targets: ['10.0.0.1:9100']}]
  metric_relabel_configs: RULES
";

const RULES: &str = "
  - {action: keep, source_labels: [__name__], regex: '(node|container|http)_.*'}
  - {action: drop, source_labels: [mode], regex: 'guest.*'}
  - {action: labeldrop, regex: 'pod_ip|instance_id'}
  - {source_labels: [namespace], target_label: team, regex: 'namespace-(.*)', replacement: 'team-$1'}
  - {action: labelmap, regex: 'exported_(.+)'}
";

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

/// A target, and all that its samples go through.
struct Way {
    config: Config,
    target: Target,
    classes: Classes,
    labels: Arc<Shared>,
    sink: Sink,
    destination: Arc<Destination>,
    _dir: tempfile::TempDir,
}

impl Way {
    fn new(message: &str, rules: &str) -> Self {
        let text = FILE.replace("MESSAGE", message).replace("RULES", rules);
        let loaded = load(Path::new("bench.yml"), &Text(text));
        let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        let job = Arc::clone(&config.scrape_configs[0]);
        let Discovery::Static(groups) = &job.discovery[0] else { panic!("no static target") };
        let discovered = DiscoveredLabels::new(&job, &groups[0].labels, &groups[0].targets[0]);
        let Assembled::Target(target) = discovered.assemble() else { panic!("no target") };
        let dir = tempfile::tempdir().expect("a directory");
        let (classes, class_of) = Classes::of(&config.remote_write);
        let entry = Arc::clone(&config.remote_write[0]);
        let queue = open_queue(&Volume::new(), &entry, &config.scraper.queue, dir.path()).expect("a queue");
        let destination = Arc::new(Destination::new(entry, Arc::new(queue)));
        let sink = Sink::new(vec![(Arc::clone(&destination), class_of[0])], Arc::default());
        Self { target: *target, config, classes, labels: Arc::default(), sink, destination, _dir: dir }
    }

    fn rules(&self) -> SeriesRules {
        let job = &self.config.scrape_configs[0];
        SeriesRules::new(job, &self.target, &self.config.external_labels, &self.classes)
    }

    /// One scrape; gives its number of samples.
    fn scrape(
        &self,
        format: Format,
        body: &[u8],
        time_ms: i64,
        rules: &SeriesRules,
        cache: &mut SeriesCache,
        scratch: &mut Scratch,
    ) -> u64 {
        cache.begin(scratch);
        let mut parser = Parser::of(format, HistogramOptions::default(), body);
        let mut expected = cache.expected(scratch);
        while let Some(found) = parser.next_expecting(expected).expect("a good body") {
            match found {
                Found::Expected { value, timestamp_ms } => {
                    cache.stage_expected(value, timestamp_ms, time_ms, rules, scratch);
                }
                Found::Item(Item::Sample(sample)) => {
                    cache.stage(&sample, time_ms, rules, scratch).expect("a good series");
                }
                Found::Item(Item::Metadata(metadata)) => cache.describe(&metadata, scratch),
                Found::Item(Item::Histogram(_) | Item::Converted(_)) => {}
            }
            expected = cache.expected(scratch);
        }
        let mut lanes = self.sink.lanes(sink::Way::of(self.target.key), &self.labels);
        cache.commit(time_ms, scratch, |outgoing| lanes.push(outgoing)).kept
    }
}

fn benches(criterion: &mut Criterion) {
    let formats = [
        ("text", Format::Text, bodies::print(&bodies::families(false), false).into_bytes()),
        ("protobuf", Format::Protobuf, encode_delimited(&bodies::families(false))),
    ];
    for (version, message) in [("1.0", "prometheus.WriteRequest"), ("2.0", "io.prometheus.write.v2.Request")]
    {
        for (name, format, body) in &formats {
            let path = Way::new(message, "[]");
            let rules = path.rules();
            let mut cache = SeriesCache::new(&rules, &path.labels);
            let mut scratch = Scratch::default();
            let mut time_ms = 1_800_000_000_000;
            let elements = path.scrape(*format, body, time_ms, &rules, &mut cache, &mut scratch);
            let mut group = criterion.benchmark_group("steady_scrape");
            group.throughput(Throughput::Elements(elements));
            group.bench_function(BenchmarkId::new(version, name), |bench| {
                bench.iter_custom(|times| {
                    cpu_time(times, || {
                        time_ms += 10_000;
                        path.scrape(*format, body, time_ms, &rules, &mut cache, &mut scratch)
                    })
                });
            });
            group.finish();
            let stats = path.destination.queue.stats();
            // Records of the same size once more, without a scrape.
            let samples = (stats.enqueued_samples / stats.enqueued_records) as u32;
            let block = vec![0x5a; (stats.enqueued_bytes / stats.enqueued_records) as usize];
            let meta = RecordMeta { samples, last_ms: time_ms, first_ms: time_ms, ..RecordMeta::default() };
            let mut group = criterion.benchmark_group("of_it_the_queue");
            group.throughput(Throughput::Elements(samples.into()));
            group.bench_function(BenchmarkId::new(version, name), |bench| {
                bench.iter_custom(|times| {
                    cpu_time(times, || path.destination.queue.append(0, meta, &block).expect("it is queued"))
                });
            });
            group.finish();
            let bytes = stats.enqueued_bytes as f64 / stats.enqueued_samples as f64;
            let samples = stats.enqueued_samples;
            eprintln!(
                "steady_scrape/{version}/{name}: {bytes:.2} bytes a sample in the queue, {samples} samples"
            );
        }
    }
    let (name, format, body) = &formats[0];
    let path = Way::new("io.prometheus.write.v2.Request", RULES);
    let rules = path.rules();
    let mut scratch = Scratch::default();
    let once = |scratch: &mut Scratch| {
        let mut cache = SeriesCache::new(&rules, &path.labels);
        let samples = path.scrape(*format, body, 1_800_000_000_000, &rules, &mut cache, scratch);
        (samples, cache)
    };
    let (elements, _) = once(&mut scratch);
    let mut group = criterion.benchmark_group("first_scrape_with_five_rules");
    group.throughput(Throughput::Elements(elements));
    group.bench_function(BenchmarkId::from_parameter(name), |bench| {
        bench.iter_custom(|times| {
            let turn = |_| {
                // The last turn's strings are gone with its target and its requests.
                path.destination.flush(&path.labels);
                path.labels.symbols.collect();
                let begun = cpu::now();
                let (_, cache) = once(&mut scratch);
                let taken = cpu::now() - begun;
                drop(cache);
                taken
            };
            (0..times).map(turn).sum()
        });
    });
    group.bench_function(BenchmarkId::new(*name, "and_the_end_of_the_target"), |bench| {
        bench.iter_custom(|times| cpu_time(times, || once(&mut scratch)));
    });
    group.finish();
}

criterion_group!(scrape, benches);
criterion_main!(scrape);
