//! What a lane aside has sent ahead of its records (`sweep`), and what an earlier process may have: by series, as the queue keeps it
//! in a file, so that a sample that was never sent is not taken for stored after a stop or a crash (docs/adr/0021).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::lane::LaneSender;
use super::units::Unit;
use crate::queue::SentAhead;

/// So many times as long as the file took to be written, it is not written again for answers alone.
const PAUSE_FACTOR: u32 = 20;

/// What was sent ahead of one lane's records.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    series: HashMap<u64, Sent>,
    /// All in records up to this one may have been sent by an earlier process.
    resumed_upto: u64,
    /// The disk has not taken the last plan.
    unwritten: bool,
    /// Before this, answers alone are not written.
    save_from: Option<Instant>,
}

#[derive(Debug, Default)]
struct Sent {
    /// As the file has it.
    planned: u64,
    sent: u64,
    answered: u64,
    /// What an earlier process may have sent.
    resumed: u64,
}

impl LaneSender {
    /// Takes up what an earlier process has left.
    pub(super) fn resume_ahead(&mut self) {
        let in_flight = self.reader.in_flight().unwrap_or(0);
        let Some(series) = self.reader.sent_ahead() else {
            self.ahead.resumed_upto = self.reader.newest().max(in_flight);
            return;
        };
        self.ahead.resumed_upto = in_flight;
        let marked = self.reader.ahead_upto();
        for SentAhead { series, planned, sent, answered } in &series {
            let sent = (*sent).max((*planned).min(marked)).max(*answered);
            let entry = Sent { planned: *planned, sent, answered: *answered, resumed: sent };
            self.ahead.series.insert(*series, entry);
        }
        self.link.refused_series.resume(self.reader.lane(), &series, Instant::now());
    }

    /// Whether an earlier copy of a unit in this record may have been stored, as an earlier process may have sent it.
    pub(super) fn is_resumed(&self, unit: &Unit, sequence: u64) -> bool {
        if sequence <= self.ahead.resumed_upto || self.ahead.series.is_empty() {
            return sequence <= self.ahead.resumed_upto;
        }
        let sent = unit.series_hash().and_then(|series| self.ahead.series.get(&series));
        sent.is_some_and(|sent| sequence <= sent.resumed)
    }

    /// Marks the record that is asked for sample by sample.
    pub(super) fn mark_asked(&mut self, sequence: u64) {
        // What an earlier process may have sent is not known by anything else.
        let wanted = sequence.max(self.ahead.resumed_upto);
        let marked = self.reader.in_flight().unwrap_or(0);
        if marked < wanted || (marked > wanted && !self.ahead.unwritten) {
            self.reader.mark(wanted);
        }
    }

    /// Writes down what is about to be sent ahead: these samples, each with the number of its record and its series.
    pub(super) fn plan_ahead(&mut self, batch: &[(u64, u64, Unit)]) {
        let covers = |sent: &Sent, sequence: u64| sequence <= sent.planned;
        let is_planned = batch.iter().all(|(sequence, series, _)| {
            self.ahead.series.get(series).is_some_and(|sent| covers(sent, *sequence))
        });
        if !is_planned {
            // All that is to be sent as far as it is known, so that this is seldom.
            for (series, upto) in self.link.refused_series.to_sweep(self.reader.lane()) {
                self.ahead.series.entry(series).or_default().planned = upto;
            }
            for (sequence, series, _) in batch {
                let sent = self.ahead.series.entry(*series).or_default();
                sent.planned = sent.planned.max(*sequence);
            }
            self.save_ahead();
        }
    }

    /// These go out now.
    pub(super) fn sends_ahead(&mut self, batch: &[(u64, u64, Unit)]) {
        for (sequence, series, _) in batch {
            let sent = self.ahead.series.entry(*series).or_default();
            sent.sent = sent.sent.max(*sequence);
        }
        let Some((upto, ..)) = batch.last() else { return };
        if self.ahead.unwritten {
            if self.reader.in_flight().is_none_or(|marked| marked < *upto) {
                self.reader.mark(*upto);
            }
        } else if self.reader.ahead_upto() < *upto {
            self.reader.mark_ahead(*upto);
        }
    }

    /// A copy of what these series have up to these records may be stored, and there was no answer for good.
    pub(super) fn unanswered_ahead(&mut self, series: impl IntoIterator<Item = (u64, u64)>) {
        for (series, sequence) in series {
            let sent = self.ahead.series.entry(series).or_default();
            sent.resumed = sent.resumed.max(sequence);
        }
    }

    /// There is an answer for good to each sample of this series up to this record.
    pub(super) fn answered_ahead(&mut self, series: u64, sequence: u64) {
        let lane = self.reader.lane();
        let is_whole = self.link.refused_series.swept(series, (lane, sequence));
        if is_whole {
            let sent = self.ahead.series.entry(series).or_default();
            sent.answered = sent.answered.max(sequence);
        }
    }

    /// A sample of this series was refused: what is left of it waits for its turn.
    pub(super) fn refused_ahead(&mut self, series: u64) {
        self.ahead.series.entry(series).or_default().planned = 0;
    }

    /// Writes down what was answered, unless that was done a moment ago.
    pub(super) fn save_answers(&mut self) {
        if self.ahead.save_from.is_none_or(|from| Instant::now() >= from) {
            self.save_ahead();
        }
    }

    /// Nothing more is sent ahead for now.
    pub(super) fn end_ahead(&mut self) {
        if !self.ahead.series.is_empty() {
            self.save_ahead();
        }
    }

    /// All records are acknowledged: there is nothing to be known of them.
    pub(super) fn forget_ahead(&mut self) {
        if !self.ahead.series.is_empty() && self.reader.newest() == 0 {
            self.ahead.series.clear();
            self.save_ahead();
        }
    }

    fn save_ahead(&mut self) {
        let begun = Instant::now();
        let acknowledged = self.reader.acknowledged();
        self.ahead.series.retain(|_, sent| sent.planned.max(sent.sent) > acknowledged);
        let series: Vec<SentAhead> =
            self.ahead.series.iter().map(|(series, sent)| sent.shown(*series)).collect();
        self.ahead.unwritten = !self.reader.write_ahead(&series);
        if !self.ahead.unwritten {
            // What was sent stands there.
            self.reader.mark_ahead(0);
        }
        let pause = begun.elapsed().saturating_mul(PAUSE_FACTOR).max(Duration::from_millis(1));
        self.ahead.save_from = Some(Instant::now() + pause);
    }
}

impl Ahead {
    /// Whether an earlier process may have sent all of this record.
    pub(super) fn is_resumed_whole(&self, sequence: u64) -> bool {
        sequence <= self.resumed_upto
    }
}

impl Sent {
    fn shown(&self, series: u64) -> SentAhead {
        let Self { planned, sent, answered, .. } = *self;
        SentAhead { series, planned, sent, answered }
    }
}
