//! What is needed only while a scrape is staged; scrapes share it, one after the other.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use promring_model::hash::hash64;

use crate::families::Place;
use crate::payload::Extras;

/// A sample that is ready to be encoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staged {
    pub(super) entry: u32,
    /// What it has beside value and time, by its number in [`Extras`]; 0: nothing, as nearly all samples.
    pub(super) extra: u32,
    /// The value's bits: they are moved, never computed on, so that a NaN keeps its payload.
    pub(super) value_bits: u64,
    pub(super) timestamp_ms: i64,
}

/// What is needed while a scrape is staged.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) staged: Vec<Staged>,
    pub(super) extras: Extras,
    /// Entries in the order of this scrape, once it is another than the last one's.
    pub(super) current: Vec<u32>,
    /// Whether every entry so far stood where it was expected.
    pub(super) differs: bool,
    pub(super) expected: usize,
    /// Which metric family the body speaks of.
    pub(super) family: Place,
    pub(super) by_text: HashMap<u64, u32, BuildHasherDefault<HashIsKey>>,
    pub(super) by_labels: HashMap<u64, u32, BuildHasherDefault<HashIsKey>>,
    pub(super) new_bytes: Vec<u8>,
}

impl Scratch {
    pub(super) fn clear(&mut self) {
        self.staged.clear();
        self.extras.clear();
        self.current.clear();
        self.by_text.clear();
        self.by_labels.clear();
        self.family = Place::default();
        (self.differs, self.expected) = (false, 0);
    }

    /// Memory held, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.staged.capacity() * size_of::<Staged>()
            + self.extras.bytes()
            + self.current.capacity() * 4
            + (self.by_text.capacity() + self.by_labels.capacity()) * 16
    }
}

/// The keys are hashes already.
#[derive(Clone, Debug, Default)]
pub struct HashIsKey(u64);

impl Hasher for HashIsKey {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only u64 keys are used; anything else still hashes well.
        self.0 = hash64(bytes);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}
