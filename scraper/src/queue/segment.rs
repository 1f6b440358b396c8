//! A segment: a file of records between a header and, once it is finished, a footer with totals
//! (docs/format/queue.md, Segment). What is read here may be any bytes at all: nothing panics, and nothing allocates
//! more than the file holds.

use std::io;
use std::sync::Arc;

use super::files::File;
use super::record::{
    BadHeader, Beside, Fields, RECORD_HEADER_BYTES, RECORD_MAGIC, RecordHeader, i64_at, u16_at, u32_at,
    u64_at,
};

/// Bytes of a segment's header: where the first record begins.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 32;
/// Bytes of its footer.
pub(crate) const FOOTER_BYTES: usize = 80;

const SEGMENT_MAGIC: [u8; 8] = *b"PRMRSEG\n";
const SEGMENT_FORMAT: u16 = 1;
const FOOTER_MAGIC: [u8; 4] = *b"PEND";

/// How many records at the end of an unfinished segment are checked body and all, at most.
const TAIL_RECORDS_MAX: usize = 16;

/// Bytes that are read at a time in search of the next good record.
const SEARCH_BYTES: usize = 64 << 10;

/// Bytes that one step searches at most: bytes that look like records over and over take about 50 ms.
pub(crate) const STEP_BYTES_MAX: u64 = 1 << 20;

/// What a segment holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) records: u64,
    pub(crate) points: u64,
    /// Nothing, where the footer was read.
    pub(crate) beside: Beside,
    pub(crate) first_sequence: u64,
    pub(crate) last_sequence: u64,
    pub(crate) first_enqueued_ms: i64,
    pub(crate) last_enqueued_ms: i64,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
}

impl Summary {
    pub(crate) fn add(&mut self, header: &RecordHeader) {
        if self.records == 0 {
            self.first_sequence = header.sequence;
            self.first_enqueued_ms = header.enqueued_ms;
            self.first_ms = header.meta.first_ms;
            self.last_ms = header.meta.last_ms;
        }
        self.records += 1;
        // Headers are checked, yet not proven to be ours: totals must not overflow.
        self.points = self.points.saturating_add(header.meta.points());
        self.beside.add(header.meta.beside());
        self.last_sequence = header.sequence;
        self.last_enqueued_ms = header.enqueued_ms;
        self.first_ms = self.first_ms.min(header.meta.first_ms);
        self.last_ms = self.last_ms.max(header.meta.last_ms);
    }
}

/// A segment as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) summary: Summary,
    /// Where the records end.
    pub(crate) end: u64,
    /// Whether a footer follows.
    pub(crate) finished: bool,
    /// Bytes after the last good record of an unfinished segment.
    pub(crate) torn_bytes: u64,
    /// Samples of records there whose header is good and whose body is not.
    pub(crate) torn_points: u64,
}

/// Why a segment is not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentError {
    #[error("segment format {0} is newer than this program, which knows {SEGMENT_FORMAT}")]
    Newer(u16),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The header of a new segment.
pub(crate) fn encode_header(first_sequence: u64, created_ms: i64) -> [u8; SEGMENT_HEADER_BYTES as usize] {
    let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
    let mut out = Fields(&mut bytes);
    out.put(0, SEGMENT_MAGIC);
    out.put(8, SEGMENT_FORMAT.to_le_bytes());
    out.put(16, first_sequence.to_le_bytes());
    out.put(24, created_ms.to_le_bytes());
    let crc = header_crc(&bytes);
    Fields(&mut bytes).put(12, crc.to_le_bytes());
    bytes
}

/// The footer of a segment whose records end at `end`.
pub(crate) fn encode_footer(summary: &Summary, end: u64) -> [u8; FOOTER_BYTES] {
    let mut bytes = [0; FOOTER_BYTES];
    let mut out = Fields(&mut bytes);
    out.put(0, FOOTER_MAGIC);
    out.put(8, summary.records.to_le_bytes());
    out.put(16, summary.points.to_le_bytes());
    out.put(24, summary.first_sequence.to_le_bytes());
    out.put(32, summary.last_sequence.to_le_bytes());
    out.put(40, summary.first_enqueued_ms.to_le_bytes());
    out.put(48, summary.last_enqueued_ms.to_le_bytes());
    out.put(56, summary.first_ms.to_le_bytes());
    out.put(64, summary.last_ms.to_le_bytes());
    out.put(72, end.to_le_bytes());
    let crc = crc32fast::hash(&bytes[8..]);
    Fields(&mut bytes).put(4, crc.to_le_bytes());
    bytes
}

/// Learns what a segment holds: from its footer, or by walking over the headers of its records.
pub(crate) fn open(file: &dyn File) -> Result<Found, SegmentError> {
    let len = file.len()?;
    check_format(file, len)?;
    if let Some(found) = read_footer(file, len)? {
        return Ok(found);
    }
    Ok(walk(file, len)?)
}

