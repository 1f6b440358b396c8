//! The loop of one target: sleep to the next slot, scrape, append, tell.

use std::sync::Arc;
use std::time::{Duration, Instant};

use promring_model::slots::Slots;
use promring_model::target::Target;
use promring_net::clock::now_ms;
use promring_net::shutdown::Shutdown;
use promring_proto::api::{Health, TargetReport};
use promring_proto::remote_write::STALE_NAN_BITS;
use tokio::sync::watch;

use super::body::BodyRules;
use super::fetch::{FetchError, Fetched, Fetcher};
use super::http::Connection;
use super::report::Report;
use crate::buffers::{Buffers, Scratches};
use crate::labelsets::Shared;
use crate::observe::ScrapeMetrics;
use crate::rules::SeriesRules;
use crate::series::{Scratch, SeriesCache, Tally};
use crate::sink::Sink;
use crate::spread::{Passed, SpreadTargets, TARGET_SAMPLES_PER_SECOND_MAX};
use crate::statuses::Statuses;

/// The clock is looked at this often while a slot is waited for, so that a clock that is set shifts no scrape longer.
const CLOCK_CHECK: Duration = Duration::from_secs(10);

/// What all loops of a scraper share.
#[derive(Debug)]
pub struct Environment {
    /// Where health is told.
    pub statuses: Statuses,
    /// Bodies are read into these.
    pub buffers: Buffers,
    /// What is needed only while a body is read.
    pub scratches: Scratches,
    /// Strings of all series.
    pub labels: Arc<Shared>,
    /// Handles of metrics.
    pub metrics: ScrapeMetrics,
    /// Targets whose series go to all lanes.
    pub spread: SpreadTargets,
    /// Ends every loop without staleness markers.
    pub stopping: Shutdown,
}

/// What a loop is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Scrape; or, with a message, let every scrape fail with it and send no request.
    Scrape(Option<String>),
    /// The target belongs to another scraper, or another target takes its place: end without markers.
    Moved,
    /// The target exists no more: end with markers, at the next slot.
    Gone,
}

/// What the successor of a target takes over: its series, and the slot that was scraped last.
#[derive(Debug)]
pub struct Carried {
    cache: SeriesCache,
    reported: bool,
    /// Whether its series go to all lanes.
    spread: bool,
    /// Slots up to this time, in Unix milliseconds, are done with.
    done_ms: i64,
}

/// What of a predecessor's series a loop can use, beside its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All that is known of them.
    Everything,
    /// Which were live, to mark those that are no more: the rules differ, so that the rest is learnt anew.
    Markers,
    /// Nothing: even their labels are sent differently.
    Slots,
}

/// One target with all that its scrapes need.
#[derive(Debug)]
pub struct TargetLoop {
    target: Arc<Target>,
    fetcher: Arc<Fetcher>,
    connection: Connection,
    rules: SeriesRules,
    body_rules: BodyRules,
    slots: Slots,
    cache: SeriesCache,
    sink: Arc<Sink>,
    environment: Arc<Environment>,
    /// Whether the report series are live.
    reported: bool,
    /// Whether its series go to all lanes.
    spread: bool,
    /// It is to be spread once all of this is sent.
    spread_after: Option<Passed>,
}

impl TargetLoop {
    /// A loop that has not begun.
    #[must_use]
    pub fn new(
        target: Arc<Target>,
        fetcher: Arc<Fetcher>,
        rules: SeriesRules,
        body_rules: BodyRules,
        sink: Arc<Sink>,
        environment: Arc<Environment>,
    ) -> Self {
        Self {
            slots: Slots::new(target.interval, target.key),
            cache: SeriesCache::new(&rules, &environment.labels),
            spread: environment.spread.contains(target.key),
            spread_after: None,
            connection: Connection::new(&target),
            target,
            fetcher,
            rules,
            body_rules,
            sink,
            environment,
            reported: false,
        }
    }

    /// Scrapes every slot after `from_ms` until it is told to end. Where another loop had the target before it,
    /// `carried` is what that left, and the slots go on from there.
    pub async fn run(
        mut self,
        from_ms: i64,
        carried: Option<(Carried, Keep)>,
        mut commands: watch::Receiver<Command>,
    ) -> Option<Carried> {
        let mut done_ms = from_ms;
        if let Some((carried, keep)) = carried {
            // The slot that is due now belongs to whoever is there now: to us.
            (self.reported, done_ms) = (carried.reported, carried.done_ms);
            self.spread = carried.spread;
            self.cache = match keep {
                Keep::Everything => carried.cache,
                Keep::Markers => self.cache.succeeding(carried.cache),
                Keep::Slots => self.cache,
            };
        }
        let mut slot_ms = self.slots.next_after(done_ms);
        loop {
            let due = tokio::select! {
                () = wait_until(slot_ms) => true,
                changed = commands.changed() => { if changed.is_err() { return None }; false }
                () = self.environment.stopping.wait() => return None,
            };
            let command = commands.borrow_and_update().clone();
            match command {
                Command::Moved => {
                    self.environment.statuses.remove(self.target.id);
                    let Self { cache, reported, spread, .. } = self;
                    return Some(Carried { cache, reported, spread, done_ms });
                }
                Command::Gone if due => {
                    self.end(slot_ms);
                    self.environment.statuses.remove(self.target.id);
                    return None;
                }
                Command::Scrape(refusal) if due => {
                    slot_ms = self.skip_missed(slot_ms);
                    if self.sink.has_room() {
                        self.scrape(slot_ms, refusal).await;
                    } else {
                        self.environment.metrics.held_back_slots.increment(1);
                    }
                    done_ms = slot_ms;
                    slot_ms = self.slots.next_after(slot_ms);
                }
                Command::Gone | Command::Scrape(_) => {}
            }
        }
    }

