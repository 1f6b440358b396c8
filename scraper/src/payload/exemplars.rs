//! Exemplars: which of them are new, and how they are kept until they are encoded.
//!
//! The rules are Prometheus's: of a series, an exemplar that equals the last one is no news, and one that comes before it
//! in time (or at the same time by value, then by labels) is out of order. Neither is sent.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use promring_model::hash::FieldHasher;

use super::extras::Extras;
use crate::labelsets::Shared;
use crate::parse::Exemplar;
use crate::series::HashIsKey;
use crate::symbols::Symbol;

/// One exemplar as it is kept; its labels stand elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct StagedExemplar {
    value_bits: u64,
    timestamp_ms: i64,
    /// Where its labels begin and end among the symbols.
    from: u32,
    to: u32,
}

/// The exemplars of one sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exemplars<'s> {
    pub(super) list: &'s [StagedExemplar],
    pub(super) symbols: &'s [Symbol],
}

impl<'s> Exemplars<'s> {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Each one's labels (names and values in turn), its value's bits, and its time in Unix milliseconds.
    pub fn iter(&self) -> impl Iterator<Item = (&'s [Symbol], u64, i64)> + use<'s> {
        let symbols = self.symbols;
        self.list.iter().map(move |exemplar| {
            let labels = symbols.get(exemplar.from as usize..exemplar.to as usize).unwrap_or_default();
            (labels, exemplar.value_bits, exemplar.timestamp_ms)
        })
    }
}

/// What is remembered of a series' last exemplar.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Last {
    labels_hash: u64,
    value: f64,
    timestamp_ms: i64,
    /// It came with a timestamp of its own; another one has the time of its scrape, which says nothing about it.
    has_time: bool,
    /// A hash of what the body had, by which it is known again without being taken apart.
    source: u64,
}

/// The last exemplar of each series that had one.
#[derive(Debug, Default)]
pub struct LastExemplars {
    by_text: HashMap<u64, Last, BuildHasherDefault<HashIsKey>>,
    /// Those of the scrape at hand, which count if it succeeds.
    staged: Vec<(u64, Last)>,
}

/// What became of a sample's exemplars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// How many there were.
    pub(crate) found: usize,
    /// How many came before the last one.
    pub(crate) out_of_order: usize,
}

impl LastExemplars {
    /// Whether no series had one.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_text.is_empty()
    }

    /// Forgets what a scrape has staged.
    pub(crate) fn begin(&mut self) {
        self.staged.clear();
    }

    /// What was staged counts.
    pub(crate) fn commit(&mut self) {
        self.by_text.extend(self.staged.drain(..));
    }

    /// The series is gone.
    pub(crate) fn forget(&mut self, text_hash: u64) {
        self.by_text.remove(&text_hash);
    }

    /// Whether this is what the body had of the series last time.
    #[inline]
    pub(crate) fn knows(&self, text_hash: u64, source: u64) -> bool {
        self.by_text.get(&text_hash).is_some_and(|last| last.source == source)
    }

    /// Puts the exemplars of a sample that are news into `extras`, in order. `time_ms` is the sample's time, for those that
    /// have none; where `needs_time` they are left out.
    pub(crate) fn take<'b>(
        &mut self,
        (text_hash, source): (u64, u64),
        exemplars: impl Iterator<Item = Exemplar<'b>>,
        time_ms: i64,
        needs_time: bool,
        extras: &mut Extras,
        shared: &Shared,
    ) -> Taken {
        let mut found: Vec<Exemplar<'b>> = exemplars
            .filter(|exemplar| exemplar.is_storable() && !(needs_time && exemplar.timestamp_ms.is_none()))
            .map(|mut exemplar| {
                exemplar.labels.retain(|(_, value)| !value.is_empty());
                exemplar.labels.sort_unstable();
                exemplar
            })
            .collect();
        found.sort_by(|one, other| in_order(one, other, time_ms));
        let mut taken = Taken { found: found.len(), out_of_order: 0 };
        for exemplar in &found {
            let new = Last {
                labels_hash: hash(exemplar),
                value: exemplar.value,
                timestamp_ms: exemplar.timestamp_ms.unwrap_or(time_ms),
                has_time: exemplar.timestamp_ms.is_some(),
                source,
            };
            // The newest one wins, and a scrape brings few.
            let staged = self.staged.iter().rev().find(|(text, _)| *text == text_hash).map(|(_, last)| last);
            if let Some(last) = staged.or_else(|| self.by_text.get(&text_hash)) {
                if last.equals(&new) {
                    continue;
                }
                if new.is_before(last) {
                    taken.out_of_order += 1;
                    continue;
                }
            }
            self.staged.push((text_hash, new));
            let from = extras.symbols.len() as u32;
            let texts = exemplar.labels.iter().flat_map(|(name, value)| [name.as_ref(), value.as_ref()]);
            shared.symbols.intern(texts, &mut extras.symbols);
            extras.exemplars.push(StagedExemplar {
                value_bits: exemplar.value.to_bits(),
                timestamp_ms: new.timestamp_ms,
                from,
                to: extras.symbols.len() as u32,
            });
        }
        taken
    }
}

impl Last {
    fn equals(&self, new: &Self) -> bool {
        self.labels_hash == new.labels_hash
            && self.value == new.value
            && (self.timestamp_ms == new.timestamp_ms || !(self.has_time || new.has_time))
    }

    fn is_before(&self, last: &Self) -> bool {
        let order = self.timestamp_ms.cmp(&last.timestamp_ms);
        let order = order.then(self.value.partial_cmp(&last.value).unwrap_or(Ordering::Equal));
        order == Ordering::Less
    }
}

fn in_order(one: &Exemplar<'_>, other: &Exemplar<'_>, time_ms: i64) -> Ordering {
    let time = |exemplar: &Exemplar<'_>| exemplar.timestamp_ms.unwrap_or(time_ms);
    let by_value = one.value.partial_cmp(&other.value).unwrap_or(Ordering::Equal);
    time(one).cmp(&time(other)).then(by_value).then_with(|| one.labels.cmp(&other.labels))
}

fn hash(exemplar: &Exemplar<'_>) -> u64 {
    let mut hasher = FieldHasher::new();
    for (name, value) in &exemplar.labels {
        hasher.field(name.as_bytes()).field(value.as_bytes());
    }
    hasher.finish64()
}

#[cfg(test)]
#[path = "exemplars_tests.rs"]
mod tests;
