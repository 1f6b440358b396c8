//! The two occasions on which entries change owner: members come or go, and loads drift apart.

use super::fleet::{Fit, Fleet, Newcomers};

/// The most that a change of membership moves of its own choice, in hundredths of the newcomers' fair share of
/// the keys. What the bound demands is moved in any case.
const NEWCOMER_MOVES_PERCENT: u128 = 110;

/// The most that scrapers going away moves beyond what they held, in hundredths of the keys.
const LEAVER_MOVES_PERCENT: u128 = 2;

/// What newcomers are given first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taste {
    /// What the ring wants there, the heaviest first.
    Drawn,
    /// The heaviest: the same load by fewer moves.
    Heaviest,
    /// The lightest.
    Lightest,
}

impl Fleet {
    /// Members are as they were: finds an owner for `homeless`, and corrects loads that have drifted.
    pub(super) fn keys_changed(&mut self, homeless: Vec<u32>) {
        if self.scrapers.is_empty() {
            return;
        }
        self.level_by_loads();
        self.place_these(homeless, &Newcomers::none());
        self.correct_drift();
    }

    /// Members have come or gone: finds an owner for whatever has none, after which every load is within its
    /// bound again, at the price of few moves. `joined` are the scrapers that were not there before.
    pub(super) fn members_changed(&mut self, joined: Vec<u32>) {
        if self.scrapers.is_empty() {
            return;
        }
        self.level_by_weights();
        let all_new = joined.len() == self.scrapers.len();
        // Where all are new, none is to be preferred: the ring decides alone.
        let newcomers = if all_new { Newcomers::none() } else { Newcomers::new(joined, self.scrapers.len()) };
        let mut quota = self.quota(newcomers.list.len());
        for scraper in self.indices() {
            self.relieve_to_bound(scraper, &newcomers, &mut quota);
        }
        self.place_these(self.homeless(), &newcomers);
        let bound = self.rules.bound(self.level(), 1);
        for scraper in self.indices() {
            self.relieve(scraper, bound, &newcomers, Fit::UnderCap, &mut quota);
        }
        self.top_up(&newcomers, &mut quota);
        if all_new {
            self.level_out();
        }
    }

    /// Evens out a fresh placement, which the ring alone leaves a few percent uneven. Nothing has an owner that
    /// it could be taken from yet, so this costs no hand-over; and even loads are far from the bound, so that
    /// the next change of members is not forced to more than its share.
    fn level_out(&mut self) {
        let low = self.indices().filter(|&scraper| self.load(scraper) < self.level()).collect();
        let low = Newcomers::new(low, self.scrapers.len());
        let mut boundless = usize::MAX;
        self.top_up(&low, &mut boundless);
    }

    fn quota(&self, newcomers: usize) -> usize {
        let keys = self.entries.len() as u128;
        let quota = if newcomers > 0 {
            keys * newcomers as u128 * NEWCOMER_MOVES_PERCENT / (100 * self.scrapers.len() as u128)
        } else {
            keys * LEAVER_MOVES_PERCENT / 100
        };
        usize::try_from(quota).unwrap_or(usize::MAX)
    }

    /// Gives these entries, which have no owner, to one each.
    fn place_these(&mut self, mut indices: Vec<u32>, newcomers: &Newcomers) {
        self.sort_for_placing(&mut indices);
        for index in indices {
            if let Some(scraper) = self.home(index, newcomers, Fit::Anywhere) {
                self.move_to(index, scraper);
            }
        }
    }

    /// What the bound demands: this does not ask the quota, but uses it up.
    fn relieve_to_bound(&mut self, scraper: u32, newcomers: &Newcomers, quota: &mut usize) {
        let bound = self.bound();
        if self.load(scraper) <= bound {
            return;
        }
        let limit = self.limit(scraper, bound);
        let mut boundless = usize::MAX;
        self.relieve(scraper, limit, newcomers, Fit::UnderCap, &mut boundless);
        self.relieve(scraper, limit, newcomers, Fit::Anywhere, &mut boundless);
        *quota = quota.saturating_sub(usize::MAX - boundless);
    }

