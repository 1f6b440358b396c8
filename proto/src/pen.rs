//! Writing messages by hand into memory that was made before. Where it is written stays in a register; a growing vector would
//! look up its length and its room for every byte, and write the length back.

use std::ops::Range;

use crate::varint::varint_len;

/// A room has at least so many bytes once something was written.
const ROOM_BYTES_MIN: usize = 4 << 10;

/// Memory that messages are written into, one behind the other, and that is used again.
#[derive(Debug, Default)]
pub struct Room {
    memory: Vec<u8>,
    len: usize,
}

impl Room {
    /// Appends what `write` writes. Where the room does not do, `write` gives None and is called again with more.
    #[inline]
    pub fn write(&mut self, mut write: impl FnMut(&mut Pen<'_>) -> Option<()>) {
        loop {
            let mut pen = Pen { out: &mut self.memory[self.len..], at: 0 };
            if write(&mut pen).is_some() {
                self.len += pen.at;
                return;
            }
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        // What is made is written once, so it takes memory whether it is used or not.
        let more = (self.memory.len() / 4).max(ROOM_BYTES_MIN);
        self.memory.reserve_exact(more);
        self.memory.resize(self.memory.len() + more, 0);
    }

    /// What was written.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.memory[..self.len]
    }

    /// Bytes that were written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets what was written and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

/// Appends what `write` writes to a vector: for what is written seldom.
pub fn append(out: &mut Vec<u8>, write: impl FnMut(&mut Pen<'_>) -> Option<()>) {
    let mut room = Room { len: out.len(), memory: std::mem::take(out) };
    room.write(write);
    room.memory.truncate(room.len);
    *out = room.memory;
}

/// A copy of so many bytes is one load and one store.
const CHUNK: usize = 16;

/// Bytes that are written often, with room behind them: a few of them are copied as a whole chunk, of which what is too much is
/// written over by what comes next. How many they are is then no jump that has to be foreseen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Padded(Vec<u8>);

impl Padded {
    /// Makes it hold what `write` appends to a vector.
    pub fn fill(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.0.clear();
        write(&mut self.0);
        self.0.extend([0; CHUNK]);
    }

    /// The bytes without the room.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0[..self.len()]
    }

    /// How many bytes there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len().saturating_sub(CHUNK)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes from the front of a slice on. What is written gives None where there is no room for it.
///
/// What is not inlined gets the slice and the place, and never the pen: whose address is given away lives in memory.
#[derive(Debug)]
pub struct Pen<'b> {
    out: &'b mut [u8],
    at: usize,
}

/// A place for the length of what follows.
#[derive(Clone, Copy, Debug)]
pub struct Length<const BYTES: usize> {
    at: usize,
}

impl Pen<'_> {
    /// One byte.
    #[inline]
    pub fn byte(&mut self, byte: u8) -> Option<()> {
        *self.out.get_mut(self.at)? = byte;
        self.at += 1;
        Some(())
    }

    /// Bytes of a number that the compiler knows.
    #[inline]
    pub fn array<const N: usize>(&mut self, bytes: [u8; N]) -> Option<()> {
        *self.out.get_mut(self.at..)?.first_chunk_mut()? = bytes;
        self.at += N;
        Some(())
    }

    /// Any bytes.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        copy(bytes, self.out.get_mut(self.at..)?.get_mut(..bytes.len())?);
        self.at += bytes.len();
        Some(())
    }

    /// A part of bytes that are written often.
    #[inline]
    pub fn part(&mut self, from: &Padded, part: Range<usize>) -> Option<()> {
        let len = part.end - part.start;
        if len <= CHUNK
            && let Some(chunk) = from.0.get(part.start..).and_then(|from| from.first_chunk::<CHUNK>())
            && let Some(place) = self.out.get_mut(self.at..).and_then(|out| out.first_chunk_mut())
        {
            *place = *chunk;
            self.at += len;
            return Some(());
        }
        self.bytes(from.0.get(part)?)
    }

    /// All of some bytes that are written often.
    #[inline]
    pub fn padded(&mut self, from: &Padded) -> Option<()> {
        self.part(from, 0..from.len())
    }

    /// A number.
    #[inline]
    pub fn varint(&mut self, value: u64) -> Option<()> {
        if value >= 1 << 14 {
            self.at = long_varint(self.out, self.at, value)?;
            return Some(());
        }
        // Two bytes at once, of which the second may be written over.
        let is_long = value >= 0x80;
        let bytes = [(value & 0x7f) as u8 | u8::from(is_long) << 7, (value >> 7) as u8];
        match self.out.get_mut(self.at..)?.first_chunk_mut() {
            Some(place) => *place = bytes,
            None if is_long => return None,
            None => *self.out.get_mut(self.at)? = bytes[0],
        }
        self.at += 1 + usize::from(is_long);
        Some(())
    }

    /// Leaves room for the length of what follows, which most often takes so many bytes: one or two.
    #[inline]
    pub fn length<const BYTES: usize>(&mut self) -> Option<Length<BYTES>> {
        let at = self.at;
        self.array([0; BYTES])?;
        Some(Length { at })
    }

    /// Writes the length of what was written since then; tells what it is.
    #[inline]
    pub fn set_length<const BYTES: usize>(&mut self, length: Length<BYTES>) -> Option<usize> {
        let len = self.at - length.at - BYTES;
        let place = self.out.get_mut(length.at..)?;
        if BYTES == 1 && len < 0x80 {
            *place.first_mut()? = len as u8;
        } else if BYTES == 2 && (0x80..1 << 14).contains(&len) {
            *place.first_chunk_mut()? = [len as u8 | 0x80, (len >> 7) as u8];
        } else {
            self.at = make_length(self.out, length.at, BYTES, len)?;
        }
        Some(len)
    }

