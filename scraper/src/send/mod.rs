//! Sending: what lies in the queues goes to the receivers, at least once, in order within a lane.
//!
//! One task a lane, one request in flight. The steady path sends a record's bytes as they lie; only a request that a
//! receiver does not take as a whole is taken apart (`apart`, `units`), and sent as 1.0 if it is of 2.0 and the receiver does not
//! speak that. What an answer means stands in `answer`, when a request is sent again in `backoff`. A destination that is
//! away holds up its own lanes and nobody else's.

mod ahead;
mod answer;
mod apart;
mod backoff;
mod body_size;
mod gather;
mod join;
mod lane;
mod link;
mod lookout;
mod metadata;
mod metrics;
mod pace;
mod piece;
mod refused_series;
mod shown;
mod stored_in_part;
mod sweep;
mod taken;
mod units;
mod versions;
mod written;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use promring_model::config::{QueueSettings, RemoteWrite};
use promring_model::hash::FieldHasher;
use promring_net::client::ClientError;
use promring_proto::api::QueueReport;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::handover::Gate;
use crate::labelsets::Shared;
use crate::queue::{DropReason, LANES_MAX, LaneId, Queue, Volume};
use lane::{LaneSender, Phase};
use link::Link;
pub(crate) use metrics::dropped_custom;

/// Lanes of a queue, unless min_shards asks for more or max_shards for fewer.
pub const LANES: usize = 8;

/// How often metrics of a queue are brought up to date.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);

/// How often a lane is asked for whose sender of an older configuration still ends.
const READER_RETRY: Duration = Duration::from_millis(20);

/// The lanes aside of a destination ask no more often than this for each of its lanes, all together: with eight 160 times a second, which
/// is fewer requests than Prometheus's own shards (50, one after the other) send to a receiver that takes a tenth of a second.
const ASIDE_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 50 });

/// How long requests that are under way may take when others are to send the rest.
const YIELD_MAX: Duration = Duration::from_secs(2);

/// How long senders may take to put down what they have in hand when their time is over.
const STOP_MAX: Duration = Duration::from_secs(1);

/// The senders of one destination.
pub struct Senders {
    phase: watch::Sender<Phase>,
    link: Arc<Link>,
    queue: Arc<Queue>,
    /// What metadata are told of.
    families: Option<Arc<Shared>>,
    running: Mutex<JoinSet<()>>,
    ended: AtomicBool,
}

impl std::fmt::Debug for Senders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Senders({})", self.link.config.name)
    }
}

impl Senders {
    /// Senders of this queue to this destination.
    ///
    /// # Errors
    /// Where a client cannot be made: certificates, proxies, headers.
    pub fn new(config: &Arc<RemoteWrite>, queue: &Arc<Queue>) -> Result<Self, ClientError> {
        Self::behind(None, config, queue)
    }

