//! The destinations: one entry of `remote_write` each, with its queue, its half-filled requests and its senders. Here is
//! what happens to them at start, on a reload, and at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use promring_model::config::{Config, RemoteWrite, RemovedDestinations};
use promring_model::handover::MoveId;
use promring_net::clock::now_ms;
use promring_proto::api::QueueReport;
use tokio::time::Instant;

use crate::handover::Gate;
use crate::labelsets::Shared;
use crate::queue::{self, Hold, Inspection, Pending, Queue, QueueError, QueueStats, SetStats, Volume};
use crate::rules::Classes;
use crate::send::{self, Senders};
use crate::sink::{Destination, FLUSH_INTERVAL, Incoming, Sink, WantedFence};

/// A destination and what sends to it.
#[derive(Clone, Debug)]
struct Open {
    destination: Arc<Destination>,
    senders: Arc<Senders>,
}

/// One that is no longer in the configuration.
#[derive(Clone, Debug)]
struct Leaving {
    open: Open,
    /// Nothing more is sent.
    parked: bool,
    /// Nothing is left to send, and its senders were told so.
    emptied: bool,
}

/// A queue that nobody sends.
#[derive(Clone, Debug)]
struct Parked {
    destination: String,
    samples: u64,
    bytes: u64,
    oldest_ms: Option<i64>,
}

/// All destinations of a process.
#[derive(Debug)]
pub struct Destinations {
    data_dir: PathBuf,
    volume: Volume,
    /// The strings of what is being filled.
    labels: Arc<Shared>,
    /// See [`Senders::behind`].
    gate: Option<Arc<Gate>>,
    open: Mutex<Vec<Open>>,
    leaving: Mutex<Vec<Leaving>>,
    parked: Mutex<Vec<Parked>>,
    fencing: Mutex<()>,
    incoming: Arc<Incoming>,
    /// Whether queues of an earlier run were looked for.
    searched: AtomicBool,
    /// Whether the last look found no room for another scrape.
    full: AtomicBool,
}

/// What a configuration's destinations mean for the target loops.
#[derive(Debug)]
pub struct Prepared {
    /// Where samples go.
    pub sink: Arc<Sink>,
    /// The encodings that the sink wants of each series.
    pub classes: Classes,
}

impl Destinations {
    /// None yet; queues will lie under `data_dir`, and series have their strings in `labels`. `gate` is in front of what they
    /// are filled by, where others may fill theirs in its stead.
    #[must_use]
    pub fn new(data_dir: PathBuf, labels: Arc<Shared>, gate: Option<Arc<Gate>>) -> Self {
        metrics::describe_gauge!(
            "promring_queue_parked_samples",
            "Samples on disk whose destination is no longer configured, so that nobody sends them."
        );
        Self {
            data_dir,
            volume: Volume::new(),
            labels,
            gate,
            open: Mutex::default(),
            leaving: Mutex::default(),
            parked: Mutex::default(),
            fencing: Mutex::default(),
            incoming: Arc::default(),
            searched: AtomicBool::new(false),
            full: AtomicBool::new(false),
        }
    }

    /// Makes the destinations those of `config`. One that did not change goes on as it is. One with other settings keeps its
    /// queue, by its name. One that is no longer there is sent what it is queued, or keeps it on disk, as the
    /// configuration says.
    ///
    /// # Errors
    /// Where a queue cannot be opened or a client not be made; nothing has changed then.
    pub fn apply(&self, config: &Config) -> Result<Prepared, String> {
        let before = lock(&self.open).clone();
        let leaving = lock(&self.leaving).clone();
        let mut next = Vec::new();
        for entry in &config.remote_write {
            let same_name = |open: &&Open| open.destination.config.name == entry.name;
            let known = before.iter().find(same_name);
            let known = known.or_else(|| leaving.iter().map(|leaving| &leaving.open).find(same_name));
            let unchanged =
                |open: &&Open| before.iter().any(|b| Arc::ptr_eq(&b.destination, &open.destination));
            next.push(match known {
                Some(open) if *open.destination.config == **entry && unchanged(&open) => open.clone(),
                Some(open) => self.start(open.destination.with_config(Arc::clone(entry)))?,
                None => {
                    let queue = send::open_queue(&self.volume, entry, &config.scraper.queue, &self.data_dir)?;
                    self.start(Destination::new(Arc::clone(entry), Arc::new(queue)))?
                }
            });
        }
        let (classes, class_of) = Classes::of(&config.remote_write);
        let destinations = next.iter().map(|open| Arc::clone(&open.destination)).zip(class_of).collect();
        if !self.searched.swap(true, Ordering::Relaxed) {
            self.find_parked(&config.remote_write);
        }
        self.take(before, leaving, next, config);
        Ok(Prepared { sink: Arc::new(Sink::new(destinations, Arc::clone(&self.incoming))), classes })
    }

