//! The series of the last scrape of targets that change their owner: put here by the loop of the giver, fetched from there by
//! the taker, and used by the loop of the taker to mark those that are no more.
//!
//! The giver's loops leave their caches here as they are, so that nothing is copied unless somebody asks. What travels is
//! a line of JSON ([`Word`]) and for each target a gzip of a line of JSON a series.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use promring_model::handover::MoveId;
use promring_model::target::{TargetId, TargetKey};
use serde::{Deserialize, Serialize};

use crate::labelsets::Shared;
use crate::memory::Hold;
use crate::rules::SeriesRules;
use crate::series::{HandedSeries, SeriesCache};

/// The series of one target may take this many bytes of JSON.
const DECODED_BYTES_MAX: u64 = 512 << 20;

/// What an answer may have in bytes.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// What is received and not used yet may take this many bytes.
const RECEIVED_BYTES_MAX: usize = 64 << 20;

/// The giver's word on one key: the first line of `GET /api/v1/handover/{key}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Word {
    /// The move by which the key goes.
    pub(super) id: MoveId,
    /// T: slots from here on are the taker's, in Unix milliseconds. Final.
    pub(super) until: i64,
    /// Whether the last scrape from before T is over. If not, no series follow yet.
    pub(super) ready: bool,
    /// The key's targets, whose series follow this line, one after the other.
    #[serde(default)]
    pub(super) targets: Vec<GivenTarget>,
}

/// One target's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GivenTarget {
    id: TargetId,
    /// Whether the series about the scrape itself are live.
    reported: bool,
    /// Whether it exists no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
    /// How many bytes its series take.
    bytes: usize,
}

/// What is left of a target when its last scrape here is over.
#[derive(Debug)]
pub struct Last {
    /// Its series.
    pub cache: SeriesCache,
    /// Whether the series about the scrape itself are live.
    pub reported: bool,
    /// Whether the target exists no more.
    pub gone: bool,
    /// What they take.
    pub hold: Hold,
}

/// The series of a target on the scraper that had it before.
#[derive(Clone, Debug)]
pub(crate) struct LastSeries {
    id: TargetId,
    pub(crate) reported: bool,
    /// The target existed no more already there.
    pub(crate) gone: bool,
    packed: Bytes,
}

/// Series that are given, and that were received.
#[derive(Debug, Default)]
pub(crate) struct Given {
    inner: Mutex<Inner>,
    /// How many keys there are in it: mostly none.
    keys: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    shown: HashMap<TargetKey, Shown>,
    received: HashMap<TargetKey, Vec<LastSeries>>,
    received_bytes: usize,
}

#[derive(Debug, Default)]
struct Shown {
    /// Those that there are to be.
    expected: HashSet<TargetId>,
    /// Whether there are to be no others: T has passed.
    is_whole: bool,
    targets: Vec<(TargetId, Arc<Mutex<Option<Last>>>)>,
    fetched: bool,
}

impl Given {
    /// Whether there is nothing, so that nobody needs to look.
    pub(crate) fn is_idle(&self) -> bool {
        self.keys.load(Ordering::Acquire) == 0
    }

    /// These targets of a key are going to be shown, beside those that exist no more, and no others.
    pub(crate) fn expect(&self, key: TargetKey, targets: impl Iterator<Item = TargetId>) {
        let mut inner = self.lock();
        let shown = inner.shown.entry(key).or_default();
        shown.expected.extend(targets);
        shown.is_whole = true;
        self.count(&inner);
    }

    /// A target of a key exists no more, and is going to be shown, if it is not yet.
    pub(crate) fn expect_gone(&self, key: TargetKey, id: TargetId) {
        let mut inner = self.lock();
        let shown = inner.shown.entry(key).or_default();
        if !shown.is_whole {
            shown.expected.insert(id);
        } else if let Some((_, last)) = shown.targets.iter().find(|(known, _)| *known == id)
            && let Some(last) = &mut *lock_last(last)
        {
            last.gone = true;
        }
        self.count(&inner);
    }

    /// Whether a target is shown.
    pub(crate) fn is_shown(&self, key: TargetKey, id: TargetId) -> bool {
        let is_it = |shown: &Shown| shown.targets.iter().any(|(known, _)| *known == id);
        !self.is_idle() && self.lock().shown.get(&key).is_some_and(is_it)
    }

    /// Whether the series of a key have come and are not used yet.
    pub(crate) fn has_received(&self, key: TargetKey) -> bool {
        !self.is_idle() && self.lock().received.contains_key(&key)
    }

    /// The giver's last scrape of a target is over.
    pub(crate) fn show(&self, key: TargetKey, id: TargetId, last: Last) {
        let mut inner = self.lock();
        let shown = inner.shown.entry(key).or_default();
        shown.targets.retain(|(known, _)| *known != id);
        shown.targets.push((id, Arc::new(Mutex::new(Some(last)))));
        self.count(&inner);
    }

    /// The target was not taken after all, or exists again: its series are its own again.
    pub(crate) fn take_back(&self, key: TargetKey, id: TargetId) -> Option<Last> {
        let mut inner = self.lock();
        let shown = inner.shown.get_mut(&key)?;
        if !shown.is_whole {
            shown.expected.remove(&id);
        }
        let at = shown.targets.iter().position(|(known, _)| *known == id)?;
        let (_, last) = shown.targets.swap_remove(at);
        drop(inner);
        lock_last(&last).take()
    }

    /// Forgets keys that nobody will ask for any more, and those that do not come here after all.
    pub(super) fn retain(&self, given: impl Fn(TargetKey) -> bool, held: impl Fn(TargetKey) -> bool) {
        if self.is_idle() {
            return;
        }
        let mut inner = self.lock();
        inner.shown.retain(|key, _| given(*key));
        inner.received.retain(|key, _| held(*key));
        inner.received_bytes = inner.received.values().flatten().map(|series| series.packed.len()).sum();
        self.count(&inner);
    }

