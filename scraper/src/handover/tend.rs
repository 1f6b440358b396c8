//! What a hand-over needs done in time: fences, word of what is sent, series for who takes a target, questions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use promring_model::handover::{MoveId, Progress};
use promring_model::target::TargetKey;
use promring_net::clock::now_ms;

use super::ask::Asking;
use super::metrics::{HandoverMetrics, hide_fences, publish_fences};
use crate::Scraper;
use crate::sink::{Barrier, Destination, WantedFence};

/// How often it is looked what is to be done: well within the second that a taker waits before it asks again.
pub(super) const INTERVAL: Duration = Duration::from_millis(200);

/// What is under way.
#[derive(Debug)]
pub(crate) struct Tending {
    pub(super) metrics: HandoverMetrics,
    asking: Mutex<Asking>,
    sending: Mutex<Sending>,
    fences: Mutex<BTreeMap<MoveId, WantedFence>>,
    /// Moves that were final when they were looked at last.
    settled: Mutex<BTreeSet<MoveId>>,
    /// Destinations whose fences are shown in metrics.
    shown: Mutex<BTreeSet<String>>,
    /// One after the other is told the series of targets.
    pub(super) telling: tokio::sync::Mutex<()>,
}

/// What must be sent before a giver may say that it has sent all.
#[derive(Debug, Default)]
struct Sending {
    barriers: BTreeMap<(MoveId, String), Placed>,
    shown: BTreeSet<MoveId>,
    /// How often markers had been written when the barriers were placed.
    marked: u64,
}

#[derive(Debug)]
struct Placed {
    destination: Arc<Destination>,
    barrier: Barrier,
}

