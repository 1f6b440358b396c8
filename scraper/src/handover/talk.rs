//! The talk with the allocator: long polls, and reports.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use promring_model::handover::Reply;
use promring_net::clock::now_ms;
use promring_proto::api::{Report, ReportAnswer};
use rand::RngExt as _;
use tokio::time::Instant;

use crate::Scraper;
use crate::assignment::{Poll, ReportError};

/// The first pause after a poll that failed; it doubles with every further one.
const POLL_BACKOFF_MIN: Duration = Duration::from_millis(200);

/// The longest pause: a new leader is found within this.
const POLL_BACKOFF_MAX: Duration = Duration::from_secs(2);

/// So long after a poll was sent, what a reply to a report says is newer should have come.
const BEHIND: Duration = Duration::from_secs(1);

/// So many bytes of a report may tell of targets: an allocator takes far more, and is not kept from others for long.
const TARGETS_BYTES_MAX: usize = 4 << 20;

/// Where reports are too large, they become smaller down to this.
const TARGETS_BYTES_MIN: usize = 64 << 10;

/// What a poll came to.
enum Polled {
    /// Go on with the next one.
    Next,
    /// After a pause.
    Pause,
    /// After a pause, and ask for everything.
    Everything,
}

impl Scraper {
    /// Polls the allocator and brings its answers into force.
    pub(super) async fn follow_assignment(&self) {
        let mut backoff = POLL_BACKOFF_MIN;
        let mut everything = false;
        loop {
            let polled = self.poll(everything).await;
            everything = matches!(polled, Polled::Everything);
            if matches!(polled, Polled::Next) {
                backoff = POLL_BACKOFF_MIN;
            } else {
                tokio::time::sleep(jittered(backoff)).await;
                backoff = (backoff * 2).min(POLL_BACKOFF_MAX);
            }
        }
    }

    async fn poll(&self, everything: bool) -> Polled {
        let gate = &self.shared.environment.gate;
        let (asked_ms, asked) = (now_ms(), Instant::now());
        let (run, version, doubting) =
            gate.with(|member| (member.run(), member.version(), member.is_doubting()));
        let held = version.filter(|_| !everything);
        let answer = tokio::select! {
            // Whoever is in doubt wants to know now whether anything is new.
            answer = self.shared.client.poll(run, held, !doubting) => answer,
            // An answer may be under way; if it is not, the next poll asks for it.
            () = self.overdue(asked, doubting) => return Polled::Next,
        };
        match answer {
            Ok(Poll::Changed(answer)) => {
                let taken = self.manager().apply(*answer, asked_ms);
                if taken { Polled::Next } else { Polled::Everything }
            }
            Ok(Poll::Unchanged) => {
                if let Some(held) = held {
                    gate.with(|member| member.confirm(held, asked_ms, now_ms()));
                }
                // An older leader's word ends no doubt.
                if gate.with(|member| member.is_doubting()) { Polled::Pause } else { Polled::Next }
            }
            Ok(Poll::NotReady(reason)) => {
                tracing::debug!(reason, "the allocator gives out nothing yet");
                Polled::Pause
            }
            Err(error) => {
                tracing::warn!(error, "no assignment from the allocator; scraping goes on with what is held");
                Polled::Pause
            }
        }
    }

    /// Returns when the poll that was sent then should be given up.
    async fn overdue(&self, asked: Instant, was_doubting: bool) {
        let gate = &self.shared.environment.gate;
        loop {
            gate.asks.notified().await;
            let (doubting, behind) = gate.with(|member| (member.is_doubting(), member.is_behind()));
            if doubting && !was_doubting {
                // What was asked before says nothing any more.
                return;
            }
            if behind {
                tokio::time::sleep_until(asked + BEHIND).await;
                if gate.with(|member| member.is_behind()) {
                    return;
                }
            }
        }
    }

