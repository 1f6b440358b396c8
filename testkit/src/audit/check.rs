//! The checks of one sample, against its series' time, its slot, and what is planned.

use promring_proto::remote_write::is_stale_marker;

use super::absence::{self, Absence, Need};
use super::coverage::{Was, fill};
use super::findings::Kind;
use super::{Audit, NO_TARGET, Source, State, finding};

impl Audit {
    /// Checks that time goes on for a series. False: the sample is a second one of its time and counts no further.
    pub(super) fn check_time(&mut self, number: u32, before: &State, value: f64, timestamp_ms: i64) -> bool {
        if before.samples == 0 || timestamp_ms > before.last_ms {
            return true;
        }
        if timestamp_ms == before.last_ms {
            let same = value.to_bits() == before.last_value.to_bits();
            self.duplicate(number, timestamp_ms, same, "a second sample of this time");
            return false;
        }
        // Whether an older one fills a gap or is a duplicate is its slot's to say. Without slots nobody can say,
        // except that a repeated request repeats all that is in it.
        if before.target == NO_TARGET {
            if self.resent.is_resent() {
                self.duplicate(number, timestamp_ms, true, "sent again");
            } else {
                self.out_of_order(number, before.last_ms, timestamp_ms);
            }
        }
        true
    }

    /// Checks a sample of an expected series against its slot.
    pub(super) fn check_slot(&mut self, number: u32, before: &State, value: f64, timestamp_ms: i64) {
        let Some(target) = self.targets.get(before.target as usize) else { return };
        let interval_ms = target.slots.interval_ms();
        let slot = target.slots.slot_at(timestamp_ms);
        let late = before.samples > 0 && timestamp_ms < before.last_ms;
        if is_stale_marker(value) {
            self.check_marker(number, before, slot, timestamp_ms);
            return;
        }
        self.totals.late += u64::from(slot != timestamp_ms);
        match self.fill(number, slot, interval_ms) {
            Was::Filled => {
                self.duplicate(number, timestamp_ms, false, "a second sample of this slot");
                return;
            }
            Was::Missing => self.out_of_order(number, before.last_ms, timestamp_ms),
            Was::Next if late => self.out_of_order(number, before.last_ms, timestamp_ms),
            Was::Next => {}
        }
        if self.need(number, before, slot) == Need::Nothing {
            self.log.add(Kind::SampleAfterEnd, 1, || {
                let why = "a sample after its planned end".to_owned();
                finding(Kind::SampleAfterEnd, self.store.labels(number), timestamp_ms, why)
            });
        } else if let Some(why) = self.check_value(number, before, value, timestamp_ms, late) {
            self.log.add(Kind::UnexpectedValue, 1, || {
                finding(Kind::UnexpectedValue, self.store.labels(number), timestamp_ms, why)
            });
        }
    }

    fn fill(&mut self, number: u32, slot: i64, interval_ms: i64) -> Was {
        let span = &mut self.states[number as usize].span;
        // In order and without a gap, as nearly always: no look at the holes.
        if slot == span.last.saturating_add(interval_ms) {
            span.last = slot;
            return Was::Next;
        }
        let holes = self.holes.entry(number).or_default();
        let was = fill(span, holes, slot, interval_ms);
        if holes.is_empty() {
            self.holes.remove(&number);
        }
        was
    }

    /// Checks a staleness marker: it has to belong to a planned absence, and to be its first.
    fn check_marker(&mut self, number: u32, before: &State, slot: i64, timestamp_ms: i64) {
        let interval_ms = self.targets[before.target as usize].slots.interval_ms();
        let seen = self.markers.get(&number).map_or(&[][..], Vec::as_slice);
        if seen.contains(&slot) {
            self.duplicate(number, timestamp_ms, false, "a second marker of this slot");
            return;
        }
        let planned = self.absences_of(number, before).any(|absence| {
            absence.explains_marker(slot, interval_ms)
                && !seen.iter().any(|&other| absence.explains_marker(other, interval_ms))
        });
        self.markers.entry(number).or_default().push(slot);
        if !planned {
            self.log.add(Kind::StrayMarker, 1, || {
                let why = "a staleness marker of a series that lives".to_owned();
                finding(Kind::StrayMarker, self.store.labels(number), timestamp_ms, why)
            });
        }
        if before.samples > 0 && timestamp_ms < before.last_ms {
            self.out_of_order(number, before.last_ms, timestamp_ms);
        }
    }

    /// The planned absences that concern a series: its own, and those of its target.
    pub(super) fn absences_of<'a>(
        &'a self,
        number: u32,
        state: &State,
    ) -> impl Iterator<Item = &'a Absence> + use<'a> {
        let reported = matches!(state.source, Source::Report(_));
        let own = if state.has_absence { self.absences.get(&number) } else { None };
        let target = self.targets.get(state.target as usize).map_or(&[][..], |target| &target.absences);
        let target = target.iter().filter(move |absence| absence.whole || !reported);
        target.chain(own.into_iter().flatten())
    }

    pub(super) fn need(&self, number: u32, state: &State, slot: i64) -> Need {
        let Some(target) = self.targets.get(state.target as usize) else { return Need::Either };
        if target.absences.is_empty() && !state.has_absence {
            return Need::Sample;
        }
        absence::need(self.absences_of(number, state), slot, target.slots.interval_ms())
    }

    fn duplicate(&mut self, number: u32, timestamp_ms: i64, same: bool, why: &str) {
        let resent = same || self.resent.is_resent();
        self.log.counts.resent += u64::from(resent);
        let why = if resent { format!("{why}, sent again as it was") } else { why.to_owned() };
        self.log.add(Kind::Duplicate, 1, || {
            finding(Kind::Duplicate, self.store.labels(number), timestamp_ms, why)
        });
    }

    fn out_of_order(&mut self, number: u32, last_ms: i64, timestamp_ms: i64) {
        self.log.add(Kind::OutOfOrder, 1, || {
            let why = format!("{} ms older than the sample before it", last_ms - timestamp_ms);
            finding(Kind::OutOfOrder, self.store.labels(number), timestamp_ms, why)
        });
    }
}
