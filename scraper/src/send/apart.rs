//! A request that is not taken as a whole: it goes in pieces, and what is refused is halved until only what is refused alone is
//! left, which is given up. Series that were refused alone more than once go aside (`refused_series`), where each sample is asked
//! for alone and nothing waits for it. Within a series, everything goes in its order.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Instant;

use promring_net::clock::now_ms;

use super::answer::{Reason, Refusal};
use super::gather::Request;
use super::lane::{Fate, LaneSender, Next, Offer};
use super::piece::Piece;
use super::refused_series::Sorted;
use super::stored_in_part::StoredInPart;
use super::units::{self, Counts, Unit};
use crate::queue::{Encoding, LaneId, RecordMeta};

/// A record aside has so many samples at most: what a stop in the midst of one leaves is asked for again as a whole.
const ASIDE_SAMPLES_MAX: usize = 50;

/// Why a request is taken apart.
pub(super) enum Why {
    /// Some of it is past sample_age_limit, or nothing is wrong with it that is known.
    TooOld,
    /// The receiver does not take 2.0.
    NoV2,
    /// It has refused less as too large.
    TooLarge,
    /// It holds series of which it is known that they are refused: this is what it is made of.
    Known(Vec<Unit>),
    /// All of it was refused before.
    Aside,
    /// It does not take this; with the reason for what it refuses alone.
    Refused(Refusal, Reason),
}

/// What is left to do of a request that is in pieces.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// The next one is the last.
    stack: Vec<Piece>,
    /// All of them go as 1.0.
    as_v1: bool,
    /// Some of the pieces before these may be stored.
    stored: bool,
    /// What a first copy may have stored of them, though it was refused.
    in_part: StoredInPart,
    /// When the request was queued, Unix milliseconds.
    queued_ms: i64,
    /// Series of which a sample was refused alone as out of order, and none was taken since, with the time of the newest.
    out_of_order: HashMap<u64, i64>,
    /// What was left out as past sample_age_limit. It counts when the request is done: until then all of it may go once more.
    too_old: Counts,
    /// Native histograms that were left out as 1.0 cannot carry them; the same.
    custom: u64,
}

impl Rest {
    /// These were taken.
    fn taken(&mut self, units: &[Unit]) {
        if !self.out_of_order.is_empty() {
            units.iter().filter_map(Unit::series_hash).for_each(|series| {
                self.out_of_order.remove(&series);
            });
        }
    }
}

impl LaneSender {
    /// What an earlier sender of this process left of a request, when it had to end in the midst of it: its successor goes on
    /// there, so that what was refused is not asked for again, and not counted again.
    pub(super) fn take_rest(&mut self, request: &Request) -> Option<Rest> {
        let left = self.reader.take_rest(request.from, request.upto)?;
        left.downcast().ok().map(|rest| *rest)
    }

    /// What a request is made of, where it goes in pieces at once since it holds what was refused before. One that is joined has several
    /// samples a series: a receiver of 1.0 that stores what it can of it would refuse almost all of its pieces (`stored_in_part`).
    /// What lies aside of a series must not be overtaken by what follows. Otherwise one of a single record goes as it lies, so that
    /// nothing is looked into as long as the receiver is content; and so does one of which a copy may have been stored, if nothing lies aside:
    /// else the copy went without that as well.
    pub(super) fn holding_refused(&self, request: &Request) -> Option<Vec<Unit>> {
        if !self.may_hold_refused(request, request.encoding) {
            return None;
        }
        let units = units::take_apart(request.encoding, &request.body).ok()?;
        self.link.refused_series.has_any_of(&units).then_some(units)
    }

    /// Whether a request that goes as `encoding` is worth a look for what was refused before.
    fn may_hold_refused(&self, request: &Request, encoding: Encoding) -> bool {
        let is_joined = encoding == Encoding::V1 && request.records > 1;
        !self.link.refused_series.is_empty()
            && ((is_joined && !request.maybe_stored) || self.queue.holds_aside(self.reader.lane()))
    }

