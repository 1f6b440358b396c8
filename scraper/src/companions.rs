//! Keys of which this scraper has several living targets: their slots come from their identities
//! ([`promring_model::slots`]).

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use promring_model::target::TargetKey;

/// The keys that several targets share; hardly ever any.
#[derive(Debug, Default)]
pub struct Companions(RwLock<BTreeSet<TargetKey>>);

impl Companions {
    /// Whether several targets have this key.
    #[must_use]
    pub fn contains(&self, key: TargetKey) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    /// These are all of them.
    pub(crate) fn set(&self, keys: &BTreeSet<TargetKey>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if *known != *keys {
            known.clone_from(keys);
        }
    }
}
