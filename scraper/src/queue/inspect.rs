//! Looking at a queue from outside: what `promring queue DIR` shows. Nothing is written and nothing is locked, so it can be
//! used beside a running scraper, whose newest record may look torn then.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use promring_model::duration::format_duration;
use promring_net::clock::now_ms;

use super::QueueError;
use super::ahead;
use super::cursor::{Cursor, CursorFile};
use super::directory::{lane_name, parse_lane_name, parse_set_name};
use super::files::{Files, OsFiles};
use super::lane::{LaneId, Pending, parse_segment_name, segment_path};
use super::limits::META_BYTES_MAX;
use super::meta::{self, BadMeta, Hold, SetKind, SetMeta};
use super::record::Beside;
use super::recovery::ASIDE;
use super::segment::{self, Found, SEGMENT_HEADER_BYTES, SegmentError, Step};

/// What becomes of a description that is missing or damaged.
const WRITTEN_ANEW: &str = "a scraper whose destination has this directory writes it anew when it starts";

/// A queue as it lies on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Whose queue it is; None: its description does not tell.
    pub destination: Option<String>,
    /// Why it does not, in words.
    pub problem: Option<String>,
    /// Its sets of lanes, oldest first.
    pub sets: Vec<InspectedSet>,
    /// Sets that are done with and hold segments that were put aside.
    pub aside: Vec<PathBuf>,
}

/// A set of lanes on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedSet {
    /// Its number.
    pub set: u32,
    /// What it is for and what it waits for; None: its description is damaged.
    pub purpose: Option<(SetKind, Hold)>,
    /// Its lanes.
    pub lanes: Vec<InspectedLane>,
    /// What of it cannot be shown, in words.
    pub problems: Vec<String>,
}

/// A lane on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedLane {
    /// Which lane.
    pub lane: LaneId,
    /// Files of records.
    pub segments: usize,
    /// Bytes of those files.
    pub bytes: u64,
    /// What is not acknowledged.
    pub pending: Pending,
    /// Everything up to this sequence number is acknowledged.
    pub acknowledged: u64,
    /// Up to where a request was in flight when the cursor was written last; None: none was.
    pub in_flight: Option<u64>,
    /// Records whose checksums are right.
    pub good_records: u64,
    /// Places where they are not.
    pub bad_records: u64,
    /// What else is wrong, in words.
    pub problems: Vec<String>,
    /// What is worth a line and no damage.
    pub remarks: Vec<String>,
}

impl Inspection {
    /// Looks at the queue in `dir` and verifies all checksums, which reads all of it. What of its sets and lanes cannot be read, or
    /// is of a newer version, stands among their problems, and hides nothing of the others.
    ///
    /// # Errors
    /// Where the directory itself cannot be read or is not a queue that this version knows.
    pub fn of(dir: &Path) -> Result<Self, QueueError> {
        inspect(&OsFiles, dir, Depth::Bodies)
    }

    /// The same by the index alone: what is pending, and no look at any body. Takes milliseconds however much there is.
    ///
    /// # Errors
    /// As [`Inspection::of`], and where anything in it cannot be read or is of a newer version: what is pending is all of it.
    pub fn of_index(dir: &Path) -> Result<Self, QueueError> {
        inspect(&OsFiles, dir, Depth::Index)
    }

    /// What is not acknowledged, over all lanes.
    #[must_use]
    pub fn pending(&self) -> Pending {
        let mut total = Pending::default();
        for lane in self.sets.iter().flat_map(|set| &set.lanes) {
            total.add(&lane.pending);
        }
        total
    }

    /// Whether every checksum is right.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let lanes = || self.sets.iter().flat_map(|set| &set.lanes);
        self.destination.is_some()
            && self.aside.is_empty()
            && self.sets.iter().all(|set| set.purpose.is_some() && set.problems.is_empty())
            && lanes().all(|lane| lane.bad_records == 0 && lane.problems.is_empty())
    }
}

