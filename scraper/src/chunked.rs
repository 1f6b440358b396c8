//! A list that grows without moving: for lists of millions, of which a copy would be too much.
//!
//! What a long list takes goes back to the system as soon as it is no longer needed. The C library keeps what is freed for
//! the thread that had it, up to [`KEPT_BYTES_MAX`] a piece, and a large scrape runs on another thread each time: the
//! same list would stay once a thread. So a long list has chunks larger than that, of which only what was written
//! takes memory.

/// Elements of a small chunk.
const CHUNK_LEN: usize = 4096;

/// Small chunks come first: most lists are short. What they take may stay with each thread, so they are few.
const SMALL_CHUNKS: usize = 2;

/// The C library may keep what is freed of this size (`DEFAULT_MMAP_THRESHOLD_MAX` of glibc), and never what is larger.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// A list in chunks.
#[derive(Debug)]
pub(crate) struct Chunked<T> {
    /// All but the last one that has any elements are full.
    chunks: Vec<Vec<T>>,
    len: usize,
    /// Elements that the last chunk may take yet.
    room: usize,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0, room: 0 }
    }
}

impl<T> Chunked<T> {
    /// Elements of a large chunk.
    const LARGE_LEN: usize = KEPT_BYTES_MAX / size_of::<T>() + CHUNK_LEN;

    /// Appends.
    #[inline]
    pub(crate) fn push(&mut self, element: T) {
        if self.room == 0 {
            self.make_room();
        }
        self.len += 1;
        self.room -= 1;
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(element);
        }
    }

    #[cold]
    fn make_room(&mut self) {
        let (room, capacity) = match self.chunks.len() {
            // Most lists are short: only those that have filled a chunk take whole ones at once.
            0 => (CHUNK_LEN, 0),
            1..SMALL_CHUNKS => (CHUNK_LEN, CHUNK_LEN),
            _ => (Self::LARGE_LEN, Self::LARGE_LEN),
        };
        self.chunks.push(Vec::with_capacity(capacity));
        self.room = room;
    }

    /// The elements, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Removes all elements and keeps the memory of the first chunk.
    pub(crate) fn clear(&mut self) {
        self.chunks.truncate(1);
        self.chunks.iter_mut().for_each(Vec::clear);
        self.len = 0;
        self.room = self.chunks.len() * CHUNK_LEN;
    }

    /// Memory held, in bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        let held =
            |(at, chunk): (usize, &Vec<T>)| if at < SMALL_CHUNKS { chunk.capacity() } else { chunk.len() };
        self.chunks.iter().enumerate().map(held).sum::<usize>() * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_in_order_over_any_number_of_chunks() {
        let mut list = Chunked::default();
        for count in [
            0,
            1,
            CHUNK_LEN,
            CHUNK_LEN + 1,
            3 * CHUNK_LEN + 7,
            10 * CHUNK_LEN,
            Chunked::<usize>::LARGE_LEN + 9 * CHUNK_LEN,
        ] {
            list.clear();
            (0..count).for_each(|number| list.push(number));
            assert_eq!(list.len(), count);
            assert!(list.iter().copied().eq(0..count));
        }
        let bytes = list.len() * size_of::<usize>();
        assert!(
            (bytes..bytes + CHUNK_LEN * size_of::<usize>()).contains(&list.bytes()),
            "what was written counts"
        );
        list.clear();
        assert!(list.bytes() <= CHUNK_LEN * size_of::<usize>(), "a short list is kept, a long one is not");
        assert_eq!(list.iter().next(), None);
    }
}
