//! Where keys should be: placement with its books, what it is told of scrapers and weights, and the reasons of moves.

use std::collections::BTreeSet;
use std::fmt;

use promring_model::handover::{Allowance, Name};
use promring_model::placement::{Change, Move, Node, PlacementOptions, ScraperLoad, Spread};
use promring_model::target::TargetKey;

use crate::means::WEIGHT_DEFAULT;

/// How often loads are held against each other, in milliseconds.
const REBALANCE_INTERVAL_MS: i64 = 5_000;

const REBALANCES_PER_MINUTE: u32 = (60_000 / REBALANCE_INTERVAL_MS) as u32;

/// Where new weights never end, loads are held against each other all the same after this long.
const REBALANCE_PATIENCE_MS: i64 = 60_000;

/// Weights that are taken at once: with a million targets a millisecond or two of work.
pub(crate) const REWEIGHED_MAX: usize = 1_000;

/// When keys move for their weight alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drift {
    /// So many a minute; 0: none ever.
    pub(crate) moves_per_minute: u32,
    /// Off a scraper that carries more than this many times the mean.
    pub(crate) band: f64,
}

/// A scraper, and the node that it runs on; None where that is not known, or does not matter.
pub(crate) type Taker = (Name, Option<Node>);

/// A key as it is, or was, to be placed: with its weight, its node, and its owner.
pub(crate) type Placed = (TargetKey, f64, Option<Node>, Name);

/// Placement of one leader.
pub(crate) struct Placing {
    spread: Spread,
    takers: Vec<Taker>,
    drift: Drift,
    allowance: Allowance,
    /// Keys whose weight may have changed.
    reweighed: BTreeSet<TargetKey>,
    rebalanced_ms: i64,
}

impl Placing {
    /// Goes on from where keys are, by node or by load. `scrapers` are those that there were: what moved for weight in the last
    /// minute is not known of them, so that nothing does for the next.
    pub(crate) fn resume(
        by_node: bool,
        scrapers: &[Taker],
        held: impl IntoIterator<Item = Placed>,
        drift: Drift,
        now_ms: i64,
    ) -> Self {
        Self {
            spread: Spread::resume(by_node, &options(drift, 0), scrapers, held),
            takers: scrapers.to_vec(),
            drift,
            allowance: if scrapers.is_empty() {
                Allowance::new(drift.moves_per_minute)
            } else {
                Allowance::spent(drift.moves_per_minute, now_ms)
            },
            reweighed: BTreeSet::new(),
            rebalanced_ms: now_ms,
        }
    }

    /// Whether nodes decide first.
    pub(crate) fn is_by_node(&self) -> bool {
        self.spread.is_by_node()
    }

    /// Goes over to the other strategy, with the keys that there are. By node they go home at once; by load they stay, and
    /// what is uneven is levelled as any drift is.
    pub(crate) fn turn(&mut self, by_node: bool, held: impl IntoIterator<Item = Placed>) -> Vec<Move> {
        self.spread = Spread::resume(by_node, &options(self.drift, 0), &self.takers, held);
        self.spread.apply(&[])
    }

    /// From now on keys move for their weight alone like this.
    pub(crate) fn set_drift(&mut self, drift: Drift) {
        self.allowance.set(drift.moves_per_minute);
        self.drift = drift;
        self.spread.set_options(&options(drift, 0));
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

    /// How many keys wait for their weight to be taken.
    pub(crate) fn waiting(&self) -> usize {
        self.reweighed.len()
    }

    /// Whether loads are to be held against each other, as soon as all weights are taken.
    pub(crate) fn is_due(&self, now_ms: i64) -> bool {
        now_ms - self.rebalanced_ms >= REBALANCE_INTERVAL_MS
    }

    /// Takes weights as they are now, some thousand at a time. Every few seconds, once it has all of them (`is_whole`: no more are
    /// being told), it holds loads against each other: only what the allowance has left moves.
    pub(crate) fn rebalance(
        &mut self,
        weight: impl Fn(TargetKey) -> Option<(f64, Option<Node>)>,
        is_whole: bool,
        now_ms: i64,
    ) -> Vec<Move> {
        let since_ms = now_ms - self.rebalanced_ms;
        // By node every change looks at everything, so that they are taken together.
        let by_node = self.is_by_node();
        if by_node && !is_whole && since_ms < REBALANCE_PATIENCE_MS {
            return Vec::new();
        }
        if since_ms < REBALANCE_INTERVAL_MS && (by_node || self.reweighed.is_empty()) {
            return Vec::new();
        }
        let rest = self.reweighed.iter().nth(REWEIGHED_MAX).copied().filter(|_| !by_node);
        let rest = rest.map(|first| self.reweighed.split_off(&first)).unwrap_or_default();
        let is_whole = is_whole && rest.is_empty() || since_ms >= REBALANCE_PATIENCE_MS;
        let reweighed = std::mem::replace(&mut self.reweighed, rest);
        let change = |key| weight(key).map(|(weight, node)| (Change::Set(key, weight), node));
        let changes: Vec<(Change, Option<Node>)> = reweighed.into_iter().filter_map(change).collect();
        if since_ms < REBALANCE_INTERVAL_MS || !is_whole {
            return self.spread.apply(&changes);
        }
        self.rebalanced_ms = now_ms;
        // A minute's worth is spread over it, so that no single change takes long.
        let at_once = (self.drift.moves_per_minute / REBALANCES_PER_MINUTE).max(1) as usize;
        self.spread.set_options(&options(self.drift, self.allowance.left(now_ms).min(at_once)));
        let moves = self.spread.apply(&changes);
        self.spread.set_options(&options(self.drift, 0));
        self.allowance.spend(moves.iter().filter(|moved| moved.from.is_some()).count(), now_ms);
        moves
    }

    /// What each scraper is to carry.
    pub(crate) fn loads(&self) -> Vec<ScraperLoad> {
        self.spread.loads()
    }

    /// Whether a scraper takes targets and there are none for it.
    pub(crate) fn is_spare(&self, name: &str) -> bool {
        self.takes(name) && !self.spread.has_keys(name)
    }

    /// What a key weighs for placement, in samples a second.
    pub(crate) fn weight(&self, key: TargetKey) -> Option<f64> {
        self.spread.weight(key)
    }

    /// Where a key should be.
    pub(crate) fn owner(&self, key: TargetKey) -> Option<Name> {
        self.spread.owner(key).cloned()
    }
}

fn options(drift: Drift, drift_moves_max: usize) -> PlacementOptions {
    let band = drift.band;
    PlacementOptions { band, drift_moves_max, weight_default: WEIGHT_DEFAULT, ..PlacementOptions::default() }
}

impl fmt::Debug for Placing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placing").field("takers", &self.takers).finish_non_exhaustive()
    }
}
