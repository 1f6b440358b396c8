//! Series that a receiver refused alone, for what they are or for their samples' times: what has come to that more than once
//! is put aside, and not taken apart for it again and again (docs/adr/0019). Nothing is hashed as long as nothing was refused.

mod known;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::taken::Taken;
use super::units::Unit;
use crate::queue::{LaneId, SentAhead};
pub(super) use known::Aside;
use known::{Fresh, Known, LATE_MAX, REFUSED_MAX};

/// So many are known at once, which takes about 25 MB. Where there is no place left, one of which nothing was seen since it came
/// has to give its up.
const SERIES_MAX: usize = 100_000;

/// So many are looked at for that. If all of them were seen again, nothing is known of the new one.
const LOOKS_MAX: usize = 64;

/// So often at most some series is asked for in its lane for that, and so much of it may come at once.
const PROBE_PAUSE: Duration = Duration::from_millis(250);
const PROBES_AHEAD: Duration = Duration::from_secs(10);

/// Whether a series that was refused once is refused again is waited for so long: twice the minute that is the longest usual time
/// between two of its samples.
const DOUBT_MAX: Duration = Duration::from_secs(120);

/// A lane is behind when the record in hand was queued so long ago, in milliseconds: two scrapes at the usual interval. Up to there it may
/// take the time to ask for each series that is new.
const BEHIND_MS: i64 = 30_000;

/// A series that went aside unasked is no series of one scrape (its sample, and the marker of its end) when so many more requests hold it:
/// what lies aside of it is sent ahead, as it may be taken, and its turn may come late.
const SEEN_AGAIN_MAX: u8 = 2;

/// So long what lies aside of a series that was overtaken has turns as fast as the receiver answers, and nothing newer is sent ahead of it:
/// the receiver may take some of it yet, and the first sample that it takes ends the wait.
pub(super) const FAIR_MAX: Duration = Duration::from_secs(60);

/// What is known of the series of one destination, for all its lanes.
#[derive(Debug, Default)]
pub(super) struct RefusedSeries(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    series: HashMap<u64, Known>,
    /// The same in the order in which they are looked at for a place, each with when it was seen last before it came to stand here.
    /// Some may be known no more.
    line: VecDeque<(u64, Instant)>,
    /// How many gave their places up though something of them may lie aside.
    given_up: u64,
    /// How many of them were refused once only.
    once: usize,
    /// When a series came to be one of them last.
    once_since: Option<Instant>,
    /// Lanes aside that have samples of series that are taken again.
    to_sweep: Vec<LaneId>,
    probes: Probes,
    taken: Taken,
    /// When something went aside unasked last.
    unasked_since: Option<Instant>,
    /// When all this began, Unix milliseconds: what is older was queued by an earlier process, or before a new configuration.
    begun_ms: i64,
    /// [`FAIR_MAX`], as a rule.
    fair: Duration,
    /// Tests hurry, or wait.
    #[cfg(test)]
    behind_ms: Option<i64>,
}

/// How often series are asked for in their lanes to see whether they are taken again.
#[derive(Debug, Default)]
struct Probes {
    /// Until then the pauses go on of those that there were.
    paid_until: Option<Instant>,
}

/// Units by what is known of their series. All units of a series are in the same list, in their order.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Nothing.
    pub(super) unknown: Vec<Unit>,
    /// They were refused alone once, which the sample may have been the cause of.
    pub(super) once: Vec<Unit>,
    /// They were more often, or have samples aside that must not be overtaken.
    pub(super) again: Vec<Unit>,
    /// They lie aside, their series was overtaken lately, and some of them may be taken yet.
    pub(super) overtaken: Vec<Unit>,
    /// They lie aside, and nobody has asked for any of them yet.
    pub(super) unasked: Vec<Unit>,
}

impl RefusedSeries {
    /// Nothing is known yet, at this time in Unix milliseconds. What was overtaken has so long before what follows is sent ahead of it.
    pub(super) fn begun(now_ms: i64, fair: Duration) -> Self {
        Self(Mutex::new(All { begun_ms: now_ms, fair, ..All::default() }))
    }

