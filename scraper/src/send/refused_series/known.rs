//! What is known of one series that was refused.

use std::time::{Duration, Instant};

use super::super::units::Unit;
use crate::queue::LaneId;

/// So often in a row a series was refused alone, before it goes aside: once, and the sample may have been the cause of it.
pub(super) const REFUSED_MAX: u8 = 2;

/// A series that is refused for its samples' times and was not asked for so long, as very much lies aside before it, is asked for
/// in its lane again: only a newer sample shows that its times are right now, and the older ones would not be taken any more. So
/// is one of which what lies aside is refused for its times for so long, whatever it was refused for at first: behind more than
/// can be asked for, each sample is too old when its turn comes, and would show so for ever.
pub(super) const LATE_MAX: Duration = Duration::from_secs(300);

/// A record aside: its lane, and its number in that.
pub(in crate::send) type Aside = (LaneId, u64);

#[derive(Debug)]
pub(super) struct Known {
    /// How often it was refused alone since it was taken, at most [`REFUSED_MAX`].
    pub(super) refused: u8,
    /// When it was in a refused request last.
    pub(super) seen: Instant,
    /// When it was refused alone last.
    pub(super) asked: Instant,
    /// That was for a sample's time.
    pub(super) late: bool,
    /// It was not asked for since that is known: it was found aside, or has gone there unasked.
    pub(super) unasked: bool,
    /// So many requests held it since it went aside unasked; None: it did not, or is asked for.
    pub(super) seen_again: Option<u8>,
    /// What is asked for of it aside is refused for its time: from then on it may be asked for in its lane.
    pub(super) probe_from: Option<Instant>,
    /// It was refused as out of order, and nothing of it was taken since (docs/adr/0022).
    pub(super) fresh: Option<Fresh>,
    /// When such samples were sent ahead of those that were overtaken, and there was an answer.
    pub(super) tried: Option<Instant>,
    /// The newest record aside that has samples of it.
    pub(super) aside: Option<Aside>,
    /// The same while it is asked for in its lane though they lie there.
    pub(super) overtaken: Option<Aside>,
    pub(super) sent: Sent,
}

/// Which samples of a series are newer than what has overtaken it, as far as that can be known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh {
    /// From this time on, Unix milliseconds.
    pub(super) from_ms: i64,
    /// Before this they are not sent ahead: what lies aside may be taken yet, and has its turns first.
    pub(super) after: Instant,
}

/// So many times it is known of a series what was overtaken. Where more of that lies aside, it is asked for as if it were not sent.
const BEFORE_MAX: usize = 8;

/// What of a series that lies aside was sent ahead of other series.
#[derive(Debug)]
pub(super) struct Sent {
    /// Up to this record.
    upto: Option<Aside>,
    /// Samples from this time on, Unix milliseconds: the others were overtaken, and have their turn.
    from_ms: i64,
    /// Up to these records, the first ones first, it was those from other times on: before it was overtaken, once or again.
    before: Vec<(Aside, i64)>,
}

impl Known {
    /// Nothing is, but that it was seen.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            refused: 0,
            seen: now,
            asked: now,
            late: false,
            unasked: false,
            seen_again: None,
            probe_from: None,
            fresh: None,
            tried: None,
            aside: None,
            overtaken: None,
            sent: Sent { upto: None, from_ms: i64::MIN, before: Vec::new() },
        }
    }

    /// Whether a sample is newer than what has overtaken others, which had their time, and none that is was sent ahead of them.
    pub(super) fn is_fresh(&self, unit: &Unit, now: Instant) -> bool {
        let is_newer = |fresh: Fresh| now >= fresh.after && unit.newest_ms >= Some(fresh.from_ms);
        self.refused >= REFUSED_MAX && self.tried.is_none() && self.fresh.is_some_and(is_newer)
    }

    /// Whether it was overtaken, and what lies aside of it is asked for before anything is sent ahead.
    pub(super) fn may_be_taken_yet(&self, now: Instant) -> bool {
        self.tried.is_none() && self.fresh.is_some_and(|fresh| now < fresh.after)
    }

    /// Whether nobody would find out by what lies aside of it that it is taken.
    pub(super) fn is_forlorn(&self, now: Instant) -> bool {
        let is_unasked = self.late && now.saturating_duration_since(self.asked) >= LATE_MAX;
        let is_hopeless = self.probe_from.is_some_and(|from| now >= from);
        self.refused >= REFUSED_MAX && (is_unasked || is_hopeless)
    }
}

impl Sent {
    /// Up to this record all was sent but for what was overtaken.
    pub(super) fn note(&mut self, upto: Aside) {
        self.upto = Some(upto);
    }

    /// What comes now is sent from this time on only.
    pub(super) fn leave_before(&mut self, from_ms: i64) {
        if self.from_ms == from_ms {
            return;
        }
        if let Some(upto) = self.upto {
            if self.before.len() == BEFORE_MAX {
                self.before.remove(0);
            }
            self.before.push((upto, self.from_ms));
        }
        self.from_ms = from_ms;
    }

    /// Whether it reaches to this record.
    pub(super) fn covers(&self, place: Aside) -> bool {
        self.upto.is_some_and(|upto| is_upto(place, upto))
    }

    /// Whether a sample in this record is left out, as it was overtaken.
    pub(super) fn leaves(&self, unit: &Unit, place: Aside) -> bool {
        let known = self.before.iter().find(|(upto, _)| is_upto(place, *upto));
        unit.newest_ms
            .is_some_and(|newest_ms| newest_ms < known.map_or(self.from_ms, |(_, from_ms)| *from_ms))
    }

    /// Whether some sample may be left out, as the series was overtaken.
    pub(super) fn leaves_some(&self) -> bool {
        self.from_ms > i64::MIN
    }

    /// Whether this sample was overtaken.
    pub(super) fn is_overtaken(&self, unit: &Unit) -> bool {
        unit.newest_ms.is_some_and(|newest_ms| newest_ms < self.from_ms)
    }
}

/// Whether a record is one of those up to that one.
fn is_upto((lane, sequence): Aside, (of_lane, upto): Aside) -> bool {
    lane == of_lane && sequence <= upto
}
