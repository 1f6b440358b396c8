//! The one hash of the project: xxh3, in 64 and 128 bits.
//!
//! Owners, slot offsets and identities are derived from these values, so they must be the same in every
//! process, on every platform and with every compiler. `std::hash::Hash` promises none of that.

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

/// The 64-bit xxh3 of `bytes`, with seed 0.
#[must_use]
pub fn hash64(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The same with a seed. Where nobody knows it, nobody can think of texts that have one hash: for tables of what strangers send.
#[must_use]
pub fn hash64_with_seed(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// Hashes a sequence of fields so that no two different sequences give the same input:
/// a field's length goes before its bytes.
#[derive(Default)]
pub struct FieldHasher(Xxh3);

impl FieldHasher {
    /// A hasher over no field yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Xxh3::new())
    }

    /// Adds one field.
    pub fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// The 64-bit hash of the fields so far.
    #[must_use]
    pub fn finish64(&self) -> u64 {
        self.0.digest()
    }

    /// The 128-bit hash of the fields so far.
    #[must_use]
    pub fn finish128(&self) -> u128 {
        self.0.digest128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_pinned_so_that_no_upgrade_moves_targets() {
        assert_eq!(hash64(b"promring"), xxh3_64(b"promring"));
        assert_eq!(hash64(b""), 0x2d06_8005_38d3_94c2, "xxh3's published value for no input");
    }

    #[test]
    fn field_borders_count() {
        let one = FieldHasher::new().field(b"ab").field(b"c").finish64();
        let two = FieldHasher::new().field(b"a").field(b"bc").finish64();
        assert_ne!(one, two);
    }
}