    /// A series was refused alone for what it is; `aside`: and had been more than once before. Whether it is to go aside from now on.
    pub(super) fn remember(&self, unit: &Unit, aside: bool, now: Instant) -> bool {
        series_of(unit).is_some_and(|series| self.lock().refused(series, aside, false, now))
    }

    /// A series was refused alone for a sample's time, of which no copy was sent before. Whether it is to go aside from now on.
    pub(super) fn remember_late(&self, unit: &Unit, now: Instant) -> bool {
        series_of(unit).is_some_and(|series| self.remember_late_series(series, now))
    }

    /// The same of a series by its hash.
    pub(super) fn remember_late_series(&self, series: u64, now: Instant) -> bool {
        self.lock().refused(series, false, true, now)
    }

    /// The same where it lies aside. What nothing is known of is not known by this: its newer samples may be taken since long.
    pub(super) fn remember_late_aside(&self, unit: &Unit, now: Instant) {
        let mut all = self.lock();
        let known = series_of(unit).and_then(|series| all.series.get_mut(&series));
        if let Some(known) = known.filter(|known| known.refused > 0) {
            known.asked = now;
            known.probe_from.get_or_insert(now + LATE_MAX);
        }
    }

    /// A sample of this time was refused alone as out of order: somebody else has written newer ones of its series. Until now at most, or where
    /// it is of before all this began, as a rule until then: who has taken the target over has given it back.
    pub(super) fn note_overtaken(&self, series: u64, refused_ms: i64, now_ms: i64, now: Instant) {
        let mut all = self.lock();
        let from_ms = if refused_ms < all.begun_ms { all.begun_ms } else { now_ms };
        let after = now + all.fair;
        if let Some(known) = all.series.get_mut(&series)
            && known.fresh.is_none_or(|fresh| fresh.from_ms <= refused_ms)
        {
            // Whoever is overtaken again and again is waited for once.
            let after = known.fresh.map_or(after, |fresh| fresh.after);
            known.fresh = Some(Fresh { from_ms, after });
            if let Some((lane, _)) = known.aside {
                all.want_sweep(lane);
            }
        }
    }

    /// A request was refused.
    pub(super) fn note_refusal(&self, now: Instant) {
        self.lock().taken.refused(now);
    }

    /// The receiver has taken these, of a request that it refused as a whole.
    pub(super) fn note_taken(&self, units: &[Unit], now: Instant) {
        if !self.lock().taken.is_wanted(now) {
            return;
        }
        // Hashed without the lock.
        let hashes: Vec<u64> = units.iter().filter_map(series_of).collect();
        let mut all = self.lock();
        hashes.into_iter().for_each(|series| all.taken.add(series, now));
    }

    /// Whether a lane is behind whose record in hand was queued so long ago.
    pub(super) fn is_behind(&self, queued_ms: i64, now_ms: i64) -> bool {
        #[cfg(test)]
        let behind_ms = self.lock().behind_ms.unwrap_or(BEHIND_MS);
        #[cfg(not(test))]
        let behind_ms = BEHIND_MS;
        now_ms.saturating_sub(queued_ms) >= behind_ms
    }

    /// Whether what the receiver takes is known so well that the rest of a request can go aside as it is.
    pub(super) fn knows_what_is_taken(&self, now: Instant) -> bool {
        self.lock().taken.is_settled(now)
    }

    /// Parts the units of a refused request that nothing is known of: those of which something was taken, and the others.
    pub(super) fn part_new(&self, units: Vec<Unit>) -> (Vec<Unit>, Vec<Unit>) {
        let all = self.lock();
        units.into_iter().partition(|unit| series_of(unit).is_none_or(|series| !all.taken.is_new(series)))
    }