    /// Whether somebody has fetched a key's series, or there are none to be fetched.
    pub(super) fn is_fetched(&self, key: TargetKey) -> bool {
        self.lock().shown.get(&key).is_some_and(|shown| shown.fetched || shown.is_nothing())
    }

    /// Whether there are series that nobody has fetched.
    pub(super) fn is_waiting(&self) -> bool {
        self.lock().shown.values().any(|shown| !shown.fetched && !shown.is_nothing())
    }

    /// The answer to who asks for a key, of which T is final. Takes long where there are many series.
    pub(super) fn answer(&self, key: TargetKey, id: MoveId, until: i64) -> Result<Vec<u8>, String> {
        let targets = match self.lock().shown.get_mut(&key) {
            Some(shown) if shown.is_complete() => {
                shown.fetched = true;
                Some(shown.targets.clone())
            }
            Some(_) | None => None,
        };
        let mut word = Word { id, until, ready: targets.is_some(), targets: Vec::new() };
        let targets = targets.unwrap_or_default();
        let mut bodies = Vec::new();
        for (id, last) in targets {
            let guard = lock_last(&last);
            let Some(Last { cache, reported, gone, .. }) = &*guard else { continue };
            let packed = pack(cache, until)?;
            word.targets.push(GivenTarget { id, reported: *reported, gone: *gone, bytes: packed.len() });
            bodies.push(packed);
            if bodies.iter().map(Vec::len).sum::<usize>() > ANSWER_BYTES_MAX / 2 {
                return Err("the target has too many series to tell".to_owned());
            }
        }
        let mut answer = serde_json::to_vec(&word).map_err(|error| error.to_string())?;
        answer.push(b'\n');
        bodies.iter().for_each(|body| answer.extend_from_slice(body));
        Ok(answer)
    }

    /// What the giver has said of the series of a key. False: there is no room for more.
    pub(super) fn receive(&self, key: TargetKey, series: Vec<LastSeries>) -> bool {
        let bytes: usize = series.iter().map(|series| series.packed.len()).sum();
        let mut inner = self.lock();
        if inner.received_bytes + bytes > RECEIVED_BYTES_MAX {
            return false;
        }
        inner.received_bytes += bytes;
        inner.received.insert(key, series);
        self.count(&inner);
        true
    }

    /// The series that a target had on the scraper before. Where that had the key's only target under another identity (a
    /// path has changed), they are this one's, if they are such as may be.
    pub(crate) fn take(
        &self,
        key: TargetKey,
        id: TargetId,
        may_be: impl Fn(&LastSeries) -> bool,
    ) -> Option<LastSeries> {
        let mut inner = self.lock();
        let received = inner.received.get_mut(&key)?;
        let own = received.iter().position(|series| series.id == id);
        let at = own.or_else(|| matches!(&**received, [only] if may_be(only)).then_some(0))?;
        let series = received.swap_remove(at);
        if received.is_empty() {
            inner.received.remove(&key);
        }
        inner.received_bytes = inner.received_bytes.saturating_sub(series.packed.len());
        self.count(&inner);
        Some(series)
    }

    fn count(&self, inner: &Inner) {
        self.keys.store(inner.shown.len() + inner.received.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    /// Whether there is and will be none.
    fn is_nothing(&self) -> bool {
        self.is_whole && self.expected.is_empty()
    }

    /// Whether all are there.
    fn is_complete(&self) -> bool {
        self.is_whole && self.expected.iter().all(|id| self.targets.iter().any(|(known, _)| known == id))
    }
}

impl LastSeries {
    /// A cache of them, for a target with these rules.
    ///
    /// # Errors
    /// Where they cannot be read, or are of a target with other rules.
    pub(crate) fn cache(&self, rules: &SeriesRules, shared: &Arc<Shared>) -> Result<SeriesCache, String> {
        let lines = BufReader::new(GzDecoder::new(&*self.packed).take(DECODED_BYTES_MAX)).lines();
        let read = |line: std::io::Result<String>| -> Result<HandedSeries<String>, String> {
            let line = line.map_err(|error| error.to_string())?;
            serde_json::from_str(&line).map_err(|error| error.to_string())
        };
        SeriesCache::handed(rules, shared, lines.map(read))
    }
}

/// The giver's word, and the series after it.
///
/// # Errors
/// Where it is not what a giver says.
pub(super) fn read_answer(mut answer: Bytes) -> Result<(Word, Vec<LastSeries>), String> {
    let end = answer.iter().position(|byte| *byte == b'\n').ok_or("the answer has no first line")?;
    let head = answer.split_to(end + 1);
    let word: Word = serde_json::from_slice(&head).map_err(|error| error.to_string())?;
    let mut series = Vec::new();
    let mut seen = HashSet::new();
    for GivenTarget { id, reported, gone, bytes } in &word.targets {
        if *bytes > answer.len() || !seen.insert(*id) {
            return Err("the answer is cut short".to_owned());
        }
        let packed = answer.split_to(*bytes);
        series.push(LastSeries { id: *id, reported: *reported, gone: *gone, packed });
    }
    Ok((word, series))
}

fn pack(cache: &SeriesCache, until: i64) -> Result<Vec<u8>, String> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    cache
        .hand_over(until, |series| {
            serde_json::to_writer(&mut packed, series)?;
            packed.write_all(b"\n")
        })
        .and_then(|()| packed.finish())
        .map_err(|error| error.to_string())
}

fn lock_last(last: &Mutex<Option<Last>>) -> MutexGuard<'_, Option<Last>> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}