    /// Takes a request apart and sends the pieces.
    pub(super) async fn deliver_pieces(&mut self, request: &mut Request, mut why: Why) -> Next {
        let taken = match &mut why {
            Why::Known(units) => Ok(std::mem::take(units)),
            _ => units::take_apart(request.encoding, &request.body),
        };
        let Ok(units) = taken else {
            if request.records > 1 {
                // One of them is no request, and makes none of all. Nobody can have stored anything of it.
                self.reader.unmark();
                self.gatherer.leave_alone(request.upto);
                return Next::Record;
            }
            let message = "the queued request cannot be decoded".to_owned();
            let refusal = match why {
                Why::Refused(refusal, _) => refusal,
                _ => Refusal { status: 0, message },
            };
            self.refused(Reason::Rejected, &request.counts, &refusal);
            self.reader.ack(request.upto);
            return Next::Record;
        };
        let as_v1 = matches!(why, Why::NoV2);
        let mut rest = Rest { as_v1, queued_ms: request.queued_ms, ..Rest::default() };
        let units = if request.first_ms < self.cutoff_ms() {
            let (units, too_old) = self.young_enough(units);
            rest.too_old = too_old;
            units
        } else {
            units
        };
        let mut whole = Piece::new(units, request.maybe_stored);
        match why {
            Why::Refused(refusal, alone) => self.split(whole, &refusal, alone, &mut rest),
            Why::Aside => {
                let place = (self.reader.lane(), request.upto);
                whole.units = self.link.refused_series.unsent(whole.units, place);
                // Most of it was in such a piece when it was put aside.
                whole.rejected = true;
                rest.in_part.rejected(&whole.units);
                // All of a series is in one of both.
                let units = std::mem::take(&mut whole.units).into_iter();
                let (resumed, fresh) = units.partition(|unit| self.is_resumed(unit, request.upto));
                let resumed = Piece { maybe_stored: true, ..whole.part(resumed) };
                for piece in [whole.part(fresh), resumed] {
                    let left = self.set_known_apart(piece, &mut rest.stack);
                    rest.stack.extend(left);
                }
            }
            Why::TooOld | Why::NoV2 | Why::TooLarge | Why::Known(_) => {
                let encoding = if rest.as_v1 { Encoding::V1 } else { request.encoding };
                let left = match self.may_hold_refused(request, encoding) {
                    true => self.set_known_apart(whole, &mut rest.stack),
                    false => Some(whole),
                };
                rest.stack.extend(left);
            }
        }
        self.deliver_rest(request, rest).await
    }

