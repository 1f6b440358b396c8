//! The end of a scraper: its targets go to others first, then what it has is sent.

use std::pin::Pin;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use promring_model::config::ScraperSettings;
use promring_model::handover::{Drain, Staying};
use promring_model::target::TargetKey;
use promring_net::clock::now_ms;
use tokio::time::Instant;

use super::tend::INTERVAL;
use crate::Scraper;
use crate::manager::Task;

/// On a stop, how long a scrape in flight may take beyond its timeout: what it brought is still parsed and queued.
const SCRAPES_END_SPARE: Duration = Duration::from_secs(5);

/// On a stop, how long the allocator may take to say whether this scraper is leaving, and to hear the last of it.
const LAST_REPORT_MAX: Duration = Duration::from_secs(2);

/// How long a stop may take beside `scraper.fence_max`: the chart lets no grace period be shorter than both together.
const STOP_MAX: Duration = Duration::from_secs(30);

/// What is left of that for the last report and for closing the queues.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// How long who takes the targets may take to fetch their series.
const FETCH_MAX: Duration = Duration::from_secs(3);

impl Scraper {
    /// Runs until the stop begins, then hands its targets over, ends the scrapes in flight, sends what is queued as far as
    /// time allows, of which one that is leaving takes more, and leaves the rest on disk.
    pub async fn run(&self) {
        let shared = &self.shared;
        let live = self.live();
        let mut live = std::pin::pin!(live);
        tokio::select! {
            () = &mut live => {}
            () = shared.stopping.wait() => {}
        }
        let begun = Instant::now();
        tokio::select! {
            () = &mut live => {}
            () = self.hand_all_over() => {}
            () = shared.hurry.wait() => {}
        }
        shared.environment.stopping.trigger();
        tokio::select! {
            () = &mut live => {}
            () = self.end_scrapes(begun) => {}
            () = shared.hurry.wait() => {}
        }
        tokio::select! {
            () = &mut live => {}
            () = self.empty_queues(begun) => {}
            () = shared.hurry.wait() => {}
        }
        // Whatever was cut short: the rest is on disk.
        shared.destinations.finish(Duration::ZERO).await;
        shared.destinations.tell_what_stays();
        self.say_last(live).await;
    }

    /// What goes on for as long as the process does.
    pub(super) async fn live(&self) {
        tokio::select! {
            () = self.follow_assignment() => {}
            () = self.report_always() => {}
            () = self.shared.destinations.flush_always() => {}
            () = self.save_always() => {}
            () = self.tend_always() => {}
            () = self.tidy_always() => {}
        }
    }

    /// Ends a stop that has begun at once: nothing more is handed over or sent.
    pub fn hurry(&self) {
        self.shared.hurry.trigger();
    }

