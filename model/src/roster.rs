//! Who the scrapers are, where somebody else than the scrapers themselves says so: a StatefulSet, or a list in the
//! configuration.
//!
//! [`StatefulSet`] is a state machine: what the API server tells of the set and its pods goes in, a [`Roster`] comes out.
//! A restarting pod stays a member all the time: the set's ordinals are the members, not its pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known of a member beside its own reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nobody watches it.
    Unknown,
    /// Its pod is ready.
    Ready,
    /// Its pod is there and not ready; of a node that fails, Kubernetes soon says so of all pods.
    NotReady,
    /// Its pod is being deleted. It drains; its successor under the same name comes later.
    Terminating,
    /// There is no pod of its name.
    Gone,
}

/// The members that there are to be, by name. Whoever is not in it is leaving.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    members: BTreeMap<String, Seen>,
    /// Those who are not to be, and whose pods are there all the same; None where nobody watches pods.
    lingering: Option<BTreeSet<String>>,
    /// Names are those of ordinals: who is no more may be again, with its volume.
    has_ordinals: bool,
}

/// What is known of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How its pod is doing.
    pub presence: Presence,
    /// The node that its pod runs on, or ran on last.
    pub node: Option<Arc<str>>,
}

impl Roster {
    /// Members that nobody watches.
    pub fn of_names<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        let seen = Seen { presence: Presence::Unknown, node: None };
        let members = names.into_iter().map(|name| (name.into(), seen.clone())).collect();
        Self { members, lingering: None, has_ordinals: false }
    }

    /// Members that are pods, whatever made them.
    pub fn of_pods(pods: impl IntoIterator<Item = (String, Seen)>) -> Self {
        let members = pods.into_iter().take(REPLICAS_MAX as usize).collect();
        Self { members, lingering: Some(BTreeSet::new()), has_ordinals: false }
    }

    /// Whether this one is not to be (any more) and has no pod either: what it has left on its volume, nobody will send
    /// before it is to be again. False where nobody watches pods.
    #[must_use]
    pub fn is_gone(&self, name: &str) -> bool {
        let pods = self.lingering.as_ref();
        !self.members.contains_key(name) && pods.is_some_and(|pods| !pods.contains(name))
    }

    /// Whether the members are a StatefulSet's ordinals: one that is gone returns under its name, with its volume, when the set grows
    /// again. A pod that a Deployment has lost does not.
    #[must_use]
    pub fn has_ordinals(&self) -> bool {
        self.has_ordinals
    }

    /// What is known of this member; None for one that is not to be.
    #[must_use]
    pub fn presence(&self, name: &str) -> Option<Presence> {
        self.members.get(name).map(|seen| seen.presence)
    }

    /// The node that this member runs on, where that is known.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.node.as_deref()
    }

    /// Members that can take targets without ever reporting: those whose pods are ready, and those that nobody watches.
    pub fn present(&self) -> impl Iterator<Item = &str> {
        let present = |seen: &Seen| matches!(seen.presence, Presence::Ready | Presence::Unknown);
        self.members.iter().filter(move |(_, seen)| present(seen)).map(|(name, _)| name.as_str())
    }

    /// The members' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }
}

/// Members of a set at most: a mistyped number of replicas must not fill the memory.
const REPLICAS_MAX: u32 = 10_000;

/// A StatefulSet and its pods, as far as they have been told.
#[derive(Clone, Debug)]
pub struct StatefulSet {
    name: String,
    /// `spec.replicas` and `spec.ordinals.start`.
    size: Option<(u32, u32)>,
    pods: BTreeMap<String, Presence>,
    /// Where each pod ran last: while one restarts, its targets stay with its name.
    nodes: BTreeMap<String, Arc<str>>,
}