    /// Sends pieces until none is left.
    pub(super) async fn deliver_rest(&mut self, request: &mut Request, mut rest: Rest) -> Next {
        while let Some(mut piece) = rest.stack.pop() {
            if piece.units.is_empty() {
                continue;
            }
            if piece.encoding() == Encoding::V2 && (rest.as_v1 || self.link.lacks_v2()) {
                let histograms = piece.counts().histograms;
                let pieces = piece.into_v1();
                let left: u64 = pieces.iter().map(|piece| piece.counts().histograms).sum();
                rest.custom += histograms.saturating_sub(left);
                rest.stack.extend(pieces.into_iter().rev());
                continue;
            }
            let body = units::put_together(&piece.units);
            if self.is_to_be_split(body.len(), piece.maybe_stored) {
                match halves(piece) {
                    Ok(both) => {
                        rest.stack.extend(both);
                        continue;
                    }
                    // Only the receiver gives a sample up.
                    Err(alone) => piece = alone,
                }
            }
            let (counts, last_ms) = (piece.counts(), piece.newest_ms());
            let was_v2 = request.encoding == Encoding::V2 && piece.encoding() == Encoding::V1;
            let (encoding, queued_ms) = (piece.encoding(), request.queued_ms);
            let offer = Offer { body: &body, encoding, counts, last_ms, queued_ms, was_v2 };
            let fate = match !piece.paced || self.has_turn(piece.first).await {
                true => self.offer(&offer, &mut piece.maybe_stored).await,
                false => Fate::Stopped,
            };
            match fate {
                Fate::Accepted => {
                    self.answered(offer.last_ms);
                    rest.taken(&piece.units);
                    self.link.refused_series.note_taken(&piece.units, Instant::now());
                    self.not_rejected(&piece, &mut rest.stack);
                    self.stored_already(rest.in_part.accepted(&piece.units));
                    rest.stored = true;
                }
                Fate::InPart(refusal, written) => {
                    self.sent_in_part(&offer, &refusal, &written, piece.maybe_stored).await;
                    self.not_rejected(&piece, &mut rest.stack);
                    rest.stored = true;
                }
                Fate::NoV2 => {
                    rest.as_v1 = true;
                    rest.stack.push(piece);
                }
                Fate::NoV1 => {
                    // All of it goes once more, what was taken as 1.0 before this piece included.
                    request.maybe_stored |= rest.stored || piece.maybe_stored;
                    return Next::Same;
                }
                Fate::TooOld => rest.too_old.add(offer.counts),
                Fate::Unwanted(refusal) => {
                    self.answered(offer.last_ms);
                    self.refused(Reason::RateLimited, &offer.counts, &refusal);
                }
                Fate::Refused(refusal) => {
                    let reason = self.reason(&refusal, queued_ms, piece.maybe_stored).await;
                    self.split(piece, &refusal, reason, &mut rest);
                }
                Fate::TooLarge(refusal) => self.split(piece, &refusal, Reason::TooLarge, &mut rest),
                Fate::Dropped => return Next::Record,
                Fate::Stopped => {
                    // The mark stays: another process sends the whole request again, and what was stored of it is refused. What
                    // was learned of the versions is of this receiver; the successor's may be another one.
                    rest.stack.push(piece);
                    rest.as_v1 = false;
                    let rest: Box<dyn Any + Send> = Box::new(rest);
                    self.reader.leave_rest(request.from, request.upto, rest);
                    return Next::End;
                }
            }
        }
        self.too_old(&rest.too_old);
        self.not_carried(rest.custom);
        for (counts, refusal, is_lost) in rest.in_part.rest() {
            let is_stored = !is_lost && self.has_stored_in_part();
            let reason = if is_stored { Reason::AlreadyStored } else { Reason::OutOfOrder };
            self.refused(reason, &counts, &refusal);
        }
        for (series, refused_ms) in rest.out_of_order {
            self.link.refused_series.remember_late_series(series, Instant::now());
            self.link.refused_series.note_overtaken(series, refused_ms, now_ms(), Instant::now());
        }
        self.reader.ack(request.upto);
        Next::Record
    }

    /// Puts the parts of a refused piece on the stack; a sample that was refused alone is given up.
    fn split(&mut self, mut piece: Piece, refusal: &Refusal, alone: Reason, rest: &mut Rest) {
        let Rest { stack, in_part, .. } = rest;
        if let [unit] = &*piece.units
            && units::one_sample_each(unit).is_none()
        {
            self.answered(piece.newest_ms());
            let undecided =
                alone == Reason::OutOfOrder && piece.rejected && in_part.out_of_order(unit, refusal);
            if !undecided {
                if alone != Reason::OutOfOrder {
                    self.stored_already(in_part.refused(unit));
                }
                self.refused(alone, &piece.counts(), refusal);
                self.refused_alone(&piece, unit, alone, rest);
            }
            return;
        }
        if alone == Reason::Rejected && !piece.rejected && piece.encoding() == Encoding::V1 {
            in_part.rejected(&piece.units);
            piece.rejected = true;
        }
        // What is too large says nothing of what is in it, and `body_size` remembers it.
        let left = if alone == Reason::TooLarge {
            Some(piece)
        } else {
            self.link.refused_series.note_refusal(Instant::now());
            let left = self.set_known_apart(piece, stack);
            left.and_then(|piece| self.set_new_apart(piece, rest.queued_ms, stack))
        };
        let left = left.map(|piece| Piece { paced: true, ..piece });
        match left.map(halves) {
            Some(Ok(both)) => stack.extend(both),
            Some(Err(single)) => stack.push(single),
            None => {}
        }
    }

