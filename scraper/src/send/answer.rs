//! What a receiver's answer means for the request, and for its samples.

use std::time::Duration;

use super::written::Written;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Stored; a receiver of 2.0 says how much of it.
    Accepted { status: u16, written: Option<Written> },
    /// It was a request of 2.0, and was accepted without a word on how much of it is stored.
    Hinted {
        /// How that shows, for the log.
        why: String,
    },
    /// It was a request of 2.0, and the receiver does not speak that: nothing was stored.
    NoV2 {
        /// How that shows, for the log.
        why: String,
    },
    /// It was a request of 1.0, and the receiver does not speak that: nothing was stored.
    NoV1 {
        /// How that shows, for the log.
        why: String,
    },
    /// Not now; it is sent again.
    Again {
        /// Why, for the log.
        why: String,
        /// The pause that the receiver asked for.
        after: Option<Duration>,
        /// Whether this copy may have been stored, all or some of it.
        maybe_stored: bool,
    },
    /// Too many bytes: halves may do.
    TooLarge(Refusal),
    /// Some of its samples will never be taken. A receiver of 2.0 says how many of them are stored.
    Refused(Refusal, Option<Written>),
    /// None of its samples is wanted, and looking for others in it would only ask more of the receiver.
    Unwanted(Refusal),
}

/// A receiver's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// What it said, cut short.
    pub(super) message: String,
}

/// What a status that is no success means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Again { maybe_stored: bool },
    TooLarge,
    Refused,
    Unwanted,
}

/// What a status that is no success means.
pub(super) fn meaning(status: u16, retry_on_http_429: bool) -> Meaning {
    match status {
        413 => Meaning::TooLarge,
        429 if retry_on_http_429 => Meaning::Again { maybe_stored: false },
        429 => Meaning::Unwanted,
        // The receiver failed; that does not say that nothing was stored: a gateway gave up waiting for it, or some of
        // its replicas took the samples.
        500.. => Meaning::Again { maybe_stored: true },
        // Who we are, where we went and how we speak: nothing that the samples could help, and all of it can be put right.
        // Samples stay in the queue meanwhile, as long as its bounds allow.
        401 | 403 | 404 | 405 | 407 | 408 | 415 | 421 | 425 | 426 | ..400 => {
            Meaning::Again { maybe_stored: false }
        }
        400..500 => Meaning::Refused,
    }
}

/// Why samples that a receiver refused alone are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// They were stored by an earlier copy of the request: no loss.
    AlreadyStored,
    /// The same, or too far in the past, of what was queued before this scraper learnt that it had been lost: the targets' next
    /// scraper has overtaken it.
    LateAfterLoss,
    /// Older than what the receiver holds of the series.
    OutOfOrder,
    /// Another value is stored for the same time.
    Duplicate,
    /// Too far in the past or the future for the receiver.
    OutOfBounds,
    /// Too large even alone.
    TooLarge,
    /// 429, where the configuration says not to try again.
    RateLimited,
    /// The receiver of 2.0 accepted the request, and said that it stored less.
    NotWritten,
    /// Anything else.
    Rejected,
}

impl Reason {
    pub(super) const ALL: [Self; 9] = [
        Self::AlreadyStored,
        Self::LateAfterLoss,
        Self::OutOfOrder,
        Self::Duplicate,
        Self::OutOfBounds,
        Self::TooLarge,
        Self::RateLimited,
        Self::NotWritten,
        Self::Rejected,
    ];