impl StatefulSet {
    /// The set of this name, of which nothing is known yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), size: None, pods: BTreeMap::new(), nodes: BTreeMap::new() }
    }

    /// The set's size was told: `spec.replicas` and `spec.ordinals.start`. None: there is no such set (any more). Then
    /// the last size counts, as nobody knows better.
    pub fn sized(&mut self, size: Option<(u32, u32)>) {
        self.size = size.or(self.size);
    }

    /// A pod was told; None: it is gone. Pods of other names than the set gives are passed over.
    pub fn pod(&mut self, name: &str, presence: Option<Presence>) {
        if self.ordinal(name).is_none() {
            return;
        }
        match presence {
            Some(presence) => drop(self.pods.insert(name.to_owned(), presence)),
            None => drop(self.pods.remove(name)),
        }
    }

    /// A pod was told to run on this node.
    pub fn pod_node(&mut self, name: &str, node: &Arc<str>) {
        if self.ordinal(name).is_some() {
            self.nodes.insert(name.to_owned(), Arc::clone(node));
        }
    }

    fn ordinal(&self, pod: &str) -> Option<u32> {
        let number = pod.strip_prefix(self.name.as_str())?.strip_prefix('-')?;
        // "01" is no ordinal.
        let ordinal: u32 = number.parse().ok()?;
        (ordinal.to_string() == number).then_some(ordinal)
    }

    /// The members; None until the set's size has been told.
    #[must_use]
    pub fn roster(&self) -> Option<Roster> {
        let (replicas, start) = self.size?;
        let ordinals = start..start.saturating_add(replicas.min(REPLICAS_MAX));
        let member = |ordinal: u32| {
            let name = format!("{}-{ordinal}", self.name);
            let presence = self.pods.get(&name).copied().unwrap_or(Presence::Gone);
            let node = self.nodes.get(&name).cloned();
            (name, Seen { presence, node })
        };
        let members: BTreeMap<String, Seen> = ordinals.map(member).collect();
        let lingering = self.pods.keys().filter(|name| !members.contains_key(*name)).cloned().collect();
        Some(Roster { members, lingering: Some(lingering), has_ordinals: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(set: &StatefulSet) -> Vec<(String, Presence)> {
        let members = set.roster().unwrap().members;
        members.into_iter().map(|(name, seen)| (name, seen.presence)).collect()
    }

    #[test]
    fn the_ordinals_are_the_members_whether_their_pods_are_there_or_not() {
        let mut set = StatefulSet::new("scraper");
        assert_eq!(set.roster(), None);
        set.pod("scraper-4", Some(Presence::Ready));
        set.pod("scraper-9", Some(Presence::Ready));
        for other in
            ["scraper", "scraper-x", "scraper-04", "other-4", "scraper-4-0", "scraper--4", "scraper-+4"]
        {
            set.pod(other, Some(Presence::Ready));
        }
        set.sized(Some((2, 3)));
        let expected = [("scraper-3".to_owned(), Presence::Gone), ("scraper-4".to_owned(), Presence::Ready)];
        assert_eq!(members(&set), expected);
        set.pod("scraper-4", Some(Presence::Terminating));
        assert_eq!(members(&set)[1].1, Presence::Terminating);
        set.pod("scraper-4", None);
        assert_eq!(members(&set)[1].1, Presence::Gone);
        let gone = ["scraper-4", "scraper-9", "scraper-7"].map(|name| set.roster().unwrap().is_gone(name));
        assert_eq!(gone, [false, false, true], "a member, one that ends, and nobody");
        assert_eq!(set.pods.len(), 1, "scraper-9 may become a member");
    }

    #[test]
    fn a_restarting_pod_keeps_its_node_until_its_successor_has_one() {
        let mut set = StatefulSet::new("s");
        set.sized(Some((1, 0)));
        set.pod("s-0", Some(Presence::Ready));
        set.pod_node("s-0", &Arc::from("north"));
        set.pod_node("other-0", &Arc::from("south"));
        set.pod("s-0", None);
        assert_eq!(set.roster().unwrap().node("s-0"), Some("north"));
        set.pod("s-0", Some(Presence::NotReady));
        assert_eq!(set.roster().unwrap().node("s-0"), Some("north"), "not scheduled yet");
        set.pod_node("s-0", &Arc::from("south"));
        assert_eq!(set.roster().unwrap().node("s-0"), Some("south"));
        assert_eq!(set.nodes.len(), 1);
    }

    #[test]
    fn a_set_that_vanished_keeps_its_members() {
        let mut set = StatefulSet::new("s");
        set.sized(Some((1, 0)));
        set.sized(None);
        assert_eq!(members(&set).len(), 1);
        set.sized(Some((0, 0)));
        assert!(members(&set).is_empty(), "scaled to nothing is another matter");
        set.sized(Some((u32::MAX, u32::MAX - 5)));
        assert_eq!(members(&set).len(), 5);
    }
}
