//! What is needed only while a scrape is staged; scrapes share it, one after the other.

use std::collections::HashSet;
use std::hash::Hasher;

use hashbrown::HashTable;
use promring_model::hash::hash64;
use promring_model::labels::SpareLabels;

use crate::chunked::Chunked;
use crate::families::Place;
use crate::payload::Extras;

/// Tables that have grown to more bytes than this are given back as soon as every sample of the body is staged.
const KEPT_TABLE_BYTES_MAX: usize = 256 << 10;

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
    pub(super) staged: Chunked<Staged>,
    /// Places of those with a time of their own whose series had one in this scrape before.
    pub(super) again: Chunked<u32>,
    /// Entries of which nothing came but samples that were refused for their times.
    pub(super) refused: HashSet<u32>,
    /// Of texts that share their labels, and of several samples of one: those of which a sample was not refused, once others were.
    pub(super) alive: Vec<u32>,
    pub(super) extras: Extras,
    /// Known entries of which a sample says something else than the last one, and what was known.
    pub(super) said: Vec<(u32, u8)>,
    /// Entries in the order of this scrape, once it is another than the last one's.
    pub(super) current: Chunked<u32>,
    /// `current` is not 0, 1, 2 and so on.
    pub(super) reordered: bool,
    /// Whether every entry so far stood where it was expected.
    pub(super) differs: bool,
    pub(super) expected: usize,
    /// Which metric family the body speaks of.
    pub(super) family: Place,
    /// Entries by the hash of their text, once it is needed.
    pub(super) by_text: HashTable<u32>,
    /// Entries by the hash of their labels, once it is needed; of several with the same labels, the first one.
    pub(super) by_labels: HashTable<u32>,
    /// Whether `by_labels` was made.
    pub(super) has_labels: bool,
    pub(super) new_bytes: Vec<u8>,
    /// Room for the labels of the next series that is taken apart.
    pub(super) spare: SpareLabels,
}

impl Scratch {
    /// Forgets everything and keeps some memory.
    pub(crate) fn clear(&mut self) {
        self.staged.clear();
        self.again.clear();
        self.refused.clear();
        self.alive.clear();
        self.said.clear();
        self.extras.clear();
        self.current.clear();
        self.by_text.clear();
        self.by_labels.clear();
        self.family = Place::default();
        (self.differs, self.reordered, self.has_labels, self.expected) = (false, false, false, 0);
    }

    /// No series is looked up any more: what large tables take is needed for what comes now.
    pub(super) fn forget_tables(&mut self) {
        for table in [&mut self.by_text, &mut self.by_labels] {
            table.clear();
            if table_bytes(table) > KEPT_TABLE_BYTES_MAX {
                *table = HashTable::new();
            }
        }
    }

    /// Samples that are ready to be encoded.
    #[must_use]
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Memory held, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let tables = table_bytes(&self.by_text) + table_bytes(&self.by_labels);
        let lists = self.staged.bytes() + self.again.bytes() + self.current.bytes();
        let refused = (2 * self.refused.capacity() + self.alive.capacity()) * size_of::<u32>();
        lists + refused + self.said.capacity() * size_of::<(u32, u8)>() + self.extras.bytes() + tables
    }

    /// What the tables take beside that while so many more series come in: one that grows is copied into one twice as
    /// large, and both are there for a while; and one that was not made yet is made as large as the other.
    #[must_use]
    pub fn growth_bytes(&self, more: usize) -> usize {
        let grows = |table: &&HashTable<u32>| table.len() + more > table.capacity();
        let grown =
            [&self.by_text, &self.by_labels].into_iter().filter(grows).map(table_bytes).sum::<usize>();
        grown * 2 + if self.has_labels { 0 } else { table_bytes(&self.by_text) }
    }
}

/// A slot of a table is a number and a byte of its hash; an eighth of the slots stays free.
fn table_bytes(table: &HashTable<u32>) -> usize {
    table.capacity() * 8 / 7 * 5
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
