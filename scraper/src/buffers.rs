//! Pools of what a scrape needs only while it lasts: an idle target owns none of it.

use std::sync::{Mutex, PoisonError};

use crate::series::Scratch;

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

/// Scratch memory that goes from scrape to scrape.
#[derive(Debug, Default)]
pub struct Scratches(Mutex<Vec<Scratch>>);

impl Scratches {
    /// Scratch memory, of an earlier scrape where there is some.
    #[must_use]
    pub fn take(&self) -> Scratch {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Gives it back.
    pub fn give(&self, scratch: Scratch) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX && scratch.bytes() <= KEPT_BYTES_MAX {
            kept.push(scratch);
        }
    }
}