    /// As it stands in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyStored => "already_stored",
            Self::LateAfterLoss => "late_after_loss",
            Self::OutOfOrder => "out_of_order",
            Self::Duplicate => "duplicate",
            Self::OutOfBounds => "out_of_bounds",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::NotWritten => "not_written",
            Self::Rejected => "rejected",
        }
    }

    /// The reason that the receiver names.
    pub(super) fn told(status: u16, message: &str) -> Self {
        let message = message.to_ascii_lowercase().replace(['-', '_'], " ");
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        // As Prometheus, Mimir, Cortex and Thanos word it.
        if says(&["out of order", "more recent timestamp", "newer timestamp"]) {
            Self::OutOfOrder
        } else if says(&["duplicate sample", "duplicate timestamp", "different value"]) || status == 409 {
            Self::Duplicate
        } else if says(&["out of bounds", "too old", "too far in"]) {
            Self::OutOfBounds
        } else {
            Self::Rejected
        }
    }

    /// Whether it is a sample's time that is refused, and no copy of it that was sent before is what it is compared with.
    pub(super) fn is_time(self) -> bool {
        matches!(self, Self::OutOfOrder | Self::Duplicate | Self::OutOfBounds)
    }

    /// Whether what others have sent in this scraper's stead may be the reason.
    pub(super) fn may_be_loss(self) -> bool {
        matches!(self, Self::OutOfOrder | Self::OutOfBounds)
    }

    /// What it means where an earlier copy of the request may have been stored (`maybe_stored`), or others have been given the
    /// targets since the request was queued (`overtaken`).
    pub(super) fn seen_from(self, maybe_stored: bool, overtaken: bool) -> Self {
        match self {
            // Whether a copy was stored, nobody can say then: it counts as lost.
            reason if overtaken && reason.may_be_loss() => Self::LateAfterLoss,
            // Nothing else brings samples of its series, so a copy of the sample, or a later one of the same request, is what it
            // is compared with. Bounds are about the receiver's other series and clock: after a long outage, a request that
            // was answered by a 503 at its beginning is out of them and was never stored.
            Self::OutOfOrder | Self::Duplicate | Self::NotWritten if maybe_stored => Self::AlreadyStored,
            told => told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_that_samples_cannot_help_keep_them_in_the_queue() {
        for status in [301, 401, 403, 404, 415] {
            assert_eq!(meaning(status, true), Meaning::Again { maybe_stored: false }, "{status}");
        }
        for status in [500, 502, 503, 504, 599] {
            assert_eq!(meaning(status, true), Meaning::Again { maybe_stored: true }, "{status}");
        }
        for status in [400, 409, 422] {
            assert_eq!(meaning(status, true), Meaning::Refused, "{status}");
        }
        assert_eq!(meaning(429, true), Meaning::Again { maybe_stored: false });
        assert_eq!(meaning(429, false), Meaning::Unwanted);
        assert_eq!(meaning(413, false), Meaning::TooLarge);
    }

    #[test]
    fn a_refusal_is_already_stored_only_where_a_copy_may_have_been_stored_and_it_says_so() {
        let reason = |message: &str, maybe_stored| Reason::told(400, message).seen_from(maybe_stored, false);
        assert_eq!(reason("out of order sample", false), Reason::OutOfOrder);
        assert_eq!(reason("out of order sample", true), Reason::AlreadyStored);
        assert_eq!(reason("duplicate sample for timestamp", false), Reason::Duplicate);
        assert_eq!(reason("err-mimir-sample-duplicate-timestamp", true), Reason::AlreadyStored);
        assert_eq!(reason("label name \"a b\" is not valid", true), Reason::Rejected);
        assert_eq!(reason("", true), Reason::Rejected);
        // It says nothing of what was stored, and is more likely a loss.
        assert_eq!(reason("sample out of bounds", true), Reason::OutOfBounds);
    }

    #[test]
    fn what_others_have_overtaken_is_late_after_a_loss_whether_or_not_a_copy_may_have_been_stored() {
        for maybe_stored in [false, true] {
            let reason = |message: &str| Reason::told(400, message).seen_from(maybe_stored, true);
            assert_eq!(reason("out of order sample"), Reason::LateAfterLoss);
            assert_eq!(reason("sample is too old"), Reason::LateAfterLoss);
            assert_ne!(
                reason("duplicate sample for timestamp"),
                Reason::LateAfterLoss,
                "both have scraped the slot"
            );
            assert_eq!(reason("label name \"a b\" is not valid"), Reason::Rejected);
        }
    }
}
