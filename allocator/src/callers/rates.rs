//! How often a scraper may call, and how many of its polls may be open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::state::SCRAPERS_MAX;

/// Polls and reports that a scraper may make in the long run, a second: a heartbeat is one in two seconds, and every new
/// version is a poll and a report.
const PER_SECOND: f64 = 50.0;

/// Those that it may make at once.
const BURST: f64 = 200.0;

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
    pub(super) fn take(&mut self, per_second: f64, burst: f64, now: Instant) -> bool {
        self.left =
            (self.left + now.saturating_duration_since(self.at).as_secs_f64() * per_second).min(burst);
        self.at = now;
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }

    /// Whether it has been left alone for so long that a new one would be the same.
    fn is_full(&self, now: Instant) -> bool {
        self.left + now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND >= BURST
    }
}

/// The allowances of all scrapers. Clones share them.
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
    pub(super) fn take(&self, scraper: &str, now: Instant) -> Result<(), &'static str> {
        let mut by_name = self.lock();
        if let Some(calls) = by_name.get_mut(scraper) {
            let allowed = calls.bucket.take(PER_SECOND, BURST, now);
            return if allowed { Ok(()) } else { Err("this scraper calls too often") };
        }
        if by_name.len() >= SCRAPERS_MAX {
            by_name.retain(|_, calls| calls.polls > 0 || !calls.bucket.is_full(now));
        }
        if by_name.len() >= SCRAPERS_MAX {
            return Err("more scrapers call than can be known");
        }
        let mut bucket = Bucket::new(BURST, now);
        bucket.take(PER_SECOND, BURST, now);
        by_name.insert(scraper.to_owned(), Calls { bucket, polls: 0 });
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
        let all = |name: &str, now| (0..1_000).filter(|_| rates.take(name, now).is_ok()).count();
        assert_eq!(all("a", start), BURST as usize);
        assert_eq!(all("b", start), BURST as usize);
        assert_eq!(all("a", start + Duration::from_secs(1)), PER_SECOND as usize);
        assert_eq!(all("a", start + Duration::from_secs(3_600)), BURST as usize);
    }

    #[test]
    fn names_beyond_those_that_can_be_known_wait_until_others_have_been_quiet() {
        let rates = Rates::default();
        let start = Instant::now();
        for number in 0..SCRAPERS_MAX {
            assert_eq!(rates.take(&number.to_string(), start), Ok(()));
        }
        let poll = rates.open_poll("0");
        assert!(rates.take("one-more", start).is_err());
        let later = start + Duration::from_secs(60);
        assert_eq!(rates.take("one-more", later), Ok(()));
        assert_eq!(rates.lock().len(), 2, "the one that polls is still known");
        drop(poll);
    }

    #[test]
    fn a_scraper_has_so_many_open_polls_and_no_more() {
        let rates = Rates::default();
        assert!(rates.open_poll("a").is_none(), "nobody of this name has called");
        rates.take("a", Instant::now()).unwrap();
        let mut open: Vec<_> = (0..POLLS_MAX).map(|_| rates.open_poll("a").unwrap()).collect();
        assert!(rates.open_poll("a").is_none());
        open.pop();
        assert!(rates.open_poll("a").is_some());
    }
}