    /// The slot that it is now, where slots passed while the last scrape or the whole process took too long.
    fn skip_missed(&self, slot_ms: i64) -> i64 {
        let current = self.slots.slot_at(now_ms()).max(slot_ms);
        let missed = (current - slot_ms) / self.slots.interval_ms();
        if missed > 0 {
            self.environment.metrics.skipped_slots.increment(missed as u64);
            tracing::debug!(
                target = self.target.scrape_url(),
                missed,
                "slots were skipped: the one before took too long"
            );
        }
        current
    }

    async fn scrape(&mut self, slot_ms: i64, refusal: Option<String>) {
        let started = Instant::now();
        let started_ms = now_ms();
        let time_ms = self.slots.sample_time(slot_ms, started_ms);
        let metrics = &self.environment.metrics;
        metrics.lateness.record((started_ms - slot_ms).max(0) as f64 / 1_000.0);
        let mut body = self.environment.buffers.take();
        let mut body_bytes = 0;
        let Self { fetcher, connection, target, environment, .. } = &mut *self;
        let fetched = match (refusal, &target.url) {
            (Some(message), _) => Err(message),
            (None, Err(error)) => Err(error.to_string()),
            (None, Ok(url)) => {
                let buffers = &environment.buffers;
                let result = fetcher.fetch(connection, url, target.timeout, buffers, &mut body).await;
                body_bytes = match &result {
                    Ok(_) => body.len() as i64,
                    Err(FetchError::BodySize) => -1,
                    Err(_) => 0,
                };
                result.map_err(|error| error.to_string())
            }
        };
        let mut scratch = self.environment.scratches.take();
        self.cache.begin(&mut scratch);
        let result = fetched.and_then(|Fetched { content_type }| {
            let Self { cache, rules, body_rules, environment, .. } = &mut *self;
            let into = (cache, &mut scratch);
            body_rules.stage(&body, &content_type, time_ms, rules, into, &environment.metrics)
        });
        self.environment.buffers.give(body);
        let tally = match result {
            Ok(()) => self.cache.tally(),
            Err(_) => self.cache.failed_tally(),
        };
        let report = Report {
            up: result.is_ok(),
            seconds: started.elapsed().as_secs_f64(),
            tally,
            timeout: self.target.timeout,
            sample_limit: self.body_rules.sample_limit,
            body_bytes,
        };
        let tally = self.append(&report, time_ms, &mut scratch);
        self.environment.scratches.give(scratch);
        self.tell(&result, started_ms, &Report { tally, ..report });
    }

    /// What the scrape yielded once it took effect.
    fn append(&mut self, report: &Report, time_ms: i64, scratch: &mut Scratch) -> Tally {
        if self.spread_after.take().is_some_and(|passed| passed.is_past()) {
            self.spread = self.environment.spread.add(self.target.key);
        }
        let mut lanes = self.sink.lanes(self.target.key, self.spread, &self.environment.labels);
        let mut tally = report.tally;
        if report.up {
            tally = self.cache.commit(time_ms, scratch, |outgoing| lanes.push(outgoing));
        } else {
            self.cache.fail(time_ms, scratch, |outgoing| lanes.push(outgoing));
        }
        lanes.keep_together();
        let values = report.values().map(f64::to_bits);
        self.cache.report(values, time_ms).for_each(|outgoing| lanes.push(&outgoing));
        self.reported = true;
        let per_second = tally.kept as f64 / self.target.interval.as_secs_f64();
        if per_second > TARGET_SAMPLES_PER_SECOND_MAX && !self.spread {
            lanes.flush();
            drop(lanes);
            self.spread_after = Some(self.sink.passed());
        }
        tally
    }

    fn end(&mut self, time_ms: i64) {
        let mut lanes = self.sink.lanes(self.target.key, self.spread, &self.environment.labels);
        self.cache.end(time_ms, |outgoing| lanes.push(outgoing));
        lanes.keep_together();
        if std::mem::take(&mut self.reported) {
            let stale = std::iter::repeat(STALE_NAN_BITS);
            self.cache.report(stale, time_ms).for_each(|outgoing| lanes.push(&outgoing));
        }
    }

    fn tell(&self, result: &Result<(), String>, started_ms: i64, report: &Report) {
        let Report { seconds, tally, .. } = *report;
        let metrics = &self.environment.metrics;
        metrics.scrapes.increment(1);
        metrics.duration.record(seconds);
        metrics.samples.increment(tally.scraped);
        metrics.duplicates.increment(tally.duplicates);
        metrics.out_of_bounds.increment(tally.out_of_bounds);
        metrics.histograms.increment(tally.histograms);
        metrics.exemplars_out_of_order.increment(tally.exemplars_out_of_order);
        if report.body_bytes < 0 {
            metrics.exceeded_body_size.increment(1);
        }
        metrics.out_of_order.increment(tally.out_of_order);
        if let Err(error) = result {
            metrics.failed.increment(1);
            tracing::debug!(target = self.target.scrape_url(), error, "scrape failed");
        }
        self.environment.statuses.set(TargetReport {
            id: self.target.id,
            health: if result.is_ok() { Health::Up } else { Health::Down },
            last_error: result.as_ref().err().cloned().unwrap_or_default(),
            last_scrape_ms: started_ms,
            last_scrape_duration: seconds,
            samples: tally.scraped,
        });
    }
}

/// Returns when the wall clock has reached `time_ms`.
async fn wait_until(time_ms: i64) {
    loop {
        let Ok(remaining) = u64::try_from(time_ms - now_ms()) else { return };
        if remaining == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(remaining).min(CLOCK_CHECK)).await;
    }
}