    /// Whether this scraper is on its way out.
    pub(super) fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
            || self.shared.environment.gate.with(|member| member.is_draining())
    }

    /// Returns when others have the targets, or when nobody will.
    async fn hand_all_over(&self) {
        let gate = &self.shared.environment.gate;
        if !self.shared.hands_over.load(Ordering::Relaxed) {
            // No allocator has answered, or one that knows no hand-over.
            return;
        }
        gate.with(|member| member.drain(now_ms()));
        gate.changed.notify_one();
        let begun = Instant::now();
        let mut given = None;
        let end = loop {
            let alone = self.shared.alone.load(Ordering::Relaxed);
            let staying = *self.shared.staying.lock().unwrap_or_else(PoisonError::into_inner);
            let end = gate.with(|member| {
                member.noticed(self.shared.client.heard_ms());
                member.drained(alone, staying, now_ms())
            });
            // The series of the last scrapes go with this process.
            let mut is_told =
                || given.get_or_insert_with(Instant::now).elapsed() >= FETCH_MAX || !self.owes_series();
            let is_over = match end {
                Drain::Waiting => false,
                // What has come meanwhile is handed over as well.
                Drain::Given => is_told() && gate.with(|member| member.close(now_ms())),
                Drain::Left(_) => is_told(),
                Drain::No | Drain::InVain => true,
            };
            if is_over {
                break end;
            }
            tokio::time::sleep(INTERVAL / 2).await;
        };
        if end == Drain::InVain {
            tracing::info!("no other scraper takes the targets of this one");
            return;
        }
        if let Drain::Left(Staying { unknown, unready, .. }) = end {
            tracing::warn!(
                unknown,
                unready,
                "targets stay with this scraper and end with it: those that are unknown to the allocator, as their discovery has not synced since it started, and those for which no other scraper got ready, as its configuration does not have their job"
            );
        }
        tracing::info!(
            seconds = begun.elapsed().as_secs_f64(),
            "other scrapers have the targets of this one"
        );
    }

    fn owes_series(&self) -> bool {
        let gate = &self.shared.environment.gate;
        // Those that were shown, and those that are going to be.
        let shown = |key: &TargetKey| gate.given.is_fetched(*key);
        let keys: Vec<TargetKey> = gate.with(|member| {
            let giving = member.giving().flat_map(|(_, _, keys)| keys);
            giving.copied().collect()
        });
        gate.given.is_waiting() || !keys.iter().all(shown)
    }

    /// Loops end by themselves once `stopping` is triggered, after the scrape in flight. That ends with its timeout. `begun` is when
    /// the stop began: what is queued keeps its time.
    pub(super) async fn end_scrapes(&self, begun: Instant) {
        let (tasks, timeout) = {
            let mut manager = self.manager();
            (manager.take_tasks(), manager.scrape_timeout_max())
        };
        let end = scrapes_end(Instant::now(), begun, timeout, &self.config().scraper);
        if !have_ended(tasks, end).await {
            tracing::warn!("scrapes in flight did not end in time");
            return;
        }
        let gate = &self.shared.environment.gate;
        gate.with(|member| member.end());
        gate.changed.notify_one();
    }

    /// Sends what is queued: for a moment, as a restart is over soon; or, if this scraper is leaving, until all is sent,
    /// `scraper.fence_max` at most. `begun` is when the stop began.
    async fn empty_queues(&self, begun: Instant) {
        let ScraperSettings { flush_timeout, fence_max, .. } = self.config().scraper.clone();
        let shared = &self.shared;
        // A request that is under way is answered, whatever its receiver takes for that, as long as there is time.
        let last = begun + (STOP_MAX - CLOSE_MAX) + fence_max;
        // Counted from here, as what hands targets over must not eat up a short one. Where that took longer than is set aside
        // for it, there is less: whoever stops this process has counted on no more.
        let end = (Instant::now() + fence_max).min(last);
        // A scale-in and the stop come together, so this may be news.
        let asked = self.report_once();
        if !matches!(tokio::time::timeout(LAST_REPORT_MAX, asked).await, Ok(true)) {
            // Who is not told so is not leaving: a restart must not take minutes because the allocator is away.
            shared.leaving.store(false, Ordering::Relaxed);
        }
        if !shared.leaving.load(Ordering::Relaxed) {
            return shared.destinations.finish_by(Instant::now() + flush_timeout, last).await;
        }
        tracing::info!(
            time = ?end.saturating_duration_since(Instant::now()),
            "this scraper is leaving: all that is queued is sent, as far as receivers take it in this time; another signal ends this at once"
        );
        shared.draining.store(true, Ordering::Relaxed);
        shared.destinations.drain(end, last).await;
    }

    /// Reports. False: nobody heard it.
    async fn report_once(&self) -> bool {
        loop {
            if let Some(report) = self.without_targets() {
                let answer = self.shared.client.report(&report).await;
                if let Ok(answer) = &answer {
                    self.replied(&report, answer);
                }
                return answer.is_ok();
            }
            // What it would say is being saved.
            tokio::time::sleep(INTERVAL / 4).await;
        }
    }

    /// The allocator shows what is left behind, and takers go on with what was sent.
    async fn say_last<F: Future<Output = ()>>(&self, live: Pin<&mut F>) {
        self.tell_sent();
        if self.is_draining() || self.shared.environment.gate.with(|member| member.is_moving()) {
            let said = tokio::time::timeout(LAST_REPORT_MAX, self.report_once());
            tokio::select! {
                _nobody_hears_it = said => {}
                () = live => {}
            }
        }
    }
}

/// Until when scrapes in flight are waited for, of which none takes longer than `timeout`: no longer than leaves the queue the time
/// to be flushed, `begun` being when the stop began.
fn scrapes_end(now: Instant, begun: Instant, timeout: Duration, settings: &ScraperSettings) -> Instant {
    let last = begun + (STOP_MAX - CLOSE_MAX) + settings.fence_max.saturating_sub(settings.flush_timeout);
    (now + timeout + SCRAPES_END_SPARE).min(last)
}

/// Waits for loops to end. False: not all have by then.
async fn have_ended(tasks: Vec<Task>, end: Instant) -> bool {
    let ended = async {
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a target's loop ended abnormally");
            }
        }
    };
    tokio::time::timeout_at(end, ended).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a scrape that answers after so long is waited for, where the hand-over took `before`.
    async fn is_waited_for(
        takes: Duration,
        timeout: Duration,
        before: Duration,
        fence_max: Duration,
    ) -> bool {
        let settings = ScraperSettings { fence_max, ..ScraperSettings::default() };
        let begun = Instant::now();
        tokio::time::sleep(before).await;
        let task = tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            None
        });
        have_ended(vec![task], scrapes_end(Instant::now(), begun, timeout, &settings)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_scrape_in_flight_is_waited_for_as_long_as_its_timeout_lets_it_take() {
        let seconds = Duration::from_secs;
        let fence_max = seconds(300);
        assert!(is_waited_for(seconds(29), seconds(29), seconds(8), fence_max).await);
        assert!(is_waited_for(seconds(120), seconds(120), seconds(8), fence_max).await);
        assert!(!is_waited_for(seconds(60), seconds(29), seconds(8), fence_max).await, "it hangs");
        assert!(
            !is_waited_for(seconds(310), seconds(600), seconds(20), fence_max).await,
            "the process has no more"
        );
        assert!(
            !is_waited_for(seconds(25), seconds(29), seconds(8), seconds(6)).await,
            "a short grace period"
        );
    }
}