    /// Takes entries from a scraper until its load is at most `limit`. Its heaviest entry stays: with it the
    /// scraper would lose the reason why more than a share is allowed to it.
    fn relieve(&mut self, scraper: u32, limit: u128, newcomers: &Newcomers, fit: Fit, quota: &mut usize) {
        if self.load(scraper) <= limit {
            return;
        }
        let candidates = self.candidates(scraper);
        if newcomers.list.is_empty() {
            self.shed(scraper, limit, &candidates, newcomers, fit, quota);
            return;
        }
        let (drawn, rest): (Vec<u32>, Vec<u32>) =
            candidates.into_iter().partition(|&index| self.first_choice_among(index, newcomers).is_some());
        self.shed(scraper, limit, &drawn, newcomers, fit, quota);
        self.shed(scraper, limit, &rest, newcomers, fit, quota);
    }

    /// The entries of a scraper but for its heaviest, heaviest first.
    fn candidates(&self, scraper: u32) -> Vec<u32> {
        let mut indices = self.held(scraper).to_vec();
        self.sort_heaviest_first(&mut indices);
        if !indices.is_empty() {
            indices.remove(0);
        }
        indices
    }

    /// Moves as few of `candidates` (heaviest first) as possible: the lightest that is enough by itself, and as
    /// long as there is none, the heaviest.
    fn shed(
        &mut self,
        scraper: u32,
        limit: u128,
        candidates: &[u32],
        newcomers: &Newcomers,
        fit: Fit,
        quota: &mut usize,
    ) {
        let mut enough = None;
        for &index in candidates {
            let Some(excess) = self.load(scraper).checked_sub(limit).filter(|&excess| excess > 0) else {
                return;
            };
            if u128::from(self.entries[index as usize].weight) >= excess {
                enough = Some(index);
                continue;
            }
            if let Some(enough) = enough.take()
                && self.move_home(enough, newcomers, fit, quota)
            {
                return;
            }
            self.move_home(index, newcomers, fit, quota);
        }
        if let Some(enough) = enough
            && self.load(scraper) > limit
        {
            self.move_home(enough, newcomers, fit, quota);
        }
    }

    fn move_home(&mut self, index: u32, newcomers: &Newcomers, fit: Fit, quota: &mut usize) -> bool {
        if *quota == 0 {
            return false;
        }
        let Some(scraper) = self.home(index, newcomers, fit) else { return false };
        *quota -= 1;
        self.move_to(index, scraper);
        true
    }

    /// Brings newcomers up to the level, from scrapers that are above it.
    fn top_up(&mut self, newcomers: &Newcomers, quota: &mut usize) {
        for taste in [Taste::Drawn, Taste::Heaviest, Taste::Lightest] {
            let level = self.level();
            let mut givers: Vec<u32> = self
                .indices()
                .filter(|&scraper| self.load(scraper) > level && !newcomers.contains(scraper))
                .collect();
            givers.sort_by_key(|&scraper| (u128::MAX - self.load(scraper), scraper));
            for giver in givers {
                if *quota == 0 || newcomers.list.iter().all(|&scraper| self.load(scraper) >= level) {
                    return;
                }
                self.give(giver, taste, newcomers, quota);
            }
        }
    }