    /// These go aside unasked. Those for which there is no room do so as well, as they would hold everything up: what follows of them
    /// goes the same way until it is taken, and may overtake them then.
    pub(super) fn suspect(&self, units: &[Unit], now: Instant) {
        let mut all = self.lock();
        all.unasked_since = Some(now);
        for series in units.iter().filter_map(series_of) {
            if let Some(known) = all.known(series, now) {
                (known.refused, known.unasked, known.seen_again) = (REFUSED_MAX, true, Some(0));
            }
        }
    }

    /// The receiver has taken these, or refused them for something else.
    pub(super) fn forget(&self, units: &[Unit], now: Instant) {
        let mut all = self.lock();
        for series in units.iter().filter_map(series_of) {
            let Some(known) = all.series.get_mut(&series) else { continue };
            let once = known.refused == 1;
            let aside = known.aside;
            if let Some((lane, _)) = aside {
                (known.refused, known.seen, known.probe_from) = (0, now, None);
                (known.unasked, known.seen_again) = (false, None);
                (known.fresh, known.tried) = (None, None);
                all.want_sweep(lane);
            } else {
                all.series.remove(&series);
            }
            all.once -= usize::from(once);
        }
    }

    /// The newest record aside with samples of a unit's series, as far as is known.
    pub(super) fn lies_in(&self, unit: &Unit) -> Option<Aside> {
        self.lock().series.get(&unit.series_hash()?)?.aside
    }

    /// Samples of these lie aside now, in this record.
    pub(super) fn put_aside(&self, units: &[Unit], place: Aside, now: Instant) {
        let mut all = self.lock();
        for series in units.iter().filter_map(Unit::series_hash) {
            if let Some(known) = all.known(series, now) {
                known.aside = Some(place);
                if known.refused == 0 {
                    all.want_sweep(place.0);
                }
            }
        }
    }

    /// A unit lies aside in this record, as an earlier process or configuration has left it. False: there is no room for its series,
    /// or another one had to give its up.
    pub(super) fn found_aside(&self, unit: &Unit, place: Aside, now: Instant) -> bool {
        let mut all = self.lock();
        let Some(series) = unit.series_hash() else { return true };
        let given_up = all.given_up;
        let Some(known) = all.known(series, now) else { return false };
        if known.refused == 0 && known.aside.is_none() {
            // It has not come to lie there for one refusal.
            (known.refused, known.unasked) = (REFUSED_MAX, true);
        }
        // Newer ones may have come to lie there meanwhile.
        let is_newer = known.aside.is_none_or(|(lane, upto)| lane != place.0 || upto < place.1);
        if is_newer {
            known.aside = Some(place);
        }
        all.given_up == given_up
    }

    /// What an earlier process has sent ahead of the records of this lane.
    pub(super) fn resume(&self, lane: LaneId, series: &[SentAhead], now: Instant) {
        let mut all = self.lock();
        for SentAhead { series, planned, answered, .. } in series {
            let Some(known) = all.series.get_mut(series) else { continue };
            if known.aside.is_none_or(|(aside, _)| aside != lane) {
                continue;
            }
            known.seen = now;
            if !known.sent.covers((lane, *answered)) {
                known.sent.note((lane, *answered));
            }
            if *planned > 0 && known.unasked {
                // It was taken again.
                (known.refused, known.unasked) = (0, false);
                all.want_sweep(lane);
            }
        }
    }

    /// The series that are taken again and have samples in this lane that were not sent, each with the last record of these.
    pub(super) fn to_sweep(&self, lane: LaneId) -> Vec<(u64, u64)> {
        let all = self.lock();
        let waiting = all.series.iter().filter(|(_, known)| known.refused == 0);
        let here = waiting.filter_map(|(series, known)| {
            let place = known.aside.filter(|place| place.0 == lane && !known.sent.covers(*place))?;
            Some((*series, place.1))
        });
        here.collect()
    }

    /// Whether something of a series that is taken again may lie in this lane. It is asked for once.
    pub(super) fn wants_sweep(&self, lane: LaneId) -> bool {
        let mut all = self.lock();
        let wanted = all.to_sweep.contains(&lane);
        all.to_sweep.retain(|other| *other != lane);
        wanted
    }