    /// A sample was refused alone: what this says of its series.
    fn refused_alone(&self, piece: &Piece, unit: &Unit, reason: Reason, rest: &mut Rest) {
        let (series, now) = (&self.link.refused_series, Instant::now());
        let goes_aside = match reason {
            Reason::Rejected => series.remember(unit, self.is_aside(), now),
            // Of a copy that was sent before it may be the time.
            reason if reason.is_time() && piece.maybe_stored => return,
            reason if reason.is_time() && self.is_aside() => {
                series.remember_late_aside(unit, now);
                self.note_overtaken(unit, reason);
                return;
            }
            // A receiver of 1.0 may have stored later samples of the request, or the newest one is taken yet: once a request, and
            // only if it comes to that.
            Reason::OutOfOrder => {
                rest.out_of_order.extend(unit.series_hash().zip(unit.newest_ms));
                return;
            }
            reason if reason.is_time() => {
                let goes_aside = series.remember_late(unit, now);
                self.note_overtaken(unit, reason);
                goes_aside
            }
            _ => {
                self.not_rejected(piece, &mut rest.stack);
                return;
            }
        };
        if goes_aside && !self.is_aside() {
            let series: HashSet<u64> = unit.series_hash().into_iter().collect();
            let is_in_part = series.iter().any(|series| rest.in_part.is_undecided(*series));
            self.put_rest_aside(&series, is_in_part, &mut rest.stack);
        }
    }

    /// A sample was refused alone, for this reason: where somebody has overtaken it, what follows of its series need not wait for what lies
    /// aside of it.
    pub(super) fn note_overtaken(&self, unit: &Unit, reason: Reason) {
        if let (Reason::OutOfOrder | Reason::LateAfterLoss, Some(series), Some(refused_ms)) =
            (reason, unit.series_hash(), unit.newest_ms)
        {
            self.link.refused_series.note_overtaken(series, refused_ms, now_ms(), Instant::now());
        }
    }

    /// Puts the series of a refused piece aside of which nothing was taken yet, if the lane is behind: to halve it down to each of them would
    /// hold up everything behind it, and where they are new in each scrape, for ever. Larger pieces are halved until it is known well what is
    /// taken, so that few of them go aside that would be. Gives the piece back that is to be halved.
    fn set_new_apart(&self, piece: Piece, queued_ms: i64, stack: &mut Vec<Piece>) -> Option<Piece> {
        let series = &self.link.refused_series;
        // Of what may be stored, a copy may be the cause.
        let is_asked = self.is_aside() || piece.maybe_stored || piece.known;
        if is_asked || !series.is_behind(queued_ms, now_ms()) {
            return Some(piece);
        }
        let part = piece.part(Vec::new());
        let (taken, new) = series.part_new(piece.units);
        if new.is_empty() {
            return Some(part.part(taken));
        }
        let halved = |units: Vec<Unit>, stack: &mut Vec<Piece>| {
            if units.is_empty() {
                return;
            }
            match halves(part.part(units)) {
                Ok(both) => stack.extend(both),
                Err(single) => stack.push(single),
            }
        };
        if new.len() > ASIDE_SAMPLES_MAX && !series.knows_what_is_taken(Instant::now()) {
            halved(new, stack);
        } else {
            series.suspect(&new, Instant::now());
            let hashes: HashSet<u64> = new.iter().filter_map(Unit::series_hash).collect();
            let left = self.put_aside(new, self.may_be_stored(&part));
            if left.is_empty() {
                self.put_rest_aside(&hashes, false, stack);
            } else {
                // Nothing can be put aside now: they are asked for here, as if nothing were known of them.
                series.forget(&left, Instant::now());
                halved(left, stack);
            }
        }
        if !taken.is_empty() {
            stack.push(part.part(taken));
        }
        None
    }

