//! The loop of one target: sleep to the next slot, scrape, append, tell.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use promring_model::handover::MoveId;
use promring_model::slots::Slots;
use promring_model::target::Target;
use promring_net::clock::now_ms;
use promring_net::shutdown::Shutdown;
use promring_proto::api::{Health, TargetReport};
use promring_proto::remote_write::STALE_NAN_BITS;
use tokio::sync::watch;

use super::append::Appender;
use super::attempt::{ASKED_BYTES, Attempt, CLAIM_BYTES_MIN, PIECE_BYTES};
use super::body::BodyRules;
use super::cores::Cores;
use super::failure::Failure;
use super::fetch::{FetchError, Fetcher};
use super::http::Connection;
use super::report::Report;
use crate::buffers::{Buffers, Scratches};
use crate::companions::Companions;
use crate::handover::{End, Gate, Last, LastSeries, Refused};
use crate::labelsets::Shared;
use crate::memory::{Full, Hold, Memory};
use crate::observe::ScrapeMetrics;
use crate::rules::{Refusal, SeriesRules};
use crate::series::{Scratch, SeriesCache, Tally};
use crate::sink::{Sink, Way};
use crate::spread::{Passed, SpreadTargets, TARGET_SAMPLES_PER_SECOND_MAX};
use crate::statuses::Statuses;

/// The clock is looked at this often while a slot is waited for, so that a clock that is set shifts no scrape longer.
const CLOCK_CHECK: Duration = Duration::from_secs(10);

/// Appending a sample takes about as long as parsing this many bytes.
const APPEND_BYTES: usize = 100;

/// So long after T the series of a target that is gone before its first scrape here are waited for, in milliseconds: its giver is asked
/// twice a second, and may have a scrape to end. A target that comes back meanwhile waits as well.
const GIVEN_MS_MAX: i64 = 5_000;

/// How often it is looked whether they have come.
const GIVEN_INTERVAL: Duration = Duration::from_millis(100);

/// What all loops of a scraper share.
#[derive(Debug)]
pub struct Environment {
    /// Where health is told.
    pub statuses: Statuses,
    /// Bodies are read into these.
    pub buffers: Buffers,
    /// What is needed only while a body is read.
    pub scratches: Scratches,
    /// Where the work of large scrapes is done.
    pub cores: Cores,
    /// What series and scrapes may take.
    pub memory: Arc<Memory>,
    /// Strings of all series.
    pub labels: Arc<Shared>,
    /// What those strings take.
    pub symbols_hold: Mutex<Hold>,
    /// Handles of metrics.
    pub metrics: ScrapeMetrics,
    /// Targets whose series go to all lanes.
    pub spread: SpreadTargets,
    /// Targets that share their keys.
    pub companions: Companions,
    /// Which slots are this scraper's.
    pub gate: Arc<Gate>,
    /// Ends every loop, without staleness markers unless its target was gone already.
    pub stopping: Shutdown,
}

impl Environment {
    /// Gives back what series held that are no more, and counts what the others hold.
    pub async fn give_back(&self) {
        if self.labels.symbols.has_garbage() {
            self.cores.run(|| self.labels.symbols.collect()).await;
        }
        self.count_symbols();
    }

    /// Counts what the strings of all series take, and their shapes.
    pub(super) fn count_symbols(&self) {
        let bytes = self.labels.bytes() as u64;
        self.symbols_hold.lock().unwrap_or_else(PoisonError::into_inner).set(bytes);
    }
}

/// What a loop is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Scrape; or, with a message, let every scrape fail with it and send no request.
    Scrape(Option<String>),
    /// The target belongs to another scraper, or another target takes its place: end without markers.
    Moved,
    /// All slots from now on are another scraper's, which wants to know the series: put them where it finds them. Should the
    /// target not be taken after all, this is as good as [`Command::Scrape`].
    Show(Option<String>),
    /// The target exists no more: end with markers, at the next slot, or at once where that is another scraper's.
    Gone(End),
    /// After [`Command::Gone`]: the target exists again, and another loop takes over. No marker is written, unless the slot of
    /// the markers had come by then.
    Back {
        /// How it was to end.
        end: End,
        /// When it was back, in Unix milliseconds.
        at_ms: i64,
    },
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
    /// No sample is newer.
    newest_ms: i64,
}

