//! What lies aside of series that are taken again: it is sent ahead of what is still refused, with many in a request, so that it
//! waits for nothing and what follows of these series may go the normal way (docs/adr/0020).

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::answer::Reason;
use super::lane::{Fate, LaneSender, Offer};
use super::stored_in_part::StoredInPart;
use super::units::{self, Counts, Unit};
use crate::queue::Encoding;

/// So many times as long as the last one took there is no other: each reads all of the lane.
const PAUSE_FACTOR: u32 = 20;

/// So many samples are in a request at most: after a crash each of it may be asked for alone.
const AHEAD_SAMPLES_MAX: usize = 500;

/// Some samples of the lane, each with the number of its record and its series.
type Batch = Vec<(u64, u64, Unit)>;

/// What is collected of one kind.
#[derive(Debug, Default)]
struct Collected {
    batch: Batch,
    queued_ms: i64,
}

/// A search through the lane.
#[derive(Debug, Default)]
struct Sweep {
    samples_max: usize,
    encoding: Encoding,
    /// Of these nothing more is sent ahead: a sample was refused.
    refused: HashSet<u64>,
    /// An earlier copy may have been stored of these.
    resumed: Collected,
    /// And of these not.
    fresh: Collected,
    /// So long it took to send, which is no search.
    sending: Duration,
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
        let mut sweep = Sweep {
            samples_max: self.link.config.queue.max_samples_per_send.min(AHEAD_SAMPLES_MAX),
            ..Sweep::default()
        };
        if !self.sweep_once(&mut sweep).await {
            self.link.refused_series.want_sweep(self.reader.lane());
        }
        self.end_ahead();
        let searched = begun.elapsed().saturating_sub(sweep.sending);
        let pause = searched.saturating_mul(PAUSE_FACTOR).max(Duration::from_millis(1));
        self.sweep_from = Some(Instant::now() + pause);
    }

    /// False: it did not come to the end.
    async fn sweep_once(&mut self, sweep: &mut Sweep) -> bool {
        // All of a series is looked at in one way.
        let now = Instant::now();
        let mut body = Vec::new();
        let mut next = self.reader.peek(&mut body);
        while let Some(info) = next {
            // What was put aside as maybe stored may come after what was not, of the same series.
            let is_other = sweep.encoding != info.encoding()
                || (info.meta.maybe_stored && !sweep.fresh.batch.is_empty());
            if is_other && !self.send_all_ahead(sweep).await {
                return false;
            }
            sweep.encoding = info.encoding();
            // What cannot be decoded has its turn as any record.
            for unit in units::take_apart(info.encoding(), &body).unwrap_or_default() {
                let place = (self.reader.lane(), info.sequence);
                let Some(series) = self.link.refused_series.is_to_sweep(&unit, place, now) else { continue };
                if sweep.refused.contains(&series) {
                    continue;
                }
                let maybe_stored = info.meta.maybe_stored || self.is_resumed(&unit, info.sequence);
                let list = if maybe_stored { &mut sweep.resumed } else { &mut sweep.fresh };
                if list.batch.is_empty() {
                    list.queued_ms = info.enqueued_ms;
                }
                list.batch.push((info.sequence, series, unit));
            }
            if sweep.is_full() && !self.send_all_ahead(sweep).await {
                return false;
            }
            next = self.reader.peek_next_if(&mut body, |_| true);
        }
        self.send_all_ahead(sweep).await
    }

    /// Sends what was collected: of a series, what may have been stored is older than the rest. False: no more can be sent now.
    async fn send_all_ahead(&mut self, sweep: &mut Sweep) -> bool {
        let begun = Instant::now();
        let sent = self.send_ahead(sweep, true).await && self.send_ahead(sweep, false).await;
        sweep.sending += begun.elapsed();
        sent
    }

    /// Sends one of both. What is refused stays where it is, to be asked for alone.
    async fn send_ahead(&mut self, sweep: &mut Sweep, maybe_stored: bool) -> bool {
        let Sweep { encoding, refused, resumed, fresh, .. } = sweep;
        let encoding = *encoding;
        let Collected { batch, queued_ms } = std::mem::take(if maybe_stored { resumed } else { fresh });
        if batch.is_empty() {
            return true;
        }
        if self.is_to_end() || (encoding == Encoding::V2 && self.link.lacks_v2()) {
            return false;
        }
        // All up to it may be sent again by a later process.
        self.plan_ahead(&batch);
        let (mut stack, mut in_part) = (vec![batch], InPart::default());
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
            let offer = Offer { body: &body, encoding, counts, last_ms, queued_ms, was_v2: false };
            let mut maybe_stored = maybe_stored;
            let fate = match self.is_to_be_split(body.len(), maybe_stored) && batch.len() > 1 {
                true => None,
                false => {
                    self.sends_ahead(&batch);
                    Some(self.offer(&offer, &mut maybe_stored).await)
                }
            };
            let is_taken = matches!(fate, Some(Fate::Accepted | Fate::InPart(..)));
            match fate {
                Some(Fate::Accepted) => {
                    self.answered(last_ms);
                    self.stored_already(in_part.stored.accepted(&units));
                    for (counts, refusal) in in_part.stored.take_lost() {
                        self.refused(Reason::OutOfOrder, &counts, &refusal);
                    }
                    in_part.undecided.retain(|series, _| in_part.stored.is_undecided(*series));
                }
                Some(Fate::TooOld) => self.too_old(&counts),
                Some(Fate::InPart(refusal, written)) => {
                    self.sent_in_part(&offer, &refusal, &written, maybe_stored).await;
                }
                Some(Fate::Refused(refusal)) if batch.len() == 1 => {
                    let reason = self.reason(&refusal, queued_ms, maybe_stored).await;
                    let is_known = in_part.is_seen || self.has_stored_in_part();
                    if reason == Reason::AlreadyStored {
                        self.answered(last_ms);
                        self.refused(reason, &counts, &refusal);
                    } else if reason == Reason::Rejected && !is_known && in_part.asks_on(&batch, &stack) {
                        self.answered(last_ms);
                        self.refused(reason, &counts, &refusal);
                        for unit in &units {
                            self.link.refused_series.remember_swept(unit, false, Instant::now());
                        }
                    } else {
                        let is_time = Reason::told(refusal.status, &refusal.message).is_time();
                        for (sequence, series, unit) in batch {
                            if reason == Reason::OutOfOrder && in_part.stored.out_of_order(&unit, &refusal) {
                                in_part.undecided.entry(series).or_insert((sequence, unit));
                                continue;
                            }
                            let stored = match reason {
                                Reason::OutOfOrder => Counts::default(),
                                _ => in_part.stored.refused(&unit),
                            };
                            let first =
                                in_part.undecided.remove(&series).filter(|_| stored == Counts::default());
                            self.stored_already(stored);
                            if reason != Reason::OutOfOrder && in_part.stored.holds(series) {
                                let left = stack.iter().flatten().filter(|(_, other, _)| *other == series);
                                let left = left.map(|(sequence, ..)| *sequence).max();
                                in_part.waiting.insert(series, left.unwrap_or(sequence));
                                in_part.is_seen |= first.is_some();
                            }
                            let (sequence, unit) = first.unwrap_or((sequence, unit));
                            self.waits_for_its_turn(sequence, series, &unit, is_time);
                            self.note_overtaken(&unit, reason);
                            refused.insert(series);
                        }
                        continue;
                    }
                }
                None | Some(Fate::Refused(_) | Fate::TooLarge(_)) if batch.len() > 1 => {
                    if let Some(Fate::Refused(refusal)) = fate
                        && encoding == Encoding::V1
                        && Reason::told(refusal.status, &refusal.message) == Reason::Rejected
                    {
                        in_part.stored.rejected(&units);
                    }
                    let second = batch.split_off(batch.len() / 2);
                    stack.extend([second, batch]);
                    // Of each series at most one sample comes to be asked for alone.
                    if !self.has_turn(true).await {
                        self.unanswered_ahead(in_part.unanswered(&stack));
                        return false;
                    }
                    continue;
                }
                _ => {
                    if maybe_stored {
                        self.unanswered_ahead(batch.iter().map(|(sequence, series, _)| (*series, *sequence)));
                    }
                    stack.push(batch);
                    self.unanswered_ahead(in_part.unanswered(&stack));
                    return false;
                }
            }
            if is_taken {
                let taken = batch.iter().map(|(_, series, _)| *series);
                self.link.refused_series.taken_ahead(taken, Instant::now());
            }
            // What is left of the same series in the same record has no answer yet.
            let open: HashSet<(u64, u64)> =
                stack.iter().flatten().map(|(sequence, series, _)| (*series, *sequence)).collect();
            for (sequence, series, _) in batch {
                if !in_part.undecided.contains_key(&series) {
                    let is_open = open.contains(&(series, sequence));
                    self.answered_ahead(series, sequence - u64::from(is_open));
                }
            }
            self.save_answers();
        }
        if in_part.is_seen || self.has_stored_in_part() {
            self.unanswered_ahead(in_part.waiting);
        }
        // No later sample was taken that would show it.
        for (series, (sequence, unit)) in in_part.undecided {
            self.waits_for_its_turn(sequence, series, &unit, true);
            self.note_overtaken(&unit, Reason::OutOfOrder);
            refused.insert(series);
        }
        true
    }

    /// A sample of this series was refused alone: it and what follows has its turn later. Before its record all of it is sent.
    fn waits_for_its_turn(&mut self, sequence: u64, series: u64, unit: &Unit, is_time: bool) {
        self.answered_ahead(series, sequence.saturating_sub(1));
        self.refused_ahead(series);
        self.link.refused_series.remember_swept(unit, is_time, Instant::now());
    }
}