    /// Reports at every heartbeat, and at once when there is something that others wait for.
    pub(super) async fn report_always(&self) {
        let mut full = true;
        let mut told = true;
        let mut bytes_max = TARGETS_BYTES_MAX;
        loop {
            let heartbeat = self.config().scraper.heartbeat;
            let begun = Instant::now();
            let mut again = true;
            while std::mem::take(&mut again) {
                // While the volume does not take what would be said, there is a sign of life and no more.
                let Some((report, is_cut)) = self
                    .report(full, bytes_max)
                    .or_else(|| (begun.elapsed() >= heartbeat).then(|| (self.sign_of_life(), false)))
                else {
                    let left = heartbeat.saturating_sub(begun.elapsed());
                    let gate = &self.shared.environment.gate;
                    let _in_time = tokio::time::timeout(left, gate.changed.notified()).await;
                    again = true;
                    continue;
                };
                match self.shared.client.report(&report).await {
                    Ok(answer) => {
                        // An allocator that does not know us yet wants everything, at once. What did not fit follows.
                        again =
                            self.replied(&report, &answer) || answer.full && !full || is_cut && !answer.full;
                        full = answer.full || full && !report.full;
                        told = true;
                    }
                    Err(error) => {
                        self.shared.environment.statuses.give_back(&report.targets);
                        let is_news = std::mem::take(&mut told);
                        match error {
                            ReportError::TooLarge(error) => {
                                if is_news || bytes_max > TARGETS_BYTES_MIN {
                                    tracing::error!(
                                        error,
                                        "a report is too large; the next ones tell of fewer targets. Have whatever stands between scraper and allocator pass requests of 64 MiB, or run more scrapers"
                                    );
                                }
                                bytes_max = (bytes_max / 2).max(TARGETS_BYTES_MIN);
                                again = self.report_in_short().await;
                            }
                            ReportError::Failed(error) if is_news => {
                                tracing::warn!(error, "the allocator cannot be reported to");
                            }
                            ReportError::Failed(_) => {}
                        }
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(heartbeat) => {}
                () = self.shared.environment.gate.changed.notified() => {}
            }
        }
    }

    /// Says what others wait for and nothing of targets, so that nobody takes this scraper for lost; where even that is too large, that
    /// it is alive. True: another report should follow at once.
    async fn report_in_short(&self) -> bool {
        for report in self.without_targets().into_iter().chain([self.sign_of_life()]) {
            match self.shared.client.report(&report).await {
                // If it wants to know of all targets: that is what is too large.
                Ok(answer) => return self.replied(&report, &answer),
                Err(ReportError::TooLarge(_)) => {}
                Err(ReportError::Failed(_)) => return false,
            }
        }
        false
    }

    /// Takes the answer to a report. True: another one should follow at once.
    pub(super) fn replied(&self, report: &Report, answer: &ReportAnswer) -> bool {
        let ReportAnswer { term, leaving, alone, staying, full_claims, sequence, version, spare, .. } =
            *answer;
        let shared = &self.shared;
        shared.leaving.store(leaving, Ordering::Relaxed);
        shared.alone.store(alone, Ordering::Relaxed);
        if let Some(spare) = spare {
            shared.spare.store(spare, Ordering::Relaxed);
        }
        *shared.staying.lock().unwrap_or_else(PoisonError::into_inner) = staying;
        // An allocator of a version without hand-over does not repeat the number.
        let knows = sequence == report.handover.sequence && sequence > 0;
        shared.hands_over.store(knows, Ordering::Relaxed);
        let reply = Reply { term, full: full_claims, sequence, version };
        let gate = &shared.environment.gate;
        let (again, behind) = gate.with(|member| (member.replied(reply, now_ms()), member.is_behind()));
        if behind {
            gate.asks.notify_one();
        }
        again && knows
    }

    /// The next report; None while what it would say is not safe yet. It tells of all targets, or of those that were scraped since
    /// the last one, but of no more than `bytes_max` hold: where there are more, the second value says so.
    pub(super) fn report(&self, full: bool, bytes_max: usize) -> Option<(Report, bool)> {
        let report = self.without_targets()?;
        let statuses = &self.shared.environment.statuses;
        if full {
            statuses.tell_all(self.manager().targets().map(|target| target.id));
        }
        let (targets, is_cut) = statuses.take_changed(bytes_max);
        Some((Report { full, targets, ..report }, is_cut))
    }

    /// The same without anything of targets but which it has.
    pub(super) fn without_targets(&self) -> Option<Report> {
        let progress = self.progress();
        let gate = &self.shared.environment.gate;
        let handover = gate.with(|member| {
            member.set_progress(progress);
            member.report(now_ms())
        })?;
        let version = handover.version;
        Some(Report { version, handover, ..self.sign_of_life() })
    }

    /// A report that says nothing of what must be safe before it is said.
    fn sign_of_life(&self) -> Report {
        let manager = self.manager();
        Report {
            version: None,
            address: self.shared.options.advertise.clone(),
            node: self.shared.options.node.clone(),
            spare: self.shared.spare.load(Ordering::Relaxed),
            draining: self.is_draining(),
            full: false,
            targets: Vec::new(),
            queues: self.queues(),
            samples_total: self.shared.environment.statuses.samples_total(),
            external_labels_hash: format!("{:016x}", self.config().external_labels.hash64()),
            config_mismatch: manager.mismatches(),
            unknown_jobs: manager.unknown_jobs(),
            handover: Default::default(),
        }
    }
}

/// Between half and all of it, so that scrapers that lost the allocator together do not come back together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..=1.0))
}
