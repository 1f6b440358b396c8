//! Membership: which scrapers take targets.
//!
//! A state machine: reports, the roster and the time go in, the set of members comes out. Where there is no roster, the
//! scrapers that report are the members. After a start the first to report would get everything, so nothing is assigned
//! until the settle time after the first report has passed, or every member of the roster has reported.
//!
//! With a StatefulSet's roster a silent scraper is lost after the lapse only if its pod is no longer ready or gone as well:
//! otherwise it may be cut off from the allocator alone, and is given [`SILENT_MAX`].
//!
//! While nobody at all is heard of, it is more likely that the allocator hears nothing than that all scrapers have died at
//! once: such time counts against nobody. Otherwise the first to be heard again would get everything that the others, which
//! are alive, go on scraping.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::roster::{Presence, Roster};

/// A scraper whose pod is ready counts as lost only after so long a silence.
pub const SILENT_MAX: Duration = Duration::from_secs(60);

/// When nobody was heard of for this part of the lapse, the allocator itself may be cut off. Scrapers report several times in it.
const DEAF_PART: i64 = 3;

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
    /// It has been silent for too long.
    pub lost: bool,
    /// Its pod is being deleted, or the roster does not have it (any more).
    pub unwanted: bool,
    /// Since when it is silent, where time in which nobody was heard of does not count.
    silent_since_ms: i64,
    /// It is lost as everybody is: nobody was heard of.
    lost_with_all: bool,
}

/// The scrapers that have reported, as long as nobody has them forgotten.
#[derive(Clone, Debug)]
pub struct Membership {
    options: MembershipOptions,
    members: BTreeMap<String, Member>,
    roster: Option<Roster>,
    first_report_ms: Option<i64>,
    /// When anybody reported last.
    heard_ms: i64,
    settled: bool,
}

impl Membership {
    /// Nobody yet.
    #[must_use]
    pub fn new(options: MembershipOptions) -> Self {
        let (members, roster) = (BTreeMap::new(), None);
        Self { options, members, roster, first_report_ms: None, heard_ms: 0, settled: false }
    }

    /// Changes the times; what is known of the members stays.
    pub fn set_options(&mut self, options: MembershipOptions) {
        self.options = options;
    }

    /// A scraper has reported. Returns whether the set of members that take targets changed.
    pub fn report(&mut self, name: &str, draining: bool, now_ms: i64) -> bool {
        self.first_report_ms.get_or_insert(now_ms);
        let mut changed = self.hear(now_ms);
        let before = self.members.get(name).is_some_and(Member::takes_targets);
        let member = Member {
            reported_ms: now_ms,
            draining,
            lost: false,
            unwanted: self.is_unwanted(name),
            silent_since_ms: now_ms,
            lost_with_all: false,
        };
        changed |= before != member.takes_targets();
        match self.members.get_mut(name) {
            Some(known) => *known = member,
            None => drop(self.members.insert(name.to_owned(), member)),
        }
        changed
    }

    /// Somebody is heard of. After a time in which nobody was, the others get the rest of their patience to follow.
    fn hear(&mut self, now_ms: i64) -> bool {
        let deaf_ms = self.deaf_ms(now_ms);
        self.heard_ms = now_ms;
        if deaf_ms == 0 {
            return false;
        }
        let mut changed = false;
        for member in self.members.values_mut() {
            member.silent_since_ms += deaf_ms;
            if std::mem::take(&mut member.lost_with_all) {
                member.lost = false;
                changed |= member.takes_targets();
            }
        }
        changed
    }

    /// For how long nobody has been heard of, beyond what is usual.
    fn deaf_ms(&self, now_ms: i64) -> i64 {
        let usual_ms = self.options.lapse.as_millis() as i64 / DEAF_PART;
        (now_ms - self.heard_ms - usual_ms).max(0)
    }

    /// Who the members are to be was told, or how their pods are doing; None: whoever reports. Returns whether the set
    /// of members that take targets changed.
    pub fn set_roster(&mut self, roster: Option<Roster>) -> bool {
        self.roster = roster;
        let mut changed = false;
        let mut members = std::mem::take(&mut self.members);
        for (name, member) in &mut members {
            let before = member.takes_targets();
            member.unwanted = self.is_unwanted(name);
            changed |= before != member.takes_targets();
        }
        self.members = members;
        changed
    }

    /// Whether nobody has been heard of for so long that everybody would be lost. Then nothing is to be concluded from it.
    #[must_use]
    pub fn is_deaf(&self) -> bool {
        self.members.values().any(|member| member.lost_with_all)
    }