    fn start(&self, destination: Destination) -> Result<Open, String> {
        let RemoteWrite { name, .. } = &*destination.config;
        let senders = Senders::behind(self.gate.clone(), &destination.config, &destination.queue)
            .map_err(|error| format!("the destination {name:?}: {error}"))?
            .with_metadata(&self.labels);
        Ok(Open { destination: Arc::new(destination), senders: Arc::new(senders) })
    }

    /// Puts the new ones into force and lets go of those that they replace.
    fn take(&self, before: Vec<Open>, leaving: Vec<Leaving>, next: Vec<Open>, config: &Config) {
        let stays = |open: &Open| next.iter().any(|n| Arc::ptr_eq(&n.senders, &open.senders));
        let replaced =
            |open: &Open| next.iter().any(|n| Arc::ptr_eq(&n.destination.queue, &open.destination.queue));
        let park = config.scraper.removed_destinations == RemovedDestinations::Park;
        let (ended, removed): (Vec<Open>, Vec<Open>) =
            before.into_iter().filter(|open| !stays(open)).partition(replaced);
        let (back, mut left): (Vec<Leaving>, Vec<Leaving>) =
            leaving.into_iter().partition(|leaving| replaced(&leaving.open));
        for open in ended.into_iter().chain(back.into_iter().map(|leaving| leaving.open)) {
            // Its successor sends what is left in the queue.
            tokio::spawn(async move { open.senders.yield_queue().await });
        }
        for open in removed {
            open.destination.flush(&self.labels);
            let name = &open.destination.config.name;
            if park {
                tracing::info!(destination = name, "no longer configured; what is queued stays on disk");
                let senders = Arc::clone(&open.senders);
                tokio::spawn(async move { senders.yield_queue().await });
            } else {
                tracing::info!(destination = name, "no longer configured; what is queued is still sent");
            }
            left.push(Leaving { open, parked: park, emptied: false });
        }
        for open in &next {
            let Destination { config: entry, queue, .. } = &*open.destination;
            queue.apply_settings(&config.scraper.queue);
            if let Err(error) = open.destination.set_lanes(send::lanes(entry), &self.labels) {
                tracing::error!(destination = entry.name, %error, "the number of lanes stays as it is");
            }
            open.senders.start();
        }
        lock(&self.parked).retain(|parked| {
            let back = next.iter().any(|open| open.destination.config.name == parked.destination);
            if back {
                Parked::show(&parked.destination, 0);
            }
            !back
        });
        *lock(&self.leaving) = left;
        *lock(&self.open) = next;
    }

    /// The destinations of the configuration in force.
    pub(crate) fn in_force(&self) -> Vec<Arc<Destination>> {
        lock(&self.open).iter().map(|open| Arc::clone(&open.destination)).collect()
    }

    /// The same with those that are no longer in the configuration and not closed yet.
    pub(crate) fn with_leaving(&self) -> Vec<Arc<Destination>> {
        self.all().into_iter().map(|open| open.destination).collect()
    }

    /// Has a fence for each of these moves at every destination, and opens all others. Gives the moves that lack one. Waits
    /// for the disk.
    pub(crate) fn keep_fences(&self, wanted: &BTreeMap<MoveId, WantedFence>) -> BTreeSet<MoveId> {
        let _one_after_the_other = lock(&self.fencing);
        self.all().iter().flat_map(|open| open.destination.keep_fences(wanted)).collect()
    }

    /// Whether anything waits behind a fence that is closed.
    fn holds_fenced(&self) -> bool {
        let held = |set: &SetStats| {
            matches!(set.hold, Hold::Until(_)) && set.lanes.iter().any(|lane| lane.pending.records > 0)
        };
        self.in_force().iter().any(|destination| destination.queue.stats().sets.iter().any(held))
    }

    /// Puts aged requests into their queues, and closes queues that are done with, for as long as it is polled.
    pub async fn flush_always(&self) {
        let mut tick = tokio::time::interval(FLUSH_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            for open in self.all() {
                open.destination.flush_aged(&self.labels);
            }
            self.close_leaving();
            self.tell_of_room();
        }
    }

    /// Puts everything into the queues, and sends it as far as `time` allows; the rest stays on disk. What is under way
    /// then is cut off.
    pub async fn finish(&self, time: Duration) {
        let end = Instant::now() + time;
        self.finish_by(end, end).await;
    }

    /// The same until `end`, but requests that are under way then are answered, as long as that is before `last`.
    pub async fn finish_by(&self, end: Instant, last: Instant) {
        let mut ending = tokio::task::JoinSet::new();
        for open in self.all() {
            open.destination.flush(&self.labels);
            ending.spawn(async move {
                let (overdue, last) = (tokio::time::sleep_until(end), tokio::time::sleep_until(last));
                open.senders.finish_until(overdue, last).await;
                open.destination.queue.sync();
            });
        }
        while ending.join_next().await.is_some() {}
    }

