//! What a target says of its metric families: type, help and unit, for remote write's metadata.
//!
//! A series keeps the number of its family in its target's list. Equal targets share one list, and all lists share their
//! strings, so a fleet of equal exporters holds each help text once. A steady scrape only compares hashes.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use promring_model::hash::{FieldHasher, hash64};
use promring_proto::remote_write::v1::MetricType;

use crate::labelsets::Shared;
use crate::parse::Metadata;
use crate::series::HashIsKey;
use crate::series::report::REPORT_SERIES;
use crate::symbols::Symbol;

/// Most families of a target; what is said of further ones is left out.
pub const FAMILIES_MAX: usize = 20_000;

/// Longest name, help text or unit, in bytes; a longer one is left out.
pub const TEXT_BYTES_MAX: usize = 16 << 10;

/// What is said of a family, as numbers of symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name, as exposed.
    pub name: Symbol,
    /// Its type.
    pub kind: MetricType,
    /// Its help text.
    pub help: Symbol,
    /// Its unit.
    pub unit: Symbol,
}

/// A family and how it is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    family: Family,
    name_hash: u64,
    help_hash: u64,
    unit_hash: u64,
}

/// The families of one target, or of several equal ones. A number, once given, keeps its meaning.
#[derive(Debug)]
pub struct FamilyList {
    list: Vec<Known>,
    by_name: HashMap<u64, u32, BuildHasherDefault<HashIsKey>>,
    shared: Arc<Shared>,
}

/// The lists of all targets.
#[derive(Debug, Default)]
pub struct FamilyLists(Mutex<HashMap<u64, Weak<FamilyList>>>);

/// Where a scrape is among the families.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// Number of the family that was spoken of last; 0: none.
    pub(crate) number: u32,
    /// Series that are known may belong to another family than they did.
    pub(crate) unsettled: bool,
    name_hash: u64,
}

/// A target's families, and whether they are shared already.
#[derive(Clone, Debug)]
pub(crate) struct Families {
    list: Arc<FamilyList>,
    changed: bool,
}

impl Families {
    /// Those of a target that has said nothing yet: only the series about the scrape itself are known, in order, by the
    /// numbers from 1.
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let mut list =
            FamilyList { list: Vec::new(), by_name: HashMap::default(), shared: Arc::clone(shared) };
        for report in &REPORT_SERIES {
            list.add(hash64(report.name.as_bytes()), report.name);
            if let Some(known) = list.list.last_mut() {
                known.set(MetricType::Gauge, report.help, report.unit, shared);
            }
        }
        // Whoever exposes such a name speaks of another series.
        list.by_name.clear();
        Self { list: shared.families.share(Arc::new(list)), changed: false }
    }

    /// The family with this number.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&Family> {
        let at = (number as usize).checked_sub(1)?;
        self.list.list.get(at).map(|known| &known.family)
    }

    /// Takes in what the body says.
    pub(crate) fn describe(&mut self, metadata: &Metadata<'_>, place: &mut Place) {
        let name_hash = hash64(metadata.family.as_bytes());
        if name_hash != place.name_hash || place.number == 0 {
            let next = self.list.list.get(place.number as usize);
            let is_next = place.number > 0 && next.is_some_and(|known| known.name_hash == name_hash);
            let before = self.list.list.len();
            let number = if is_next { place.number + 1 } else { self.number(name_hash, &metadata.family) };
            *place = Place { number, unsettled: number as usize > before, name_hash };
        }
        let Some(known) = self.list.list.get((place.number as usize).wrapping_sub(1)) else { return };
        let other = |text: &&str, hash: u64| hash64(text.as_bytes()) != hash;
        let kind = metadata.kind.filter(|kind| *kind != known.family.kind);
        let help = metadata.help.as_deref().filter(|text| other(text, known.help_hash));
        let unit = metadata.unit.filter(|text| other(text, known.unit_hash));
        if kind.is_none() && help.is_none() && unit.is_none() {
            return;
        }
        let list = self.change();
        let shared = Arc::clone(&list.shared);
        if let Some(known) = list.list.get_mut(place.number as usize - 1) {
            known.change(kind, help, unit, &shared);
        }
        // Another type may have other series.
        place.unsettled |= kind.is_some();
    }

    /// The number of a family, which it gets where it has none; 0 where there are too many.
    fn number(&mut self, name_hash: u64, name: &str) -> u32 {
        if let Some(number) = self.list.by_name.get(&name_hash) {
            return *number;
        }
        if self.list.list.len() >= FAMILIES_MAX + REPORT_SERIES.len() || name.len() > TEXT_BYTES_MAX {
            return 0;
        }
        self.change().add(name_hash, name)
    }

    fn change(&mut self) -> &mut FamilyList {
        self.changed = true;
        Arc::make_mut(&mut self.list)
    }

    /// Shares the list with equal targets, after a scrape that changed it.
    pub(crate) fn settle(&mut self) {
        if std::mem::take(&mut self.changed) {
            let lists = Arc::clone(&self.list.shared);
            self.list = lists.families.share(Arc::clone(&self.list));
        }
    }

    /// Whether a series with this name belongs to the family with this number.
    pub(crate) fn holds(&self, number: u32, series: &str) -> bool {
        let Some(family) = self.get(number) else { return false };
        let reading = self.list.shared.symbols.reading();
        is_part_of(series, reading.text(family.name), family.kind)
    }
}