/// What stands at a place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A record with a right header, whole as far as its length goes.
    Record(RecordHeader),
    /// Nothing that can be used up to `next`.
    Bad { next: u64 },
    /// The same, and what follows is to be searched on: it belongs to the same [`Step::Bad`], which comes in the end.
    Search { next: u64 },
    /// The end of the records.
    End,
}

/// Reads the record header at `offset` in a segment whose records end at `end`. Records up to sequence number `after`
/// are left-overs of a failed write.
pub(crate) fn step(file: &dyn File, offset: u64, end: u64, after: u64) -> io::Result<Step> {
    if offset >= end {
        return Ok(Step::End);
    }
    if end - offset < RECORD_HEADER_BYTES as u64 {
        return Ok(Step::Bad { next: end });
    }
    let mut bytes = [0; RECORD_HEADER_BYTES];
    file.read_exact_at(&mut bytes, offset)?;
    let whole = |body_len: u32| {
        Some(offset + RECORD_HEADER_BYTES as u64 + u64::from(body_len)).filter(|next| *next <= end)
    };
    match RecordHeader::decode(&bytes) {
        Ok(header) => {
            if let Some(next) = whole(header.body_len) {
                let fresh = header.sequence > after;
                return Ok(if fresh { Step::Record(header) } else { Step::Bad { next } });
            }
        }
        Err(BadHeader::Unknown { body_len, .. }) => {
            if let Some(next) = whole(body_len) {
                return Ok(Step::Bad { next });
            }
        }
        Err(BadHeader::Damaged) => {}
    }
    search(file, offset + 1, end, after)
}

/// Reads the body that belongs to `header` at `offset`; false where its checksum fails.
pub(crate) fn read_body(
    file: &dyn File,
    offset: u64,
    header: &RecordHeader,
    body: &mut Vec<u8>,
) -> io::Result<bool> {
    body.clear();
    // The length was checked against the end of the file by `step`.
    body.resize(header.body_len as usize, 0);
    file.read_exact_at(body, offset + RECORD_HEADER_BYTES as u64)?;
    Ok(crc32fast::hash(body) == header.body_crc)
}

/// A segment that takes records.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) file: Arc<dyn File>,
    pub(crate) end: u64,
}

impl Writer {
    /// Begins a segment in an empty file.
    pub(crate) fn begin(file: Arc<dyn File>, first_sequence: u64, now_ms: i64) -> io::Result<Self> {
        file.write_all_at(&encode_header(first_sequence, now_ms), 0)?;
        Ok(Self { file, end: SEGMENT_HEADER_BYTES })
    }

    /// Appends a record, or leaves the segment as it was.
    pub(crate) fn append(&mut self, header: &RecordHeader, body: &[u8]) -> io::Result<()> {
        let written = self
            .file
            .write_all_at(&header.encode(), self.end)
            .and_then(|()| self.file.write_all_at(body, self.end + RECORD_HEADER_BYTES as u64));
        if let Err(error) = written {
            // What was written is cut off now or overwritten next; the sequence number tells a rest of it apart.
            let _overwritten_next = self.file.set_len(self.end);
            return Err(error);
        }
        self.end += header.record_len();
        Ok(())
    }

    /// Writes the footer. Without one the segment is as good, and slower to open.
    pub(crate) fn finish(&self, summary: &Summary) -> io::Result<()> {
        finish(&*self.file, summary, self.end)
    }
}

/// Cuts what follows the records and writes the footer.
pub(crate) fn finish(file: &dyn File, summary: &Summary, end: u64) -> io::Result<()> {
    if file.len()? > end {
        file.set_len(end)?;
    }
    file.write_all_at(&encode_footer(summary, end), end)
}

fn header_crc(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(bytes.get(..12).unwrap_or_default());
    crc.update(bytes.get(16..).unwrap_or_default());
    crc.finalize()
}

/// Only an intact header can say that it is newer; a damaged one costs nothing, as the name has the same number.
fn check_format(file: &dyn File, len: u64) -> Result<(), SegmentError> {
    match format(file, len)? {
        Some(format) if format > SEGMENT_FORMAT => Err(SegmentError::Newer(format)),
        Some(_) | None => Ok(()),
    }
}

/// Whether the header's checksum is right, if there is one.
pub(crate) fn has_good_header(file: &dyn File) -> io::Result<bool> {
    let len = file.len()?;
    Ok(len < SEGMENT_HEADER_BYTES || format(file, len)?.is_some())
}

/// The format that the header says; None: it is damaged, or not whole.
fn format(file: &dyn File, len: u64) -> io::Result<Option<u16>> {
    if len < SEGMENT_HEADER_BYTES {
        return Ok(None);
    }
    let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let is_intact = bytes[..8] == SEGMENT_MAGIC && u32_at(&bytes, 12) == header_crc(&bytes);
    Ok(is_intact.then(|| u16_at(&bytes, 8)))
}

