//! A scraper, what it scrapes, and where it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::RawQuery;
use axum::routing::get;
use promring_model::config::Config;
use promring_model::handover::{Grant, MoveId, MoveReport, MoveTerms, Version};
use promring_model::slots::Slots;
use promring_model::target::Target;
use promring_net::clock::now_ms;
use promring_net::server::{bind, serve};
use promring_net::shutdown::Shutdown;
use promring_proto::api::{AssignedTarget, Assignment, JobAssignment};
use promring_proto::remote_write::STALE_NAN_BITS;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::assignment::AllocatorAccess;
use crate::send::tests::receiver::{Action, Receiver};
use crate::testing::{config_in, target_of};
use crate::{Scraper, ScraperOptions};

pub(super) const INTERVAL_MS: i64 = 500;

/// An exporter that says what it is told to, with what the parameter `of` says in place of each `OF`.
pub(super) struct Exporter {
    pub(super) address: String,
    body: Arc<Mutex<Option<String>>>,
    pub(super) scrapes: Arc<AtomicUsize>,
    /// It keeps scrapes waiting.
    pub(super) held: watch::Sender<bool>,
}

impl Exporter {
    pub(super) async fn start(body: &str) -> Self {
        let body = Arc::new(Mutex::new(Some(body.to_owned())));
        let scrapes = Arc::new(AtomicUsize::new(0));
        let (said, counted, held) = (Arc::clone(&body), Arc::clone(&scrapes), watch::Sender::new(false));
        let waits = held.subscribe();
        let metrics = move |RawQuery(query): RawQuery| {
            counted.fetch_add(1, Ordering::Relaxed);
            let of = query.and_then(|query| query.strip_prefix("of=").map(str::to_owned)).unwrap_or_default();
            let (said, mut waits) = (Arc::clone(&said), waits.clone());
            async move {
                let _let_go = waits.wait_for(|held| !held).await;
                let body = said.lock().unwrap().as_ref().map(|body| body.replace("OF", &of));
                body.ok_or(axum::http::StatusCode::SERVICE_UNAVAILABLE)
            }
        };
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().route("/metrics", get(metrics));
        tokio::spawn(serve(listener, router, Shutdown::new()));
        Self { address, body, scrapes, held }
    }

    /// What it says from now on; None: it fails.
    pub(super) fn set(&self, body: Option<&str>) {
        *self.body.lock().unwrap() = body.map(str::to_owned);
    }

    pub(super) fn config(&self, receiver: &Receiver) -> Config {
        self.config_with(receiver, "")
    }

    /// With more keys of the job.
    pub(super) fn config_with(&self, receiver: &Receiver, keys: &str) -> Config {
        let text = format!(
            "
global: {{scrape_interval: 500ms, scrape_timeout: 400ms}}
scrape_configs: [{{job_name: job, static_configs: [{{targets: ['{}']}}]{keys}}}]
remote_write: [{{name: prod, url: '{}', queue_config: {{min_backoff: 1ms, max_backoff: 20ms, batch_send_deadline: 50ms}}}}]
",
            self.address, receiver.url
        );
        config_in(&text)
    }
}

/// A receiver that can be away.
async fn receiver() -> (Receiver, Arc<AtomicBool>) {
    let away = Arc::new(AtomicBool::new(false));
    let is_away = Arc::clone(&away);
    let receiver = Receiver::start(move |_, _| match is_away.load(Ordering::Relaxed) {
        true => Action::Answer(503, ""),
        false => Action::Store,
    });
    (receiver.await, away)
}

/// An exporter, a receiver, and the configuration by which scrapers are between the two.
pub(super) struct Scene {
    pub(super) exporter: Exporter,
    pub(super) receiver: Receiver,
    /// Whether the receiver is away.
    pub(super) away: Arc<AtomicBool>,
    pub(super) config: Config,
    /// The exporter as a target.
    pub(super) target: Target,
}

impl Scene {
    /// With an exporter that says `body`.
    pub(super) async fn start(body: &str) -> Self {
        let exporter = Exporter::start(body).await;
        let (receiver, away) = receiver().await;
        let config = exporter.config(&receiver);
        let target = target_of(&config.scrape_configs[0]);
        Self { exporter, receiver, away, config, target }
    }

    /// Two scrapers.
    pub(super) async fn two_nodes(&self) -> (Node, Node) {
        (Node::start("a", &self.config).await, Node::start("b", &self.config).await)
    }
}

/// A scraper with a server.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) scraper: Scraper,
    dir: TempDir,
    config: Config,
    live: JoinHandle<()>,
    served: Shutdown,
}