    /// It is to be asked for once more.
    pub(super) fn want_sweep(&self, lane: LaneId) {
        self.lock().want_sweep(lane);
    }

    /// The series of a unit in this record aside, if it is taken again, or may be as the unit is newer than what has overtaken others, and the
    /// unit was not sent yet.
    pub(super) fn is_to_sweep(&self, unit: &Unit, place: Aside, now: Instant) -> Option<u64> {
        let mut all = self.lock();
        let series = unit.series_hash()?;
        let known = all.series.get_mut(&series)?;
        if known.aside.is_none_or(|(lane, _)| lane != place.0) {
            return None;
        }
        let is_fresh = known.is_fresh(unit, now);
        if let Some(fresh) = known.fresh.filter(|_| is_fresh) {
            known.sent.leave_before(fresh.from_ms);
        }
        let is_wanted = known.refused == 0 || is_fresh;
        (is_wanted && !known.sent.leaves(unit, place) && !known.sent.covers(place)).then_some(series)
    }

    /// The receiver has taken what was sent ahead of these. Those that were overtaken go their normal way again, after what lies aside.
    pub(super) fn taken_ahead(&self, series: impl IntoIterator<Item = u64>, now: Instant) {
        let mut all = self.lock();
        for series in series {
            if let Some(known) = all.series.get_mut(&series)
                && known.refused >= REFUSED_MAX
            {
                (known.refused, known.seen, known.tried) = (0, now, Some(now));
                (known.unasked, known.seen_again, known.probe_from) = (false, None, None);
            }
        }
    }

    /// What lies aside of it up to this record was sent. False: but for what was overtaken.
    pub(super) fn swept(&self, series: u64, place: Aside) -> bool {
        let mut all = self.lock();
        let Some(known) = all.series.get_mut(&series) else { return true };
        known.sent.note(place);
        !known.sent.leaves_some()
    }

    /// A sample was refused alone that was sent ahead: those of its series are asked for alone again, in their turn.
    pub(super) fn remember_swept(&self, unit: &Unit, late: bool, now: Instant) {
        if let Some(series) = series_of(unit) {
            let mut all = self.lock();
            all.refused(series, true, late, now);
            if let Some(known) = all.series.get_mut(&series).filter(|known| known.sent.leaves_some()) {
                known.tried = Some(now);
            }
        }
    }

    /// What of a record aside was not sent ahead.
    pub(super) fn unsent(&self, mut units: Vec<Unit>, place: Aside) -> Vec<Unit> {
        let all = self.lock();
        let is_sent = |unit: &Unit| {
            let known = unit.series_hash().and_then(|series| all.series.get(&series));
            known.is_some_and(|known| known.sent.covers(place) && !known.sent.leaves(unit, place))
        };
        units.retain(|unit| !is_sent(unit));
        units
    }

