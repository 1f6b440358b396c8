//! Why keys change owner, counted.

use std::collections::BTreeMap;

/// Why a key goes to another scraper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// A scraper has come, and takes its share.
    ScaleOut,
    /// A scraper goes for good.
    ScaleIn,
    /// A scraper goes, and its successor under the same name comes later.
    Drain,
    /// A scraper carried too much, or the key is on another node.
    Rebalance,
    /// A scraper is lost.
    Lost,
    /// A scraper's file lacks a job, or has it again.
    Config,
    /// It was agreed on under the leader before, who knew why.
    Takeover,
}

impl Reason {
    /// As metrics show it.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ScaleOut => "scale_out",
            Self::ScaleIn => "scale_in",
            Self::Drain => "drain",
            Self::Rebalance => "rebalance",
            Self::Lost => "lost",
            Self::Config => "config",
            Self::Takeover => "takeover",
        }
    }
}

/// Keys that have changed owner, by reason, since the start of the leader.
#[derive(Debug, Default)]
pub(crate) struct Reasons(BTreeMap<Reason, u64>);

impl Reasons {
    pub(crate) fn count(&mut self, reason: Reason, keys: u64) {
        if keys > 0 {
            *self.0.entry(reason).or_default() += keys;
            metrics::counter!("promring_allocator_moves_total", "reason" => reason.name()).increment(keys);
        }
    }

    /// How many for this reason.
    #[cfg(test)]
    pub(crate) fn of(&self, reason: Reason) -> u64 {
        self.0.get(&reason).copied().unwrap_or(0)
    }
}