/// How far an inspection looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Headers and footers of segments, as at the start of a process.
    Index,
    /// Every record.
    Bodies,
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.destination {
            Some(name) => writeln!(f, "queue of {name}")?,
            None => writeln!(f, "queue of an unknown destination")?,
        }
        if let Some(problem) = &self.problem {
            writeln!(f, "{problem}")?;
        }
        for set in &self.sets {
            match &set.purpose {
                Some((SetKind::Normal, Hold::None)) => writeln!(f, "set {}", set.set)?,
                Some((SetKind::Fence, Hold::None)) => writeln!(f, "set {}, a fence", set.set)?,
                Some((SetKind::Aside, Hold::None)) => {
                    writeln!(f, "set {}, aside: refused before, and asked for sample by sample", set.set)?;
                }
                Some((_, Hold::After(older))) => writeln!(f, "set {}, sent after set {older}", set.set)?,
                Some((_, Hold::Until(condition))) => writeln!(f, "set {}, held until: {condition}", set.set)?,
                None => writeln!(f, "set {} with a damaged description", set.set)?,
            }
            for problem in &set.problems {
                writeln!(f, "  {problem}")?;
            }
            let head = ["lane", "segments", "bytes", "records", "samples", "oldest", "good", "bad"];
            let [lane, segments, bytes, records, samples, oldest, good, bad] = head;
            writeln!(
                f,
                "  {lane:>4} {segments:>8} {bytes:>14} {records:>10} {samples:>12} {oldest:>14} {good:>10} {bad:>6}"
            )?;
            for lane in &set.lanes {
                writeln!(
                    f,
                    "  {:>4} {:>8} {:>14} {:>10} {:>12} {:>14} {:>10} {:>6}",
                    lane.lane.index,
                    lane.segments,
                    lane.bytes,
                    lane.pending.records,
                    lane.pending.samples,
                    age(lane.pending.oldest_ms),
                    lane.good_records,
                    lane.bad_records,
                )?;
                if let Some(sequence) = lane.in_flight {
                    let first = lane.acknowledged + 1;
                    writeln!(f, "       a request of records {first} to {sequence} was in flight")?;
                }
                for problem in lane.problems.iter().chain(&lane.remarks) {
                    writeln!(f, "       {problem}")?;
                }
            }
        }
        for dir in &self.aside {
            writeln!(
                f,
                "{}: holds segments that were put aside, as the disk did not give them back",
                dir.display()
            )?;
        }
        let Pending { records, samples, bytes, oldest_ms, .. } = self.pending();
        let state = if self.is_sound() { "every checksum is right" } else { "damaged, see above" };
        let oldest = age(oldest_ms);
        writeln!(f, "to send: {records} records, {samples} samples, {bytes} bytes, oldest {oldest}; {state}")
    }
}