    /// Whether nothing was refused, so that nothing needs to be looked for.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().series.is_empty()
    }

    /// Whether any of these is of a series that was refused.
    pub(super) fn has_any_of(&self, units: &[Unit]) -> bool {
        let all = self.lock();
        let mut hashes = units.iter().filter_map(Unit::series_hash);
        hashes.any(|series| all.series.contains_key(&series))
    }

    /// Whether a series was refused once, and no second time yet, or went aside unasked: there may be more of its kind.
    pub(super) fn is_in_doubt(&self, now: Instant) -> bool {
        let all = self.lock();
        let waited = all.once_since.map(|since| now.saturating_duration_since(since));
        let unasked = all.unasked_since.map(|since| now.saturating_duration_since(since));
        let is_recent = |waited: Option<Duration>| waited.is_some_and(|waited| waited < DOUBT_MAX);
        (all.once > 0 && is_recent(waited)) || is_recent(unasked)
    }

    /// Sorts the units of a request by what is known of their series. `waits` tells of a record aside whether it does so yet.
    pub(super) fn sort(&self, units: Vec<Unit>, now: Instant, waits: impl Fn(Aside) -> bool) -> Sorted {
        let mut all = self.lock();
        let all = &mut *all;
        if all.series.is_empty() {
            return Sorted { unknown: units, ..Sorted::default() };
        }
        let mut sorted = Sorted::default();
        // What is said once of a series holds for all of the request.
        let mut kept: HashSet<u64> = HashSet::new();
        for unit in units {
            let known = unit.series_hash().and_then(|series| Some((series, all.series.get_mut(&series)?)));
            let Some((series, known)) = known else {
                sorted.unknown.push(unit);
                continue;
            };
            // Once a request.
            if known.seen != now {
                known.seen_again = known.seen_again.map(|seen| seen.saturating_add(1));
            }
            known.seen = now;
            if known.seen_again.is_some_and(|seen| seen >= SEEN_AGAIN_MAX) {
                (known.refused, known.unasked, known.seen_again) = (0, false, None);
                if let Some((lane, _)) = known.aside {
                    want(&mut all.to_sweep, lane);
                }
            }
            if known.is_fresh(&unit, now)
                && let Some((lane, _)) = known.aside
            {
                want(&mut all.to_sweep, lane);
            }
            if known.is_forlorn(now) && all.probes.take(now) {
                // If it is taken, what lies aside of it is known no more: it is refused for its time there, as it would be anyway.
                (known.refused, known.overtaken) = (1, known.aside.take());
                known.probe_from = known.probe_from.map(|_| now + LATE_MAX);
                all.once += 1;
                all.once_since = Some(now);
            }
            let waits_aside = known.aside.is_some_and(&waits);
            let is_kept = waits_aside && known.aside.is_some_and(|place| !known.sent.covers(place));
            let list = if known.refused >= REFUSED_MAX || kept.contains(&series) {
                &mut sorted.again
            } else if is_kept {
                kept.insert(series);
                &mut sorted.again
            } else if known.refused > 0 {
                &mut sorted.once
            } else {
                // What was sent ahead still lies there, and is not to be sent again.
                if !waits_aside {
                    all.series.remove(&series);
                }
                &mut sorted.unknown
            };
            list.push(unit);
        }
        sorted
    }

    /// The same of what lies aside itself.
    pub(super) fn sort_aside(&self, units: Vec<Unit>, now: Instant) -> Sorted {
        let mut all = self.lock();
        let mut sorted = Sorted::default();
        for unit in units {
            let known = unit.series_hash().and_then(|series| all.series.get_mut(&series));
            let (refused, unasked, fair) = known.map_or((0, false, false), |known| {
                known.seen = now;
                // What was overtaken is refused one by one.
                let refused = if known.sent.is_overtaken(&unit) { REFUSED_MAX } else { known.refused };
                (refused, known.unasked, known.may_be_taken_yet(now))
            });
            let list = match refused {
                0 => &mut sorted.unknown,
                1..REFUSED_MAX => &mut sorted.once,
                _ if unasked => &mut sorted.unasked,
                _ if fair => &mut sorted.overtaken,
                _ => &mut sorted.again,
            };
            list.push(unit);
        }
        for series in sorted.unasked.iter().filter_map(Unit::series_hash) {
            if let Some(known) = all.series.get_mut(&series) {
                // From now on each of its samples is asked for alone.
                known.unasked = false;
            }
        }
        sorted
    }

    /// What was taken counts as known after so long.
    #[cfg(test)]
    pub(super) fn settled_after(&self, after: std::time::Duration) {
        self.lock().taken.settled_after = Some(after);
    }

    /// Lanes are behind when the record in hand was queued so long ago.
    #[cfg(test)]
    pub(super) fn behind_after(&self, behind_ms: i64) {
        self.lock().behind_ms = Some(behind_ms);
    }

    /// What is overtaken from now on has so long.
    #[cfg(test)]
    pub(super) fn fair_for(&self, fair: Duration) {
        self.lock().fair = fair;
    }

    /// What is refused for its times aside was so for long enough.
    #[cfg(test)]
    pub(super) fn hurry(&self) {
        let now = Instant::now();
        for known in self.lock().series.values_mut() {
            known.probe_from = known.probe_from.map(|from| from.min(now));
        }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // Whatever panicked elsewhere, it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probes {
    /// Whether there may be one more now.
    fn take(&mut self, now: Instant) -> bool {
        let paid_until = self.paid_until.map_or(now, |until| until.max(now));
        let may = paid_until < now + PROBES_AHEAD;
        if may {
            self.paid_until = Some(paid_until + PROBE_PAUSE);
        }
        may
    }
}