    /// The node that a scraper's pod runs on, where the roster knows it.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&str> {
        self.roster.as_ref()?.node(name)
    }

    /// Whether somebody has said who the members are to be.
    #[must_use]
    pub fn has_roster(&self) -> bool {
        self.roster.is_some()
    }

    /// Whether a scraper is not to be one (any more): its ordinal is beyond the set's, or the list does not have it.
    #[must_use]
    pub fn is_leaving(&self, name: &str) -> bool {
        self.roster.as_ref().is_some_and(|roster| roster.presence(name).is_none())
    }

    fn is_unwanted(&self, name: &str) -> bool {
        let presence = self.roster.as_ref().map(|roster| roster.presence(name));
        matches!(presence, Some(None | Some(Presence::Terminating)))
    }

    /// How long this scraper may be silent.
    fn patience_ms(&self, name: &str) -> i64 {
        let presence = self.roster.as_ref().and_then(|roster| roster.presence(name));
        let lapse = self.options.lapse;
        let patience = if presence == Some(Presence::Ready) { lapse.max(SILENT_MAX) } else { lapse };
        patience.as_millis() as i64
    }

    /// Whether everybody who is to come has come.
    fn is_whole(&self) -> bool {
        let reported = |name: &str| self.members.get(name).is_some_and(|member| !member.lost);
        self.roster
            .as_ref()
            .is_some_and(|roster| roster.names().next().is_some() && roster.names().all(reported))
    }

    /// Time has passed. Returns whether the set of members that take targets changed.
    pub fn tick(&mut self, now_ms: i64) -> bool {
        let mut changed = false;
        let deaf_ms = self.deaf_ms(now_ms);
        let mut members = std::mem::take(&mut self.members);
        for (name, member) in &mut members {
            let patience_ms = self.patience_ms(name);
            let alone = now_ms - member.silent_since_ms - deaf_ms > patience_ms;
            let with_all = now_ms - self.heard_ms > patience_ms;
            if !member.lost && (alone || with_all) {
                changed |= member.takes_targets();
                (member.lost, member.lost_with_all) = (true, !alone);
            }
        }
        self.members = members;
        let settle_ms = self.options.settle.as_millis() as i64;
        let settled = self.first_report_ms.is_some_and(|first| now_ms - first >= settle_ms);
        if !self.settled && (settled || self.is_whole()) {
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

    /// Nobody needs to know any more that there was a scraper of this name.
    pub fn forget(&mut self, name: &str) {
        self.members.remove(name);
    }

    /// The scrapers that take targets, in order of their names.
    pub fn takers(&self) -> impl Iterator<Item = &str> {
        self.members.iter().filter(|(_, member)| member.takes_targets()).map(|(name, _)| name.as_str())
    }

    /// Every scraper that is known, by name.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members.iter().map(|(name, member)| (name.as_str(), member))
    }

    /// One scraper; None where it never reported, or is forgotten.
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
    /// Whether it is given targets.
    #[must_use]
    pub fn takes_targets(&self) -> bool {
        !self.lost && !self.draining && !self.unwanted
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

    /// A set of two whose pods are doing like this.
    fn pods(first: Option<Presence>, second: Option<Presence>) -> Option<Roster> {
        let mut set = crate::roster::StatefulSet::new("s");
        set.sized(Some((2, 0)));
        set.pod("s-0", first);
        set.pod("s-1", second);
        set.roster()
    }

    #[test]
    fn a_whole_roster_does_not_wait_for_the_settle_time() {
        let mut members = membership();
        members.set_roster(pods(Some(Presence::Ready), None));
        members.report("s-0", false, 0);
        members.report("not-of-the-set", false, 0);
        members.tick(1);
        assert!(!members.is_settled());
        members.report("s-1", false, 2);
        assert!(members.tick(2));
        assert_eq!(takers(&members), ["s-0", "s-1"]);
        assert!(members.is_leaving("not-of-the-set") && !members.is_leaving("s-0"));
    }

    #[test]
    fn a_silent_scraper_whose_pod_is_ready_is_given_more_time() {
        let mut members = membership();
        members.set_roster(pods(Some(Presence::Ready), Some(Presence::Ready)));
        members.report("s-0", false, 0);
        members.report("s-1", false, 0);
        members.tick(5_000);
        assert!(!members.tick(15_001), "both may be cut off from us alone");
        assert!(!members.set_roster(pods(Some(Presence::NotReady), Some(Presence::Ready))));
        assert!(members.tick(15_002), "silent and not ready is lost");
        assert_eq!(takers(&members), ["s-1"]);
        assert!(!members.tick(60_000));
        assert!(members.tick(60_001), "so long a silence is a loss, whatever the pod");
    }

    #[test]
    fn a_restarting_pod_is_no_lost_scraper_within_the_grace_period() {
        let mut members = membership();
        members.set_roster(pods(Some(Presence::Ready), Some(Presence::Ready)));
        members.report("s-0", false, 0);
        members.report("s-1", false, 0);
        members.tick(5_000);
        assert!(!members.set_roster(pods(Some(Presence::Ready), None)), "killed, not drained");
        assert!(!members.tick(15_000));
        assert_eq!(takers(&members), ["s-0", "s-1"]);
        assert!(!members.report("s-1", false, 15_000), "back in time: nothing moved");
        assert!(!members.tick(30_000));
        assert!(members.tick(30_001));
        assert_eq!(takers(&members), ["s-0"]);
    }

    #[test]
    fn a_terminating_pod_and_a_leaving_ordinal_take_no_targets() {
        let mut members = membership();
        members.set_roster(pods(Some(Presence::Ready), Some(Presence::Ready)));
        members.report("s-0", false, 0);
        members.report("s-1", false, 0);
        assert!(members.set_roster(pods(Some(Presence::Ready), Some(Presence::Terminating))));
        assert_eq!(takers(&members), ["s-0"]);
        assert!(!members.report("s-1", true, 1), "it says so itself a moment later");
        assert!(!members.is_leaving("s-1"), "its successor has the same name");
        members.report("s-1", false, 2);
        assert!(members.set_roster(pods(Some(Presence::Ready), Some(Presence::Ready))));
        assert_eq!(takers(&members), ["s-0", "s-1"]);
        let mut scaled = crate::roster::StatefulSet::new("s");
        scaled.sized(Some((1, 0)));
        assert!(members.set_roster(scaled.roster()));
        assert_eq!((takers(&members), members.is_leaving("s-1")), (vec!["s-0"], true));
    }

    #[test]
    fn who_is_silent_while_nobody_is_heard_of_is_given_the_rest_of_its_time_afterwards() {
        let mut members = membership();
        for at in (0..20_000).step_by(1_000) {
            for name in ["a", "b", "c"] {
                members.report(name, false, at);
            }
        }
        members.tick(20_000);
        // c dies at 19 s, and the allocator is cut off for a minute a little later.
        for at in (20_000..25_000).step_by(1_000) {
            for name in ["a", "b"] {
                members.report(name, false, at);
            }
        }
        for at in (24_000..39_000).step_by(250) {
            assert!(!members.tick(at), "at {at}");
        }
        assert!(members.tick(39_001), "all at once, so that none gets what others have");
        assert!(takers(&members).is_empty() && members.is_deaf());
        assert!(!members.tick(84_000));
        assert!(members.report("a", false, 84_000));
        assert_eq!(takers(&members), ["a", "b", "c"]);
        assert!(!members.is_deaf());
        // c has been silent for five seconds before, and for the first five of the silence of all.
        for at in (84_000..89_000).step_by(1_000) {
            members.report("b", false, at);
            assert!(!members.tick(at), "at {at}");
        }
        members.report("a", false, 89_001);
        assert!(members.tick(89_001));
        assert_eq!(takers(&members), ["a", "b"]);
    }

    #[test]
    fn one_that_dies_is_lost_though_the_others_report_seldom() {
        let mut members = membership();
        for name in ["a", "b"] {
            members.report(name, false, 0);
        }
        let mut lost = None;
        for at in (7_000..60_000).step_by(7_000) {
            members.report("a", false, at);
            lost = lost.or(members.tick(at).then_some(at).filter(|_| takers(&members) == ["a"]));
        }
        assert_eq!(lost, Some(28_000), "time beyond the usual silence does not count");
    }

    #[test]
    fn without_a_roster_again_whoever_reports_is_a_member() {
        let mut members = membership();
        members.set_roster(Some(Roster::of_names(["a"])));
        members.report("a", false, 0);
        members.report("b", false, 0);
        assert_eq!(takers(&members), ["a"]);
        assert!(members.set_roster(None));
        assert_eq!(takers(&members), ["a", "b"]);
        members.set_roster(Some(Roster::of_names(["a"])));
        assert!(members.tick(15_001), "nobody watches it: the lapse counts");
        assert!(takers(&members).is_empty());
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
