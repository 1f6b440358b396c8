//! Requests that come again, as they must when the sender did not learn that they were stored.

use std::collections::{HashSet, VecDeque};

use promring_model::hash::hash64;

/// Requests that are remembered.
const REQUESTS_MAX: usize = 65_536;

/// Hashes of the last requests.
#[derive(Debug, Default)]
pub(super) struct Resent {
    known: HashSet<u64>,
    order: VecDeque<u64>,
    current: bool,
}

impl Resent {
    /// A request begins. Whether its body came before.
    pub(super) fn begin(&mut self, body: &[u8]) -> bool {
        let hash = hash64(body);
        self.current = !self.known.insert(hash);
        if !self.current {
            self.order.push_back(hash);
            if self.order.len() > REQUESTS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
        self.current
    }

    /// Whether the current request came before.
    pub(super) fn is_resent(&self) -> bool {
        self.current
    }
}
