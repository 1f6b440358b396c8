//! The cursor of a lane: how far it is acknowledged, and which request is in flight (docs/format/queue.md, cursor).
//!
//! It is written for every request, so it costs one small write in place. Two slots in turn make that safe: the slot
//! that is not being written is always whole.

use std::io;
use std::sync::Arc;

use super::files::File;
use super::record::{Fields, u32_at, u64_at};

const SLOT_BYTES: usize = 72;
/// A sector of its own for each slot.
const SLOT_OFFSETS: [u64; 2] = [0, 512];
const CURSOR_MAGIC: [u8; 4] = *b"PCUR";

/// Where a lane stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Everything up to this sequence number is acknowledged.
    pub(crate) acknowledged: u64,
    /// The segment in which reading goes on, by the number in its name; 0: none.
    pub(crate) segment: u64,
    /// Byte in that segment.
    pub(crate) offset: u64,
    /// Records of that segment that are acknowledged.
    pub(crate) segment_records: u64,
    /// Samples of that segment that are acknowledged.
    pub(crate) segment_points: u64,
    /// The request in flight reaches up to this sequence number; 0: none.
    pub(crate) in_flight: u64,
    /// Of a lane aside: what was sent ahead of its record, as it was planned last, is of records up to this one; 0: nothing was.
    pub(crate) ahead: u64,
}

/// The file that holds a cursor.
#[derive(Debug)]
pub(crate) struct CursorFile {
    file: Arc<dyn File>,
    turn: u64,
}

impl CursorFile {
    /// Reads the cursor; None where no slot is right. A file of no bytes at all is a new one: nothing was sent yet.
    pub(crate) fn open(file: Arc<dyn File>) -> io::Result<(Self, Option<Cursor>)> {
        let len = file.len()?;
        if len == 0 {
            return Ok((Self { file, turn: 0 }, Some(Cursor::default())));
        }
        let mut newest: Option<(u64, Cursor)> = None;
        for offset in SLOT_OFFSETS {
            if len < offset + SLOT_BYTES as u64 {
                continue;
            }
            let mut bytes = [0; SLOT_BYTES];
            file.read_exact_at(&mut bytes, offset)?;
            if let Some((turn, cursor)) = decode(&bytes)
                && newest.is_none_or(|(newest, _)| turn > newest)
            {
                newest = Some((turn, cursor));
            }
        }
        let turn = newest.map_or(0, |(turn, _)| turn);
        Ok((Self { file, turn }, newest.map(|(_, cursor)| cursor)))
    }

    /// Writes the cursor over the older slot.
    pub(crate) fn write(&mut self, cursor: &Cursor) -> io::Result<()> {
        let turn = self.turn.wrapping_add(1);
        let slot = SLOT_OFFSETS[(turn % 2) as usize];
        // After a failed write the same slot is used again: the other one is the good one.
        self.file.write_all_at(&encode(turn, cursor), slot)?;
        self.turn = turn;
        Ok(())
    }

    /// The file, to be synced without a lock on the lane.
    pub(crate) fn file(&self) -> Arc<dyn File> {
        Arc::clone(&self.file)
    }
}

fn encode(turn: u64, cursor: &Cursor) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    let mut out = Fields(&mut bytes);
    out.put(0, CURSOR_MAGIC);
    out.put(8, turn.to_le_bytes());
    out.put(16, cursor.acknowledged.to_le_bytes());
    out.put(24, cursor.segment.to_le_bytes());
    out.put(32, cursor.offset.to_le_bytes());
    out.put(40, cursor.segment_records.to_le_bytes());
    out.put(48, cursor.segment_points.to_le_bytes());
    out.put(56, cursor.in_flight.to_le_bytes());
    out.put(64, cursor.ahead.to_le_bytes());
    let crc = crc32fast::hash(&bytes[8..]);
    Fields(&mut bytes).put(4, crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<(u64, Cursor)> {
    if bytes[..4] != CURSOR_MAGIC || u32_at(bytes, 4) != crc32fast::hash(&bytes[8..]) {
        return None;
    }
    let cursor = Cursor {
        acknowledged: u64_at(bytes, 16),
        segment: u64_at(bytes, 24),
        offset: u64_at(bytes, 32),
        segment_records: u64_at(bytes, 40),
        segment_points: u64_at(bytes, 48),
        in_flight: u64_at(bytes, 56),
        ahead: u64_at(bytes, 64),
    };
    Some((u64_at(bytes, 8), cursor))
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryFile;
    use super::*;

    fn at(acknowledged: u64) -> Cursor {
        // The last byte that means something differs from cursor to cursor, so that a cut before it is a cut.
        let ahead = acknowledged << 56;
        Cursor {
            acknowledged,
            segment: 1,
            offset: 2,
            segment_records: 3,
            segment_points: 4,
            in_flight: 5,
            ahead,
        }
    }

    fn read(file: &Arc<MemoryFile>) -> Option<Cursor> {
        CursorFile::open(Arc::clone(file) as Arc<dyn File>).unwrap().1
    }

    #[test]
    fn the_cursor_written_last_is_read() {
        let file = Arc::new(MemoryFile::default());
        assert_eq!(read(&file), Some(Cursor::default()), "a new one");
        let (mut cursor, _) = CursorFile::open(Arc::clone(&file) as Arc<dyn File>).unwrap();
        for acknowledged in 1..5 {
            cursor.write(&at(acknowledged)).unwrap();
            assert_eq!(read(&file), Some(at(acknowledged)));
        }
    }

    #[test]
    fn a_torn_write_leaves_the_cursor_before_it() {
        let file = Arc::new(MemoryFile::default());
        let (mut cursor, _) = CursorFile::open(Arc::clone(&file) as Arc<dyn File>).unwrap();
        cursor.write(&at(1)).unwrap();
        cursor.write(&at(2)).unwrap();
        let bytes = encode(3, &at(3));
        for cut in 0..SLOT_BYTES {
            file.write_all_at(&bytes[..cut], SLOT_OFFSETS[1]).unwrap();
            assert_eq!(read(&file), Some(at(2)), "cut at {cut}");
        }
    }

    #[test]
    fn writing_goes_on_after_reopening_without_touching_the_newest_slot() {
        let file = Arc::new(MemoryFile::default());
        CursorFile::open(Arc::clone(&file) as Arc<dyn File>).unwrap().0.write(&at(1)).unwrap();
        let (mut reopened, found) = CursorFile::open(Arc::clone(&file) as Arc<dyn File>).unwrap();
        assert_eq!(found, Some(at(1)));
        reopened.write(&at(2)).unwrap();
        assert_eq!(read(&file), Some(at(2)));
        // Both slots are whole: losing the newer one falls back to the older.
        file.write_all_at(&[0; SLOT_BYTES], SLOT_OFFSETS[0]).unwrap();
        assert_eq!(read(&file), Some(at(1)));
    }
}
