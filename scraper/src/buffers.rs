//! Pools of what a scrape needs only while it lasts: an idle target owns none of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::series::Scratch;

/// What a pool keeps takes at most this many bytes. Who needs more at a time asks the system for it.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// What is larger than this is given back to the system.
const ONE_BYTES_MAX: usize = 1 << 20;

/// Counted for each that is kept, so that empty ones are not kept without end.
const ONE_BYTES_MIN: usize = 4 << 10;

#[derive(Debug)]
struct Pool<T> {
    kept: Vec<T>,
    bytes: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), bytes: 0 }
    }
}

impl<T: Default> Pool<T> {
    fn take(&mut self, bytes_of: impl Fn(&T) -> usize) -> T {
        let Some(one) = self.kept.pop() else { return T::default() };
        self.bytes -= bytes_of(&one).max(ONE_BYTES_MIN);
        one
    }

    fn give(&mut self, one: T, bytes_of: impl Fn(&T) -> usize) {
        let bytes = bytes_of(&one);
        if bytes == 0 {
            return;
        }
        let bytes = bytes.max(ONE_BYTES_MIN);
        if bytes <= ONE_BYTES_MAX && self.bytes + bytes <= KEPT_BYTES_MAX {
            self.bytes += bytes;
            self.kept.push(one);
        }
    }
}

fn lock<T>(pool: &Mutex<Pool<T>>) -> MutexGuard<'_, Pool<T>> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Buffers that go from body to body.
#[derive(Debug, Default)]
pub struct Buffers(Mutex<Pool<Vec<u8>>>);

impl Buffers {
    /// An empty buffer, with the memory of an earlier one where there is one.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        lock(&self.0).take(Vec::capacity)
    }

    /// Gives a buffer back.
    pub fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        lock(&self.0).give(buffer, Vec::capacity);
    }
}

/// Scratch memory that goes from scrape to scrape.
#[derive(Debug, Default)]
pub struct Scratches(Mutex<Pool<Scratch>>);

impl Scratches {
    /// Scratch memory, of an earlier scrape where there is some.
    #[must_use]
    pub fn take(&self) -> Scratch {
        lock(&self.0).take(Scratch::bytes)
    }

    /// Gives it back.
    pub fn give(&self, mut scratch: Scratch) {
        scratch.clear();
        lock(&self.0).give(scratch, Scratch::bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_unless_it_is_large_or_there_are_many() {
        let buffers = Buffers::default();
        let mut buffer = Vec::with_capacity(100_000);
        buffer.push(1);
        buffers.give(buffer);
        let again = buffers.take();
        assert!(again.is_empty() && again.capacity() >= 100_000);
        buffers.give(Vec::with_capacity(ONE_BYTES_MAX + 1));
        assert_eq!(buffers.take().capacity(), 0);
        for _ in 0..20 {
            buffers.give(Vec::with_capacity(ONE_BYTES_MAX));
        }
        assert_eq!(lock(&buffers.0).kept.len(), KEPT_BYTES_MAX / ONE_BYTES_MAX);
    }
}