impl All {
    fn want_sweep(&mut self, lane: LaneId) {
        want(&mut self.to_sweep, lane);
    }

    /// A series was refused alone. Whether it goes aside from now on.
    fn refused(&mut self, series: u64, aside: bool, late: bool, now: Instant) -> bool {
        self.taken.remove(series);
        let Some(known) = self.known(series, now) else { return false };
        let before = known.refused;
        let refused = if aside { REFUSED_MAX } else { before.saturating_add(1).min(REFUSED_MAX) };
        known.refused = refused;
        (known.seen, known.asked, known.late) = (now, now, late);
        (known.unasked, known.seen_again) = (false, None);
        if aside && !late {
            // What lies aside after it may be taken yet, and is not to be overtaken.
            known.probe_from = None;
        }
        if !late {
            known.fresh = None;
        }
        if before == 0 && known.tried.is_some_and(|at| now.saturating_duration_since(at) >= LATE_MAX) {
            // It was taken for long since then.
            (known.tried, known.fresh) = (None, None);
        }
        known.aside = known.aside.or(known.overtaken.take());
        let (was_once, is_once) = (before == 1, refused == 1);
        self.once = self.once + usize::from(is_once) - usize::from(was_once);
        if is_once {
            self.once_since = Some(now);
        }
        refused >= REFUSED_MAX
    }

    /// What is known of a series, which is nothing at first. None: there is no room for more.
    fn known(&mut self, series: u64, now: Instant) -> Option<&mut Known> {
        if !self.series.contains_key(&series) {
            if self.series.len() >= SERIES_MAX && !self.make_room() {
                return None;
            }
            self.stand_in_line(series, now);
        }
        Some(self.series.entry(series).or_insert_with(|| Known::new(now)))
    }

    /// Forgets a series that was not seen again. False: none was found.
    fn make_room(&mut self) -> bool {
        for _ in 0..LOOKS_MAX {
            let Some((series, since)) = self.line.pop_front() else { return false };
            match self.series.get(&series).map(|known| known.seen) {
                None => {}
                Some(seen) if seen > since => self.line.push_back((series, seen)),
                Some(_) => {
                    if let Some(known) = self.series.remove(&series) {
                        self.once -= usize::from(known.refused == 1);
                        self.given_up += u64::from(known.aside.is_some());
                    }
                    return true;
                }
            }
        }
        false
    }

    fn stand_in_line(&mut self, series: u64, now: Instant) {
        if self.line.len() >= 2 * SERIES_MAX {
            // Series that come to be known again and again stand there as often.
            let mut known: Vec<_> = self.series.iter().map(|(series, known)| (*series, known.seen)).collect();
            known.sort_unstable_by_key(|(_, seen)| *seen);
            self.line = known.into();
        }
        self.line.push_back((series, now));
    }
}

/// A lane is to be looked through, once however often that is said.
fn want(to_sweep: &mut Vec<LaneId>, lane: LaneId) {
    if !to_sweep.contains(&lane) {
        to_sweep.push(lane);
    }
}

/// The series that a unit's answer says something of: one with samples. What exemplars alone are refused for says nothing.
fn series_of(unit: &Unit) -> Option<u64> {
    unit.series_hash().filter(|_| unit.counts.points() > 0)
}

#[cfg(test)]
#[path = "refused_series_tests.rs"]
mod tests;
