//! Where keys should be: placement with its books, what it is told of scrapers and weights, and the reasons of moves.

use std::collections::BTreeSet;
use std::fmt;

use promring_model::handover::{Allowance, Name};
use promring_model::placement::{Change, Move, Node, PlacementOptions, ScraperLoad, Spread};
use promring_model::target::TargetKey;

use crate::reports::WEIGHT_DEFAULT;

/// How often loads are held against each other, in milliseconds. What changes in between is taken together.
const REBALANCE_INTERVAL_MS: i64 = 5_000;

/// A scraper, and the node that it runs on; None where that is not known, or does not matter.
pub(crate) type Taker = (Name, Option<Node>);

/// A key as it is, or was, to be placed: with its weight, its node, and its owner.
pub(crate) type Placed = (TargetKey, f64, Option<Node>, Name);

/// Placement of one leader.
pub(crate) struct Placing {
    spread: Spread,
    takers: Vec<Taker>,
    allowance: Allowance,
    /// Keys whose weight may have changed.
    reweighed: BTreeSet<TargetKey>,
    rebalanced_ms: i64,
}

impl Placing {
    /// Goes on from where keys are, by node or by load. `scrapers` are those that there were.
    pub(crate) fn resume(
        by_node: bool,
        scrapers: &[Taker],
        held: impl IntoIterator<Item = Placed>,
        allowance: Allowance,
        now_ms: i64,
    ) -> Self {
        let spread = Spread::resume(by_node, &options(0), scrapers, held);
        let takers = scrapers.to_vec();
        Self { spread, takers, allowance, reweighed: BTreeSet::new(), rebalanced_ms: now_ms }
    }

    /// Whether nodes decide first.
    pub(crate) fn is_by_node(&self) -> bool {
        self.spread.is_by_node()
    }

    /// Goes over to the other strategy, with the keys that there are. By node they go home at once; by load they stay, and
    /// what is uneven is levelled as any drift is.
    pub(crate) fn turn(&mut self, by_node: bool, held: impl IntoIterator<Item = Placed>) -> Vec<Move> {
        self.spread = Spread::resume(by_node, &options(0), &self.takers, held);
        self.spread.apply(&[])
    }

    /// So many may move for their weight alone.
    pub(crate) fn set_allowance(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// The scrapers that take targets now, by name. While there is none everything stays as it is: whoever is alive goes on
    /// with what it has.
    pub(crate) fn set_takers(&mut self, takers: Vec<Taker>) -> Vec<Move> {
        if takers.is_empty() || takers == self.takers {
            return Vec::new();
        }
        self.takers = takers;
        self.spread.set_scrapers(&self.takers)
    }

    /// The scrapers that take targets, as placement knows them.
    pub(crate) fn takers(&self) -> &[Taker] {
        &self.takers
    }

    /// Whether placement knows a scraper of this name.
    pub(crate) fn takes(&self, name: &str) -> bool {
        self.takers.binary_search_by(|(taker, _)| (**taker).cmp(name)).is_ok()
    }

    /// Somebody has a key that placement does not know yet, and keeps it.
    pub(crate) fn hold(&mut self, (key, weight, node, owner): Placed) {
        self.spread.hold(key, weight, node, &owner);
    }

    /// Keys have come or gone. Nothing else moves.
    pub(crate) fn apply(&mut self, changes: &[(Change, Option<Node>)]) -> Vec<Move> {
        self.spread.apply(changes)
    }

    /// The weight of a key may be another.
    pub(crate) fn reweighed(&mut self, key: TargetKey) {
        self.reweighed.insert(key);
    }

    /// Holds loads against each other, every few seconds, with the weights as they are now. Only what the allowance has
    /// left moves.
    pub(crate) fn rebalance(
        &mut self,
        weight: impl Fn(TargetKey) -> Option<(f64, Option<Node>)>,
        now_ms: i64,
    ) -> Vec<Move> {
        if now_ms - self.rebalanced_ms < REBALANCE_INTERVAL_MS {
            return Vec::new();
        }
        self.rebalanced_ms = now_ms;
        let reweighed = std::mem::take(&mut self.reweighed);
        let change = |key| weight(key).map(|(weight, node)| (Change::Set(key, weight), node));
        let changes: Vec<(Change, Option<Node>)> = reweighed.into_iter().filter_map(change).collect();
        self.spread.set_options(&options(self.allowance.left(now_ms)));
        let moves = self.spread.apply(&changes);
        self.spread.set_options(&options(0));
        self.allowance.spend(moves.iter().filter(|moved| moved.from.is_some()).count());
        moves
    }

    /// What each scraper is to carry.
    pub(crate) fn loads(&self) -> Vec<ScraperLoad> {
        self.spread.loads()
    }

    /// Where a key should be.
    pub(crate) fn owner(&self, key: TargetKey) -> Option<Name> {
        self.spread.owner(key).cloned()
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