    /// The same for what waits behind fences as well, as far as these open before `end`.
    pub async fn drain(&self, end: Instant, last: Instant) {
        // Senders are at work meanwhile. The allocator says when a fence opens, once others have sent what comes before.
        while self.holds_fenced() && Instant::now() < end {
            tokio::time::sleep(FLUSH_INTERVAL).await;
        }
        self.finish_by(end, last).await;
    }

    /// Says in the log what is not sent, as the process ends, and what becomes of it.
    pub fn tell_what_stays(&self) {
        // What is in memory is told apart: it does not stay.
        let told = |open: &Open| {
            let Destination { config, queue, .. } = &*open.destination;
            let mut report = send::queue_report(config, queue);
            // It stays as well, and nobody waited for it.
            report.samples += report.aside_samples;
            let in_memory = queue.samples_in_memory().min(report.samples);
            if in_memory > 0 {
                tracing::error!(
                    destination = config.name,
                    samples = in_memory,
                    "not sent in time, and in memory alone as the disk takes nothing: they are lost with this process"
                );
            }
            report.samples -= in_memory;
            report
        };
        for QueueReport { destination, samples, .. } in
            lock(&self.open).iter().map(told).filter(|report| report.samples > 0)
        {
            tracing::warn!(
                destination,
                samples,
                "not sent in time; they stay on disk and are sent after the next start"
            );
        }
        let leaving = lock(&self.leaving);
        let leaving = leaving.iter().map(|leaving| told(&leaving.open));
        let parked = lock(&self.parked);
        for QueueReport { destination, samples, .. } in
            leaving.chain(parked.iter().map(Parked::report)).filter(|report| report.samples > 0)
        {
            tracing::warn!(
                destination,
                samples,
                "not sent, and not after the next start either: they stay on disk, as the destination is no longer configured, until remote_write has an entry of this name again"
            );
        }
    }

    /// Backlog by destination, those included that nobody sends any more.
    #[must_use]
    pub fn reports(&self) -> Vec<QueueReport> {
        let report = |open: &Open| send::queue_report(&open.destination.config, &open.destination.queue);
        let mut reports: Vec<QueueReport> = self.all().iter().map(report).collect();
        reports.extend(lock(&self.parked).iter().map(Parked::report));
        reports
    }

    /// Whether nothing is queued, for whomever.
    #[must_use]
    pub fn are_idle(&self) -> bool {
        self.reports().iter().all(|report| report.bytes == 0)
            && self.all().iter().all(|open| !open.destination.queue.is_unread())
    }

    /// Whether a queue whose directory could not be read at first has fences that are to be kept.
    pub(crate) fn have_untold_fences(&self) -> bool {
        self.all().iter().any(|open| open.destination.queue.has_untold_fences())
    }

    fn all(&self) -> Vec<Open> {
        let leaving = lock(&self.leaving);
        // One that is parked takes what scrapes under the old configuration still bring.
        lock(&self.open).iter().chain(leaving.iter().map(|leaving| &leaving.open)).cloned().collect()
    }

    /// Closes the queues of removed destinations that nobody fills any more and that are empty, or not sent. An empty one is
    /// deleted. All of it under the lock, so that a reload finds it either whole or gone.
    fn close_leaving(&self) {
        let mut leaving = lock(&self.leaving);
        let (done, left): (Vec<Leaving>, Vec<Leaving>) =
            std::mem::take(&mut *leaving).into_iter().partition(|leaving| self.is_done(leaving));
        *leaving = left;
        for leaving in leaving.iter_mut().filter(|leaving| !leaving.parked && !leaving.emptied) {
            let queue = &leaving.open.destination.queue;
            leaving.emptied =
                self.is_filled_no_more(&leaving.open) && left_in(queue).records == 0 && !queue.is_unread();
            if leaving.emptied {
                let senders = Arc::clone(&leaving.open.senders);
                tokio::spawn(async move { senders.yield_queue().await });
            }
        }
        for Leaving { open, .. } in done {
            let name = open.destination.config.name.clone();
            let pending = left_in(&open.destination.queue);
            // Closes its queue.
            drop(open);
            if pending.records == 0 {
                delete_if_empty(&send::queue_dir(&self.data_dir, &name), &name);
                continue;
            }
            let (samples, bytes, oldest_ms) = (pending.samples, pending.bytes, pending.oldest_ms);
            Parked { destination: name, samples, bytes, oldest_ms }.keep(&self.parked);
        }
    }