    /// The same of a scraper among others. The gate knows whether these have overtaken what is queued.
    ///
    /// # Errors
    /// As [`Senders::new`].
    pub(crate) fn behind(
        gate: Option<Arc<Gate>>,
        config: &Arc<RemoteWrite>,
        queue: &Arc<Queue>,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            phase: watch::Sender::new(Phase::Run),
            link: Arc::new(Link::new(Arc::clone(config), gate)?),
            queue: Arc::clone(queue),
            families: None,
            running: Mutex::default(),
            ended: AtomicBool::new(false),
        })
    }

    /// The same, telling the receiver also what these targets say of their metric families, as far as it is to be told.
    #[must_use]
    pub fn with_metadata(self, families: &Arc<Shared>) -> Self {
        let families = self.link.config.metadata.send.then(|| Arc::clone(families));
        Self { families, ..self }
    }

    /// Starts sending. It ends with [`Senders::finish`], or when the senders are dropped. Later calls change nothing.
    pub fn start(&self) {
        let mut running = self.running();
        if running.is_empty() && *self.phase.borrow() == Phase::Run {
            // At once: until then a backlog of an earlier process looks like none.
            self.link.metrics.update(&self.queue);
            let supervisor =
                supervise(Arc::clone(&self.link), Arc::clone(&self.queue), self.phase.subscribe());
            running.spawn(supervisor);
            if let Some(families) = &self.families {
                let (link, phase) = (Arc::clone(&self.link), self.phase.subscribe());
                running.spawn(metadata::send_always(link, Arc::clone(families), phase));
            }
        }
    }

    /// Sends what is queued as far as `time` allows, then ends. A request that is in flight then is abandoned: it is not
    /// acknowledged, and is sent again with the same boundaries after a restart.
    pub async fn finish(&self, time: Duration) {
        self.finish_until(tokio::time::sleep(time), async {}).await;
    }

    /// Ends after the requests that are under way, so that others send the rest, or this stays on disk.
    pub async fn yield_queue(&self) {
        let mut running = std::mem::take(&mut *self.running());
        self.phase.send_if_modified(|phase| {
            let earlier = *phase < Phase::Yield;
            *phase = Phase::Yield.max(*phase);
            earlier
        });
        if tokio::time::timeout(YIELD_MAX, all_ended(&mut running)).await.is_err() {
            self.stop(running).await;
        }
        self.ended.store(true, Ordering::Release);
    }

    /// Sends what is queued until `overdue` returns. From then on no request begins, and none is tried again; what is
    /// under way, a request in pieces as a whole, is ended and acknowledged, unless `last` returns before: then it is
    /// abandoned, as by [`Senders::finish`].
    pub async fn finish_until(&self, overdue: impl Future<Output = ()>, last: impl Future<Output = ()>) {
        self.end(overdue, last).await;
        self.ended.store(true, Ordering::Release);
    }

    /// Whether [`Senders::finish`] has returned, so that nobody reads the queue.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    async fn end(&self, overdue: impl Future<Output = ()>, last: impl Future<Output = ()>) {
        // What was never started has something to send all the same.
        self.start();
        let mut running = std::mem::take(&mut *self.running());
        self.queue.send_unread();
        self.phase.send_replace(Phase::Drain);
        tokio::select! {
            biased;
            () = all_ended(&mut running) => return,
            () = overdue => {}
        }
        self.phase.send_replace(Phase::Yield);
        tokio::select! {
            biased;
            () = all_ended(&mut running) => return,
            () = last => {}
        }
        self.stop(running).await;
    }

    async fn stop(&self, mut running: JoinSet<()>) {
        self.phase.send_replace(Phase::Stop);
        if tokio::time::timeout(STOP_MAX, all_ended(&mut running)).await.is_err() {
            tracing::warn!("senders do not end in time and are cut off");
        }
        running.shutdown().await;
    }

    fn running(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn all_ended(running: &mut JoinSet<()>) {
    while running.join_next().await.is_some() {}
}

/// Opens the queue of a destination under `data_dir`. `volume` is what its disk's other queues share with it.
///
/// # Errors
/// Where it cannot be opened, with the reason.
pub fn open_queue(
    volume: &Volume,
    config: &RemoteWrite,
    settings: &QueueSettings,
    data_dir: &Path,
) -> Result<Queue, String> {
    let dir = queue_dir(data_dir, &config.name);
    Queue::open_on(volume, &dir, &config.name, lanes(config), settings)
        .map_err(|error| format!("the queue of {:?} (--data-dir says where): {error}", config.name))
}

/// How many lanes the queue of a destination has.
#[must_use]
pub fn lanes(config: &RemoteWrite) -> usize {
    LANES.max(config.queue.min_shards).min(config.queue.max_shards).clamp(1, LANES_MAX)
}

/// What a scraper reports of a queue.
#[must_use]
pub fn queue_report(config: &RemoteWrite, queue: &Queue) -> QueueReport {
    let stats = queue.stats();
    QueueReport {
        destination: config.name.clone(),
        samples: stats.pending.samples,
        bytes: stats.pending.bytes,
        aside_samples: stats.aside.samples,
        aside_bytes: stats.aside.bytes,
        oldest_seconds: stats.oldest_age.unwrap_or_default().as_secs(),
        dropped: DropReason::ALL.into_iter().map(|reason| stats.dropped(reason)).sum(),
    }
}

/// The directory of a destination's queue: its name, where that is a plain one, or else what is plain in it with a hash.
#[must_use]
pub fn queue_dir(data_dir: &Path, name: &str) -> PathBuf {
    const NAME_BYTES_MAX: usize = 100;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let mut dir: String = name.chars().filter(|c| plain(*c)).take(NAME_BYTES_MAX).collect();
    if dir != name || dir.is_empty() {
        let mut hasher = FieldHasher::new();
        hasher.field(name.as_bytes());
        dir.push_str(&format!(".{:016x}", hasher.finish64()));
    }
    data_dir.join("queue").join(dir)
}

/// Keeps a sender on every lane of a queue, as lanes come and go.
async fn supervise(link: Arc<Link>, queue: Arc<Queue>, mut phase: watch::Receiver<Phase>) {
    let mut lanes = queue.lanes();
    let mut senders: JoinSet<()> = JoinSet::new();
    // Each with whether its lane is one of those aside.
    let mut by_task: HashMap<tokio::task::Id, (LaneId, bool)> = HashMap::new();
    // Nobody waits for what lies aside: it is sent for as long as there is anything else to send, and the rest stays.
    let aside_phase = watch::Sender::new(Phase::Run);
    // Lanes that have or had a sender: one that has ended for good gets no other.
    let mut known: Vec<LaneId> = Vec::new();
    let mut metrics = tokio::time::interval(METRICS_INTERVAL);
    metrics.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let current = lanes.borrow_and_update().clone();
        known.retain(|lane| current.contains(lane));
        // Senders of an older configuration may not have let go of theirs yet.
        let (mut awaited, mut awaited_aside) = (false, false);
        for lane in current {
            if known.contains(&lane) {
                continue;
            }
            let aside = queue.is_aside(lane);
            let Some(reader) = queue.reader(lane) else {
                if aside {
                    awaited_aside = true;
                } else {
                    awaited = true;
                }
                continue;
            };
            known.push(lane);
            let phase = if aside { aside_phase.subscribe() } else { phase.clone() };
            let sender = LaneSender::new(Arc::clone(&link), Arc::clone(&queue), reader, phase);
            by_task.insert(senders.spawn(sender.run()).id(), (lane, aside));
        }
        let now = *phase.borrow_and_update();
        let sending = awaited || by_task.values().any(|(_, aside)| !aside);
        let of_aside = match now {
            Phase::Drain if !sending => Phase::Yield,
            Phase::Run | Phase::Drain => Phase::Run,
            Phase::Yield | Phase::Stop => now,
        };
        aside_phase.send_if_modified(|phase| std::mem::replace(phase, of_aside) != of_aside);
        if senders.is_empty() && (now >= Phase::Yield || (now == Phase::Drain && !sending)) {
            link.metrics.update(&queue);
            return;
        }
        tokio::select! {
            // An error says that the other end is gone: then there is nothing to be told any more.
            _changed = lanes.changed() => {}
            changed = phase.changed() => if changed.is_err() { return },
            Some(ended) = senders.join_next_with_id() => match ended {
                Ok((task, ())) => {
                    by_task.remove(&task);
                }
                Err(error) => {
                    let lane = by_task.remove(&error.id()).map(|(lane, _)| lane);
                    tracing::error!(destination = link.config.name, ?lane, %error, "a sender failed and is started again");
                    known.retain(|known| Some(*known) != lane);
                }
            },
            () = tokio::time::sleep(READER_RETRY), if awaited || awaited_aside => {}
            _ = metrics.tick() => link.metrics.update(&queue),
        }
    }
}