impl Tending {
    pub(crate) fn new() -> Self {
        Self {
            metrics: HandoverMetrics::new(),
            asking: Mutex::default(),
            sending: Mutex::default(),
            fences: Mutex::default(),
            settled: Mutex::default(),
            shown: Mutex::default(),
            telling: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn asking(&self) -> MutexGuard<'_, Asking> {
        lock(&self.asking)
    }
}

impl Scraper {
    /// Looks after hand-overs for as long as it is polled.
    pub(super) async fn tend_always(&self) {
        let gate = &self.shared.environment.gate;
        loop {
            gate.tick();
            self.keep_fences().await;
            if gate.with(|member| member.is_moving()) {
                self.tell_sent();
                self.ask_for_times();
                self.ask_for_series();
            }
            self.count_moves();
            gate.with(|member| {
                let held = |key: TargetKey| member.grant_of(key).is_some() || member.ended_by(key).is_some();
                gate.given.retain(|key| member.gives(key).is_some(), held);
            });
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Makes and opens fences as moves come and end.
    async fn keep_fences(&self) {
        let wanted = self.shared.environment.gate.wanted_fences();
        if *lock(&self.shared.tending.fences) == wanted && !self.shared.destinations.have_untold_fences() {
            return;
        }
        let scraper = self.clone();
        let kept = tokio::task::spawn_blocking(move || scraper.make_fences(wanted));
        if let Err(error) = kept.await {
            tracing::error!(%error, "fences cannot be kept");
        }
    }

    /// The same at once.
    pub(crate) fn make_fences(&self, wanted: BTreeMap<MoveId, WantedFence>) {
        let missing = self.shared.destinations.keep_fences(&wanted);
        let fenced = wanted.keys().filter(|id| !missing.contains(id)).copied().collect();
        self.shared.environment.gate.set_fenced(fenced);
        if missing.is_empty() {
            *lock(&self.shared.tending.fences) = wanted;
        }
        self.shared.environment.gate.changed.notify_one();
    }

    /// Says of keys that were given away what of theirs is sent, and shows their series.
    pub(super) fn tell_sent(&self) {
        let gate = &self.shared.environment.gate;
        // Read before what is under way is looked at: a marker that comes later is under way by then.
        let marked = gate.marked();
        let given = gate.given(now_ms());
        let sending = &mut *lock(&self.shared.tending.sending);
        sending.barriers.retain(|(id, _), _| given.iter().any(|(known, _)| known == id));
        sending.shown.retain(|id| given.iter().any(|(known, _)| known == id));
        if std::mem::replace(&mut sending.marked, marked) != marked {
            // Nothing that is called sent stands behind a marker.
            sending.barriers.clear();
        }
        let destinations = self.shared.destinations.in_force();
        let mut news = false;
        for (id, keys) in given {
            if sending.shown.insert(id) {
                self.manager().show(&keys);
            }
            let sent =
                destinations.iter().filter(|destination| self.is_sent(sending, id, &keys, destination));
            let sent: Vec<&str> = sent.map(|destination| &*destination.config.name).collect();
            let all = sent.len() == destinations.len();
            news |= all || !sent.is_empty();
            gate.with(|member| {
                sent.iter().for_each(|name| member.sent(id, Some(name), false));
                if all {
                    member.sent(id, None, true);
                }
            });
        }
        if news {
            gate.changed.notify_one();
        }
    }

    fn is_sent(
        &self,
        sending: &mut Sending,
        id: MoveId,
        keys: &BTreeSet<TargetKey>,
        destination: &Arc<Destination>,
    ) -> bool {
        let environment = &self.shared.environment;
        let place = || Placed {
            destination: Arc::clone(destination),
            barrier: destination.barrier(
                id,
                keys,
                environment.spread.lanes(keys).as_ref(),
                &environment.labels,
            ),
        };
        let placed = sending.barriers.entry((id, destination.config.name.clone())).or_insert_with(place);
        if !Arc::ptr_eq(&placed.destination.queue, &destination.queue) {
            // Removed and back: another queue.
            *placed = place();
        }
        let name = &destination.config.name;
        destination.is_past(&placed.barrier) && environment.gate.with(|member| member.is_clear(id, name))
    }

    fn count_moves(&self) {
        let metrics = &self.shared.tending.metrics;
        let mut known = lock(&self.shared.tending.settled);
        let (giving, taking) = self.shared.environment.gate.with(|member| {
            if !member.is_moving() {
                known.clear();
                return (0, 0);
            }
            let begun = member.taking().filter_map(|(id, _, from)| from.map(|_| id));
            let begun: Vec<MoveId> = begun.filter(|id| !known.contains(id)).collect();
            if !begun.is_empty() {
                let new = |id: MoveId| begun.contains(&id);
                let keys = member.keys().filter(|(_, grant)| grant.incoming.is_some_and(new)).count();
                metrics.taken.increment(keys as u64);
                known.extend(begun);
            }
            for (id, _, keys) in member.giving() {
                if known.insert(id) {
                    metrics.given.increment(keys.len() as u64);
                }
            }
            (member.giving().count(), member.taking().count())
        });
        metrics.giving.set(giving as f64);
        metrics.taking.set(taking as f64);
    }

    /// How far the queues are.
    pub(super) fn progress(&self) -> BTreeMap<String, Progress> {
        /// What lies in a queue from an earlier run is never more.
        const RECORDS_MAX: u64 = 1 << 48;
        let of = |destination: &Arc<Destination>| {
            let stats = destination.queue.stats();
            let acked = (RECORDS_MAX + stats.enqueued_records).saturating_sub(stats.pending.records);
            // Zero says that nothing waits.
            let oldest = stats.oldest_age.unwrap_or_default().as_millis();
            let oldest = i64::try_from(oldest).unwrap_or(i64::MAX).max(i64::from(stats.pending.records > 0));
            let progress = Progress { acked, oldest_ms: oldest };
            (destination.config.name.clone(), progress)
        };
        self.shared.destinations.in_force().iter().map(of).collect()
    }

    /// Brings metrics of fences up to date.
    pub(crate) fn publish_fences(&self) {
        let mut names = BTreeSet::new();
        for destination in self.shared.destinations.with_leaving() {
            let name = &destination.config.name;
            publish_fences(name, &destination.queue.stats());
            names.insert(name.clone());
        }
        let before = std::mem::replace(&mut *lock(&self.shared.tending.shown), names.clone());
        before.difference(&names).for_each(|name| hide_fences(name));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
