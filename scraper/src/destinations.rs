//! The destinations: one entry of `remote_write` each, with its queue, its half-filled requests and its senders. Here is
//! what happens to them at start, on a reload, and at the end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use promring_model::config::{Config, RemoteWrite};
use promring_proto::api::QueueReport;

use crate::labelsets::Shared;
use crate::queue::{Inspection, Volume};
use crate::rules::Classes;
use crate::send::{self, Senders};
use crate::sink::{Destination, Sink};

/// How often requests are looked at for their age.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// A destination and what sends to it.
#[derive(Clone, Debug)]
struct Open {
    destination: Arc<Destination>,
    senders: Arc<Senders>,
}

/// All destinations of a process.
#[derive(Debug)]
pub struct Destinations {
    data_dir: PathBuf,
    volume: Volume,
    /// The strings of what is being filled.
    labels: Arc<Shared>,
    open: Mutex<Vec<Open>>,
    /// No longer in the configuration; what is queued is still sent.
    leaving: Mutex<Vec<Open>>,
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
    /// None yet; queues will lie under `data_dir`, and series have their strings in `labels`.
    #[must_use]
    pub fn new(data_dir: PathBuf, labels: Arc<Shared>) -> Self {
        Self { data_dir, volume: Volume::new(), labels, open: Mutex::default(), leaving: Mutex::default() }
    }

    /// Makes the destinations those of `config`. One that did not change goes on as it is. One with other settings keeps its
    /// queue, by its name. One that is no longer there is sent what it is queued.
    ///
    /// # Errors
    /// Where a queue cannot be opened or a client not be made; nothing has changed then.
    pub fn apply(&self, config: &Config) -> Result<Prepared, String> {
        let before = lock(&self.open).clone();
        let leaving = lock(&self.leaving).clone();
        let mut next = Vec::new();
        for entry in &config.remote_write {
            let same_name = |open: &&Open| open.destination.config.name == entry.name;
            let known = before.iter().find(same_name).or_else(|| leaving.iter().find(same_name));
            let unchanged =
                |open: &&Open| before.iter().any(|b| Arc::ptr_eq(&b.destination, &open.destination));
            next.push(match known {
                Some(open) if *open.destination.config == **entry && unchanged(&open) => open.clone(),
                Some(open) => Open::start(open.destination.with_config(Arc::clone(entry)), &self.labels)?,
                None => {
                    let queue = send::open_queue(&self.volume, entry, &config.scraper.queue, &self.data_dir)?;
                    Open::start(Destination::new(Arc::clone(entry), Arc::new(queue)), &self.labels)?
                }
            });
        }
        let (classes, class_of) = Classes::of(&config.remote_write);
        let destinations = next.iter().map(|open| Arc::clone(&open.destination)).zip(class_of).collect();
        if before.is_empty() {
            warn_of_stranded(&self.data_dir, &config.remote_write);
        }
        self.take(before, leaving, next);
        Ok(Prepared { sink: Arc::new(Sink::new(destinations)), classes })
    }

    /// Puts the new ones into force and lets go of those that they replace.
    fn take(&self, before: Vec<Open>, leaving: Vec<Open>, next: Vec<Open>) {
        let stays = |open: &Open| next.iter().any(|n| Arc::ptr_eq(&n.senders, &open.senders));
        let replaced =
            |open: &Open| next.iter().any(|n| Arc::ptr_eq(&n.destination.queue, &open.destination.queue));
        let (ended, left): (Vec<Open>, Vec<Open>) =
            before.into_iter().chain(leaving).filter(|open| !stays(open)).partition(replaced);
        for open in ended {
            // Its successor sends what is left in the queue.
            tokio::spawn(async move { open.senders.finish(Duration::ZERO).await });
        }
        for open in &left {
            open.destination.flush(&self.labels);
            tracing::info!(
                destination = open.destination.config.name,
                "no longer configured; what is queued is still sent"
            );
        }
        for open in &next {
            open.senders.start();
        }
        *lock(&self.leaving) = left;
        *lock(&self.open) = next;
    }

    /// Puts aged requests into their queues for as long as it is polled.
    pub async fn flush_always(&self) {
        let mut tick = tokio::time::interval(FLUSH_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            for open in self.all() {
                open.destination.flush_aged(&self.labels);
            }
        }
    }

    /// Puts everything into the queues, and sends it as far as `time` allows; the rest stays on disk.
    pub async fn finish(&self, time: Duration) {
        let mut ending = tokio::task::JoinSet::new();
        for open in self.all() {
            open.destination.flush(&self.labels);
            ending.spawn(async move {
                open.senders.finish(time).await;
                open.destination.queue.sync();
            });
        }
        while ending.join_next().await.is_some() {}
    }

    /// Backlog by destination.
    #[must_use]
    pub fn reports(&self) -> Vec<QueueReport> {
        let report = |open: &Open| send::queue_report(&open.destination.config, &open.destination.queue);
        self.all().iter().map(report).collect()
    }

    fn all(&self) -> Vec<Open> {
        lock(&self.open).iter().chain(lock(&self.leaving).iter()).cloned().collect()
    }
}

impl Open {
    fn start(destination: Destination, labels: &Arc<Shared>) -> Result<Self, String> {
        let RemoteWrite { name, .. } = &*destination.config;
        let senders = Senders::new(&destination.config, &destination.queue)
            .map_err(|error| format!("the destination {name:?}: {error}"))?
            .with_metadata(labels);
        Ok(Self { destination: Arc::new(destination), senders: Arc::new(senders) })
    }
}

/// Names queues of an earlier run whose destination is no longer configured: nobody sends them.
fn warn_of_stranded(data_dir: &Path, configured: &[Arc<RemoteWrite>]) {
    let claimed: Vec<PathBuf> =
        configured.iter().map(|entry| send::queue_dir(data_dir, &entry.name)).collect();
    // Where there is no directory, there are no queues.
    let Ok(entries) = std::fs::read_dir(data_dir.join("queue")) else { return };
    for dir in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| !claimed.contains(path)) {
        let Ok(found) = Inspection::of(&dir) else { continue };
        let samples: u64 =
            found.sets.iter().flat_map(|set| &set.lanes).map(|lane| lane.pending.samples).sum();
        if samples > 0 {
            tracing::warn!(
                queue = %dir.display(),
                destination = found.destination.as_deref().unwrap_or("unknown"),
                samples,
                "a queue of an earlier run has no destination in the configuration any more; it stays as it is (a destination keeps its queue over a changed URL if it has a name)"
            );
        }
    }
}

fn lock(open: &Mutex<Vec<Open>>) -> MutexGuard<'_, Vec<Open>> {
    // A list is replaced as a whole, so it is whole whatever panicked.
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
