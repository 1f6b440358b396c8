//! A pool of buffers for bodies: an idle target owns none.

use std::sync::{Mutex, PoisonError};

/// Buffers kept for the next body.
const KEPT_MAX: usize = 64;

/// A buffer that grew larger than this is given back to the system.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Buffers that go from body to body.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// An empty buffer, with the memory of an earlier one where there is one.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX && buffer.capacity() <= KEPT_BYTES_MAX {
            kept.push(buffer);
        }
    }
}
