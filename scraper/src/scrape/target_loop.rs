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

use super::fetch::Fetcher;
use super::report::ReportSeries;
use crate::buffers::Buffers;
use crate::encoded::Encoded;
use crate::observe::ScrapeMetrics;
use crate::parse::text::TextParser;
use crate::rules::SeriesRules;
use crate::series::{SeriesCache, Tally};
use crate::sink::{Outgoing, Sink};
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
    /// Handles of metrics.
    pub metrics: ScrapeMetrics,
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
    /// Slots up to this time, in Unix milliseconds, are done with.
    done_ms: i64,
}

impl Carried {
    /// For a successor whose rules differ: what is known of the series is learnt anew, and series that then are
    /// no more are marked; or, where even their labels are sent differently, nothing is kept of them.
    #[must_use]
    pub fn renewed(self, mark: bool) -> Self {
        let cache = if mark { SeriesCache::succeeding(self.cache) } else { SeriesCache::default() };
        Self { cache, ..self }
    }
}

/// One target with all that its scrapes need.
#[derive(Debug)]
pub struct TargetLoop {
    target: Arc<Target>,
    fetcher: Arc<Fetcher>,
    rules: SeriesRules,
    report: ReportSeries,
    sample_limit: Option<u64>,
    slots: Slots,
    cache: SeriesCache,
    sink: Arc<Sink>,
    environment: Arc<Environment>,
    /// Whether the report series are live.
    reported: bool,
}

impl TargetLoop {
    /// A loop that has not begun.
    #[must_use]
    pub fn new(
        target: Arc<Target>,
        fetcher: Arc<Fetcher>,
        rules: SeriesRules,
        sample_limit: Option<u64>,
        sink: Arc<Sink>,
        environment: Arc<Environment>,
    ) -> Self {
        Self {
            report: ReportSeries::new(&rules),
            slots: Slots::new(target.interval, target.key),
            target,
            fetcher,
            rules,
            sample_limit,
            cache: SeriesCache::default(),
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
        carried: Option<Carried>,
        mut commands: watch::Receiver<Command>,
    ) -> Option<Carried> {
        let mut done_ms = from_ms;
        if let Some(carried) = carried {
            // The slot that is due now belongs to whoever is there now: to us.
            (self.cache, self.reported, done_ms) = (carried.cache, carried.reported, carried.done_ms);
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
                    let Self { cache, reported, .. } = self;
                    return Some(Carried { cache, reported, done_ms });
                }
                Command::Gone if due => {
                    self.end(slot_ms);
                    self.environment.statuses.remove(self.target.id);
                    return None;
                }
                Command::Scrape(refusal) if due => {
                    slot_ms = self.skip_missed(slot_ms);
                    self.scrape(slot_ms, refusal).await;
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
            tracing::debug!(target = %self.target.url, missed, "slots were skipped: the one before took too long");
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
        let fetched = match refusal {
            Some(message) => Err(message),
            None => {
                let result = self.fetcher.fetch(&self.target.url, self.target.timeout, &mut body).await;
                result.map_err(|error| error.to_string())
            }
        };
        let result = fetched.and_then(|()| self.stage(&body, time_ms));
        self.environment.buffers.give(body);
        let seconds = started.elapsed().as_secs_f64();
        let tally = self.append(&result, time_ms, seconds);
        self.tell(&result, started_ms, seconds, tally);
    }

    /// Reads the whole body before anything takes effect: a scrape is stored as a whole or not at all.
    fn stage(&mut self, body: &[u8], time_ms: i64) -> Result<(), String> {
        self.cache.begin();
        let mut parser = TextParser::new(body);
        while let Some(sample) = parser.next_sample().map_err(|error| error.to_string())? {
            self.cache.stage(&sample, time_ms, &self.rules).map_err(|error| error.to_string())?;
            if self.sample_limit.is_some_and(|limit| self.cache.tally().kept > limit) {
                self.environment.metrics.exceeded_sample_limit.increment(1);
                return Err("sample limit exceeded".to_owned());
            }
        }
        Ok(())
    }

    fn append(&mut self, result: &Result<(), String>, time_ms: i64, seconds: f64) -> Tally {
        let mut lanes = self.sink.lanes(self.target.key);
        let push = |series: &Encoded, value_bits, timestamp_ms| {
            lanes.push(&Outgoing { series, value_bits, timestamp_ms });
        };
        let tally = match result {
            Ok(()) => self.cache.commit(time_ms, push),
            Err(_) => {
                let tally = self.cache.failed_tally();
                self.cache.fail(time_ms, push);
                tally
            }
        };
        for (series, value) in self.report.values(result.is_ok(), seconds, tally) {
            lanes.push(&Outgoing { series, value_bits: value.to_bits(), timestamp_ms: time_ms });
        }
        self.reported = true;
        tally
    }

    fn end(&mut self, time_ms: i64) {
        let mut lanes = self.sink.lanes(self.target.key);
        let mut push = |series: &Encoded, value_bits| {
            lanes.push(&Outgoing { series, value_bits, timestamp_ms: time_ms });
        };
        self.cache.end(time_ms, |series, value_bits, _| push(series, value_bits));
        if std::mem::take(&mut self.reported) {
            for (series, _) in self.report.values(false, 0.0, Tally::default()) {
                push(series, STALE_NAN_BITS);
            }
        }
    }

    fn tell(&self, result: &Result<(), String>, started_ms: i64, seconds: f64, tally: Tally) {
        let metrics = &self.environment.metrics;
        metrics.scrapes.increment(1);
        metrics.duration.record(seconds);
        metrics.samples.increment(tally.scraped);
        metrics.duplicates.increment(tally.duplicates);
        metrics.out_of_bounds.increment(tally.out_of_bounds);
        if let Err(error) = result {
            metrics.failed.increment(1);
            tracing::debug!(target = %self.target.url, error, "scrape failed");
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