/// Whether a file in which no record was found can be a segment that was never filled, or whose records are torn: it begins as
/// one does, or with nothing that ever reached the disk.
pub(crate) fn begins_as_one(file: &dyn File) -> io::Result<bool> {
    let mut begin = [0; SEGMENT_MAGIC.len()];
    let len = file.len()?.min(begin.len() as u64) as usize;
    let begin = &mut begin[..len];
    file.read_exact_at(begin, 0)?;
    Ok(SEGMENT_MAGIC.starts_with(begin) || begin.iter().all(|&byte| byte == 0))
}

fn read_footer(file: &dyn File, len: u64) -> io::Result<Option<Found>> {
    let Some(at) = len.checked_sub(FOOTER_BYTES as u64).filter(|at| *at >= SEGMENT_HEADER_BYTES) else {
        return Ok(None);
    };
    let mut bytes = [0; FOOTER_BYTES];
    file.read_exact_at(&mut bytes, at)?;
    let intact = bytes[..4] == FOOTER_MAGIC
        && u32_at(&bytes, 4) == crc32fast::hash(&bytes[8..])
        && u64_at(&bytes, 72) == at;
    let summary = Summary {
        records: u64_at(&bytes, 8),
        points: u64_at(&bytes, 16),
        beside: Beside::default(),
        first_sequence: u64_at(&bytes, 24),
        last_sequence: u64_at(&bytes, 32),
        first_enqueued_ms: i64_at(&bytes, 40),
        last_enqueued_ms: i64_at(&bytes, 48),
        first_ms: i64_at(&bytes, 56),
        last_ms: i64_at(&bytes, 64),
    };
    Ok(intact.then_some(Found { summary, end: at, finished: true, torn_bytes: 0, torn_points: 0 }))
}

fn walk(file: &dyn File, len: u64) -> io::Result<Found> {
    let mut summary = Summary::default();
    let mut end = SEGMENT_HEADER_BYTES.min(len);
    // The last records: where each begins, and what the segment holds without it.
    let mut tail: Vec<(u64, RecordHeader, Summary, u64)> = Vec::new();
    let mut offset = SEGMENT_HEADER_BYTES;
    loop {
        match step(file, offset, len, summary.last_sequence)? {
            Step::Record(header) => {
                if tail.len() == TAIL_RECORDS_MAX {
                    tail.remove(0);
                }
                tail.push((offset, header, summary, end));
                summary.add(&header);
                offset += header.record_len();
                end = offset;
            }
            // A bad record between good ones is the reader's to count; after the last one it is a torn tail.
            Step::Bad { next } | Step::Search { next } => offset = next,
            Step::End => break,
        }
    }
    let mut body = Vec::new();
    let whole = summary.points;
    while let Some((offset, header, before, end_before)) = tail.pop() {
        if read_body(file, offset, &header, &mut body)? {
            break;
        }
        (summary, end) = (before, end_before);
    }
    Ok(Found {
        summary,
        end,
        finished: false,
        torn_bytes: len.saturating_sub(end),
        torn_points: whole.saturating_sub(summary.points),
    })
}

/// The way to the next place from `offset` on where a record with a right header begins.
fn search(file: &dyn File, mut offset: u64, end: u64, after: u64) -> io::Result<Step> {
    let from = offset;
    let mut buffer = vec![0; SEARCH_BYTES.min(usize::try_from(end).unwrap_or(SEARCH_BYTES))];
    while end.saturating_sub(offset) >= RECORD_HEADER_BYTES as u64 {
        let want = usize::try_from(end - offset).unwrap_or(usize::MAX).min(buffer.len());
        let chunk = buffer.get_mut(..want).unwrap_or_default();
        file.read_exact_at(chunk, offset)?;
        for (at, bytes) in chunk.array_windows::<RECORD_HEADER_BYTES>().enumerate() {
            if bytes[..4] != RECORD_MAGIC {
                continue;
            }
            let (sequence, body_len) = match RecordHeader::decode(bytes) {
                Ok(header) => (header.sequence, header.body_len),
                Err(BadHeader::Unknown { sequence, body_len }) => (sequence, body_len),
                Err(BadHeader::Damaged) => continue,
            };
            let begin = offset + at as u64;
            if sequence > after && begin + RECORD_HEADER_BYTES as u64 + u64::from(body_len) <= end {
                return Ok(Step::Bad { next: begin });
            }
        }
        // The last bytes may be the beginning of a header: they are looked at again.
        offset += (chunk.len() - (RECORD_HEADER_BYTES - 1)) as u64;
        if offset - from >= STEP_BYTES_MAX {
            // Where nothing begins, as was just seen: so the next step does not take a record for the end of nothing.
            return Ok(Step::Search { next: offset - 1 });
        }
    }
    Ok(Step::Bad { next: end })
}