impl FamilyList {
    fn add(&mut self, name_hash: u64, name: &str) -> u32 {
        let mut symbols = Vec::with_capacity(3);
        self.shared.symbols.intern([name, "", ""], &mut symbols);
        let empty = hash64(b"");
        self.list.push(Known {
            family: Family {
                name: symbols[0],
                kind: MetricType::Unknown,
                help: symbols[1],
                unit: symbols[2],
            },
            name_hash,
            help_hash: empty,
            unit_hash: empty,
        });
        let number = self.list.len() as u32;
        self.by_name.insert(name_hash, number);
        number
    }

    /// A hash of all that is in it.
    fn fingerprint(&self) -> u64 {
        let mut hasher = FieldHasher::new();
        for known in &self.list {
            for hash in [known.name_hash, known.help_hash, known.unit_hash, known.family.kind as u64] {
                hasher.field(&hash.to_le_bytes());
            }
        }
        hasher.finish64()
    }

    /// The families that targets expose; not those of the series about the scrape.
    fn exposed(&self) -> impl Iterator<Item = &Family> {
        self.list.iter().skip(REPORT_SERIES.len()).map(|known| &known.family)
    }

    fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.list
            .iter()
            .flat_map(|Known { family: Family { name, help, unit, .. }, .. }| [*name, *help, *unit])
    }
}

impl Clone for FamilyList {
    fn clone(&self) -> Self {
        let reading = self.shared.symbols.reading();
        self.symbols().for_each(|symbol| reading.retain(symbol));
        Self { list: self.list.clone(), by_name: self.by_name.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl Drop for FamilyList {
    fn drop(&mut self) {
        self.shared.symbols.release(self.symbols());
    }
}

impl Known {
    fn change(&mut self, kind: Option<MetricType>, help: Option<&str>, unit: Option<&str>, shared: &Shared) {
        if let Some(kind) = kind {
            self.family.kind = kind;
        }
        let parts = [
            (help, &mut self.family.help, &mut self.help_hash),
            (unit, &mut self.family.unit, &mut self.unit_hash),
        ];
        for (text, symbol, hash) in parts {
            let Some(text) = text else { continue };
            *hash = hash64(text.as_bytes());
            let text = if text.len() > TEXT_BYTES_MAX { "" } else { text };
            let mut symbols = Vec::with_capacity(1);
            shared.symbols.intern([text], &mut symbols);
            let before = symbols.pop().map(|new| std::mem::replace(symbol, new));
            shared.symbols.release(before);
        }
    }

    fn set(&mut self, kind: MetricType, help: &str, unit: &str, shared: &Shared) {
        self.change(Some(kind), Some(help), Some(unit), shared);
    }
}

impl FamilyLists {
    /// The list that equals this one, if there is one; else this one, which others find from now on.
    fn share(&self, list: Arc<FamilyList>) -> Arc<FamilyList> {
        let fingerprint = list.fingerprint();
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lists.get(&fingerprint).and_then(Weak::upgrade) {
            // A stranger may have thought of texts with the hashes of others.
            return if known.list == list.list { known } else { list };
        }
        // What nobody has any more goes when others come.
        lists.retain(|_, list| list.strong_count() > 0);
        lists.insert(fingerprint, Arc::downgrade(&list));
        list
    }

    /// Hands what is known of every family to `each`, once a name: as name, type, help and unit.
    pub fn for_each(&self, shared: &Shared, mut each: impl FnMut(&str, MetricType, &str, &str)) {
        let lists: Vec<Arc<FamilyList>> = {
            let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lists.values().filter_map(Weak::upgrade).collect()
        };
        let reading = shared.symbols.reading();
        let mut told = std::collections::HashSet::new();
        for family in lists.iter().flat_map(|list| list.exposed()) {
            if told.insert(family.name) {
                let text = |symbol| reading.text(symbol);
                each(text(family.name), family.kind, text(family.help), text(family.unit));
            }
        }
        // Released after the reading, which the last owner's end does not need.
        drop(reading);
    }
}

/// Whether a series belongs to a family (Prometheus's `isSeriesPartOfFamily`): a body may have series without a TYPE
/// after series that have one.
fn is_part_of(series: &str, family: &str, kind: MetricType) -> bool {
    let suffixes: &[&str] = match kind {
        // The text format names the family with its suffix, OpenMetrics without.
        MetricType::Counter => &["_total"],
        MetricType::Histogram => &["_bucket", "_sum", "_count"],
        MetricType::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
        MetricType::Summary => &["_sum", "_count"],
        MetricType::Info => &["_info"],
        MetricType::Unknown | MetricType::Gauge | MetricType::StateSet => &[],
    };
    series.strip_prefix(family).is_some_and(|suffix| suffix.is_empty() || suffixes.contains(&suffix))
}

#[cfg(test)]
pub(crate) mod testing {
    //! For tests elsewhere: a target that exposes some families.

    use super::*;

    /// The families are known for as long as what is given lives.
    pub(crate) fn expose(
        shared: &Arc<Shared>,
        families: &[(&str, MetricType, &str)],
    ) -> Box<dyn std::any::Any> {
        let mut kept = Families::new(shared);
        let mut place = Place::default();
        for (name, kind, help) in families {
            let (kind, help) = (Some(*kind), Some((*help).into()));
            kept.describe(&Metadata { family: (*name).into(), kind, help, unit: None }, &mut place);
        }
        kept.settle();
        Box::new(kept)
    }
}

#[cfg(test)]
#[path = "families_tests.rs"]
mod tests;
