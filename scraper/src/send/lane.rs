//! One lane's sender: one request in flight, in order, until it is accepted or refused for good.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::ahead::Ahead;
use super::answer::{Answer, Reason, Refusal};
use super::apart::Why;
use super::backoff::Backoff;
use super::gather::{Gatherer, Request};
use super::link::Link;
use super::units::Counts;
use super::versions::{Hinted, Refused};
use super::written::Written;
use crate::queue::{Encoding, LaneReader, Queue, Wake};

/// What senders are asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Send whatever comes.
    Run,
    /// Send what is there, then end.
    Drain,
    /// End after the request that is under way: others send the rest, or nobody in this process does.
    Yield,
    /// End now.
    Stop,
}

/// Sends one lane's records.
pub(super) struct LaneSender {
    pub(super) link: Arc<Link>,
    pub(super) reader: LaneReader,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) gatherer: Gatherer,
    /// Where what is known to be refused is put aside.
    pub(super) queue: Arc<Queue>,
    /// The lane is one of those aside.
    is_aside: bool,
    /// What was sent ahead of the records of a lane aside.
    pub(super) ahead: Ahead,
    /// Before this what is taken again is not looked for.
    pub(super) sweep_from: Option<Instant>,
    /// So long it took to come to the last answer.
    answered_in: Duration,
}

/// What became of a request, or of a piece of one.
pub(super) enum Fate {
    Accepted,
    /// Some of it is stored, and the rest never will be.
    InPart(Refusal, Written),
    /// It must be sent as 1.0.
    NoV2,
    /// It must not be sent as 1.0 after all.
    NoV1,
    Refused(Refusal),
    TooLarge(Refusal),
    Unwanted(Refusal),
    /// Past sample_age_limit.
    TooOld,
    /// The queue's bounds dropped its records.
    Dropped,
    /// The sender is to end.
    Stopped,
}

impl Fate {
    /// Whether it is the receiver's.
    fn is_answer(&self) -> bool {
        match self {
            Self::Accepted
            | Self::InPart(..)
            | Self::NoV2
            | Self::NoV1
            | Self::Refused(_)
            | Self::TooLarge(_)
            | Self::Unwanted(_) => true,
            Self::TooOld | Self::Dropped | Self::Stopped => false,
        }
    }
}

/// Whether the sender goes on.
#[derive(PartialEq, Eq)]
pub(super) enum Next {
    Record,
    /// The same request, now that more is known of the receiver.
    Same,
    End,
}

/// What is sent: a whole request, or a piece of one that was refused.
pub(super) struct Offer<'o> {
    pub(super) body: &'o Bytes,
    pub(super) encoding: Encoding,
    pub(super) counts: Counts,
    pub(super) last_ms: i64,
    /// When it was queued, Unix milliseconds.
    pub(super) queued_ms: i64,
    /// It was one of 2.0 that the receiver did not seem to understand.
    pub(super) was_v2: bool,
}

impl LaneSender {
    pub(super) fn new(
        link: Arc<Link>,
        queue: Arc<Queue>,
        reader: LaneReader,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let is_aside = queue.is_aside(reader.lane());
        let gatherer = if is_aside { Gatherer::of_single_records() } else { Gatherer::default() };
        let ahead = Ahead::default();
        Self {
            link,
            reader,
            phase,
            gatherer,
            queue,
            is_aside,
            ahead,
            sweep_from: None,
            answered_in: Duration::MAX,
        }
    }

    /// Whether the lane holds what was refused before.
    pub(super) fn is_aside(&self) -> bool {
        self.is_aside
    }

