//! The hash ring: which scraper a key prefers, and which ones after that.
//!
//! The ring is the `hashring` crate's. What it lacks comes from here: virtual nodes, a hash that is the same in
//! every process, and further choices for a key whose first choice is full.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use hashring::HashRing;

use crate::hash::{FieldHasher, hash64};

/// Points that a scraper has on the ring. A scraper's arc varies by about one in the square root of this. More
/// points make fresh placements a little more even and every look-up slower (the README has figures).
const POINTS_PER_SCRAPER: u32 = 128;

/// The scrapers on a ring, known by their index in the list that the ring was made of.
pub(super) struct Ring(HashRing<Point, Ready>);

impl Ring {
    /// A ring of these scrapers. Their order does not matter for who gets which key, only for the indices.
    pub(super) fn new(scrapers: &[Arc<str>]) -> Self {
        let mut points = Vec::with_capacity(scrapers.len() * POINTS_PER_SCRAPER as usize);
        for (scraper, name) in (0_u32..).zip(scrapers) {
            for point in 0..POINTS_PER_SCRAPER {
                let hash = FieldHasher::new().field(name.as_bytes()).field(&point.to_le_bytes()).finish64();
                points.push(Point { hash, scraper });
            }
        }
        let mut ring = HashRing::with_hasher(Ready);
        // `add` would sort again for every point.
        ring.batch_add(points);
        Self(ring)
    }

    /// The scraper that `key` prefers with this salt: 0 is its first choice, and every further salt an
    /// independent one. None when there are no scrapers.
    pub(super) fn choice(&self, key: u64, salt: u32) -> Option<u32> {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&key.to_le_bytes());
        bytes[8..].copy_from_slice(&salt.to_le_bytes());
        self.0.get(&Place(hash64(&bytes))).map(|point| point.scraper)
    }
}

/// A virtual node.
struct Point {
    hash: u64,
    scraper: u32,
}

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Where on the ring to look.
struct Place(u64);

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Hands on the xxh3 values that are computed above. What `Hash` of the standard types writes is no stable
/// contract, so nothing but our own `write_u64` may decide where something lies.
struct Ready;

impl BuildHasher for Ready {
    type Hasher = ReadyHash;

    fn build_hasher(&self) -> ReadyHash {
        ReadyHash(0)
    }
}

struct ReadyHash(u64);

impl Hasher for ReadyHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash64(bytes);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(range: std::ops::Range<u32>) -> Vec<Arc<str>> {
        range.map(|n| Arc::from(format!("scraper-{n}"))).collect()
    }

    #[test]
    fn an_empty_ring_has_no_choice() {
        assert_eq!(Ring::new(&[]).choice(1, 0), None);
    }

    #[test]
    fn the_choices_are_pinned_so_that_no_upgrade_moves_targets() {
        let ring = Ring::new(&names(0..10));
        let choices: Vec<_> = (0..8).filter_map(|key| ring.choice(key, 0)).collect();
        assert_eq!(choices, PINNED);
        let salted: Vec<_> = (1..9).filter_map(|salt| ring.choice(0, salt)).collect();
        assert_eq!(salted, PINNED_SALTED);
    }

    const PINNED: [u32; 8] = [5, 5, 4, 8, 2, 8, 0, 3];
    const PINNED_SALTED: [u32; 8] = [9, 4, 0, 1, 0, 9, 2, 7];

    #[test]
    fn a_new_scraper_takes_keys_only_for_itself() {
        let (ten, eleven) = (Ring::new(&names(0..10)), Ring::new(&names(0..11)));
        let mut taken = 0;
        for key in 0..10_000 {
            let (before, after) = (ten.choice(key, 0), eleven.choice(key, 0));
            if before != after {
                assert_eq!(after, Some(10));
                taken += 1;
            }
        }
        assert!((500..1_400).contains(&taken), "{taken} of 10,000, where 909 is its share");
    }
}
