//! What lies aside of series that are taken again: it is sent ahead of what is still refused, with many in a request, so that it
//! waits for nothing and what follows of these series may go the normal way (docs/adr/0020).

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::answer::Reason;
use super::lane::{Fate, LaneSender, Offer};
use super::units::{self, Counts, Unit};
use crate::queue::{Encoding, RecordInfo};

/// So many times as long as the last one took there is no other: each reads all of the lane.
const PAUSE_FACTOR: u32 = 20;

/// Some samples of the lane, each with the number of its record and its series.
type Batch = Vec<(u64, u64, Unit)>;

/// What is collected of one kind.
#[derive(Debug, Default)]
struct Collected {
    batch: Batch,
    encoding: Encoding,
    maybe_stored: bool,
    queued_ms: i64,
}

impl LaneSender {
    /// Looks through the lane for what is taken again, if there is any, and sends it.
    pub(super) async fn sweep(&mut self) {
        let begun = Instant::now();
        if self.sweep_from.is_some_and(|from| begun < from)
            || !self.link.refused_series.wants_sweep(self.reader.lane())
        {
            return;
        }
        if !self.sweep_once().await {
            self.link.refused_series.want_sweep(self.reader.lane());
        }
        let pause = begun.elapsed().saturating_mul(PAUSE_FACTOR).max(Duration::from_millis(1));
        self.sweep_from = Some(Instant::now() + pause);
    }

    /// False: it did not come to the end.
    async fn sweep_once(&mut self) -> bool {
        let samples_max = self.link.config.queue.max_samples_per_send;
        let mut body = Vec::new();
        // Of these nothing more is sent ahead: a sample was refused.
        let mut refused: HashSet<u64> = HashSet::new();
        let mut collected = Collected::default();
        let mut next = self.reader.peek(&mut body);
        while let Some(info) = next {
            let maybe_stored = self.is_maybe_stored(&info);
            let is_alike = collected.encoding == info.encoding() && collected.maybe_stored == maybe_stored;
            let is_full = !is_alike || collected.batch.len() >= samples_max;
            if is_full && !collected.batch.is_empty() && !self.send_ahead(&mut collected, &mut refused).await
            {
                return false;
            }
            if collected.batch.is_empty() {
                (collected.encoding, collected.maybe_stored) = (info.encoding(), maybe_stored);
                collected.queued_ms = info.enqueued_ms;
            }
            // What cannot be decoded has its turn as any record.
            for unit in units::take_apart(info.encoding(), &body).unwrap_or_default() {
                let place = (self.reader.lane(), info.sequence);
                let Some(series) = self.link.refused_series.is_to_sweep(&unit, place) else { continue };
                if !refused.contains(&series) {
                    collected.batch.push((info.sequence, series, unit));
                }
            }
            next = self.reader.peek_next_if(&mut body, |_| true);
        }
        self.send_ahead(&mut collected, &mut refused).await
    }

    /// Whether an earlier copy of this record may have been stored.
    pub(super) fn is_maybe_stored(&self, info: &RecordInfo) -> bool {
        info.meta.maybe_stored || info.sequence <= self.resumed_upto
    }

    /// Sends what was collected. What is refused stays where it is, to be asked for alone. False: no more can be sent now.
    async fn send_ahead(&mut self, collected: &mut Collected, refused: &mut HashSet<u64>) -> bool {
        let batch = std::mem::take(&mut collected.batch);
        let Some(upto) = batch.last().map(|(sequence, ..)| *sequence) else { return true };
        if self.is_to_end() || (collected.encoding == Encoding::V2 && self.link.lacks_v2()) {
            return false;
        }
        // All up to it may be sent again by a later process.
        if self.reader.in_flight().is_none_or(|marked| marked < upto) {
            self.reader.mark(upto);
        }
        let lane = self.reader.lane();
        let mut stack = vec![batch];
        while let Some(mut batch) = stack.pop() {
            batch.retain(|(_, series, _)| !refused.contains(series));
            if batch.is_empty() {
                continue;
            }
            let mut counts = Counts::default();
            batch.iter().for_each(|(_, _, unit)| counts.add(unit.counts));
            let last_ms = batch.iter().filter_map(|(_, _, unit)| unit.newest_ms).max().unwrap_or(i64::MIN);
            let units: Vec<Unit> = batch.iter().map(|(_, _, unit)| unit.clone()).collect();
            let body = units::put_together(&units);
            let Collected { encoding, queued_ms, .. } = *collected;
            let offer = Offer { body: &body, encoding, counts, last_ms, queued_ms, was_v2: false };
            let mut maybe_stored = collected.maybe_stored;
            let fate = match self.is_to_be_split(body.len(), maybe_stored) && batch.len() > 1 {
                true => None,
                false => Some(self.offer(&offer, &mut maybe_stored).await),
            };
            match fate {
                Some(Fate::Accepted) => self.answered(last_ms),
                Some(Fate::TooOld) => self.too_old(&counts),
                Some(Fate::InPart(refusal, written)) => {
                    self.sent_in_part(&offer, &refusal, &written, maybe_stored).await;
                }
                Some(Fate::Refused(refusal)) if batch.len() == 1 => {
                    let is_time = Reason::told(refusal.status, &refusal.message).is_time();
                    for (sequence, series, unit) in batch {
                        // Before this record all of it is sent.
                        self.link.refused_series.swept([series], (lane, sequence.saturating_sub(1)));
                        self.link.refused_series.remember_swept(&unit, is_time, Instant::now());
                        refused.insert(series);
                    }
                    continue;
                }
                None | Some(Fate::Refused(_) | Fate::TooLarge(_)) if batch.len() > 1 => {
                    let second = batch.split_off(batch.len() / 2);
                    stack.extend([second, batch]);
                    if !self.has_turn().await {
                        return false;
                    }
                    continue;
                }
                _ => return false,
            }
            for (sequence, series, _) in batch {
                self.link.refused_series.swept([series], (lane, sequence));
            }
        }
        true
    }
}