    /// Whether a removed destination can be closed: nobody fills its queue or reads it.
    fn is_done(&self, Leaving { open, parked, emptied }: &Leaving) -> bool {
        // The destination and its senders have the queue; senders of before a reload may not have ended yet.
        let is_read_no_more = || open.senders.has_ended() && Arc::strong_count(&open.destination.queue) == 2;
        (*parked || *emptied) && is_read_no_more() && self.is_filled_no_more(open)
    }

    /// Whether nothing more comes to a removed destination. What was being filled is in its queue then.
    fn is_filled_no_more(&self, Open { destination, .. }: &Open) -> bool {
        let alone = Arc::strong_count(destination) == 1;
        if alone {
            destination.flush(&self.labels);
        }
        alone
    }

    /// Says when scrapes begin to be held back, and when they no longer are.
    fn tell_of_room(&self) {
        let full = lock(&self.open).iter().any(|open| !open.destination.queue.has_room());
        if self.full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::warn!("the queue is full and drops nothing: slots are skipped until there is room");
            } else {
                tracing::info!("the queue has room again: scrapes go on");
            }
        }
    }

    /// Finds queues of an earlier run whose destination is no longer configured: nobody sends them.
    fn find_parked(&self, configured: &[Arc<RemoteWrite>]) {
        let claimed: Vec<PathBuf> =
            configured.iter().map(|entry| send::queue_dir(&self.data_dir, &entry.name)).collect();
        for (dir, found) in queues_in(&self.data_dir).filter(|(dir, _)| !claimed.contains(dir)) {
            let pending = found.pending();
            let destination = found.destination.unwrap_or_else(|| "unknown".to_owned());
            if pending.records == 0 {
                delete_if_empty(&dir, &destination);
                continue;
            }
            tracing::warn!(
                queue = %dir.display(),
                destination,
                samples = pending.samples,
                "a queue of an earlier run has no destination in the configuration any more, and is not sent until remote_write has an entry of this name again; without a name an entry is named by its URL, user and headers. To give its samples up, delete the directory"
            );
            let (samples, bytes, oldest_ms) = (pending.samples, pending.bytes, pending.oldest_ms);
            Parked { destination, samples, bytes, oldest_ms }.keep(&self.parked);
        }
    }
}

/// What is in a queue, aside or not.
fn left_in(queue: &Queue) -> Pending {
    let QueueStats { mut pending, aside, .. } = queue.stats();
    pending.add(&aside);
    pending
}

impl Parked {
    fn keep(self, list: &Mutex<Vec<Self>>) {
        Self::show(&self.destination, self.samples);
        if self.samples > 0 {
            lock(list).push(self);
        }
    }

    fn show(destination: &str, samples: u64) {
        metrics::gauge!("promring_queue_parked_samples", "remote_name" => destination.to_owned())
            .set(samples as f64);
    }

    fn report(&self) -> QueueReport {
        let age_ms = self.oldest_ms.map_or(0, |oldest_ms| now_ms().saturating_sub(oldest_ms));
        QueueReport {
            destination: self.destination.clone(),
            samples: self.samples,
            bytes: self.bytes,
            oldest_seconds: u64::try_from(age_ms / 1_000).unwrap_or(0),
            ..QueueReport::default()
        }
    }
}

/// Deletes a queue without a destination of which all was sent. Where it stays, there is no harm in that.
fn delete_if_empty(dir: &Path, destination: &str) {
    match queue::remove_if_empty(dir) {
        Ok(true) => tracing::info!(
            destination,
            "all that was queued for the removed destination is sent; its queue is deleted"
        ),
        Ok(false) => tracing::warn!(
            destination,
            queue = %dir.display(),
            "the queue of the removed destination has nothing to send and is not deleted: damaged or other files lie there, which `promring queue` names"
        ),
        Err(error) => tracing::warn!(
            destination,
            %error,
            "the queue of the removed destination has nothing to send and cannot be deleted"
        ),
    }
}

/// The queues in a data directory; what is none is passed over.
fn queues_in(data_dir: &Path) -> impl Iterator<Item = (PathBuf, Inspection)> {
    // Where there is no directory, there are no queues.
    let entries = std::fs::read_dir(data_dir.join("queue")).into_iter().flatten();
    let dirs = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|dir| !queue::remove_rest(dir));
    dirs.filter_map(|dir| match Inspection::of_index(&dir) {
        Ok(found) => Some((dir, found)),
        Err(error) => {
            // Whatever else lies there is none of ours.
            if error.is_of_sick_disk() || matches!(error, QueueError::Newer { .. }) {
                tracing::warn!(dir = %dir.display(), %error, "what may be a queue of an earlier run cannot be read");
            }
            None
        }
    })
}

fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    // A list is replaced as a whole, so it is whole whatever panicked.
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "destinations_tests.rs"]
mod tests;
