//! Which of several allocators leads: the rules around a Kubernetes Lease. Pure: what was read and written goes in with the
//! time, what to do next comes out. The rules are those of client-go's leader election, with a term.
//!
//! **A candidate** takes the Lease when it has no holder, or when nobody has renewed it for its duration. The candidate
//! measures that itself, from the moment at which it first saw the Lease as it is: times that others wrote down do not
//! count, since clocks differ. Before it takes it, it has just read it, and the API server lets one of several writers win.
//!
//! **The leader** renews it, and stops leading when it has not for [`ElectionOptions::renew_within`], measured from when the
//! last renewal that succeeded was *sent*. That is shorter than the duration, so it stops before anybody else can begin. It is
//! asked at the moment at which it is to act ([`Election::term`]), not when a timer comes to it: a process that was paused wakes
//! up as no leader.
//!
//! **Terms** grow with every leader: one more than the Lease's, and than any that a scraper has told of.

use std::time::Duration;

/// The time by two clocks of one process, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// One that nobody sets, and that goes on while the machine sleeps.
    pub steady_ms: i64,
    /// The time of day, which tells of a machine that was frozen together with its steady clock.
    pub wall_ms: i64,
}

impl Moment {
    /// The time since an earlier moment, by the clock that says more. A time of day that was set forward looks like a pause.
    fn at_most_since(self, earlier: Self) -> i64 {
        (self.steady_ms - earlier.steady_ms).max(self.wall_ms - earlier.wall_ms)
    }

    /// The same by the steady clock.
    fn since(self, earlier: Self) -> i64 {
        self.steady_ms - earlier.steady_ms
    }
}

/// The times of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElectionOptions {
    /// How long a Lease lasts that is not renewed.
    pub duration: Duration,
    /// The leader stops leading when it could not renew for this long. Shorter than `duration`.
    pub renew_within: Duration,
    /// How often the Lease is renewed, or looked at.
    pub every: Duration,
}

impl Default for ElectionOptions {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { duration: seconds(15), renew_within: seconds(10), every: seconds(2) }
    }
}

/// What a Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty: nobody.
    pub holder: String,
    /// Where the holder serves, as `http://host:port`.
    pub address: String,
    /// The holder's term; without a holder that of the last one.
    pub term: u64,
    /// How long it lasts when it is not renewed.
    pub duration: Duration,
    /// Changes with every write.
    pub version: String,
}

/// What to do about the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing for so many milliseconds.
    Wait(i64),
    /// Read it.
    Read,
    /// Make it hold this, if it is still of the version that `record` has; with an empty version, if there is none.
    Write(Record),
    /// Nothing ever again: it is released.
    End,
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It holds what was asked for, with this version.
    Done(String),
    /// Somebody else had written it.
    Conflict,
    /// Nobody knows.
    Unknown,
}

/// One allocator's part in the election.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    address: String,
    options: ElectionOptions,
    /// What the Lease said last, and since when it says so, as far as seen.
    seen: Option<(Record, Moment)>,
    step: Step,
    held: Option<Held>,
    /// The highest term that a Lease had, or that scrapers told of: one that is deleted does not begin anew.
    heard: u64,
    releasing: bool,
}

/// A Lease that is ours.
#[derive(Clone, Copy, Debug)]
struct Held {
    term: u64,
    /// When the last write that succeeded was sent.
    renewed: Moment,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The Lease is read, at once.
    Look,
    /// It was read a moment ago: that tells what to do.
    Decide,
    /// Nothing until then, by the steady clock.
    Rest(i64),
}

impl Election {
    /// A candidate. `identity` is one of this process alone; it leads from `address`.
    #[must_use]
    pub fn new(identity: String, address: String, options: ElectionOptions) -> Self {
        Self {
            identity,
            address,
            options,
            seen: None,
            step: Step::Look,
            held: None,
            heard: 0,
            releasing: false,
        }
    }

    /// The term in which this allocator leads now; None: it does not. Who gives the Lease back does not lead, whether the write
    /// has arrived or not: the next one may be faster than its answer.
    #[must_use]
    pub fn term(&self, now: Moment) -> Option<u64> {
        self.held.filter(|held| !self.releasing && self.is_good(held, now)).map(|held| held.term)
    }

