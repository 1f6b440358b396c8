//! What of a lane aside was sent ahead of its records, in a file beside them (docs/format/queue.md, ahead): an earlier copy of it may
//! have been stored, which the cursor cannot say, as it names no series.

use std::io;
use std::path::Path;

use super::Queue;
use super::files::Files;
use super::lane::{Lane, LaneId};
use super::record::{Fields, u16_at, u32_at, u64_at};
use super::shared::add;

/// The name of the file.
pub(super) const AHEAD: &str = "ahead";

const AHEAD_MAGIC: [u8; 8] = *b"PRMRAHD\n";
const FORMAT: u16 = 1;
const HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 32;

/// More series than a sender knows. A file that says of more is none of ours.
const SERIES_MAX: usize = 100_000;

/// What was sent of a series ahead of its records. Each is a record's number: up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentAhead {
    /// A hash of the series' labels.
    pub series: u64,
    /// May be sent from now on, in the order of the records; 0: nothing more.
    pub planned: u64,
    /// May have been sent.
    pub sent: u64,
    /// Was taken, or refused for good.
    pub answered: u64,
}

/// Why a file tells nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadAhead {
    #[error("it is damaged, or not of promring")]
    Damaged,
    #[error("a newer version of promring wrote it (format {0})")]
    Newer(u16),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Lane {
    /// What the file says; nothing, where there is none.
    pub(super) fn read_ahead(&self) -> Result<Vec<SentAhead>, BadAhead> {
        read(&*self.shared.files, &self.dir)
    }

    /// The same, where a file that tells nothing is counted and logged. None: there is such a one.
    pub(super) fn ahead(&self) -> Option<Vec<SentAhead>> {
        let read = self.read_ahead();
        if let Err(error) = &read {
            add(&self.shared.counters.lost_cursors, 1);
            tracing::warn!(
                destination = self.shared.destination,
                file = %self.dir.join(AHEAD).display(),
                %error,
                "what was sent ahead of a lane aside is not known: all in it may have been stored"
            );
        }
        read.ok()
    }

    /// Deletes what a crash left of it, and it itself where nothing is in the lane that it could tell of.
    pub(super) fn tidy_ahead(&self) {
        let files = &self.shared.files;
        // At worst it lies there until the next start.
        let _later = files.remove(&self.dir.join(format!("{AHEAD}.tmp")));
        if self.is_empty() {
            let _later = files.remove(&self.dir.join(AHEAD));
        }
    }

    /// Replaces the file. What a power cut may cost is not waited for. False: the disk does not take it.
    pub(super) fn write_ahead(&self, series: &[SentAhead]) -> bool {
        let (path, beside) = (self.dir.join(AHEAD), self.dir.join(format!("{AHEAD}.tmp")));
        let files = &self.shared.files;
        let written = (|| {
            if series.is_empty() {
                return match files.remove(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    Ok(()) | Err(_) => Ok(()),
                };
            }
            files.create(&beside)?.write_all_at(&encode(series), 0)?;
            files.rename(&beside, &path)
        })();
        if let Err(error) = &written {
            self.shared.write_failed("writing what was sent ahead", error);
        }
        written.is_ok()
    }
}

impl Queue {
    /// What was sent ahead of the records of a lane aside, as far as its file says so.
    #[must_use]
    pub fn sent_ahead(&self, lane: LaneId) -> Vec<SentAhead> {
        let lane = self.directory.lane(Some(lane.set), lane.index);
        // Its reader tells of a file that is damaged.
        lane.and_then(|lane| lane.read_ahead().ok()).unwrap_or_default()
    }
}

/// Reads the file in the directory of a lane.
pub(super) fn read(files: &dyn Files, dir: &Path) -> Result<Vec<SentAhead>, BadAhead> {
    let bytes_max = (HEADER_BYTES + SERIES_MAX * ENTRY_BYTES) as u64;
    match files.read_small(&dir.join(AHEAD), bytes_max) {
        Ok(bytes) => decode(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn encode(series: &[SentAhead]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES + series.len() * ENTRY_BYTES];
    let mut out = Fields(&mut bytes);
    out.put(0, AHEAD_MAGIC);
    out.put(8, FORMAT.to_le_bytes());
    out.put(16, (series.len() as u64).to_le_bytes());
    for (at, entry) in series.iter().enumerate() {
        let at = HEADER_BYTES + at * ENTRY_BYTES;
        out.put(at, entry.series.to_le_bytes());
        out.put(at + 8, entry.planned.to_le_bytes());
        out.put(at + 16, entry.sent.to_le_bytes());
        out.put(at + 24, entry.answered.to_le_bytes());
    }
    let crc = checksum(&bytes);
    Fields(&mut bytes).put(12, crc.to_le_bytes());
    bytes
}

/// Of all but itself.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..12).unwrap_or_default());
    hasher.update(bytes.get(16..).unwrap_or_default());
    hasher.finalize()
}

fn decode(bytes: &[u8]) -> Result<Vec<SentAhead>, BadAhead> {
    let (Some(header), Some(entries)) = (bytes.get(..HEADER_BYTES), bytes.get(HEADER_BYTES..)) else {
        return Err(BadAhead::Damaged);
    };
    if header.get(..8) != Some(&AHEAD_MAGIC[..]) || u32_at(header, 12) != checksum(bytes) {
        return Err(BadAhead::Damaged);
    }
    if u16_at(header, 8) > FORMAT {
        return Err(BadAhead::Newer(u16_at(header, 8)));
    }
    let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
    if u64_at(header, 16) != entries.len() as u64 || !rest.is_empty() {
        return Err(BadAhead::Damaged);
    }
    let entry = |bytes: &[u8; ENTRY_BYTES]| SentAhead {
        series: u64_at(bytes, 0),
        planned: u64_at(bytes, 8),
        sent: u64_at(bytes, 16),
        answered: u64_at(bytes, 24),
    };
    Ok(entries.iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: u64) -> Vec<SentAhead> {
        let entry = |at| SentAhead { series: at << 56 | at, planned: at, sent: at + 1, answered: at + 2 };
        (1..=count).map(entry).collect()
    }

    #[test]
    fn what_was_sent_ahead_reads_as_it_was_written_and_damaged_nowhere() {
        for count in [1, 3] {
            let bytes = encode(&entries(count));
            assert_eq!(decode(&bytes).unwrap(), entries(count));
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 0x10;
                assert!(matches!(decode(&bad), Err(BadAhead::Damaged)), "{at}");
                assert!(matches!(decode(&bytes[..at]), Err(BadAhead::Damaged)), "{at}");
            }
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut bytes = encode(&entries(1));
        bytes[8] = 2;
        let crc = checksum(&bytes);
        Fields(&mut bytes).put(12, crc.to_le_bytes());
        assert!(matches!(decode(&bytes), Err(BadAhead::Newer(2))));
    }
}