    /// Puts aside what is still to be sent of these series, in whatever pieces it is. `is_in_part`: older samples of them were
    /// refused as if the receiver had stored what it could of the request.
    fn put_rest_aside(&self, series: &HashSet<u64>, is_in_part: bool, stack: &mut Vec<Piece>) {
        for at in (0..stack.len()).rev() {
            let Some(piece) = stack.get_mut(at) else { continue };
            let units = piece.take(series);
            let maybe_stored = self.may_be_stored(piece) || (piece.rejected && is_in_part);
            let left = self.put_aside(units, maybe_stored);
            if !left.is_empty() {
                // It is asked for here, then, and so is all that follows of it.
                if let Some(piece) = stack.get_mut(at) {
                    piece.units.splice(0..0, left);
                }
                return;
            }
        }
        stack.retain(|piece| !piece.units.is_empty());
    }

    /// Puts a piece on the stack by what is known of its series: what nothing is known of in one, then what was refused alone
    /// once, one sample each. The rest goes aside, or is asked for last and alone where that is not possible or done already; before that
    /// comes what was overtaken.
    /// All of a series is in one of them, or in its order. Gives the piece back where nothing is known of any.
    fn set_known_apart(&self, piece: Piece, stack: &mut Vec<Piece>) -> Option<Piece> {
        let part = Piece { known: false, paced: false, ..piece.part(Vec::new()) };
        let known_part = |units| Piece { known: true, paced: true, ..part.part(units) };
        let (series, now) = (&self.link.refused_series, Instant::now());
        let Sorted { unknown, once, again, overtaken, unasked } = if self.is_aside() {
            series.sort_aside(piece.units, now)
        } else {
            series.sort(piece.units, now, |(lane, sequence)| !self.queue.is_past(lane, sequence))
        };
        if [&once, &again, &overtaken, &unasked].iter().all(|units| units.is_empty()) {
            return Some(part.part(unknown));
        }
        let again = if self.is_aside() { again } else { self.put_aside(again, self.may_be_stored(&part)) };
        let first_part = |units| Piece { first: true, ..known_part(units) };
        stack.extend(singles(again).map(known_part).rev());
        stack.extend(singles(overtaken).map(first_part).rev());
        stack.extend(singles(once).map(known_part).rev());
        if !unasked.is_empty() {
            stack.push(first_part(unasked));
        }
        stack.push(part.part(unknown));
        None
    }

    /// Puts samples aside, so that the lane goes on at once. Gives back what the queue does not take.
    fn put_aside(&self, units: Vec<Unit>, maybe_stored: bool) -> Vec<Unit> {
        // A series stays in the lane in which it lies, however many lanes there are by now.
        let mut by_lane: BTreeMap<Option<LaneId>, Vec<Unit>> = BTreeMap::new();
        for unit in singles(units).flatten() {
            let behind = self.link.refused_series.lies_in(&unit);
            let behind = behind.filter(|(lane, upto)| !self.queue.is_past(*lane, *upto));
            by_lane.entry(behind.map(|(lane, _)| lane)).or_default().push(unit);
        }
        let mut refused = Vec::new();
        for (behind, mut units) in by_lane {
            while !units.is_empty() {
                let left = units.split_off(units.len().min(ASIDE_SAMPLES_MAX));
                let piece = Piece::new(std::mem::replace(&mut units, left), maybe_stored);
                if !refused.is_empty() || !self.put_piece_aside(behind, &piece) {
                    refused.extend(piece.units);
                }
            }
        }
        refused
    }

    /// Puts a record aside. False: the queue does not take it.
    fn put_piece_aside(&self, behind: Option<LaneId>, piece: &Piece) -> bool {
        let (counts, last_ms) = (piece.counts(), piece.newest_ms());
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let meta = RecordMeta {
            samples: count(counts.samples),
            histograms: count(counts.histograms),
            exemplars: count(counts.exemplars),
            metadata: count(counts.metadata),
            first_ms: piece.units.iter().filter_map(|unit| unit.newest_ms).min().unwrap_or(last_ms),
            last_ms,
            encoding: piece.encoding(),
            maybe_stored: piece.maybe_stored,
        };
        let body = units::put_together(&piece.units);
        let Some(place) = self.queue.append_aside(self.reader.lane(), behind, meta, &body) else {
            return false;
        };
        self.link.refused_series.put_aside(&piece.units, place, Instant::now());
        self.answered(last_ms);
        true
    }

