//! Symbols by their text, in several tables: one that grows or shrinks is copied, and a copy of all would take much memory,
//! and let everybody wait.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use promring_model::hash::hash64_with_seed;

use super::{Strings, Symbol};

/// With more of them those of a large target would be so small that the C library kept them when they are freed.
const TABLES: usize = 16;

/// A table that has room for twice as many as it has, and an eighth, is worth to shrink, if that is more than this many.
const SPARE_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Index {
    tables: Box<[HashTable<Symbol>]>,
    /// Of the hashes, another one in each process: a target whose strings all had one hash would hold everybody up.
    seed: u64,
    /// Memory held by them.
    bytes: usize,
}

impl Default for Index {
    fn default() -> Self {
        let tables = (0..TABLES).map(|_| HashTable::new()).collect();
        Self { tables, seed: RandomState::new().hash_one(()), bytes: 0 }
    }
}

impl Index {
    /// The hash by which a text is found here.
    pub(super) fn hash(&self, text: &str) -> u64 {
        hash64_with_seed(text.as_bytes(), self.seed)
    }

    pub(super) fn find(&self, text: &str, hash: u64, strings: &Strings) -> Option<Symbol> {
        self.tables[table_of(hash)].find(hash, |&symbol| strings.text(symbol) == text).copied()
    }

    /// Adds a symbol that is not there.
    pub(super) fn add(&mut self, symbol: Symbol, hash: u64, strings: &Strings) {
        let Self { tables, seed, .. } = self;
        let table = &mut tables[table_of(hash)];
        let before = table.allocation_size();
        table.insert_unique(hash, symbol, |&symbol| hash_of(symbol, strings, *seed));
        self.bytes += table.allocation_size() - before;
    }

    /// Removes a symbol. False: it was not there.
    pub(super) fn remove(&mut self, symbol: Symbol, strings: &Strings) -> bool {
        let hash = hash_of(symbol, strings, self.seed);
        let entry = self.tables[table_of(hash)].find_entry(hash, |&known| known == symbol);
        entry.map(|entry| entry.remove()).is_ok()
    }

    /// Whether some table is much too large.
    pub(super) fn is_wide(&self) -> bool {
        self.tables.iter().any(is_wide)
    }

    /// Shrinks a table that is much too large. False: none is.
    pub(super) fn shrink_one(&mut self, strings: &Strings) -> bool {
        let Self { tables, seed, .. } = self;
        let Some(table) = tables.iter_mut().find(|table| is_wide(table)) else { return false };
        let (before, least) = (table.allocation_size(), table.len() + table.len() / 8);
        table.shrink_to(least, |&symbol| hash_of(symbol, strings, *seed));
        self.bytes -= before - table.allocation_size();
        true
    }

    /// Memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn is_wide(table: &HashTable<Symbol>) -> bool {
    table.capacity() > SPARE_MAX && table.len() + table.len() / 8 <= table.capacity() / 2
}

/// A table looks at the first bits and the last ones.
fn table_of(hash: u64) -> usize {
    (hash >> 32) as usize % TABLES
}

fn hash_of(symbol: Symbol, strings: &Strings, seed: u64) -> u64 {
    hash64_with_seed(strings.text(symbol).as_bytes(), seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_knows_the_hash_of_a_text() {
        let [one, other] = [Index::default(), Index::default()];
        assert_eq!(one.hash("a"), one.hash("a"));
        assert_ne!(one.hash("a"), other.hash("a"));
    }
}