    /// Sends until the lane is retired or the sender is to end.
    pub(super) async fn run(mut self) {
        let samples_max = self.link.config.queue.max_samples_per_send as u64;
        if !self.look_aside().await {
            return;
        }
        if self.is_aside() {
            self.resume_ahead();
        }
        loop {
            let phase = *self.phase.borrow_and_update();
            if matches!(phase, Phase::Yield | Phase::Stop) {
                return;
            }
            if phase == Phase::Drain {
                self.reader.end();
            }
            let now = Instant::now();
            let bytes_max = self.link.body_size.joined_max(now);
            // Of a request of several samples a series each is asked for alone, and a receiver of 1.0 that stores some of what it
            // refuses makes all of it fall apart (`stored_in_part`). Where one new series is refused there may be more.
            let in_doubt = self.link.refused_series.is_in_doubt(now);
            let samples_max = if in_doubt || self.is_aside() { 0 } else { samples_max };
            if self.is_aside() {
                self.sweep().await;
            }
            if let Some(mut request) = self.gatherer.gather(&mut self.reader, samples_max, bytes_max) {
                if self.is_aside() {
                    // What is marked as in flight may be what was sent ahead.
                    request.maybe_stored &=
                        request.was_put_aside_so || self.ahead.is_resumed_whole(request.upto);
                }
                if self.deliver(request).await == Next::End {
                    return;
                }
                continue;
            }
            if self.is_aside() {
                self.forget_ahead();
            }
            // What waits for other lanes has its turn when these are sent. What lies in memory behind something unreadable is lost
            // if it is not sent now.
            let reader = &self.reader;
            let more = reader.waits_for_others() || reader.is_searching() || reader.holds_up_memory();
            if phase == Phase::Drain && !more {
                return;
            }
            tokio::select! {
                woken = self.reader.wait() => if woken == Wake::Retired { return },
                changed = self.phase.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn deliver(&mut self, mut request: Request) -> Next {
        let mut rest = self.take_rest(&request);
        let next = loop {
            let next = match rest.take() {
                Some(rest) => self.deliver_rest(&mut request, rest).await,
                None => self.deliver_once(&mut request).await,
            };
            if next != Next::Same {
                break next;
            }
        };
        if next == Next::Record {
            self.gatherer.give_back(request.body);
        }
        next
    }

    async fn deliver_once(&mut self, request: &mut Request) -> Next {
        if self.is_aside() {
            self.mark_asked(request.upto);
            return self.deliver_pieces(request, Why::Aside).await;
        }
        self.reader.mark(request.upto);
        if request.encoding == Encoding::V2 && self.link.lacks_v2() {
            return self.deliver_pieces(request, Why::NoV2).await;
        }
        let cutoff_ms = self.cutoff_ms();
        if request.counts.points() > 0 && request.first_ms < cutoff_ms && request.last_ms >= cutoff_ms {
            // The rest goes piece by piece.
            return self.deliver_pieces(request, Why::TooOld).await;
        }
        if self.is_to_be_split(request.body.len(), request.maybe_stored) {
            return self.deliver_pieces(request, Why::TooLarge).await;
        }
        if let Some(units) = self.holding_refused(request) {
            return self.deliver_pieces(request, Why::Known(units)).await;
        }
        let Request { encoding, counts, last_ms, queued_ms, .. } = *request;
        let Request { body, maybe_stored, .. } = request;
        let offer = Offer { body, encoding, counts, last_ms, queued_ms, was_v2: false };
        match self.offer(&offer, maybe_stored).await {
            Fate::Accepted => self.answered(request.last_ms),
            Fate::InPart(refusal, written) => {
                self.sent_in_part(&offer, &refusal, &written, *maybe_stored).await;
            }
            Fate::TooOld => self.too_old(&request.counts),
            Fate::Unwanted(refusal) => {
                self.answered(request.last_ms);
                self.refused(Reason::RateLimited, &request.counts, &refusal);
            }
            Fate::NoV2 | Fate::NoV1 => return self.deliver_pieces(request, Why::NoV2).await,
            Fate::Refused(refusal) => {
                let alone = self.reason(&refusal, queued_ms, request.maybe_stored).await;
                return self.deliver_pieces(request, Why::Refused(refusal, alone)).await;
            }
            Fate::TooLarge(refusal) => {
                return self.deliver_pieces(request, Why::Refused(refusal, Reason::TooLarge)).await;
            }
            Fate::Dropped => return Next::Record,
            Fate::Stopped => {
                if !request.maybe_stored {
                    self.reader.unmark();
                }
                return Next::End;
            }
        }
        self.reader.ack(request.upto);
        Next::Record
    }

    /// Whether it is to send no more than what is under way.
    pub(super) fn is_to_end(&self) -> bool {
        *self.phase.borrow() >= Phase::Yield
    }

    /// Waits until it may ask, if the lane is one of those aside. `first`: for what is not asked for again and again. False: the sender is to end.
    pub(super) async fn has_turn(&mut self, first: bool) -> bool {
        if !self.is_aside {
            return true;
        }
        let (pace, now) = (&self.link.pace, tokio::time::Instant::now());
        let turn = if first { pace.first_turn(now, self.answered_in) } else { pace.turn(now) };
        tokio::select! {
            biased;
            () = reached(&mut self.phase, Phase::Yield) => false,
            () = tokio::time::sleep_until(turn) => true,
        }
    }

    /// Sends until there is an answer that will not change.
    pub(super) async fn offer(&mut self, offer: &Offer<'_>, maybe_stored: &mut bool) -> Fate {
        let begun = Instant::now();
        let fate = self.send_until_answered(offer, maybe_stored).await;
        self.answered_in = begun.elapsed();
        if matches!(fate, Fate::Accepted | Fate::InPart(..)) {
            self.link.body_size.accepted(offer.body.len());
        }
        if fate.is_answer() {
            // Once, however often it was sent, as Prometheus counts them.
            self.link.metrics.bytes.increment(offer.body.len() as u64);
        }
        fate
    }

    async fn send_until_answered(&mut self, offer: &Offer<'_>, maybe_stored: &mut bool) -> Fate {
        let link = Arc::clone(&self.link);
        let mut backoff = Backoff::new(link.config.queue.min_backoff, link.config.queue.max_backoff);
        let mut attempt = 0;
        loop {
            if self.reader.is_dropped() {
                return Fate::Dropped;
            }
            if offer.counts.points() > 0 && offer.last_ms < self.cutoff_ms() {
                return Fate::TooOld;
            }
            link.metrics.sent.add(&offer.counts);
            if attempt > 0 {
                link.metrics.retried.add(&offer.counts);
            }
            let answer = tokio::select! {
                answer = link.attempt(offer.body.clone(), offer.encoding, attempt) => answer,
                () = reached(&mut self.phase, Phase::Stop) => {
                    // It may be under way.
                    *maybe_stored = true;
                    return Fate::Stopped;
                }
            };
            let (why, after) = match answer {
                Answer::Accepted { written: None, .. } => return Fate::Accepted,
                Answer::Accepted { status, written: Some(written) } => {
                    if written.missing_of(&offer.counts) == Counts::default() {
                        return Fate::Accepted;
                    }
                    let message = "accepted, and not all of it stored".to_owned();
                    return Fate::InPart(Refusal { status, message }, written);
                }
                Answer::Hinted { why } => match link.hinted(&why) {
                    Hinted::AsV1 { maybe_stored: stored } => {
                        *maybe_stored |= stored;
                        return Fate::NoV2;
                    }
                    Hinted::Stored => return Fate::Accepted,
                    Hinted::Again => {
                        *maybe_stored = true;
                        (why, None)
                    }
                },
                Answer::NoV2 { why } => {
                    if link.refused_v2(&why) == Refused::Neither && !self.rest(&backoff, &why).await {
                        return Fate::Stopped;
                    }
                    return Fate::NoV2;
                }
                Answer::Refused(refusal, Some(written)) if link.stores_in_part(&written) => {
                    return Fate::InPart(refusal, written);
                }
                // It may just not understand it. Nothing is given up for that; 1.0 shows what it thinks of the samples.
                Answer::Refused(_, None) if offer.encoding == Encoding::V2 && !link.speaks_v2() => {
                    return Fate::NoV2;
                }
                Answer::NoV1 { why } if offer.was_v2 => {
                    if link.refused_v1(&why) == Refused::Neither && !self.rest(&backoff, &why).await {
                        return Fate::Stopped;
                    }
                    return Fate::NoV1;
                }
                Answer::NoV1 { why } => (why, None),
                Answer::Refused(refusal, _) => return Fate::Refused(refusal),
                Answer::TooLarge(refusal) => {
                    link.refused_as_too_large(offer.body.len());
                    return Fate::TooLarge(refusal);
                }
                Answer::Unwanted(refusal) => return Fate::Unwanted(refusal),
                Answer::Again { why, after, maybe_stored: stored } => {
                    *maybe_stored |= stored;
                    (why, after)
                }
            };
            attempt += 1;
            let pause = backoff.pause(after);
            if let Some(untold) = link.retries.tell(Instant::now()) {
                tracing::warn!(
                    destination = link.config.name,
                    why,
                    attempt,
                    ?pause,
                    untold,
                    "a request is sent again"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = reached(&mut self.phase, Phase::Yield) => return Fate::Stopped,
            }
        }
    }

    /// Waits before a receiver that takes neither version is asked again. False: the sender is to end.
    async fn rest(&mut self, backoff: &Backoff, why: &str) -> bool {
        if let Some(untold) = self.link.retries.tell(Instant::now()) {
            tracing::warn!(
                destination = self.link.config.name,
                why,
                untold,
                "the receiver takes neither 1.0 nor 2.0 of remote write; both are tried in turn"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.longest()) => true,
            () = reached(&mut self.phase, Phase::Yield) => false,
        }
    }

    /// Whether a body of so many bytes goes in pieces though nobody has refused it. One of which a copy may have been stored
    /// goes as that went.
    pub(super) fn is_to_be_split(&self, bytes: usize, maybe_stored: bool) -> bool {
        !maybe_stored && bytes >= self.link.body_size.least_refused(Instant::now())
    }

    /// The receiver has taken samples up to this time, or refused them for good: it is not behind, whatever it thinks of them.
    pub(super) fn answered(&self, last_ms: i64) {
        self.link.metrics.answered_up_to(last_ms);
    }

    /// Counts what a receiver of 2.0 says that it has not stored of a request.
    pub(super) async fn sent_in_part(
        &mut self,
        offer: &Offer<'_>,
        refusal: &Refusal,
        written: &Written,
        maybe_stored: bool,
    ) {
        let missing = written.missing_of(&offer.counts);
        self.answered(offer.last_ms);
        let otherwise = if refusal.status < 300 {
            Reason::NotWritten
        } else {
            Reason::told(refusal.status, &refusal.message)
        };
        let overtaken = missing.points() > 0 && self.is_overtaken(offer.queued_ms).await;
        for (reason, counts) in written.by_reason(missing, otherwise, (maybe_stored, overtaken)) {
            self.refused(reason, &counts, refusal);
        }
    }

    /// The reason for a sample that is refused alone, from what the receiver said. `maybe_stored`: an earlier copy of the
    /// request, which was queued at `queued_ms`, may have been stored.
    pub(super) async fn reason(&mut self, refusal: &Refusal, queued_ms: i64, maybe_stored: bool) -> Reason {
        let told = Reason::told(refusal.status, &refusal.message);
        let overtaken = told.may_be_loss() && self.is_overtaken(queued_ms).await;
        told.seen_from(maybe_stored, overtaken)
    }

    /// Whether others may have overtaken what was queued then. Right after a start and after a pause this takes an allocator's
    /// answer.
    async fn is_overtaken(&mut self, queued_ms: i64) -> bool {
        let link = Arc::clone(&self.link);
        let Some(gate) = &link.gate else { return false };
        let overtaken_ms = tokio::select! {
            biased;
            overtaken_ms = gate.overtaken_ms() => overtaken_ms,
            () = reached(&mut self.phase, Phase::Yield) => None,
        };
        overtaken_ms.is_some_and(|overtaken_ms| queued_ms <= overtaken_ms)
    }

    pub(super) fn refused(&self, reason: Reason, counts: &Counts, refusal: &Refusal) {
        self.link.metrics.refused(reason, counts);
        // Exemplars alone are no line: a receiver may be set up to keep none.
        if reason != Reason::AlreadyStored
            && counts.points() + counts.metadata > 0
            && let Some(untold) = self.link.refusals.tell(Instant::now())
        {
            tracing::error!(
                destination = self.link.config.name,
                reason = reason.as_str(),
                status = refusal.status,
                answer = refusal.message,
                samples = counts.points(),
                untold,
                "the receiver refuses samples for good"
            );
        }
    }

    /// Samples before this time are not sent.
    pub(super) fn cutoff_ms(&self) -> i64 {
        let limit = self.link.config.queue.sample_age_limit;
        if limit.is_zero() {
            return i64::MIN;
        }
        promring_net::clock::now_ms().saturating_sub(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Returns when the sender is asked for this, or more.
async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // An error says that nobody can ask any more, which is an end as well.
    let _ended = phase.wait_for(|phase| *phase >= wanted).await;
}