/// How long ago something was enqueued.
fn age(enqueued_ms: Option<i64>) -> String {
    let Some(enqueued_ms) = enqueued_ms else { return "-".to_owned() };
    let seconds = now_ms().saturating_sub(enqueued_ms).max(0) / 1_000;
    format_duration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

pub(super) fn inspect(files: &dyn Files, dir: &Path, depth: Depth) -> Result<Inspection, QueueError> {
    let names = list(files, dir)?;
    let path = dir.join("meta");
    let holds_sets = names.iter().any(|name| parse_set_name(name).is_some());
    let read = files.read_small(&path, META_BYTES_MAX);
    let (destination, wrong) = match read.map(|bytes| meta::decode_queue(&bytes)) {
        Ok(Ok(destination)) => (Some(destination), None),
        Ok(Err(BadMeta::Newer(_))) => return Err(QueueError::Newer { path }),
        Ok(Err(BadMeta::Damaged)) => (None, Some(format!("is damaged; {WRITTEN_ANEW}"))),
        Ok(Err(BadMeta::Foreign)) if holds_sets => {
            let wrong = "is not the description of a promring queue, though sets of lanes lie beside it; as long as it is \
                         there, no scraper uses the directory";
            (None, Some(wrong.to_owned()))
        }
        Ok(Err(BadMeta::Foreign)) => return Err(QueueError::Foreign { path }),
        Err(error) if holds_sets && error.kind() == io::ErrorKind::NotFound => {
            (None, Some(format!("is missing; {WRITTEN_ANEW}")))
        }
        Err(error) if holds_sets => (None, Some(format!("cannot be read: {error}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(QueueError::NoQueue { dir: dir.to_owned() });
        }
        Err(source) => return Err(QueueError::Io { path, source }),
    };
    let problem = wrong.map(|wrong| format!("{} {wrong}", path.display()));
    let aside = names.iter().filter(|name| name.ends_with(ASIDE)).map(|name| dir.join(name)).collect();
    let mut sets = Vec::new();
    for name in names {
        if let Some(set) = parse_set_name(&name) {
            sets.push(inspect_set(files, &dir.join(name), set, depth)?);
        }
    }
    sets.sort_by_key(|set| set.set);
    Ok(Inspection { destination, problem, sets, aside })
}

fn inspect_set(files: &dyn Files, dir: &Path, set: u32, depth: Depth) -> Result<InspectedSet, QueueError> {
    let path = dir.join("meta");
    let (mut problems, mut wanted) = (Vec::new(), 0);
    let purpose = match files.read_small(&path, META_BYTES_MAX).map(|bytes| SetMeta::decode(&bytes)) {
        Ok(Ok(meta)) => {
            wanted = meta.lanes;
            Some((meta.kind, meta.hold))
        }
        Ok(Err(BadMeta::Newer(_))) => {
            depth.note(QueueError::Newer { path }, &mut problems)?;
            None
        }
        Ok(Err(BadMeta::Foreign | BadMeta::Damaged)) | Err(_) => None,
    };
    let mut lanes = Vec::new();
    for name in depth.list(files, dir, &mut problems)? {
        if let Some(index) = parse_lane_name(&name) {
            lanes.push(inspect_lane(files, &dir.join(name), LaneId { set, index }, depth)?);
        }
    }
    for index in (0..wanted).filter(|index| lanes.iter().all(|lane| lane.lane.index != *index)) {
        let lane = dir.join(lane_name(index));
        problems.push(format!("{}: is missing, with whatever lay there to be sent", lane.display()));
    }
    lanes.sort_by_key(|lane| lane.lane);
    Ok(InspectedSet { set, purpose, lanes, problems })
}

fn inspect_lane(
    files: &dyn Files,
    dir: &Path,
    lane: LaneId,
    depth: Depth,
) -> Result<InspectedLane, QueueError> {
    let mut problems = Vec::new();
    let names = depth.list(files, dir, &mut problems)?;
    let mut bases: Vec<u64> = names.iter().filter_map(|name| parse_segment_name(name)).collect();
    bases.sort_unstable();
    let cursor = match files.open(&dir.join("cursor")).and_then(CursorFile::open) {
        Ok((_, Some(cursor))) => cursor,
        Ok((_, None)) if bases.is_empty() => Cursor::default(),
        Ok((_, None)) => {
            problems.push("the cursor is damaged: the lane will be sent from its oldest record".to_owned());
            Cursor::default()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Cursor::default(),
        // The lane is no directory, which was said above.
        Err(_) if !problems.is_empty() => Cursor::default(),
        Err(error) => {
            problems.push(format!("the cursor cannot be read: {error}"));
            Cursor::default()
        }
    };
    let mut seen = InspectedLane {
        lane,
        segments: bases.len(),
        bytes: 0,
        pending: Pending::default(),
        acknowledged: cursor.acknowledged,
        in_flight: (cursor.in_flight > cursor.acknowledged).then_some(cursor.in_flight),
        good_records: 0,
        bad_records: 0,
        problems,
        remarks: Vec::new(),
    };
    if names.iter().any(|name| name == ahead::AHEAD) {
        match ahead::read(files, dir) {
            Ok(ahead) => seen.remarks.push(format!("of {} series something was sent ahead", ahead.len())),
            Err(error) => seen.problems.push(format!("{}: {error}", dir.join(ahead::AHEAD).display())),
        }
    }
    for name in names.iter().filter(|name| name.ends_with(ASIDE)) {
        seen.problems
            .push(format!("{}: put aside, as the disk did not give it back", dir.join(name).display()));
    }
    for base in bases {
        let path = segment_path(dir, base);
        let inspected = match depth {
            Depth::Index => index_segment(files, &path, base, &cursor, &mut seen),
            Depth::Bodies => inspect_segment(files, &path, &mut seen),
        };
        match inspected {
            Ok(()) => {}
            Err(SegmentError::Newer(_)) => depth.note(QueueError::Newer { path }, &mut seen.problems)?,
            // A running scraper has deleted it meanwhile.
            Err(SegmentError::Io(error)) if error.kind() == io::ErrorKind::NotFound => seen.segments -= 1,
            Err(SegmentError::Io(error)) => seen.problems.push(format!("{}: {error}", path.display())),
        }
    }
    Ok(seen)
}

fn index_segment(
    files: &dyn Files,
    path: &Path,
    base: u64,
    cursor: &Cursor,
    seen: &mut InspectedLane,
) -> Result<(), SegmentError> {
    let file = files.open(path)?;
    let Found { summary, end, .. } = segment::open(&*file)?;
    seen.bytes += file.len()?;
    if summary.records == 0 || summary.last_sequence <= seen.acknowledged {
        return Ok(());
    }
    // What the cursor says of its own segment; a damaged cursor says nothing.
    let begun = cursor.segment == base;
    let (records, points, offset) =
        if begun { (cursor.segment_records, cursor.segment_points, cursor.offset) } else { (0, 0, 0) };
    seen.pending.add(&Pending {
        records: summary.records.saturating_sub(records),
        samples: summary.points.saturating_sub(points),
        bytes: end.saturating_sub(offset.max(SEGMENT_HEADER_BYTES)),
        oldest_ms: Some(summary.first_enqueued_ms),
        // A finished segment does not tell.
        beside: Beside::default(),
    });
    Ok(())
}

fn inspect_segment(files: &dyn Files, path: &Path, seen: &mut InspectedLane) -> Result<(), SegmentError> {
    let file = files.open(path)?;
    let found = segment::open(&*file)?;
    let len = file.len()?;
    seen.bytes += len;
    if len == 0 {
        // Or a scraper that runs is about to write its header.
        let path = path.display();
        seen.remarks.push(format!("{path}: is empty: a process ended before it wrote anything to it"));
    }
    if !segment::has_good_header(&*file)? {
        seen.problems.push(format!("{}: its header is damaged, which costs no record", path.display()));
    }
    if found.torn_bytes > 0 {
        seen.problems.push(format!("{}: {} bytes of a torn tail", path.display(), found.torn_bytes));
    }
    let (mut offset, mut after) = (SEGMENT_HEADER_BYTES, 0);
    let mut body = Vec::new();
    loop {
        match segment::step(&*file, offset, found.end, after)? {
            Step::Record(header) => {
                if segment::read_body(&*file, offset, &header, &mut body)? {
                    seen.good_records += 1;
                } else {
                    seen.bad_records += 1;
                }
                if header.sequence > seen.acknowledged {
                    seen.pending.records += 1;
                    seen.pending.samples = seen.pending.samples.saturating_add(header.meta.points());
                    seen.pending.beside.add(header.meta.beside());
                    seen.pending.bytes += header.record_len();
                    seen.pending.oldest_ms.get_or_insert(header.enqueued_ms);
                }
                (offset, after) = (offset + header.record_len(), header.sequence);
            }
            Step::Bad { next } => {
                seen.bad_records += 1;
                offset = next;
            }
            Step::Search { next } => offset = next,
            Step::End => return Ok(()),
        }
    }
}

impl Depth {
    /// What is wrong with a part of a queue: it is noted where all that can be read is to be shown.
    fn note(self, error: QueueError, problems: &mut Vec<String>) -> Result<(), QueueError> {
        match self {
            Self::Index => Err(error),
            Self::Bodies => {
                problems.push(error.to_string());
                Ok(())
            }
        }
    }

    /// The names in a directory of a queue's; none where that is noted.
    fn list(
        self,
        files: &dyn Files,
        dir: &Path,
        problems: &mut Vec<String>,
    ) -> Result<Vec<String>, QueueError> {
        match list(files, dir) {
            Ok(names) => Ok(names),
            Err(error) => self.note(error, problems).map(|()| Vec::new()),
        }
    }
}

fn list(files: &dyn Files, dir: &Path) -> Result<Vec<String>, QueueError> {
    files.list(dir).map_err(|source| QueueError::Io { path: dir.to_owned(), source })
}
