//! A part of a request that was not taken as a whole.

use std::collections::HashSet;

use super::join::JOINED_BYTES_MAX;
use super::units::{Counts, Unit, to_v1};
use crate::queue::Encoding;

/// A part of a request.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) units: Vec<Unit>,
    /// Whether an earlier copy of it may have been stored.
    pub(super) maybe_stored: bool,
    /// All its series were refused alone before.
    pub(super) known: bool,
    /// It was in a piece that was refused for what some series of that are.
    pub(super) rejected: bool,
    /// It is looked into since it was refused: aside, it waits for its turn.
    pub(super) paced: bool,
    /// That is one of those for what was never asked for, as nothing is known of its series yet, or for what was overtaken and may be taken
    /// yet.
    pub(super) first: bool,
}

impl Piece {
    pub(super) fn new(units: Vec<Unit>, maybe_stored: bool) -> Self {
        Self { units, maybe_stored, known: false, rejected: false, paced: false, first: false }
    }

    /// Some of its units, or what became of them.
    pub(super) fn part(&self, units: Vec<Unit>) -> Self {
        let Self { maybe_stored, known, rejected, paced, first, .. } = *self;
        Self { units, maybe_stored, known, rejected, paced, first }
    }

    /// Whether units of both may be in one piece.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        self.encoding() == other.encoding()
            && self.maybe_stored == other.maybe_stored
            && self.rejected == other.rejected
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.units.first().map_or(Encoding::V1, Unit::encoding)
    }

    /// The same as 1.0, in order, and in pieces that are no larger than a request is made: labels take more room in 1.0.
    pub(super) fn into_v1(self) -> Vec<Self> {
        let mut pieces: Vec<Self> = Vec::new();
        let mut bytes = 0;
        for unit in self.units.iter().flat_map(to_v1) {
            bytes += unit.len();
            match pieces.last_mut() {
                Some(last) if bytes <= JOINED_BYTES_MAX => last.units.push(unit),
                _ => {
                    bytes = unit.len();
                    pieces.push(self.part(vec![unit]));
                }
            }
        }
        pieces
    }

    /// Takes the units of some series out of it.
    pub(super) fn take(&mut self, series: &HashSet<u64>) -> Vec<Unit> {
        let is_one = |unit: &Unit| unit.series_hash().is_some_and(|hash| series.contains(&hash));
        if !self.units.iter().any(is_one) {
            return Vec::new();
        }
        let units = std::mem::take(&mut self.units).into_iter();
        let (taken, left) = units.partition(is_one);
        self.units = left;
        taken
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for unit in &self.units {
            counts.add(unit.counts);
        }
        counts
    }

    /// `i64::MIN` where nothing in it has a time that counts.
    pub(super) fn newest_ms(&self) -> i64 {
        self.units.iter().filter_map(|unit| unit.newest_ms).max().unwrap_or(i64::MIN)
    }
}