    /// Takes back a tag and the length behind it, where nothing follows them.
    #[inline]
    pub fn take_back<const BYTES: usize>(&mut self, length: Length<BYTES>) {
        self.at = length.at.saturating_sub(1);
    }
}

/// Writes a number of any length; gives the place behind it.
fn long_varint(out: &mut [u8], mut at: usize, mut value: u64) -> Option<usize> {
    while value >= 0x80 {
        *out.get_mut(at)? = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    *out.get_mut(at)? = value as u8;
    Some(at + 1)
}

/// Writes a length that takes more bytes than it was given, or fewer, before the `len` bytes that it is of, and gives the place
/// behind them.
#[cold]
fn make_length(out: &mut [u8], at: usize, left: usize, len: usize) -> Option<usize> {
    let (from, to) = (at + left, at + varint_len(len as u64));
    out.get(..to + len)?;
    out.copy_within(from..from + len, to);
    long_varint(out, at, len as u64)?;
    Some(to + len)
}

/// Copies between slices of one length. Most texts have a few dozen bytes: what calling the C library costs is more than
/// what copying them does.
#[inline]
fn copy(from: &[u8], to: &mut [u8]) {
    if from.len() > 32 {
        to.copy_from_slice(from);
    } else if from.len() >= 16 {
        copy_ends::<16>(from, to);
    } else if from.len() >= 8 {
        copy_ends::<8>(from, to);
    } else if from.len() >= 4 {
        copy_ends::<4>(from, to);
    } else {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }
}

/// Copies the first and the last `N` bytes, which are all there are, some of them twice.
#[inline]
fn copy_ends<const N: usize>(from: &[u8], to: &mut [u8]) {
    if let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
        if let Some(to) = to.first_chunk_mut::<N>() {
            *to = *first;
        }
        if let Some(to) = to.last_chunk_mut::<N>() {
            *to = *last;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::varint::push_varint;

    proptest! {
        #[test]
        fn whatever_room_there_is_the_same_is_written(
            parts in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..40), any::<u64>()), 0..4),
            shift in 0..64_u32,
            room in 0..200_usize,
        ) {
            let mut expected = Vec::new();
            for (bytes, number) in &parts {
                expected.extend_from_slice(bytes);
                push_varint(&mut expected, number >> shift);
            }
            let mut memory = vec![0xff; room];
            let mut pen = Pen { out: &mut memory, at: 0 };
            let written =
                parts.iter().try_for_each(|(bytes, number)| pen.bytes(bytes).and_then(|()| pen.varint(number >> shift)));
            let at = pen.at;
            prop_assert_eq!(written.is_some(), expected.len() <= room);
            if written.is_some() {
                prop_assert_eq!(&memory[..at], &*expected);
            }
        }

        #[test]
        fn a_length_takes_the_bytes_that_it_needs(len in prop_oneof![0..300_usize, 16_000..17_000_usize], room in 0..17_010_usize) {
            let content: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mut expected = Vec::new();
            push_varint(&mut expected, len as u64);
            expected.extend_from_slice(&content);
            let mut memory = Room::default();
            memory.write(|pen| {
                let one = pen.length::<1>()?;
                pen.bytes(&content)?;
                pen.set_length(one).map(drop)
            });
            memory.write(|pen| {
                let two = pen.length::<2>()?;
                pen.bytes(&content)?;
                pen.set_length(two).map(drop)
            });
            prop_assert_eq!(memory.as_slice(), [&*expected, &*expected].concat());
            // A slice that is too small is told, not overrun.
            let mut short = vec![0; room];
            let mut pen = Pen { out: &mut short, at: 0 };
            let written = pen.length::<1>().and_then(|one| {
                pen.bytes(&content)?;
                pen.set_length(one)
            });
            prop_assert_eq!(written.is_some(), room >= expected.len());
        }
    }

    proptest! {
        #[test]
        fn a_part_of_padded_bytes_is_what_it_was(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            ends in (0..40_usize, 0..40_usize),
            room in 0..60_usize,
        ) {
            let mut padded = Padded::default();
            prop_assert!(padded.is_empty());
            padded.fill(|out| out.extend_from_slice(&bytes));
            prop_assert_eq!(padded.as_slice(), &*bytes);
            let (one, other) = (ends.0.min(bytes.len()), ends.1.min(bytes.len()));
            let part = one.min(other)..one.max(other);
            let mut memory = vec![0xff; room];
            let mut pen = Pen { out: &mut memory, at: 0 };
            let written = pen.part(&padded, part.clone());
            let at = pen.at;
            prop_assert_eq!(written.is_some(), part.len() <= room);
            if written.is_some() {
                prop_assert_eq!(&memory[..at], &bytes[part]);
            }
        }
    }

    #[test]
    fn a_room_grows_as_it_must_and_is_used_again() {
        let mut room = Room::default();
        assert!(room.is_empty());
        let text = vec![7; 100_000];
        room.write(|pen| pen.bytes(&text));
        room.write(|pen| pen.byte(8));
        assert_eq!((room.len(), room.as_slice().last()), (100_001, Some(&8)));
        room.clear();
        room.write(|pen| pen.array([1, 2]));
        assert_eq!(room.as_slice(), [1, 2]);
        let mut vector = vec![9];
        append(&mut vector, |pen| pen.bytes(&[1, 2, 3]));
        assert_eq!(vector, [9, 1, 2, 3]);
    }
}
