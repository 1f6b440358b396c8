//! A directory that cannot be read when its queue is opened, as on a disk with errors (docs/adr/0013). The queue begins in
//! memory, in a set of lanes of its own that stands behind all that the directory may hold. That is taken up once it can be
//! read, and sent first; for so long nothing is sent, within a bound of time and of memory.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::QueueError;
use super::directory::{Directory, newest_normal};
use super::ground::Ground;
use super::lane::LaneId;
use super::limits::{MEMORY_BYTES_MAX, READ_TRIES_MAX, UNREAD_HOLD_MS};
use super::making::open_sets;
use super::meta::{Hold, SetKind};
use super::shared::add;
use crate::news::News;

/// The lane of no set that stands for all that a directory holds as long as nobody can say what that is.
const UNKNOWN: LaneId = LaneId { set: 0, index: 0 };

/// What is to be known of a directory that could not be read when it was opened.
#[derive(Debug)]
pub(super) struct Late {
    /// The set that began in memory. Those with lower numbers were there before.
    set: u32,
    since_ms: i64,
    tries: u32,
    /// What the set holds is sent before anybody knows what the directory holds.
    is_sent: bool,
    /// It is read by now.
    taken_up: bool,
    /// Fences were found in it that nobody has been told of.
    untold_fences: bool,
    news: News,
}

impl Directory {
    /// Begins in memory.
    pub(super) fn begin_unread(&self, lanes: usize, error: &QueueError) {
        let now_ms = self.shared.clock.now_ms();
        // Sets are numbered one by one, and never were there as many as seconds: it is higher than any that is there.
        let set = u32::try_from(now_ms / 1_000).unwrap_or(u32::MAX / 2).clamp(1, u32::MAX / 2);
        let made = self.unmade_set(set, lanes);
        made.lanes.iter().for_each(|lane| lane.held.store(true, Ordering::Release));
        self.sets.write().unwrap_or_else(PoisonError::into_inner).insert(set, made);
        *self.late() = Some(Late {
            set,
            since_ms: now_ms,
            tries: 1,
            is_sent: false,
            taken_up: false,
            untold_fences: false,
            news: News::default(),
        });
        add(&self.shared.counters.read_errors, 1);
        tracing::error!(
            destination = self.shared.destination,
            queue = %self.dir.display(),
            %error,
            "the directory of a queue cannot be read: what it holds stays there, and new records wait in memory, until it can"
        );
        self.upkeep_sets();
    }

    /// Whether nobody knows yet what the directory holds.
    pub(crate) fn is_unread(&self) -> bool {
        self.late().as_ref().is_some_and(|late| !late.taken_up)
    }

    /// Opens what the directory holds, which is sent before what is in memory, unless some of that was sent.
    pub(super) fn take_up(&self, ground: &mut Ground) -> Result<(), QueueError> {
        let shared = &self.shared;
        let Some(own) = self.late().as_mut().map(|late| {
            late.tries += 1;
            // A file that stays unreadable is passed over, as it is later on.
            shared.patient.store(late.tries <= READ_TRIES_MAX, Ordering::Relaxed);
            late.set
        }) else {
            return Ok(());
        };
        let names = shared.volume.with_room(|| ground.lay(&*shared.files, &self.dir, &shared.destination))?;
        let found = open_sets(shared, &self.dir, &names)?;
        if let Some((&newest, _)) = found.last_key_value().filter(|(newest, _)| **newest >= own) {
            shared.disk_bytes.store(0, Ordering::Relaxed);
            let text = format!("it has a set {newest}, and the clock says that this is of later than now");
            return Err(QueueError::Io { path: self.dir.clone(), source: io::Error::other(text) });
        }
        let before = newest_normal(&found).map(|(set, _)| set);
        let fences = found.values().any(|set| set.meta.kind == SetKind::Fence);
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = sets.get_mut(&own) {
            let nothing_sent = set.lanes.iter().all(|lane| lane.lock().cursor.acknowledged == 0);
            set.meta.hold = before.filter(|_| nothing_sent).map_or(Hold::None, Hold::After);
        }
        sets.extend(found);
        drop(sets);
        if let Some(late) = self.late().as_mut() {
            (late.taken_up, late.untold_fences) = (true, fences);
        }
        self.close_superseded();
        self.upkeep_sets();
        // Only now, when it is known for what they wait.
        self.send_set(own);
        let pending = super::stats::gather(self).pending;
        tracing::info!(
            destination = shared.destination,
            queue = %self.dir.display(),
            records = pending.records,
            samples = pending.samples,
            "the directory of the queue is read, and what it holds is sent"
        );
        Ok(())
    }

