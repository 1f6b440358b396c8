//! How often a scraper may call, and how many of its polls may be open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::state::SCRAPERS_MAX;

/// How often a caller may come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Allowance {
    /// In the long run, a second.
    pub(super) per_second: f64,
    /// At once.
    pub(super) burst: f64,
}

impl Allowance {
    /// Of a scraper, for polls and reports together: a heartbeat is one in two seconds, and every new version is a poll and
    /// a report.
    pub(super) const SCRAPER: Self = Self { per_second: 50.0, burst: 200.0 };

    /// Of a drop-in client, which asks for each job by itself: twice at once, and every five seconds.
    pub(super) fn client(jobs: usize) -> Self {
        let Self { per_second, burst } = Self::SCRAPER;
        let jobs = jobs as f64;
        Self { per_second: per_second.max(jobs / 5.0), burst: burst.max(jobs * 2.0) }
    }
}

/// Polls of one scraper that may be open: those of connections that broke unseen stay for a while.
const POLLS_MAX: usize = 32;

/// An allowance that fills with time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(burst: f64, now: Instant) -> Self {
        Self { left: burst, at: now }
    }

    /// Takes one, where there is one.
    pub(super) fn take(&mut self, allowance: Allowance, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + seconds * allowance.per_second).min(allowance.burst);
        self.at = now;
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }

    /// Whether it has been left alone for so long that a new one would be the same.
    fn is_full(&self, now: Instant) -> bool {
        let Allowance { per_second, burst } = Allowance::SCRAPER;
        self.left + now.saturating_duration_since(self.at).as_secs_f64() * per_second >= burst
    }
}

/// What each caller has left. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    by_name: Arc<Mutex<HashMap<String, Calls>>>,
}

#[derive(Debug)]
struct Calls {
    bucket: Bucket,
    polls: usize,
}

impl Rates {
    /// Counts a call.
    ///
    /// # Errors
    /// Where it comes too often.
    pub(super) fn take(&self, caller: &str, allowance: Allowance, now: Instant) -> Result<(), &'static str> {
        let mut by_name = self.lock();
        if let Some(calls) = by_name.get_mut(caller) {
            let allowed = calls.bucket.take(allowance, now);
            return if allowed { Ok(()) } else { Err("this caller comes too often") };
        }
        if by_name.len() >= SCRAPERS_MAX {
            by_name.retain(|_, calls| calls.polls > 0 || !calls.bucket.is_full(now));
        }
        if by_name.len() >= SCRAPERS_MAX {
            return Err("more callers come than can be known");
        }
        let mut bucket = Bucket::new(allowance.burst, now);
        bucket.take(allowance, now);
        by_name.insert(caller.to_owned(), Calls { bucket, polls: 0 });
        Ok(())
    }

    pub(super) fn open_poll(&self, scraper: &str) -> Option<OpenPoll> {
        let mut by_name = self.lock();
        // Who polls was counted a moment ago.
        let calls = by_name.get_mut(scraper).filter(|calls| calls.polls < POLLS_MAX)?;
        calls.polls += 1;
        Some(OpenPoll { rates: self.clone(), scraper: scraper.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Calls>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A poll that is open, until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenPoll {
    rates: Rates,
    scraper: String,
}

impl Drop for OpenPoll {
    fn drop(&mut self) {
        if let Some(calls) = self.rates.lock().get_mut(&self.scraper) {
            calls.polls -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_calls_too_often_waits_and_others_do_not() {
        let rates = Rates::default();
        let start = Instant::now();
        let calls = |name: &str, allowance, now| {
            (0..10_000).filter(|_| rates.take(name, allowance, now).is_ok()).count()
        };
        let all = |name: &str, now| calls(name, Allowance::SCRAPER, now);
        assert_eq!(all("a", start), 200);
        assert_eq!(all("b", start), 200);
        assert_eq!(all("a", start + Duration::from_secs(1)), 50);
        assert_eq!(all("a", start + Duration::from_secs(3_600)), 200);
        assert_eq!(calls("c", Allowance::client(3), start), 200);
        assert_eq!(calls("d", Allowance::client(1_000), start), 2_000, "twice each job");
        assert_eq!(calls("d", Allowance::client(1_000), start + Duration::from_secs(5)), 1_000);
    }

    #[test]
    fn names_beyond_those_that_can_be_known_wait_until_others_have_been_quiet() {
        let rates = Rates::default();
        let start = Instant::now();
        let take = |name: &str, now| rates.take(name, Allowance::SCRAPER, now);
        for number in 0..SCRAPERS_MAX {
            assert_eq!(take(&number.to_string(), start), Ok(()));
        }
        let poll = rates.open_poll("0");
        assert!(take("one-more", start).is_err());
        let later = start + Duration::from_secs(60);
        assert_eq!(take("one-more", later), Ok(()));
        assert_eq!(rates.lock().len(), 2, "the one that polls is still known");
        drop(poll);
    }

    #[test]
    fn a_scraper_has_so_many_open_polls_and_no_more() {
        let rates = Rates::default();
        assert!(rates.open_poll("a").is_none(), "nobody of this name has called");
        rates.take("a", Allowance::SCRAPER, Instant::now()).unwrap();
        let mut open: Vec<_> = (0..POLLS_MAX).map(|_| rates.open_poll("a").unwrap()).collect();
        assert!(rates.open_poll("a").is_none());
        open.pop();
        assert!(rates.open_poll("a").is_some());
    }
}
