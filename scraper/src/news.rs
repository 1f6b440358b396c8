//! What is worth a line in the log, at most once a minute; the metrics count the rest.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most one line in this time.
const PAUSE: Duration = Duration::from_secs(60);

/// One kind of message.
#[derive(Debug, Default)]
pub(crate) struct News(Mutex<Option<Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    /// Messages since, that were not logged.
    untold: u64,
}

impl News {
    /// Whether this message is to be logged, and if so, how many before it were not.
    pub(crate) fn tell(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *told {
            Some(last) if now.saturating_duration_since(last.at) < PAUSE => {
                last.untold += 1;
                None
            }
            _ => {
                let untold = told.take().map_or(0, |last| last.untold);
                *told = Some(Told { at: now, untold: 0 });
                Some(untold)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told_once_a_minute_with_the_number_of_those_that_were_not() {
        let news = News::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(news.tell(at(0)), Some(0));
        assert_eq!(news.tell(at(1)), None);
        assert_eq!(news.tell(at(59)), None);
        assert_eq!(news.tell(at(60)), Some(2));
        assert_eq!(news.tell(at(200)), Some(0));
    }
}
