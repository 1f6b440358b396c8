//! The series of a target's last scrape, as one scraper hands them to the next one: label sets, and what kind of marker
//! each would get.

use std::collections::HashSet;
use std::sync::Arc;

use promring_model::labels::LabelsBuilder;

use super::{
    CUSTOM, DROPPED, Entry, FLOATS, HISTOGRAM, SETS_BYTES_MAX, SHARED, SeriesCache, TRACKED, write_kept,
};
use crate::labelsets::Shared;
use crate::rules::{SeriesRules, Sets};
use crate::symbols::Reading;

/// One series: whether it is a native histogram (1), of floats (2), with bounds of its own (4); and for each class of
/// destinations its labels, name, value, name, value, …, or none.
pub(crate) type HandedSeries<L> = (u8, Vec<Option<Vec<L>>>);

const KINDS: [(u8, u8); 3] = [(1, HISTOGRAM), (2, FLOATS), (4, CUSTOM)];

impl SeriesCache {
    /// Hands every series to `each` that a marker at `time_ms` would end.
    pub(crate) fn hand_over<E>(
        &self,
        time_ms: i64,
        mut each: impl FnMut(&HandedSeries<&str>) -> Result<(), E>,
    ) -> Result<(), E> {
        let reading = self.labels.reading();
        let mut own = HashSet::new();
        if let Some(predecessor) = self.predecessor.as_ref().filter(|predecessor| predecessor.live) {
            // They wait for this one's first scrape, and now for the next owner's.
            own = self.entries[..self.settled].iter().filter_map(|entry| self.identity(entry)).collect();
            predecessor.hand_over_live(time_ms, &own, &reading, &mut each)?;
        }
        own.clear();
        if self.live { self.hand_over_live(time_ms, &own, &reading, &mut each) } else { Ok(()) }
    }

    fn hand_over_live<E>(
        &self,
        time_ms: i64,
        but: &HashSet<u64>,
        reading: &Reading<'_>,
        each: &mut impl FnMut(&HandedSeries<&str>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut shared = HashSet::new();
        for entry in &self.entries[..self.settled] {
            if entry.flags & (TRACKED | DROPPED) != TRACKED
                || !self.ends_by(entry, time_ms)
                || entry.flags & SHARED != 0 && !shared.insert(self.labels_hash(entry))
                || !but.is_empty() && self.identity(entry).is_some_and(|identity| but.contains(&identity))
            {
                continue;
            }
            let kind = KINDS.iter().filter(|(_, flag)| entry.flags & flag != 0).map(|(bit, _)| bit).sum();
            let sets = (0..self.classes).map(|class| {
                let mut labels = Vec::new();
                self.labels
                    .class(self.sets(entry), class)?
                    .for_each_symbol(|symbol| labels.push(reading.text(symbol)));
                Some(labels)
            });
            each(&(kind, sets.collect()))?;
        }
        Ok(())
    }

    /// A cache of nothing but the series that another scraper has handed over, to be [`SeriesCache::inherit`]ed.
    ///
    /// # Errors
    /// Where they are not of a target with these rules.
    pub(crate) fn handed(
        rules: &SeriesRules,
        shared: &Arc<Shared>,
        series: impl Iterator<Item = Result<HandedSeries<String>, String>>,
    ) -> Result<Self, String> {
        let mut cache = Self::new(rules, shared);
        let mut bytes = Vec::new();
        for (number, one) in series.enumerate() {
            let (kind, sets) = one?;
            if sets.len() != cache.classes {
                return Err(format!("{} classes of destinations, here are {}", sets.len(), cache.classes));
            }
            let builder = |labels: &Option<Vec<String>>| {
                let labels = labels.as_ref()?;
                let mut builder = LabelsBuilder::new();
                labels.chunks_exact(2).for_each(|pair| builder.set(pair[0].clone(), pair[1].clone()));
                Some(builder)
            };
            let sets: Sets<'_> = sets.iter().map(builder).collect();
            bytes.clear();
            write_kept(0, 0, &mut bytes);
            let sets_at = bytes.len();
            cache.labels.add(&sets, &mut bytes);
            if bytes.len() > SETS_BYTES_MAX || cache.arena.len() + bytes.len() > u32::MAX as usize {
                cache.labels.remove(&bytes[sets_at..], cache.classes);
                return Err("the labels of a series are too many".to_owned());
            }
            let kinds = KINDS.iter().filter(|(bit, _)| kind & bit != 0).map(|(_, flag)| flag).sum::<u8>();
            let (at, len) = (cache.arena.len() as u32, bytes.len() as u16);
            cache.arena.extend_from_slice(&bytes);
            let entry = Entry { text_hash: number as u64, at, met: 0, len, flags: TRACKED | kinds };
            cache.entries.push(entry);
        }
        (cache.settled, cache.live) = (cache.entries.len(), true);
        Ok(cache)
    }

    /// Takes over series of the target's last owner: those that the next scrape does not bring get their marker then.
    pub(crate) fn inherit(&mut self, mut before: Self) {
        if self.live {
            // The first scrapes are made: what they brought goes on, and is marked by its own entry.
            let own: HashSet<u64> =
                self.entries[..self.settled].iter().filter_map(|entry| self.identity(entry)).collect();
            let (kept, known): (Vec<Entry>, Vec<Entry>) = std::mem::take(&mut before.entries)
                .into_iter()
                .partition(|entry| !before.identity(entry).is_some_and(|identity| own.contains(&identity)));
            for entry in &known {
                before.labels.remove(before.sets(entry), before.classes);
            }
            (before.settled, before.entries) = (kept.len(), kept);
        }
        self.predecessor = Some(Box::new(before));
    }
}