    /// It still cannot be read, or not be used.
    pub(super) fn still_unread(&self, error: &QueueError) {
        add(&self.shared.counters.read_errors, 1);
        if let Some(untold) = self.late().as_ref().and_then(|late| late.news.tell(Instant::now())) {
            tracing::error!(
                destination = self.shared.destination,
                queue = %self.dir.display(),
                %error,
                untold,
                "the directory of a queue still cannot be read: new records live in memory"
            );
        }
    }

    /// Has what is in memory sent, if it has waited for long or is much.
    pub(super) fn send_late_if_due(&self, now_ms: i64) {
        let due = self.late().as_ref().is_some_and(|late| {
            // A clock that was set back must not stop it.
            let waits = (0..UNREAD_HOLD_MS).contains(&now_ms.saturating_sub(late.since_ms));
            !late.taken_up && !late.is_sent && !waits
        });
        if due || self.is_unread() && self.shared.volume.memory_bytes() > MEMORY_BYTES_MAX / 2 {
            self.send_unread();
        }
    }

    /// Has what is in memory sent before what the directory holds, as it would be lost otherwise.
    pub(crate) fn send_unread(&self) {
        let set = match self.late().as_mut() {
            Some(late) if !late.taken_up && !late.is_sent => {
                late.is_sent = true;
                late.set
            }
            Some(_) | None => return,
        };
        tracing::warn!(
            destination = self.shared.destination,
            queue = %self.dir.display(),
            "new records are sent before what the unreadable directory of the queue holds: receivers that take nothing out of order will refuse that"
        );
        self.send_set(set);
    }

    fn send_set(&self, id: u32) {
        self.for_each_set(|known, set| {
            for lane in set.lanes.iter().filter(|_| known == id) {
                lane.held.store(false, Ordering::Release);
                lane.notify.notify_one();
            }
        });
    }

    /// A record that is sent when all is that the directory holds, as long as nobody knows what that is.
    pub(super) fn unread_record(&self) -> Option<(LaneId, u64)> {
        self.is_unread().then_some((UNKNOWN, 0))
    }

    /// Whether this is such a record, and if so, whether it is sent.
    pub(crate) fn is_past_unread(&self, lane: LaneId) -> Option<bool> {
        if lane != UNKNOWN {
            return None;
        }
        let Some((own, true)) = self.late().as_ref().map(|late| (late.set, late.taken_up)) else {
            return Some(false);
        };
        let mut past = true;
        self.for_each_set(|id, set| {
            // A fence that is held waits for others, which may wait for this.
            let waits = matches!(set.meta.hold, Hold::Until(_));
            past &= id >= own || waits || set.is_aside() || set.lanes.iter().all(|lane| lane.is_empty());
        });
        Some(past)
    }

    /// Whether there are fences of an earlier process that nobody has been told of, because they were found late.
    pub(crate) fn has_untold_fences(&self) -> bool {
        self.late().as_ref().is_some_and(|late| late.untold_fences)
    }

    /// Now somebody is told.
    pub(crate) fn tell_of_fences(&self) {
        if let Some(late) = self.late().as_mut() {
            late.untold_fences = false;
        }
    }

    fn late(&self) -> std::sync::MutexGuard<'_, Option<Late>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