    /// Whether the receiver has been seen to store what it can of a request of 1.0 that it refuses.
    pub(super) fn has_stored_in_part(&self) -> bool {
        self.link.has_stored_v1_in_part.load(Ordering::Relaxed)
    }

    /// Whether a copy of what is put aside of a piece may have been stored.
    fn may_be_stored(&self, piece: &Piece) -> bool {
        piece.maybe_stored || (piece.rejected && self.has_stored_in_part())
    }

    /// Counts what a first copy of these samples has turned out to have stored.
    pub(super) fn stored_already(&self, counts: Counts) {
        if counts != Counts::default() {
            self.link.has_stored_v1_in_part.store(true, Ordering::Relaxed);
            self.link.metrics.refused(Reason::AlreadyStored, &counts);
        }
    }

    /// The receiver has not refused this for what its series are. Aside, more of them need not be asked for alone then.
    fn not_rejected(&self, piece: &Piece, stack: &mut Vec<Piece>) {
        if !piece.known {
            return;
        }
        self.link.refused_series.forget(&piece.units, Instant::now());
        if self.is_aside()
            && let Some(next) = stack.last()
            && stack.iter().all(|piece| piece.is_alike(next))
        {
            let first = stack.iter().all(|piece| piece.first);
            let part = Piece { first, ..next.part(Vec::new()) };
            let units = stack.drain(..).rev().flat_map(|piece| piece.units).collect();
            let left = self.set_known_apart(part.part(units), stack);
            stack.extend(left);
        }
    }

    /// What is not past sample_age_limit, and how much is.
    fn young_enough(&self, units: Vec<Unit>) -> (Vec<Unit>, Counts) {
        let cutoff_ms = self.cutoff_ms();
        let apart = units.into_iter().flat_map(|unit| match units::one_sample_each(&unit) {
            Some(units) => units,
            None => vec![unit],
        });
        let (young, old): (Vec<Unit>, Vec<Unit>) =
            apart.partition(|unit| unit.newest_ms.is_none_or(|newest_ms| newest_ms >= cutoff_ms));
        let mut too_old = Counts::default();
        old.iter().for_each(|unit| too_old.add(unit.counts));
        (young, too_old)
    }

    /// Counts what is not sent as it is past sample_age_limit.
    pub(super) fn too_old(&self, counts: &Counts) {
        self.link.metrics.too_old.add(counts);
        if counts.points() > 0
            && let Some(untold) = self.link.aged.tell(Instant::now())
        {
            tracing::warn!(
                destination = self.link.config.name,
                samples = counts.points(),
                untold,
                "samples are past sample_age_limit and not sent"
            );
        }
    }

    /// Counts native histograms that 1.0 cannot carry.
    fn not_carried(&self, histograms: u64) {
        self.link.metrics.dropped_custom.increment(histograms);
        if histograms > 0
            && let Some(untold) = self.link.not_carried.tell(Instant::now())
        {
            tracing::warn!(
                destination = self.link.config.name,
                histograms,
                untold,
                "native histograms with bounds of their own are not sent: remote write 1.0 cannot carry them"
            );
        }
    }
}

/// Both halves of a piece, the second one first, as on the stack; the piece, where it is a single sample.
fn halves(mut piece: Piece) -> Result<[Piece; 2], Piece> {
    if let [unit] = &*piece.units {
        match units::one_sample_each(unit) {
            Some(units) => piece.units = units,
            None => return Err(piece),
        }
    }
    let second = piece.units.split_off(piece.units.len() / 2);
    Ok([piece.part(second), piece])
}

/// One sample each, in their order.
fn singles(units: Vec<Unit>) -> impl DoubleEndedIterator<Item = Vec<Unit>> {
    let apart = units.into_iter().flat_map(|unit| match units::one_sample_each(&unit) {
        Some(units) => units,
        None => vec![unit],
    });
    apart.map(|unit| vec![unit])
}