/// What a receiver of 1.0 may have stored of a request that it refused.
#[derive(Debug, Default)]
struct InPart {
    stored: StoredInPart,
    /// What was refused alone and may be stored nevertheless: the first sample of each series, with its record.
    undecided: HashMap<u64, (u64, Unit)>,
    /// Series that wait for their turn, with the last record of them that was in a refused request.
    waiting: HashMap<u64, u64>,
    /// One of these had samples that were refused as if they were stored.
    is_seen: bool,
    /// One series was asked for on after a sample was refused for what it is, to see that.
    has_asked_on: bool,
}

impl InPart {
    /// Whether the sample that was refused alone is given up here, and what follows of its series is asked for at once: of one series, as
    /// nothing else shows whether the receiver has stored what followed in the refused request, of all of them.
    fn asks_on(&mut self, alone: &Batch, stack: &[Batch]) -> bool {
        let Some((sequence, series, _)) = alone.first() else { return false };
        let mut left = stack.iter().flatten().filter(|(_, other, _)| other == series).peekable();
        // What is left in the same record would have its turn with the sample that was given up.
        let follows = left.peek().is_some() && left.all(|(later, ..)| later > sequence);
        let is_first = !self.has_asked_on && !self.undecided.contains_key(series);
        let asks_on = is_first && self.stored.holds(*series) && follows;
        self.has_asked_on |= asks_on;
        asks_on
    }

    /// Of which series, and up to which records of them, something may be stored, if nothing more of the stack is sent now.
    fn unanswered(&self, stack: &[Batch]) -> impl Iterator<Item = (u64, u64)> {
        let left = stack.iter().flatten().filter(|(_, series, _)| self.stored.holds(*series));
        let left = left.map(|(sequence, series, _)| (*series, *sequence));
        let undecided = self.undecided.iter().map(|(series, (sequence, _))| (*series, *sequence));
        let waiting = self.waiting.iter().filter(|_| self.is_seen);
        left.chain(undecided).chain(waiting.map(|(series, sequence)| (*series, *sequence)))
    }
}

impl Sweep {
    fn is_full(&self) -> bool {
        self.resumed.batch.len() + self.fresh.batch.len() >= self.samples_max
    }
}
