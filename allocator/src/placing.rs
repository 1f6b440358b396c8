//! Where keys should be: placement with its books, what it is told of scrapers and weights, and the reasons of moves.

use std::collections::BTreeSet;
use std::fmt;

use promring_model::handover::Allowance;
use promring_model::placement::{Change, Move, PlacementOptions, Placer, ScraperLoad};
use promring_model::target::TargetKey;

use crate::reports::WEIGHT_DEFAULT;

/// How often loads are held against each other, in milliseconds. What changes in between is taken together.
const REBALANCE_INTERVAL_MS: i64 = 5_000;

/// Placement of one leader.
pub(crate) struct Placing {
    placer: Placer,
    takers: Vec<String>,
    allowance: Allowance,
    /// Keys whose weight may have changed.
    reweighed: BTreeSet<TargetKey>,
    rebalanced_ms: i64,
}

impl Placing {
    /// Goes on from where keys are, with their weights. `scrapers` are those that there were.
    pub(crate) fn resume(
        scrapers: &[String],
        held: impl IntoIterator<Item = (TargetKey, f64, String)>,
        allowance: Allowance,
        now_ms: i64,
    ) -> Self {
        let placer = Placer::resume(&options(0), scrapers, held);
        let takers = scrapers.to_vec();
        Self { placer, takers, allowance, reweighed: BTreeSet::new(), rebalanced_ms: now_ms }
    }

    /// So many may move for their weight alone.
    pub(crate) fn set_allowance(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// The scrapers that take targets now, by name. While there is none everything stays as it is: whoever is alive goes on
    /// with what it has.
    pub(crate) fn set_takers(&mut self, takers: Vec<String>) -> Vec<Move> {
        if takers.is_empty() || takers == self.takers {
            return Vec::new();
        }
        self.takers = takers;
        self.placer.set_scrapers(&self.takers)
    }

    /// The scrapers that take targets, as placement knows them.
    pub(crate) fn takers(&self) -> &[String] {
        &self.takers
    }

    /// Somebody has a key that placement does not know yet, and keeps it.
    pub(crate) fn hold(&mut self, key: TargetKey, weight: f64, owner: &str) {
        self.placer.hold(key, weight, owner);
    }

    /// Keys have come or gone. Nothing else moves.
    pub(crate) fn apply(&mut self, changes: &[Change]) -> Vec<Move> {
        self.placer.apply(changes)
    }

    /// The weight of a key may be another.
    pub(crate) fn reweighed(&mut self, key: TargetKey) {
        self.reweighed.insert(key);
    }

    /// Holds loads against each other, every few seconds, with the weights as they are now. Only what the allowance has
    /// left moves.
    pub(crate) fn rebalance(&mut self, weight: impl Fn(TargetKey) -> Option<f64>, now_ms: i64) -> Vec<Move> {
        if now_ms - self.rebalanced_ms < REBALANCE_INTERVAL_MS {
            return Vec::new();
        }
        self.rebalanced_ms = now_ms;
        let reweighed = std::mem::take(&mut self.reweighed);
        let changes: Vec<Change> =
            reweighed.into_iter().filter_map(|key| Some(Change::Set(key, weight(key)?))).collect();
        self.placer.set_options(&options(self.allowance.left(now_ms)));
        let moves = self.placer.apply(&changes);
        self.placer.set_options(&options(0));
        self.allowance.spend(moves.iter().filter(|moved| moved.from.is_some()).count());
        moves
    }

    /// What each scraper is to carry.
    pub(crate) fn loads(&self) -> Vec<ScraperLoad> {
        self.placer.loads()
    }

    /// Where a key should be.
    pub(crate) fn owner(&self, key: TargetKey) -> Option<promring_model::handover::Name> {
        self.placer.owner(key).cloned()
    }
}

fn options(drift_moves_max: usize) -> PlacementOptions {
    PlacementOptions { drift_moves_max, weight_default: WEIGHT_DEFAULT, ..PlacementOptions::default() }
}

impl fmt::Debug for Placing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placing").field("takers", &self.takers).finish_non_exhaustive()
    }
}
