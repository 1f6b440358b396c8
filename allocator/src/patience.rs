//! How a source is doing, and how long the allocator waits for it at a start.

/// A source of which nothing was heard for this long since it started counts as failing. Time for a connection whose first two
/// packets got lost (they are sent again after 1 s and 3 s); a list that has begun to come in is heard of all the time.
pub(crate) const SILENCE_MAX_MS: i64 = 5_000;

/// After a source has failed for this long, the allocator is ready without it. For this long after its start it waits for
/// lists that come in.
pub(crate) const PATIENCE_MS: i64 = 30_000;

/// How one source is doing.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    synced: bool,
    /// Why it has told nothing (yet), or failed last.
    failure: Option<String>,
    /// Nothing was heard of it for long, before it has told everything.
    silent: bool,
    /// When [`Condition::keeps_unready`] was asked first after something was heard of it.
    heard_ms: Option<i64>,
    /// Since when it fails without ever having told everything.
    failing_since_ms: Option<i64>,
}

impl Condition {
    /// Something comes in; what it is will be told.
    pub(crate) fn arriving(&mut self) {
        self.silent = false;
        self.heard_ms = None;
    }

    /// It has told something; `complete`: with this, everything.
    pub(crate) fn told(&mut self, complete: bool) {
        self.arriving();
        self.failure = None;
        self.synced |= complete;
    }

    /// It fails.
    pub(crate) fn failed(&mut self, failure: String) {
        self.arriving();
        self.failure = Some(failure);
    }

    /// Whether it has told everything, at any time.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether it failed last, or says nothing.
    pub(crate) fn fails(&self) -> bool {
        self.silent || self.failure.is_some()
    }

    /// Why, for people; empty where it does not.
    pub(crate) fn error(&self) -> String {
        match &self.failure {
            Some(failure) => failure.clone(),
            None if self.silent => {
                format!("nothing has come for {} s; it is still waited for", SILENCE_MAX_MS / 1_000)
            }
            None => String::new(),
        }
    }

    /// Whether it keeps others waiting at a start: it may tell its targets any moment.
    pub(crate) fn keeps_others_waiting(&self) -> bool {
        !self.synced && !self.fails()
    }

    /// Whether it keeps the allocator from being ready. To be asked as time goes on: silence and failures count from the first
    /// time on that this is asked.
    pub(crate) fn keeps_unready(&mut self, now_ms: i64) -> bool {
        if self.synced {
            return false;
        }
        let heard_ms = *self.heard_ms.get_or_insert(now_ms);
        self.silent = now_ms - heard_ms >= SILENCE_MAX_MS;
        if self.fails() {
            self.failing_since_ms.get_or_insert(now_ms);
        }
        self.failing_since_ms.is_none_or(|since_ms| now_ms - since_ms < PATIENCE_MS)
    }
}
