//! Targets with millions of series: they go through bounded memory, as a whole or not at all, packed or not.

use std::path::Path;

use promring_testkit::receiver::Receiver;
use serde_json::Value;

use crate::generator::{Body, Generator};
use crate::support::{Process, eventually, get_json, scaled};

/// What a series may take at most, above the idle process, at the peak of a scrape.
const BYTES_A_SERIES_MAX: u64 = 200;

struct World {
    generator: Generator,
    receiver: Receiver,
    promring: Process,
    base: String,
    dir: tempfile::TempDir,
}

impl World {
    async fn start(series: usize, job: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let generator = Generator::start(series);
        let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let config = dir.path().join("prometheus.yml");
        let text = format!(
            "
global: {{scrape_interval: {interval}s, scrape_timeout: {interval}s}}
scrape_configs:
- job_name: large
  static_configs: [{{targets: ['{}']}}]
{job}
remote_write: [{{url: '{}', protobuf_message: io.prometheus.write.v2.Request}}]
",
            generator.address(),
            receiver.write_url(),
            // Time enough on a slow machine that has other things to do.
            interval = scaled(4, 20),
        );
        std::fs::write(&config, text).unwrap();
        let (promring, base) = Process::standalone("promring", &config, dir.path());
        Self { generator, receiver, promring, base, dir }
    }

    /// The target as the API shows it, after a scrape that began after this call and of which `check` is true.
    async fn scraped(&self, what: &str, check: impl Fn(&Value) -> bool) -> Value {
        let before = self.generator.scrapes();
        eventually(what, async || {
            let answer = get_json(&format!("{}/api/v1/targets", self.base)).await?;
            let target = answer["data"]["activeTargets"][0].clone();
            (self.generator.scrapes() > before && check(&target)).then_some(target)
        })
        .await
    }

    async fn scraped_whole(&self, series: usize) {
        self.scraped("the whole body was scraped", |target| {
            target["health"] == "up" && target["samples"].as_u64() == Some(series as u64)
        })
        .await;
    }

    /// Waits until all of this scrape has arrived: staleness markers of all series, or their samples.
    async fn received(&self, what: &str, check: impl Fn(u64, u64) -> bool) {
        eventually(what, async || {
            let summary = self.receiver.summary();
            check(summary.samples, summary.markers).then_some(())
        })
        .await;
    }
}

async fn a_large_body_is_scraped_within_bounds(job: &str) {
    let series = scaled(200_000, 2_000_000);
    let world = World::start(series, job).await;
    let all = series as u64;
    world.generator.set(Body::Empty);
    world.scraped("an empty body", |target| target["health"] == "up").await;

    let idle = world.promring.memory("VmRSS");
    let mut peaks = Vec::new();
    for _ in 0..2 {
        world.promring.reset_peak();
        let before = world.receiver.summary().samples;
        world.generator.set(Body::Good);
        world.scraped_whole(series).await;
        peaks.push((world.promring.memory("VmHWM") - idle) / all);
        world.received("the samples", |samples, _| samples >= before + all).await;
        // Not in the midst of the next one.
        world.generator.set(Body::Good);
    }
    eprintln!(
        "{series} series: {idle} bytes idle; bytes a series, at the peak of the first and a steady scrape: {peaks:?}"
    );
    assert!(peaks.iter().all(|&peak| peak <= BYTES_A_SERIES_MAX), "{peaks:?} bytes a series");

    for (body, message) in [(Body::MalformedEnd, "line "), (Body::BrokenEnd, "unexpected EOF")] {
        world.generator.set(Body::Good);
        world.scraped_whole(series).await;
        world.generator.set(body);
        world
            .scraped("the scrape failed", |target| {
                let error = target["lastError"].as_str().unwrap_or_default();
                target["health"] == "down" && error.contains(message)
            })
            .await;
        // Scrapes that were good before it have arrived when its markers have; after it come report series only.
        let failed = world.generator.scrapes();
        world.received("a marker of each series", |_, markers| markers % all == 0 && markers > 0).await;
        let after = world.receiver.summary();
        world.scraped("another failed scrape", |target| target["health"] == "down").await;
        let later = world.receiver.summary();
        let scrapes = world.generator.scrapes() - failed + 2;
        assert_eq!(later.markers, after.markers, "each series is marked once");
        assert!(later.samples - after.samples <= scrapes * 5, "{after:?} {later:?}");
    }
    let up = world.receiver.audit().last_samples("up");
    assert_eq!(up[0].value.parse::<f64>(), Ok(0.0), "{up:?}");
    assert_no_more_than_disk(world.dir.path());
}

/// Nothing of a scrape lies anywhere but in the queue.
fn assert_no_more_than_disk(dir: &Path) {
    let names: Vec<String> = std::fs::read_dir(dir.join("data"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!names.iter().any(|name| name.contains("tmp")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_scraped_within_bounds_and_as_a_whole_or_not_at_all() {
    a_large_body_is_scraped_within_bounds("  body_size_limit: 1GB\n  enable_compression: false").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_that_is_packed_is_no_different() {
    a_large_body_is_scraped_within_bounds("  body_size_limit: 1GB").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_limit_ends_a_large_scrape_early() {
    let series = scaled(200_000, 2_000_000);
    let world =
        World::start(series, "  body_size_limit: 0\n  sample_limit: 10000\n  enable_compression: false")
            .await;
    world.generator.set(Body::Good);
    world.scraped("the limit is told", |target| target["lastError"] == "sample limit exceeded").await;
    let sent = world.generator.bytes_of_last_scrape();
    assert!(sent < 16 << 20, "{sent} bytes were read before the scrape ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_unpacks_without_end_stops_at_the_default_limit() {
    let mut world = World::start(1_000, "").await;
    world.generator.set(Body::Empty);
    world.scraped("an empty body", |target| target["health"] == "up").await;
    let idle = world.promring.memory("VmRSS");
    world.promring.reset_peak();
    world.generator.set(Body::Bomb);
    world.scraped("the limit is told", |target| target["lastError"] == "body size limit exceeded").await;
    let peak = world.promring.memory("VmHWM") - idle;
    assert!(peak < 16 << 20, "{peak} bytes for a body that is refused");
    assert!(world.promring.runs());
}