/// What of a predecessor's series a loop can use, beside its slots; the most comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    cache: SeriesCache,
    sink: Arc<Sink>,
    environment: Arc<Environment>,
    /// Whether the report series are live.
    reported: bool,
    /// Its lane at each destination.
    lane: u64,
    /// Whether its series go to all lanes.
    spread: bool,
    /// It is to be spread once all of this is sent.
    spread_after: Option<Passed>,
    /// When the last scrape began.
    last_start: Option<Instant>,
    /// What the next scrape claims once its target answers.
    expected_bytes: u64,
    /// The last scrape knew all series.
    is_steady: bool,
    /// What the series take.
    series_hold: Hold,
    /// No sample is newer than this, in Unix milliseconds.
    newest_ms: i64,
    /// Its series were put where the next owner finds them.
    shown: bool,
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
        let lane = rules.lane();
        environment.spread.place(target.key, lane);
        Self {
            cache: SeriesCache::new(&rules, &environment.labels),
            lane,
            spread: environment.spread.contains(target.key),
            spread_after: None,
            connection: Connection::new(&target),
            shown: false,
            target,
            fetcher,
            rules,
            body_rules,
            sink,
            series_hold: environment.memory.keep(),
            environment,
            reported: false,
            last_start: None,
            expected_bytes: ASKED_BYTES,
            is_steady: false,
            newest_ms: i64::MIN,
        }
    }

    /// Takes over what another loop left that had the target before it. Returns up to when slots are done with, in Unix
    /// milliseconds: the slot that is due now belongs to whoever is there now.
    #[must_use]
    pub fn take_over(&mut self, carried: Carried, keep: Keep) -> i64 {
        let Carried { cache, reported, spread, done_ms, newest_ms } = carried;
        (self.reported, self.spread, self.newest_ms) = (reported, spread, newest_ms);
        match keep {
            Keep::Everything => self.cache = cache,
            Keep::Markers => self.cache.supersede(cache),
            Keep::Slots => {}
        }
        done_ms
    }

    /// Scrapes every slot after `done_ms` until it is told to end.
    ///
    /// There are thousands of these, nearly all of which wait: so what only a scrape needs is not part of the future, but
    /// allocated while it lasts.
    pub async fn run(
        mut self: Box<Self>,
        mut done_ms: i64,
        mut commands: watch::Receiver<Command>,
    ) -> Option<Carried> {
        let mut slot_ms = self.slots().next_after(done_ms);
        // One that was gone while it went to another scraper, and is back.
        self.shown = self.environment.gate.given.is_shown(self.target.key, self.target.id);
        if self.shown {
            self.resume();
        }
        // Before the slot where markers are due before it.
        let mut wake_ms = slot_ms;
        // Whether nobody is there any more to tell it anything.
        let mut alone = false;
        loop {
            let due = tokio::select! {
                () = wait_until(wake_ms) => true,
                changed = commands.changed(), if !alone => {
                    alone = changed.is_err();
                    // Who was told to end does so all the same.
                    if alone && !matches!(*commands.borrow(), Command::Gone(_)) { return None };
                    false
                }
                () = self.environment.stopping.wait() => return self.stop(&commands, slot_ms, done_ms),
            };
            let command = commands.borrow_and_update().clone();
            match command {
                Command::Moved => return Some(self.leave(done_ms)),
                Command::Gone(end) => {
                    let time_ms = end.time(slot_ms, self.newest_ms);
                    if !due && let Some(before_ms) = time_ms.filter(|time_ms| *time_ms < slot_ms) {
                        wake_ms = before_ms;
                    } else if due || time_ms != Some(slot_ms) {
                        if !Box::pin(self.wait_for_given(&end, &mut commands)).await {
                            continue;
                        }
                        return Some(self.finish(end, slot_ms, done_ms));
                    }
                }
                Command::Back { end, at_ms }
                    if at_ms >= end.time(slot_ms, self.newest_ms).unwrap_or(slot_ms) =>
                {
                    return Some(self.finish(end, slot_ms, done_ms));
                }
                Command::Back { .. } => {
                    self.resume();
                    self.environment.gate.end(self.target.key);
                    return Some(self.leave(done_ms));
                }
                Command::Show(_) if !due => self.show(false),
                Command::Scrape(_) if !due => {}
                Command::Scrape(refusal) => {
                    slot_ms = self.skip_missed(slot_ms);
                    let _counted = Box::pin(self.slot(slot_ms, refusal)).await;
                    done_ms = slot_ms;
                    slot_ms = self.slots().next_after(slot_ms);
                    wake_ms = slot_ms;
                }
                Command::Show(refusal) => {
                    slot_ms = self.skip_missed(slot_ms);
                    if Box::pin(self.slot(slot_ms, refusal)).await == Err(Refused::NotOurs) {
                        self.show(false);
                    }
                    done_ms = slot_ms;
                    slot_ms = self.slots().next_after(slot_ms);
                    wake_ms = slot_ms;
                }
            }
        }
    }

    /// Everything stops. Of a target that exists no more nobody else knows what is to be marked, so it is marked now.
    fn stop(self, commands: &watch::Receiver<Command>, slot_ms: i64, done_ms: i64) -> Option<Carried> {
        let Command::Gone(end) = *commands.borrow() else { return None };
        Some(self.finish(end, slot_ms.min(now_ms()), done_ms))
    }

    /// Leaves the target to a successor.
    fn leave(self, done_ms: i64) -> Carried {
        self.environment.statuses.remove(self.target.id);
        let Self { cache, reported, spread, newest_ms, .. } = self;
        Carried { cache, reported, spread, done_ms, newest_ms }
    }

    /// Whether the series of the scraper that had the target before are still to come, where it is gone before its first scrape here:
    /// they are told once that one's last scrape is over.
    fn lacks_given(&self, end: &End) -> bool {
        let (Some(from_ms), Some(_), i64::MIN) = (end.from, end.fence, self.newest_ms) else { return false };
        !self.environment.gate.given.has_received(self.target.key) && now_ms() < from_ms + GIVEN_MS_MAX
    }

    /// Waits until they have come, or as long as may be. False: it was told something else meanwhile, or everything stops.
    async fn wait_for_given(&self, end: &End, commands: &mut watch::Receiver<Command>) -> bool {
        while self.lacks_given(end) {
            tokio::select! {
                () = tokio::time::sleep(GIVEN_INTERVAL) => {}
                Ok(()) = commands.changed() => {
                    commands.mark_changed();
                    return false;
                }
                () = self.environment.stopping.wait() => return false,
            }
        }
        true
    }

    /// Writes the markers that are due at `slot_ms`, if any can be. Should the target be back, its samples come after them.
    fn finish(mut self, end: End, slot_ms: i64, done_ms: i64) -> Carried {
        let time_ms = end.time(slot_ms, self.newest_ms);
        if let Some(time_ms) = time_ms {
            self.take_given_if(|_| !end.shared);
            // The series about the scrape are the other one's too.
            self.reported &= !end.shared;
            self.end(time_ms, end.fence);
            self.newest_ms = time_ms;
        }
        if time_ms.is_some() || !end.given {
            self.cache = SeriesCache::new(&self.rules, &self.environment.labels);
        }
        if end.given {
            self.show(true);
        }
        self.environment.gate.end(self.target.key);
        self.leave(done_ms.max(time_ms.unwrap_or(i64::MIN)))
    }

    /// When it is due. Asked anew each time, as other targets of its key may come and go.
    fn slots(&self) -> Slots {
        let Target { interval, key, id, .. } = *self.target;
        if self.environment.companions.contains(key) {
            Slots::apart(interval, id)
        } else {
            Slots::new(interval, key)
        }
    }

    /// A slot is due: scrapes, if it is this scraper's.
    async fn slot(&mut self, slot_ms: i64, refusal: Option<String>) -> Result<(), Refused> {
        if !self.sink.has_room() {
            self.environment.metrics.held_back_slots.increment(1);
            return Ok(());
        }
        match self.environment.gate.begin(self.target.key, slot_ms) {
            Ok(begun) => {
                self.take_given();
                self.scrape(slot_ms, refusal, begun.fence).await;
                Ok(())
            }
            Err(refused) => {
                self.environment.metrics.doubted_slots.increment(u64::from(refused == Refused::Doubt));
                Err(refused)
            }
        }
    }

    /// Puts the series where the next owner finds them. `gone`: the target exists no more.
    fn show(&mut self, gone: bool) {
        if std::mem::replace(&mut self.shown, true) {
            return;
        }
        let fresh = SeriesCache::new(&self.rules, &self.environment.labels);
        let hold = std::mem::replace(&mut self.series_hold, self.environment.memory.keep());
        let cache = std::mem::replace(&mut self.cache, fresh);
        let last = Last { cache, reported: self.reported, gone, hold };
        self.environment.gate.given.show(self.target.key, self.target.id, last);
    }

    /// The target is back, and goes on with its own series, or those of the scraper that had it before; those that are put away for
    /// another one stay so once that one has the target.
    fn resume(&mut self) {
        let (key, now_ms) = (self.target.key, now_ms());
        let is_ours = self.environment.gate.with(|member| {
            member.window(key).is_some_and(|(_, until)| until.is_none_or(|until| now_ms < until))
        });
        if is_ours || !self.shown {
            self.take_given();
        }
    }

    /// Takes the series of the scraper that had the target before, where they have come; or takes its own ones back,
    /// where they were put away for somebody who did not take the target after all.
    fn take_given(&mut self) {
        self.take_given_if(|series| !series.gone);
    }

    /// The same. Where another target of the key had what has come, this one's may be such series.
    fn take_given_if(&mut self, may_be: impl Fn(&LastSeries) -> bool) {
        let given = &self.environment.gate.given;
        if given.is_idle() {
            return;
        }
        self.shown = false;
        if let Some(own) = given.take_back(self.target.key, self.target.id) {
            (self.cache, self.reported, self.series_hold) = (own.cache, own.reported, own.hold);
        }
        if let Some(last) = self.environment.gate.given.take(self.target.key, self.target.id, may_be) {
            match last.cache(&self.rules, &self.environment.labels) {
                Ok(before) => {
                    self.reported |= last.reported;
                    self.cache.inherit(before);
                }
                Err(error) => {
                    self.environment.metrics.series_failed.increment(1);
                    tracing::debug!(
                        target = self.target.scrape_url(),
                        error,
                        "the series of its last owner cannot be used"
                    );
                }
            }
        }
    }

    /// The slot that it is now, where slots passed while the last scrape or the whole process took too long.
    fn skip_missed(&self, slot_ms: i64) -> i64 {
        let current = self.slots().slot_at(now_ms()).max(slot_ms);
        let missed = (current - slot_ms) / self.slots().interval_ms();
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

    /// Makes the scrape of a slot. Where there is no memory for it until the slot has passed, there is none.
    async fn scrape(&mut self, slot_ms: i64, refusal: Option<String>, fence: Option<MoveId>) {
        // What is read ahead is read whether there is room or not.
        let mut claim = if self.reads_ahead() { self.expected_bytes } else { ASKED_BYTES };
        loop {
            let Some(mut hold) = self.admitted(slot_ms, claim).await else { return };
            let started = Instant::now();
            let started_ms = now_ms();
            let time_ms = self.slots().sample_time(slot_ms, started_ms);
            let lateness = (started_ms - slot_ms).max(0) as f64 / 1_000.0;
            self.environment.metrics.lateness.record(lateness);
            if let Some(last) = self.last_start.replace(started) {
                let seconds = started.duration_since(last).as_secs_f64();
                self.environment.metrics.intervals.record(&self.target.interval, seconds);
            }
            let mut scratch = Scratch::default();
            self.cache.begin(&mut scratch);
            let mut body_bytes = 0;
            let target = Arc::clone(&self.target);
            let result = match (&refusal, &target.url) {
                (Some(message), _) => Err(Failure::Refused(message.clone())),
                (None, Err(error)) => Err(Failure::Refused(error.to_string())),
                (None, Ok(url)) => {
                    let mut attempt = Attempt {
                        url,
                        timeout: target.timeout,
                        fetcher: &self.fetcher,
                        connection: &mut self.connection,
                        rules: &self.rules,
                        cache: &mut self.cache,
                        scratch: &mut scratch,
                        environment: &self.environment,
                        hold: &mut hold,
                        expected_bytes: self.expected_bytes,
                        body_rules: self.body_rules,
                        time_ms,
                        is_steady: self.is_steady,
                    };
                    attempt.run(&mut body_bytes).await
                }
            };
            let environment = Arc::clone(&self.environment);
            let work = (self.cache.len() + scratch.staged()) * APPEND_BYTES;
            if let Err(Failure::Memory(Full::Others)) = result {
                // Others hold what is lacking: it begins anew once they have given back, with a larger claim.
                if hold.bytes() > ASKED_BYTES {
                    let larger = hold.bytes().saturating_mul(2).max(CLAIM_BYTES_MIN);
                    self.expected_bytes = larger.min(environment.memory.share());
                }
                claim = self.expected_bytes;
                environment.cores.run_sized(work, || self.cache.roll_back(&mut scratch)).await;
                drop(scratch);
                self.keep_series().await;
                continue;
            }
            if environment.gate.with(|member| member.was_paused_since(started_ms)) {
                // The process stood still meanwhile. That it failed says nothing of the target, and whatever it brought somebody else may
                // have overtaken.
                environment.metrics.skipped_slots.increment(1);
                environment.cores.run_sized(work, || self.cache.roll_back(&mut scratch)).await;
                environment.scratches.give(scratch);
                return;
            }
            self.expected_bytes = match result {
                // Who took too much has to find all of it free the next time, and takes it from nobody.
                Err(Failure::Memory(_)) => hold.bytes(),
                Ok(()) | Err(_) => scratch.bytes() as u64 + body_bytes.min(PIECE_BYTES as u64) * 2,
            }
            .max(ASKED_BYTES);
            let report = Report {
                up: result.is_ok(),
                seconds: started.elapsed().as_secs_f64(),
                tally: match &result {
                    Ok(()) => self.cache.tally(),
                    Err(failure) if failure.was_read() => self.cache.failed_tally(),
                    Err(_) => Tally::default(),
                },
                timeout: self.target.timeout,
                sample_limit: self.body_rules.sample_limit,
                body_bytes: match &result {
                    Err(Failure::Fetch(FetchError::BodySize)) => -1,
                    Err(failure) if !failure.has_body() => 0,
                    Ok(()) | Err(_) => body_bytes as i64,
                },
            };
            let append = || self.append(&report, time_ms, &mut scratch, fence);
            let tally = environment.cores.run_sized(work, append).await;
            environment.scratches.give(scratch);
            self.is_steady = report.up && tally.added == 0 && !self.cache.is_empty();
            self.keep_series().await;
            self.tell(&result, started_ms, &Report { tally, ..report });
            return;
        }
    }

    /// Whether the answer comes by the HTTP library or by HTTP/2, which take in some of a body before it is asked for.
    fn reads_ahead(&self) -> bool {
        self.connection.has_own_http2() || self.fetcher.is_for_library(&self.connection)
    }

    /// Memory for the scrape of a slot, as soon as there is some. None: the slot has passed, or the process stops.
    async fn admitted(&self, slot_ms: i64, claim: u64) -> Option<Hold> {
        let Environment { memory, metrics, stopping, .. } = &*self.environment;
        if let Some(hold) = memory.try_admit(claim) {
            return Some(hold);
        }
        tokio::select! {
            hold = memory.admit(claim) => Some(hold),
            () = wait_until(self.slots().next_after(slot_ms)) => {
                metrics.skipped_for_memory.increment(1);
                tracing::debug!(target = self.target.scrape_url(), "a slot was skipped: scraper.memory_limit is reached");
                None
            }
            () = stopping.wait() => None,
        }
    }

    /// Counts what the target's series take, once what they no longer need is given back.
    async fn keep_series(&mut self) {
        self.series_hold.set(self.cache.memory() as u64);
        self.environment.give_back().await;
    }

    /// What the scrape yielded once it took effect.
    fn append(
        &mut self,
        report: &Report,
        time_ms: i64,
        scratch: &mut Scratch,
        fence: Option<MoveId>,
    ) -> Tally {
        let per_second = report.tally.kept as f64 / self.target.interval.as_secs_f64();
        let is_heavy = report.up && per_second > TARGET_SAMPLES_PER_SECOND_MAX;
        self.choose_lanes(is_heavy);
        let way = self.way(fence);
        self.newest_ms = self.newest_ms.max(time_ms);
        let mut appender = Appender::new(&self.sink, way, &self.environment.labels);
        let mut tally = report.tally;
        if report.up && report.body_bytes == 0 {
            tally = self.cache.commit_nothing(time_ms, scratch, |outgoing| appender.push(outgoing));
        } else if report.up {
            tally = self.cache.commit(time_ms, scratch, |outgoing| appender.push(outgoing));
        } else {
            self.cache.fail(time_ms, scratch, |outgoing| appender.push(outgoing));
        }
        appender.keep_together();
        let values = report.values().map(f64::to_bits);
        self.cache.report(values, time_ms).for_each(|outgoing| appender.push(&outgoing));
        self.reported = true;
        if is_heavy && !self.spread {
            appender.flush();
            self.spread_after = Some(self.sink.passed());
        }
        tally
    }

    /// A scrape is about to go to the target's lane, or, where it is spread, to all. It is spread from now on where
    /// none of its samples can be overtaken: those that were queued are sent, or there were none.
    fn choose_lanes(&mut self, is_heavy: bool) {
        let (spread, key) = (&self.environment.spread, self.target.key);
        if self.spread {
            return;
        }
        let is_clear = match self.spread_after.take() {
            Some(queued) => queued.is_past(),
            None => is_heavy && spread.is_unsettled(key) && self.sink.is_past_earlier(),
        };
        self.spread = is_clear && spread.add(key);
        if self.spread {
            self.sink.mix_aside();
        } else {
            spread.settle(key);
        }
    }

    fn way(&self, fence: Option<MoveId>) -> Way {
        Way { key: self.target.key, lane: self.lane, spread: self.spread, fence }
    }

    fn end(&mut self, time_ms: i64, fence: Option<MoveId>) {
        let way = self.way(fence);
        let mut appender = Appender::new(&self.sink, way, &self.environment.labels);
        self.cache.end(time_ms, |outgoing| appender.push(outgoing));
        appender.keep_together();
        if std::mem::take(&mut self.reported) {
            let stale = std::iter::repeat(STALE_NAN_BITS);
            self.cache.report(stale, time_ms).for_each(|outgoing| appender.push(&outgoing));
        }
    }

    fn tell(&self, result: &Result<(), Failure>, started_ms: i64, report: &Report) {
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
        match result {
            Err(Failure::Series(Refusal::Limit(_))) => metrics.exceeded_label_limits.increment(1),
            Err(Failure::SampleLimit) => metrics.exceeded_sample_limit.increment(1),
            Err(Failure::Memory(_)) => metrics.exceeded_memory.increment(1),
            Err(Failure::Series(Refusal::Buckets)) => metrics.exceeded_bucket_limit.increment(1),
            Ok(()) | Err(_) => {}
        }
        metrics.out_of_order.increment(tally.out_of_order);
        if let Err(error) = result {
            metrics.failed.increment(1);
            tracing::debug!(target = self.target.scrape_url(), %error, "scrape failed");
        }
        self.environment.statuses.set(TargetReport {
            health: if result.is_ok() { Health::Up } else { Health::Down },
            last_error: result.as_ref().err().map(Failure::to_string).unwrap_or_default(),
            last_scrape_ms: started_ms,
            last_scrape_duration: seconds,
            samples: tally.scraped,
            ..TargetReport::unknown(self.target.id)
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
