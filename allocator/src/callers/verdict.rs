//! How long a word of the API server on a token counts. Pure: the time comes in.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// A good token is not asked about again for this long.
const GOOD_FOR: Duration = Duration::from_secs(5 * 60);

/// Until so long after the last word it is asked about beside the request, which does not wait.
const RENEWED_FOR: Duration = Duration::from_secs(10 * 60);

/// While the API server gives no answer, a token that was good stays so for this long: a kubelet's tokens live as long.
const UNANSWERED_FOR: Duration = Duration::from_secs(60 * 60);

/// A token that is not good is not asked about again for this long.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// After a question without an answer, how long until the next one.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// For this long a question without an answer says that further ones would have none either.
const SILENCE_LASTS: Duration = Duration::from_secs(30);

/// What is known of one token.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    word: Option<(Word, Instant)>,
    unanswered: Option<Instant>,
}

/// What the API server says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It is this pod's.
    Pod(Arc<str>),
    /// It is not good, for this reason.
    Refused(String),
}

/// What to do about a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It counts as known.
    Known(Word),
    /// It counts as this pod's, and should be asked about.
    Renew(Arc<str>),
    /// The request waits for the API server's word.
    Ask,
}

impl Verdict {
    pub(super) fn standing(&self, now: Instant) -> Standing {
        let since = |at: Instant| now.saturating_duration_since(at);
        match &self.word {
            Some((Word::Refused(reason), at)) if since(*at) < REFUSED_FOR => {
                Standing::Known(Word::Refused(reason.clone()))
            }
            Some((Word::Pod(pod), at)) => {
                let silent = |lasts| self.unanswered.is_some_and(|unanswered| since(unanswered) < lasts);
                let age = since(*at);
                if age < GOOD_FOR {
                    Standing::Known(Word::Pod(Arc::clone(pod)))
                } else if age >= RENEWED_FOR && !(age < UNANSWERED_FOR && silent(SILENCE_LASTS)) {
                    Standing::Ask
                } else if silent(RETRY_AFTER) {
                    Standing::Known(Word::Pod(Arc::clone(pod)))
                } else {
                    Standing::Renew(Arc::clone(pod))
                }
            }
            Some((Word::Refused(_), _)) | None => Standing::Ask,
        }
    }

    /// The API server has spoken.
    pub(super) fn told(&mut self, word: Word, now: Instant) {
        (self.word, self.unanswered) = (Some((word, now)), None);
    }

    /// The API server was asked and gave no answer. Gives the pod that the token still counts as.
    pub(super) fn unanswered(&mut self, now: Instant) -> Option<Arc<str>> {
        self.unanswered = Some(now);
        match &self.word {
            Some((Word::Pod(pod), at)) if now.saturating_duration_since(*at) < UNANSWERED_FOR => {
                Some(Arc::clone(pod))
            }
            _ => None,
        }
    }

    /// Whether forgetting it costs nothing but a question.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        let old = |at: Instant| now.saturating_duration_since(at) >= RENEWED_FOR;
        match &self.word {
            Some((Word::Pod(_), at)) => old(*at) && self.unanswered.is_none_or(old),
            Some((Word::Refused(_), at)) => now.saturating_duration_since(*at) >= REFUSED_FOR,
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn good(start: Instant) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.told(Word::Pod("a".into()), start);
        verdict
    }

    #[test]
    fn a_good_token_is_known_then_renewed_beside_requests_and_at_last_asked_about_before_them() {
        let start = Instant::now();
        let known = Standing::Known(Word::Pod("a".into()));
        assert_eq!(Verdict::default().standing(start), Standing::Ask);
        let verdict = good(start);
        assert_eq!(verdict.standing(start + GOOD_FOR - SECOND), known);
        assert_eq!(verdict.standing(start + GOOD_FOR), Standing::Renew("a".into()));
        assert_eq!(verdict.standing(start + RENEWED_FOR - SECOND), Standing::Renew("a".into()));
        assert_eq!(verdict.standing(start + RENEWED_FOR), Standing::Ask);
    }

    #[test]
    fn a_token_that_is_refused_is_so_for_a_moment_and_at_once() {
        let start = Instant::now();
        let mut verdict = good(start);
        verdict.told(Word::Refused("gone".to_owned()), start + SECOND);
        assert_eq!(verdict.standing(start + SECOND), Standing::Known(Word::Refused("gone".to_owned())));
        assert_eq!(verdict.standing(start + SECOND + REFUSED_FOR), Standing::Ask);
        assert_eq!(verdict.unanswered(start + SECOND * 2), None, "silence makes no refused token good");
    }

    #[test]
    fn while_the_api_server_is_silent_a_good_token_stays_good_for_an_hour_and_no_longer() {
        let start = Instant::now();
        let mut verdict = good(start);
        let mut now = start;
        while now < start + UNANSWERED_FOR {
            now += SECOND;
            match verdict.standing(now) {
                Standing::Known(Word::Pod(_)) => {}
                Standing::Renew(_) => {
                    assert!(now == start + UNANSWERED_FOR || verdict.unanswered(now).is_some());
                }
                other => assert_eq!((now, other), (start + UNANSWERED_FOR, Standing::Ask)),
            }
        }
        assert_eq!(verdict.standing(now), Standing::Ask);
        assert_eq!(verdict.unanswered(now), None);
    }
}