impl Node {
    pub(super) async fn start(name: &str, config: &Config) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), name, config).await
    }

    async fn start_in(dir: TempDir, name: &str, config: &Config) -> Self {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let options = ScraperOptions {
            node: String::new(),
            name: name.to_owned(),
            // Nobody is there.
            allocator: AllocatorAccess::plain("http://127.0.0.1:1".parse().unwrap()),
            data_dir: dir.path().to_owned(),
            advertise: address.clone(),
        };
        let scraper = Scraper::new(Arc::new(config.clone()), options, Shutdown::new()).unwrap();
        let served = Shutdown::new();
        tokio::spawn(serve(listener, scraper.routes(), served.clone()));
        let running = scraper.clone();
        let live = tokio::spawn(async move { running.live().await });
        Self { name: name.to_owned(), address, scraper, dir, config: config.clone(), live, served }
    }

    /// Ends the process, its scrapes in flight included, and sends nothing more.
    pub(super) async fn stop(self) {
        let _removed = self.end().await;
    }

    /// Leaves its directory.
    async fn end(self) -> TempDir {
        self.live.abort();
        let _aborted = self.live.await;
        self.served.trigger();
        self.scraper.shared.environment.stopping.trigger();
        self.scraper.end_scrapes(tokio::time::Instant::now()).await;
        self.scraper.shared.destinations.finish(Duration::ZERO).await;
        self.dir
    }

    pub(super) async fn restart(self) -> Self {
        let (name, config) = (self.name.clone(), self.config.clone());
        let shared = Arc::downgrade(&self.scraper.shared);
        let dir = self.end().await;
        // A request to its server may still be there.
        until("the process is gone", || shared.strong_count() == 0).await;
        Self::start_in(dir, &name, &config).await
    }

    /// Whether its volume takes what must survive a restart.
    pub(super) fn set_saves(&self, saves: bool) {
        // In the way of the file that is written first.
        let in_the_way = self.dir.path().join("assignment.json.new");
        match saves {
            true => std::fs::remove_dir(&in_the_way).unwrap(),
            false => std::fs::create_dir(&in_the_way).unwrap(),
        }
    }

    /// An allocator tells it this.
    pub(super) fn told(&self, counter: u64, targets: &[(&Target, Grant)], moves: &[(MoveId, MoveTerms)]) {
        self.told_all(counter, targets, moves, &[]);
    }

    pub(super) fn told_all(
        &self,
        counter: u64,
        targets: &[(&Target, Grant)],
        moves: &[(MoveId, MoveTerms)],
        gone: &[&Target],
    ) {
        let assigned = |(target, grant): &(&Target, Grant)| AssignedTarget {
            id: target.id,
            labels: target.labels.clone(),
            from: None,
            until: None,
            grant: *grant,
        };
        let mut upsert: BTreeMap<String, JobAssignment> = BTreeMap::new();
        for one in targets {
            let job = upsert.entry(one.0.job.to_string()).or_insert_with(|| JobAssignment {
                config_hash: String::new(),
                synced: true,
                refusal: None,
                targets: Vec::new(),
            });
            job.targets.push(assigned(one));
        }
        let answer = Assignment {
            version: Version { term: 1, counter },
            base: None,
            upsert,
            gone: gone.iter().map(|target| target.id).collect(),
            moved: Vec::new(),
            gone_keys: Vec::new(),
            moves: moves.iter().cloned().collect(),
        };
        assert!(self.scraper.manager().apply(answer, now_ms()));
    }

    /// What it reports of its moves, once that is safe.
    pub(super) async fn move_reports(&self) -> Vec<MoveReport> {
        loop {
            if let Some(report) = self.scraper.without_targets() {
                return report.handover.moves;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What it reports of its only move.
    pub(super) async fn move_report(&self) -> MoveReport {
        self.move_reports().await.into_iter().next().unwrap()
    }

    pub(super) async fn reports(&self, what: &str, wanted: impl Fn(&MoveReport) -> bool) -> MoveReport {
        let begun = std::time::Instant::now();
        loop {
            let report = self.move_report().await;
            if wanted(&report) {
                return report;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {report:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(super) const M: MoveId = MoveId(Version { term: 1, counter: 2 });

pub(super) fn outgoing() -> Grant {
    Grant { outgoing: Some(M), incoming: None }
}

pub(super) fn incoming() -> Grant {
    Grant { incoming: Some(M), outgoing: None }
}

/// The terms of a move.
pub(super) fn terms(old: &Node, new: &Node, at: Option<i64>, begin: bool, sent: bool) -> MoveTerms {
    MoveTerms {
        old: old.name.as_str().into(),
        old_address: old.address.clone(),
        new: new.name.as_str().into(),
        at,
        begin,
        sent: if sent { BTreeSet::from(["prod".to_owned()]) } else { BTreeSet::new() },
    }
}

/// A slot of the target so long from now or later.
pub(super) fn slot_after(target: &Target, ms: i64) -> i64 {
    Slots::new(target.interval, target.key).next_after(now_ms() + ms)
}

/// What nobody tells of is asked for now and then; a test that waits for nothing fails after a minute.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn until_time(time_ms: i64) {
    until("the time comes", || now_ms() >= time_ms).await;
}

/// Every sample of a series that arrived, and whether it is a staleness marker, in order of arrival.
pub(super) fn samples(receiver: &Receiver, name: &str) -> Vec<(i64, bool)> {
    let mut samples = Vec::new();
    for received in receiver.received() {
        for series in received.decoded.timeseries {
            if series.labels[0].value == name {
                let stale = |value: f64| value.to_bits() == STALE_NAN_BITS;
                samples.extend(series.samples.iter().map(|sample| (sample.timestamp, stale(sample.value))));
            }
        }
    }
    samples
}

/// Times of samples as slots: one each and in order, from the first to the last.
pub(super) fn assert_every_slot_once(target: &Target, samples: &[(i64, bool)]) {
    let slots = Slots::new(target.interval, target.key);
    let slots: Vec<i64> = samples.iter().map(|(time, _)| slots.slot_at(*time)).collect();
    let expected: Vec<i64> = (0..slots.len() as i64).map(|number| slots[0] + number * INTERVAL_MS).collect();
    assert_eq!(slots, expected);
}

/// The machine may be too busy so often.
const ATTEMPTS: usize = 20;

/// Tries this until no slot came in between.
pub(super) async fn within_a_slot<T>(attempt: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..ATTEMPTS {
        if let Some(done) = attempt().await {
            return done;
        }
    }
    panic!("a slot came in between each time");
}
