//! Reading any bytes as a segment, as opening and sending a queue would: for fuzzing.

use std::sync::Arc;

use super::files::File;
use super::memory::MemoryFile;
use super::segment::{self, SEGMENT_HEADER_BYTES, SegmentError, Step};

/// What was found in bytes that were read as a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Records whose checksums are right.
    pub records: u64,
    /// Samples in them, by their headers.
    pub samples: u64,
    /// Places where something else stands.
    pub bad: u64,
    /// The largest buffer that a body was read into, in bytes.
    pub buffer_bytes_max: usize,
}

/// Reads `bytes` as a segment, from the index to the last body. None: a newer version says that it wrote them.
#[must_use]
pub fn examine(bytes: Vec<u8>) -> Option<Examined> {
    let file: Arc<dyn File> = Arc::new(MemoryFile::from(bytes));
    let found = match segment::open(&*file) {
        Ok(found) => found,
        Err(SegmentError::Newer(_) | SegmentError::Io(_)) => return None,
    };
    let mut examined = Examined::default();
    let (mut offset, mut after, mut body) = (SEGMENT_HEADER_BYTES, 0, Vec::new());
    // A file in memory gives every byte that it has.
    while let Ok(step) = segment::step(&*file, offset, found.end, after) {
        let before = offset;
        match step {
            Step::Record(header) => {
                match segment::read_body(&*file, offset, &header, &mut body) {
                    Ok(true) => {
                        examined.records += 1;
                        examined.samples = examined.samples.saturating_add(header.meta.points());
                    }
                    Ok(false) | Err(_) => examined.bad += 1,
                }
                examined.buffer_bytes_max = examined.buffer_bytes_max.max(body.capacity());
                (offset, after) = (offset + header.record_len(), header.sequence);
            }
            Step::Bad { next } => {
                examined.bad += 1;
                offset = next;
            }
            Step::Search { next } => offset = next,
            Step::End => break,
        }
        debug_assert!(offset > before, "reading goes on");
    }
    Some(examined)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What fuzzing begins with.
    fn seeds() -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/segment");
        let files =
            std::fs::read_dir(dir).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        // The first byte is the fuzz target's.
        files.map(|seed| seed[1..].to_vec()).collect()
    }

    #[test]
    fn reading_any_bytes_takes_no_more_memory_than_they_have() {
        assert!(seeds().len() > 5);
        assert!(
            seeds().iter().any(|seed| examine(seed.clone()).is_some_and(|examined| examined.records > 3))
        );
        for seed in seeds() {
            for at in (0..seed.len()).step_by(7) {
                let mut bytes = seed.clone();
                bytes[at] = bytes[at].wrapping_add(0x7f);
                let len = bytes.len() as u64;
                let mut examined = None;
                let used = allocation_counter::measure(|| examined = examine(bytes));
                // The file itself was there before; buffers hold a part of it, and a list of a few record headers.
                assert!(used.bytes_max <= 2 * len + 8_192, "{} bytes for {len}", used.bytes_max);
                assert!(examined.is_none_or(|examined| examined.buffer_bytes_max as u64 <= len.max(8)));
            }
        }
    }
}
