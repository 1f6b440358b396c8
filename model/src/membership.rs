//! Membership: which scrapers take targets.
//!
//! A state machine: reports and the time go in, the set of members comes out. Outside Kubernetes the scrapers that
//! report are the members. After a start the first to report would get everything, so nothing is assigned until
//! the settle time after the first report has passed.

use std::collections::BTreeMap;
use std::time::Duration;

/// When a scraper counts as lost, and how long a start waits for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembershipOptions {
    /// Without a report for longer than this, a scraper is lost.
    pub lapse: Duration,
    /// From the first report to the first assignment.
    pub settle: Duration,
}

/// One scraper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// When it last reported, in Unix milliseconds.
    pub reported_ms: i64,
    /// It is on its way out.
    pub draining: bool,
    /// It has been silent for longer than the lapse.
    pub lost: bool,
}

/// All scrapers that ever reported.
#[derive(Clone, Debug)]
pub struct Membership {
    options: MembershipOptions,
    members: BTreeMap<String, Member>,
    first_report_ms: Option<i64>,
    settled: bool,
}

impl Membership {
    /// Nobody yet.
    #[must_use]
    pub fn new(options: MembershipOptions) -> Self {
        Self { options, members: BTreeMap::new(), first_report_ms: None, settled: false }
    }

    /// Changes the times; what is known of the members stays.
    pub fn set_options(&mut self, options: MembershipOptions) {
        self.options = options;
    }

    /// A scraper has reported. Returns whether the set of members that take targets changed.
    pub fn report(&mut self, name: &str, draining: bool, now_ms: i64) -> bool {
        self.first_report_ms.get_or_insert(now_ms);
        let before = self.members.get(name).is_some_and(Member::takes_targets);
        let member = Member { reported_ms: now_ms, draining, lost: false };
        let after = member.takes_targets();
        match self.members.get_mut(name) {
            Some(known) => *known = member,
            None => drop(self.members.insert(name.to_owned(), member)),
        }
        before != after
    }

    /// Time has passed. Returns whether the set of members that take targets changed.
    pub fn tick(&mut self, now_ms: i64) -> bool {
        let mut changed = false;
        let lapse_ms = self.options.lapse.as_millis() as i64;
        for member in self.members.values_mut() {
            if !member.lost && now_ms - member.reported_ms > lapse_ms {
                changed |= member.takes_targets();
                member.lost = true;
            }
        }
        let settle_ms = self.options.settle.as_millis() as i64;
        if !self.settled && self.first_report_ms.is_some_and(|first| now_ms - first >= settle_ms) {
            self.settled = true;
            changed = true;
        }
        changed
    }

    /// Whether the settle time has passed, so that targets can be assigned.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// The scrapers that take targets, in order of their names.
    pub fn takers(&self) -> impl Iterator<Item = &str> {
        self.members.iter().filter(|(_, member)| member.takes_targets()).map(|(name, _)| name.as_str())
    }

    /// Every scraper that is known, by name.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members.iter().map(|(name, member)| (name.as_str(), member))
    }

    /// One scraper; None where it never reported.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Member> {
        self.members.get(name)
    }

    /// How many scrapers are known, lost ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody has reported yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether a scraper of this name is known.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }
}

impl Member {
    fn takes_targets(&self) -> bool {
        !self.lost && !self.draining
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        Membership::new(MembershipOptions { lapse: Duration::from_secs(15), settle: Duration::from_secs(5) })
    }

    fn takers(membership: &Membership) -> Vec<&str> {
        membership.takers().collect()
    }

    #[test]
    fn the_first_to_report_waits_for_the_others() {
        let mut members = membership();
        members.report("a", false, 1_000);
        members.tick(5_999);
        assert!(!members.is_settled());
        members.report("b", false, 5_999);
        assert!(members.tick(6_000), "settling is a change");
        assert!(members.is_settled());
        assert_eq!(takers(&members), ["a", "b"]);
    }

    #[test]
    fn a_silent_scraper_is_lost_after_the_lapse_and_back_with_a_report() {
        let mut members = membership();
        assert!(members.report("a", false, 0));
        assert!(!members.report("a", false, 1_000), "a heartbeat changes nothing");
        members.tick(10_000);
        assert!(!members.tick(16_000), "fifteen seconds are not longer than the lapse");
        assert!(members.tick(16_001));
        assert!(takers(&members).is_empty());
        assert!(members.report("a", false, 20_000));
        assert_eq!(takers(&members), ["a"]);
    }

    #[test]
    fn a_draining_scraper_takes_no_targets() {
        let mut members = membership();
        members.report("a", false, 0);
        members.tick(5_000);
        assert!(members.report("a", true, 6_000));
        assert!(takers(&members).is_empty());
        assert!(!members.tick(30_000), "to lose one that takes nothing changes nothing");
    }
}