    fn is_good(&self, held: &Held, now: Moment) -> bool {
        now.at_most_since(held.renewed) < millis(self.options.renew_within)
    }

    /// The holder of the Lease, if that is somebody else and it has not run out.
    #[must_use]
    pub fn leader(&self, now: Moment) -> Option<&Record> {
        let (record, since) = self.seen.as_ref()?;
        let valid = now.since(*since) < millis(record.duration);
        (valid && !record.holder.is_empty() && record.holder != self.identity).then_some(record)
    }

    /// A scraper has told of this term, so whoever leads next has a higher one. Where we lead in a lower one, we begin anew.
    pub fn heard(&mut self, term: u64) {
        self.heard = self.heard.max(term);
        if self.held.is_some_and(|held| held.term < self.heard) {
            (self.held, self.step) = (None, Step::Look);
        }
    }

    /// The Lease is given back: nobody has to wait until it runs out.
    pub fn release(&mut self) {
        self.releasing = true;
    }

    /// What to do now. A read ends with [`Self::read`] or [`Self::unread`], a write with [`Self::written`].
    pub fn next(&mut self, now: Moment) -> Action {
        self.held = self.held.filter(|held| self.is_good(held, now));
        if self.releasing && self.held.is_none() {
            return Action::End;
        }
        match (self.step, self.held) {
            (Step::Look, _) => Action::Read,
            (Step::Decide, None) if !self.is_free(now) => self.rest(now),
            (Step::Rest(until), None) if now.steady_ms >= until => Action::Read,
            (Step::Rest(until), _) if now.steady_ms < until && !self.releasing => {
                Action::Wait(until - now.steady_ms)
            }
            (_, Some(held)) => Action::Write(self.record(held.term)),
            (_, None) => Action::Write(self.record(self.next_term())),
        }
    }

    /// The Lease was read: this is what it says, or there is none.
    pub fn read(&mut self, record: Option<Record>, now: Moment) {
        self.step = Step::Decide;
        self.heard = self.heard.max(record.as_ref().map_or(0, |record| record.term));
        let ours = |record: &Record| {
            record.holder == self.identity && self.held.is_some_and(|held| held.term == record.term)
        };
        if !record.as_ref().is_some_and(ours) {
            self.held = None;
        }
        if record.as_ref() != self.seen.as_ref().map(|(seen, _)| seen) {
            self.seen = record.map(|record| (record, now));
        }
    }

    /// It could not be read.
    pub fn unread(&mut self, now: Moment) {
        self.rest(now);
    }

    /// The write of `wanted`, which was sent at `sent`, has ended like this.
    pub fn written(&mut self, wanted: Record, how: Written, sent: Moment, now: Moment) {
        match how {
            Written::Done(version) => {
                let taken = !wanted.holder.is_empty();
                self.heard = self.heard.max(wanted.term);
                self.held = taken.then_some(Held { term: wanted.term, renewed: sent });
                self.seen = Some((Record { version, ..wanted }, now));
                self.rest(now);
            }
            // A look tells who was faster, or whether it was ourselves.
            Written::Conflict | Written::Unknown => self.step = Step::Look,
        }
    }

    fn rest(&mut self, now: Moment) -> Action {
        let every = millis(self.options.every);
        self.step = Step::Rest(now.steady_ms + every);
        Action::Wait(every)
    }

    /// Whether the Lease, as it was just read, may be taken.
    fn is_free(&self, now: Moment) -> bool {
        self.seen.as_ref().is_none_or(|(record, since)| {
            // Held by us, though we do not lead: by a write of which no answer came.
            record.holder.is_empty()
                || record.holder == self.identity
                || now.since(*since) >= millis(record.duration)
        })
    }

    fn next_term(&self) -> u64 {
        self.heard.saturating_add(1)
    }

    fn record(&self, term: u64) -> Record {
        let version = self.seen.as_ref().map(|(record, _)| record.version.clone()).unwrap_or_default();
        let holder = if self.releasing { String::new() } else { self.identity.clone() };
        Record { holder, address: self.address.clone(), term, duration: self.options.duration, version }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
