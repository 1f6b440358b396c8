//! A list that grows without moving: for lists of millions, of which a copy would be too much.

/// Elements of a chunk.
const CHUNK_LEN: usize = 4096;

/// A list in chunks.
#[derive(Debug)]
pub(crate) struct Chunked<T> {
    /// All but the last one that has any elements are full.
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

impl<T> Chunked<T> {
    /// Appends.
    #[inline]
    pub(crate) fn push(&mut self, element: T) {
        let place = self.len / CHUNK_LEN;
        self.len += 1;
        match self.chunks.get_mut(place) {
            Some(chunk) => chunk.push(element),
            None => self.push_chunk(element),
        }
    }

    #[cold]
    fn push_chunk(&mut self, element: T) {
        // Most lists are short: only those that have filled a chunk take whole ones at once.
        let mut chunk = if self.chunks.is_empty() { Vec::new() } else { Vec::with_capacity(CHUNK_LEN) };
        chunk.push(element);
        self.chunks.push(chunk);
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
    }

    /// Memory held, in bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum::<usize>() * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_in_order_over_any_number_of_chunks() {
        let mut list = Chunked::default();
        for count in [0, 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN + 7] {
            list.clear();
            (0..count).for_each(|number| list.push(number));
            assert_eq!(list.len(), count);
            assert!(list.iter().copied().eq(0..count));
        }
        assert!(list.bytes() >= list.len() * size_of::<usize>());
        list.clear();
        assert!(list.bytes() <= CHUNK_LEN * size_of::<usize>(), "a short list is kept, a long one is not");
        assert_eq!(list.iter().next(), None);
    }
}
