//! Who the scrapers are to be, as far as somebody else than they themselves says so.

use promring_model::config::{Config, Members, Strategy};
use promring_model::handover::Name;
use promring_model::membership::Member;
use promring_model::roster::{Presence, Roster};

/// The API server may take so long to tell who the scrapers are, before whoever reports counts, in milliseconds.
const ROSTER_PATIENCE_MS: i64 = 30_000;

/// A scraper that may or may not come back is forgotten when it has not been heard of for a day, in milliseconds.
const FORGOTTEN_AFTER_MS: i64 = 24 * 60 * 60 * 1_000;

/// The scrapers that there are to be.
#[derive(Debug)]
pub(crate) struct Intended {
    /// Somebody watches the StatefulSet or the pods and will tell a roster.
    watched: bool,
    roster: Option<Roster>,
    /// They are to take the targets of their own nodes.
    by_node: bool,
    /// How many there are to be, where the configuration says that.
    replicas: Option<u32>,
    started_ms: i64,
}

impl Intended {
    pub(crate) fn new(now_ms: i64) -> Self {
        Self { watched: false, roster: None, by_node: false, replicas: None, started_ms: now_ms }
    }

    /// Takes a new configuration.
    pub(crate) fn apply_config(&mut self, config: &Config) {
        self.replicas = config.allocator.replicas;
        self.by_node = config.allocator.strategy == Strategy::PerNode;
        self.watched = matches!(config.allocator.members, Members::StatefulSet(_) | Members::Selector(_));
        match &config.allocator.members {
            Members::Reporting => self.roster = None,
            Members::Static(names) => self.roster = Some(Roster::of_names(names.iter().cloned())),
            // The API server tells; what it told last counts meanwhile.
            Members::StatefulSet(_) | Members::Selector(_) => {}
        }
    }

    pub(crate) fn set_roster(&mut self, roster: Option<Roster>) {
        self.roster = roster;
    }

    pub(crate) fn roster(&self) -> Option<&Roster> {
        self.roster.as_ref()
    }

    /// Whether targets are to go to scrapers on their own nodes.
    pub(crate) fn by_node(&self) -> bool {
        self.by_node
    }

    /// Whether it will soon be known who the scrapers are.
    pub(crate) fn is_awaited(&self, now_ms: i64) -> bool {
        self.watched && self.roster.is_none() && now_ms - self.started_ms < ROSTER_PATIENCE_MS
    }

    /// Whom a new leader has to hear before it concludes anything. A pod that is not there says nothing.
    pub(crate) fn expected(&self) -> Vec<Name> {
        let Some(roster) = &self.roster else { return Vec::new() };
        let is_there = |name: &&str| roster.presence(name) != Some(Presence::Gone);
        roster.names().filter(is_there).map(Name::from).collect()
    }

    /// Whether a scraper's ordinal goes away: the roster does not have it, or, without a roster, its name ends in a number
    /// that is too high for the scrapers that there are to be.
    pub(crate) fn is_leaving(&self, name: &str) -> bool {
        if let Some(roster) = &self.roster {
            return roster.presence(name).is_none();
        }
        let ordinal = name.rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse::<u32>().ok());
        self.replicas.zip(ordinal).is_some_and(|(replicas, ordinal)| ordinal >= replicas)
    }

    /// Whether a scraper has left for good: nobody is to wait for what it has not sent.
    pub(crate) fn is_gone(&self, name: &str, member: Option<&Member>) -> bool {
        let is_lost = member.is_none_or(|member| member.lost);
        match &self.roster {
            Some(roster) if self.watched => roster.is_gone(name),
            _ => self.is_leaving(name) && is_lost,
        }
    }

    /// Whether nobody needs to remember a scraper that is lost and has no targets. Of one whose pods are watched that is so once
    /// there is to be no such pod and it has left no backlog. What an ordinal has left waits on its volume for as long as that may
    /// be; what another pod has left is shown for a day, as nobody can say whether such a pod comes back. Neither can they of one
    /// that nobody watches.
    pub(crate) fn may_be_forgotten(
        &self,
        name: &str,
        member: &Member,
        has_backlog: bool,
        now_ms: i64,
    ) -> bool {
        let is_long_ago = now_ms - member.reported_ms >= FORGOTTEN_AFTER_MS;
        match &self.roster {
            Some(roster) if self.watched => {
                roster.is_gone(name) && (!has_backlog || !roster.has_ordinals() && is_long_ago)
            }
            Some(roster) if roster.presence(name).is_some() => false,
            _ => is_long_ago,
        }
    }

    /// Whether a scraper that nobody knows yet may report. Where there is a list, one that is not on it may if it has been
    /// given something before: it has to give that back.
    pub(crate) fn admits(&self, name: &str, was_member: bool) -> bool {
        self.roster.as_ref().is_none_or(|roster| was_member || roster.presence(name).is_some())
    }
}
