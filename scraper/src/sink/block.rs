//! A request as one snappy block. Its parts are compressed one after the other and never put together before: the table of a
//! remote write 2.0 request shares nothing with the series that refer to it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use promring_proto::varint::{push_varint, varint_len};
use snap::raw::{Encoder, max_compress_len};

/// Most bytes of the length that a block begins with.
const LENGTH_BYTES_MAX: usize = 5;

/// Memory for the newest block.
#[derive(Debug, Default)]
pub(super) struct Block {
    bytes: Vec<u8>,
}

impl Block {
    /// Compresses the parts, of which any may be empty.
    pub(super) fn compress(&mut self, parts: [&[u8]; 2]) -> Result<&[u8], snap::Error> {
        let room = LENGTH_BYTES_MAX + parts.iter().map(|part| max_compress_len(part.len())).sum::<usize>();
        if self.bytes.len() < room {
            self.bytes.resize(room, 0);
        }
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut length = Vec::with_capacity(LENGTH_BYTES_MAX);
        push_varint(&mut length, total as u64);
        let (mut end, mut encoder) = (length.len(), Encoder::new());
        for part in parts {
            let len = encoder.compress(part, &mut self.bytes[end..])?;
            // Elements follow elements, under one length that goes before them all.
            let own = varint_len(part.len() as u64);
            self.bytes.copy_within(end + own..end + len, end);
            end += len - own;
        }
        self.bytes[..length.len()].copy_from_slice(&length);
        Ok(&self.bytes[..end])
    }
}

/// Blocks that lanes share: seldom two are made at a time, however many lanes there are. What is in them stays, so that their
/// memory is not cleared for each request.
#[derive(Debug, Default)]
pub(super) struct Blocks(Mutex<Vec<Block>>);

impl Blocks {
    pub(super) fn take(&self) -> Block {
        self.lock().pop().unwrap_or_default()
    }

    pub(super) fn give(&self, block: Block) {
        self.lock().push(block);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Block>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use snap::raw::Decoder;

    use super::*;

    #[test]
    fn parts_are_one_block_whatever_their_lengths() {
        let mut block = Block::default();
        let text: Vec<u8> = (0..200_000_u32).map(|at| (at % 251 * (at / 1_000)) as u8).collect();
        for (one, other) in
            [(0, 1), (1, 0), (1, 126), (0, 128), (100, 100_000), (20_000, 200_000), (16_000, 384), (5, 5)]
        {
            let compressed = block.compress([&text[..one], &text[..other]]).unwrap();
            let whole = Decoder::new().decompress_vec(compressed).unwrap();
            assert_eq!(whole, [&text[..one], &text[..other]].concat(), "{one} and {other}");
        }
        assert_eq!(Decoder::new().decompress_vec(block.compress([b"", b""]).unwrap()), Ok(Vec::new()));
    }
}