    /// Gives newcomers entries of one scraper, until that has no more than the level.
    fn give(&mut self, giver: u32, taste: Taste, newcomers: &Newcomers, quota: &mut usize) {
        let (level, floor) = (self.level(), self.rules.floor(self.level()));
        let mut candidates = self.candidates(giver);
        let lack: u128 = newcomers.list.iter().map(|&scraper| level.saturating_sub(self.load(scraper))).sum();
        // What the ring draws is taken only as far as the quota still buys the whole share at that rate.
        let worthwhile = if taste == Taste::Drawn { lack / (*quota).max(1) as u128 } else { 0 };
        if taste == Taste::Lightest {
            candidates.reverse();
        }
        let mut least = self.least_loaded(newcomers.list.iter().copied());
        for index in candidates {
            if *quota == 0 || self.load(giver) <= level {
                return;
            }
            let weight = u128::from(self.entries[index as usize].weight);
            if weight < worthwhile {
                return;
            }
            let taker = if taste == Taste::Drawn { self.first_choice_among(index, newcomers) } else { least };
            let Some(taker) = taker else { continue };
            let (left, taken) = (self.load(giver) - weight, self.load(taker) + weight);
            // The giver falls below the floor only where weights are too coarse for anything else.
            if taken <= level && (left >= floor || (taste == Taste::Lightest && left >= taken)) {
                *quota -= 1;
                self.move_to(index, taker);
                least = self.least_loaded(newcomers.list.iter().copied());
            }
        }
    }

    /// Takes from scrapers that weights have driven past the band what brings them back to it, and no more: of that the heaviest, where
    /// not all may move at once.
    fn correct_drift(&mut self) {
        let mut quota = self.rules.drift_moves_max;
        if quota == 0 {
            return;
        }
        let band = self.band();
        let mut over: Vec<u32> = self.indices().filter(|&scraper| self.load(scraper) > band).collect();
        over.sort_by_key(|&scraper| (u128::MAX - self.load(scraper), scraper));
        for scraper in over {
            if quota == 0 {
                return;
            }
            let limit = self.limit(scraper, band);
            let before = self.moved.len();
            self.bring_back(scraper, limit, &[Fit::UnderCap, Fit::Anywhere]);
            let gentle = self.undo(before, scraper);
            self.bring_back(scraper, limit, &[Fit::Anywhere]);
            if self.moved.len() - before >= gentle.len() {
                // What fits under the caps of others is better, unless it is more.
                self.undo(before, scraper);
                gentle.into_iter().for_each(|(index, taker)| self.move_to(index, taker));
            }
            self.take_back(scraper, limit, before, quota);
            quota -= self.moved.len() - before;
        }
    }

    /// Returns what was moved since then to the scraper that had it. Gives each with the one that it had been moved to.
    fn undo(&mut self, since: usize, scraper: u32) -> Vec<(u32, u32)> {
        let taken = |&(index, _): &(u32, u32)| (index, self.entries[index as usize].owner);
        let moves: Vec<(u32, u32)> = self.moved[since..].iter().map(taken).collect();
        self.moved.truncate(since);
        moves.iter().for_each(|&(index, _)| self.assign(index, scraper));
        moves
    }

    /// Takes from a scraper what is above the limit, as if all could move: light ones must not use up what heavy ones need.
    fn bring_back(&mut self, scraper: u32, limit: u128, fits: &[Fit]) {
        let (before, mut boundless) = (self.moved.len(), usize::MAX);
        for &fit in fits {
            self.relieve(scraper, limit, &Newcomers::none(), fit, &mut boundless);
        }
        self.take_back(scraper, limit, before, usize::MAX);
    }

    /// Returns what the last, heavier move has made superfluous of those before, and the lightest beyond so many.
    fn take_back(&mut self, scraper: u32, limit: u128, since: usize, moves_max: usize) {
        let mut moves = self.moved.split_off(since);
        moves.sort_by_key(|&(index, _)| {
            let entry = &self.entries[index as usize];
            (entry.weight, entry.key)
        });
        moves.retain(|&(index, _)| {
            let weight = u128::from(self.entries[index as usize].weight);
            let superfluous = self.load(scraper) + weight <= limit;
            if superfluous {
                self.assign(index, scraper);
            }
            !superfluous
        });
        for &(index, _) in &moves[..moves.len().saturating_sub(moves_max)] {
            self.assign(index, scraper);
        }
        moves.drain(..moves.len().saturating_sub(moves_max));
        self.moved.append(&mut moves);
    }
}
