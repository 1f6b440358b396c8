//! Label sets: [`Labels`], sorted and immutable, and [`LabelsBuilder`], which relabelling works on.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bytes::{compare, equal};
use crate::hash::FieldHasher;

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";

/// A set of labels: sorted by name (byte order), names unique, no empty value.
///
/// An empty value and an absent label mean the same in Prometheus, so an empty one is never stored.
/// All names and values lie in one string, with the end of each in a second block: a set costs two
/// allocations whatever its size.
#[derive(Clone, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Labels {
    text: Box<str>,
    /// End offsets in `text`: name, value, name, value, …
    ends: Box<[u32]>,
}

impl Labels {
    /// The set of these pairs. They may come in any order; of a name given twice the last value wins;
    /// empty values are left out.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        // Stable, so that the last of equal names is the one given last.
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        let mut text = String::new();
        let mut ends = Vec::with_capacity(pairs.len() * 2);
        for (at, (name, value)) in pairs.iter().enumerate() {
            let (name, value) = (name.as_ref(), value.as_ref());
            let overridden = pairs.get(at + 1).is_some_and(|next| next.0.as_ref() == name);
            if overridden || value.is_empty() {
                continue;
            }
            text.push_str(name);
            ends.push(text.len() as u32);
            text.push_str(value);
            ends.push(text.len() as u32);
        }
        Self { text: text.into_boxed_str(), ends: ends.into_boxed_slice() }
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The value of `name`, or `None` where it is absent (or empty, which is the same).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Names and values in order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let start = |at: usize| if at == 0 { 0 } else { self.ends[at - 1] as usize };
        (0..self.len()).map(move |label| {
            let at = label * 2;
            (
                &self.text[start(at)..self.ends[at] as usize],
                &self.text[start(at + 1)..self.ends[at + 1] as usize],
            )
        })
    }

    /// A stable 64-bit hash of the set.
    #[must_use]
    pub fn hash64(&self) -> u64 {
        let mut hasher = FieldHasher::new();
        for (name, value) in self.iter() {
            hasher.field(name.as_bytes()).field(value.as_bytes());
        }
        hasher.finish64()
    }

    /// The labels that a user sees on a series: those whose name does not begin with `__`.
    #[must_use]
    pub fn public(&self) -> Self {
        Self::from_pairs(self.iter().filter(|(name, _)| !name.starts_with("__")))
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self::from_pairs(pairs)
    }
}

/// As Prometheus prints a label set: `{a="b", c="d"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            if is_legacy_label_name(name) {
                write!(f, "{comma}{name}={value:?}")?;
            } else {
                write!(f, "{comma}{name:?}={value:?}")?;
            }
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A JSON object of names to values.
impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of label names to values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut pairs: Vec<(String, String)> =
                    Vec::with_capacity(map.size_hint().unwrap_or(0).min(64));
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                pairs.sort_unstable();
                if let Some(twice) = pairs.windows(2).find(|pairs| pairs[0].0 == pairs[1].0) {
                    return Err(serde::de::Error::custom(format_args!(
                        "the label {:?} stands there twice",
                        twice[0].0
                    )));
                }
                Ok(Labels::from_pairs(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// Room for the labels of one series, which the next one gets once they are not needed any more.
#[derive(Debug, Default)]
pub struct SpareLabels {
    /// Always empty, so that nothing is borrowed.
    pairs: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

/// More room is given back: a hostile body has lines of a million labels.
const SPARE_MAX: usize = 64;

impl SpareLabels {
    /// No label yet, and the room that is spare.
    #[must_use]
    #[inline]
    pub fn take<'a>(&mut self) -> LabelsBuilder<'a> {
        LabelsBuilder { pairs: std::mem::take(&mut self.pairs) }
    }

    /// Drops labels and keeps their room.
    #[inline]
    pub fn keep(&mut self, labels: LabelsBuilder<'_>) {
        let mut pairs = labels.pairs;
        pairs.clear();
        if pairs.capacity() <= SPARE_MAX {
            // This is collected in place: only the type changes.
            self.pairs = pairs.into_iter().map(|_| (Cow::Borrowed(""), Cow::Borrowed(""))).collect();
        }
    }
}

/// Up to so many labels are searched one by one.
const LINEAR_MAX: usize = 32;

/// In which order labels were listed ([`LabelsBuilder::refill`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By name, each name once.
    ByName,
    /// Any: a name may stand there twice.
    Any,
}

/// Labels under change. Names and values that no rule touches stay borrowed from where they came from
/// (a scraped body, a target group), so relabelling allocates only what it makes anew.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder<'a> {
    /// Sorted by name; no empty value.
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> LabelsBuilder<'a> {
    /// No label yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts from `labels`, borrowing them.
    #[must_use]
    pub fn from_labels(labels: &'a Labels) -> Self {
        Self { pairs: labels.iter().map(|(n, v)| (Cow::Borrowed(n), Cow::Borrowed(v))).collect() }
    }

    /// Removes all labels, keeps the memory, and has `list` put others there, none of them with an empty value, and tell their
    /// order. False: a name stood there twice, and there is no label.
    ///
    /// # Errors
    /// What `list` fails with. There is no label then.
    #[inline]
    pub fn refill<E>(
        &mut self,
        list: impl FnOnce(&mut Vec<(Cow<'a, str>, Cow<'a, str>)>) -> Result<Order, E>,
    ) -> Result<bool, E> {
        self.pairs.clear();
        let listed = list(&mut self.pairs).inspect_err(|_| self.pairs.clear())?;
        if listed == Order::Any && !self.put_in_order() {
            self.pairs.clear();
            return Ok(false);
        }
        debug_assert!(self.pairs.is_sorted_by(|(a, _), (b, _)| a < b), "names are in order, each once");
        debug_assert!(
            self.pairs.iter().all(|(_, value)| !value.is_empty()),
            "an empty value is an absent label"
        );
        Ok(true)
    }

    /// Sorts by name. False: a name stands there twice.
    fn put_in_order(&mut self) -> bool {
        let order = |a: &str, b: &str| compare(a.as_bytes(), b.as_bytes());
        // Exporters print most labels in order.
        if self.pairs.is_sorted_by(|(a, _), (b, _)| order(a, b).is_lt()) {
            return true;
        }
        self.pairs.sort_unstable_by(|(a, _), (b, _)| order(a, b));
        !self.pairs.array_windows().any(|[(a, _), (b, _)]| a == b)
    }

    /// Removes all labels and keeps the memory.
    pub fn clear(&mut self) {
        self.pairs.clear();
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Where `name` is. Few names are compared one by one: their lengths tell most of them apart, and a processor foresees
    /// a straight line better than a search.
    fn find(&self, name: &str) -> Option<usize> {
        if self.pairs.len() <= LINEAR_MAX {
            return self.pairs.iter().position(|(n, _)| equal(n.as_bytes(), name.as_bytes()));
        }
        self.position(name).ok()
    }

    /// Where `name` is, or else where it belongs.
    fn position(&self, name: &str) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(n, _)| compare(n.as_bytes(), name.as_bytes()))
    }

    /// The value of `name`; "" where it is absent, as relabelling reads it.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.find(name).map_or("", |at| &self.pairs[at].1)
    }

    /// Whether there is a label `name`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Sets `name` to `value`; an empty value deletes the label.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        let (name, value) = (name.into(), value.into());
        match self.position(&name) {
            Ok(at) if value.is_empty() => drop(self.pairs.remove(at)),
            Ok(at) => self.pairs[at].1 = value,
            Err(_) if value.is_empty() => {}
            Err(at) => self.pairs.insert(at, (name, value)),
        }
    }

    /// As [`LabelsBuilder::set`] for each of these in turn, no value of which is empty. However many they are, the work does not grow with
    /// the square of their number.
    pub(crate) fn set_all(&mut self, others: Vec<(Cow<'a, str>, Cow<'a, str>)>) {
        if others.len() <= LINEAR_MAX {
            others.into_iter().for_each(|(name, value)| self.set(name, value));
            return;
        }
        self.pairs.extend(others);
        // That leaves equal names in their order, of which the last one counts.
        self.pairs.sort_by(|(one, _), (other, _)| compare(one.as_bytes(), other.as_bytes()));
        self.pairs.dedup_by(|later, first| {
            let is_same = later.0 == first.0;
            if is_same {
                first.1 = std::mem::take(&mut later.1);
            }
            is_same
        });
    }

    /// Sets `name` to `value`, which is not empty, and gives the value that it had.
    pub fn replace(&mut self, name: &'a str, value: &'a str) -> Option<Cow<'a, str>> {
        match self.position(name) {
            Ok(at) => Some(std::mem::replace(&mut self.pairs[at].1, value.into())),
            Err(at) => {
                self.pairs.insert(at, (name.into(), value.into()));
                None
            }
        }
    }

    /// Sets `name` to `value`, which is not empty, where there is no such label; tells whether there was none.
    pub fn add(&mut self, name: &'a str, value: &'a str) -> bool {
        let absent = self.position(name);
        if let Err(at) = absent {
            self.pairs.insert(at, (name.into(), value.into()));
        }
        absent.is_err()
    }

    /// As [`LabelsBuilder::set`], for a name that is borrowed for less long: it is copied only where the label is new.
    pub(crate) fn put(&mut self, name: &str, value: Cow<'a, str>) {
        match self.position(name) {
            Ok(at) if value.is_empty() => drop(self.pairs.remove(at)),
            Ok(at) => self.pairs[at].1 = value,
            Err(_) if value.is_empty() => {}
            Err(at) => self.pairs.insert(at, (Cow::Owned(name.to_owned()), value)),
        }
    }

    /// The value of `name` as it is held, so that a part of it can stay borrowed from where it came from.
    pub(crate) fn held(&self, name: &str) -> Option<&Cow<'a, str>> {
        self.find(name).map(|at| &self.pairs[at].1)
    }

    /// Names and values as they are held, in order of names.
    pub(crate) fn pairs(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        &self.pairs
    }

    /// Removes the label `name` where there is one.
    pub fn remove(&mut self, name: &str) {
        if let Some(at) = self.find(name) {
            self.pairs.remove(at);
        }
    }

    /// Keeps the labels of which `keep(name, value)` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        self.pairs.retain(|(name, value)| keep(name, value));
    }

    /// Names and values in order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (&**n, &**v))
    }

    /// The finished set.
    #[must_use]
    pub fn build(&self) -> Labels {
        Labels::from_pairs(self.iter())
    }
}

/// Bytes that a label name could have before UTF-8 names, digits included.
const NAME_BYTES: [bool; 256] = name_bytes(b"_");

/// The same of a metric name.
const METRIC_NAME_BYTES: [bool; 256] = name_bytes(b"_:");

/// Letters, digits and these.
const fn name_bytes(more: &[u8]) -> [bool; 256] {
    let mut bytes = [false; 256];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    at = 0;
    while at < more.len() {
        bytes[more[at] as usize] = true;
        at += 1;
    }
    bytes
}

/// Bytes of the label name at the beginning of `text`, as label names were before UTF-8 names:
/// `[a-zA-Z_][a-zA-Z0-9_]*`. 0: there is none.
#[must_use]
#[inline]
pub fn legacy_label_name_len(text: &[u8]) -> usize {
    if text.first().is_none_or(u8::is_ascii_digit) {
        return 0;
    }
    text.iter().position(|&byte| !NAME_BYTES[usize::from(byte)]).unwrap_or(text.len())
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`: a label name as it was before UTF-8 names.
#[must_use]
pub fn is_legacy_label_name(name: &str) -> bool {
    !name.is_empty() && legacy_label_name_len(name.as_bytes()) == name.len()
}

/// Whether a metric name can have all of these bytes. Without a way out within sixteen, those are looked at by vectors.
#[inline]
fn are_metric_name_bytes(bytes: &[u8]) -> bool {
    let are = |chunk: &[u8; 16]| {
        let good = |byte: u8| {
            let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
            // The colon is the next one after the digits.
            letter | (byte.wrapping_sub(b'0') < 11) | (byte == b'_')
        };
        chunk.iter().fold(true, |all, &byte| all & good(byte))
    };
    match bytes.last_chunk() {
        Some(last) => bytes.as_chunks().0.iter().all(are) && are(last),
        None => bytes.iter().all(|&byte| METRIC_NAME_BYTES[usize::from(byte)]),
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`: a metric name as it was before UTF-8 names.
#[must_use]
#[inline]
pub fn is_legacy_metric_name(name: &str) -> bool {
    name.as_bytes().first().is_some_and(|first| !first.is_ascii_digit())
        && are_metric_name_bytes(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_sorted_unique_and_never_empty() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
        assert_eq!(labels.to_string(), r#"{a="1", b="3"}"#);
        assert_eq!(labels.get("b"), Some("3"));
        assert_eq!(labels.get("c"), None);
    }

    #[test]
    fn an_empty_value_given_last_deletes_the_label() {
        assert!(Labels::from_pairs([("a", "1"), ("a", "")]).is_empty());
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order_given() {
        let one = Labels::from_pairs([("a", "1"), ("b", "2")]);
        let two = Labels::from_pairs([("b", "2"), ("a", "1")]);
        assert_eq!(one.hash64(), two.hash64());
        assert_ne!(one.hash64(), Labels::from_pairs([("a", "1b"), ("", "2")]).hash64());
    }

    #[test]
    fn json_round_trips() {
        let labels = Labels::from_pairs([("job", "a\"b"), ("ünï", "ö")]);
        let json = serde_json::to_string(&labels).unwrap();
        assert_eq!(serde_json::from_str::<Labels>(&json).unwrap(), labels);
    }

    #[test]
    fn a_builder_sets_reads_and_deletes() {
        let base = Labels::from_pairs([("a", "1"), ("z", "26")]);
        let mut builder = LabelsBuilder::from_labels(&base);
        builder.set("m", "13");
        builder.set("a", "");
        assert_eq!(builder.get("a"), "");
        assert_eq!(builder.get("m"), "13");
        assert_eq!(builder.build().to_string(), r#"{m="13", z="26"}"#);
    }

    #[test]
    fn a_builder_of_pairs_has_them_in_order_and_refuses_a_name_that_stands_there_twice() {
        let mut labels = LabelsBuilder::new();
        labels.set("before", "1");
        let mut refill = |pairs: &[(&'static str, &'static str)], order: Result<Order, ()>| {
            let listed = labels.refill(|list| {
                list.extend(pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())));
                order
            });
            listed.map(|unique| unique.then(|| labels.build().to_string())).map_err(|()| labels.len())
        };
        for (pairs, order) in [
            ([("b", "2"), ("a", "1"), ("c", "3")], Order::Any),
            ([("a", "1"), ("b", "2"), ("c", "3")], Order::Any),
            ([("a", "1"), ("b", "2"), ("c", "3")], Order::ByName),
        ] {
            assert_eq!(refill(&pairs, Ok(order)), Ok(Some(r#"{a="1", b="2", c="3"}"#.to_owned())));
        }
        assert_eq!(refill(&[("b", "2"), ("a", "1"), ("b", "2")], Ok(Order::Any)), Ok(None));
        assert_eq!(refill(&[("a", "1"), ("b", "2"), ("b", "3")], Ok(Order::Any)), Ok(None));
        assert_eq!(refill(&[("a", "1")], Err(())), Err(0));
    }

    #[test]
    fn room_that_is_spare_is_used_again_and_too_much_of_it_is_not_kept() {
        let mut spare = SpareLabels::default();
        let text = "x".to_owned();
        let mut labels = spare.take();
        labels.set(&*text, "1");
        let room = labels.pairs.as_ptr().addr();
        spare.keep(labels);
        drop(text);
        let mut labels = spare.take();
        assert_eq!((labels.len(), labels.pairs.as_ptr().addr()), (0, room));
        labels.pairs.reserve(SPARE_MAX + 1);
        spare.keep(labels);
        assert_eq!(spare.take().pairs.capacity(), 0);
    }

    #[test]
    fn a_builder_tells_what_was_there() {
        let mut builder = LabelsBuilder::new();
        assert!(builder.add("m", "1") && !builder.add("m", "2"));
        assert_eq!(builder.replace("m", "3").as_deref(), Some("1"));
        assert_eq!(builder.replace("a", "0"), None);
        assert_eq!(builder.build().to_string(), r#"{a="0", m="3"}"#);
    }

    #[test]
    fn names_as_they_were_before_utf8_are_told_from_others() {
        for (name, label, metric) in
            [("a_1", true, true), ("_", true, true), ("a:b", false, true), (":", false, true)]
        {
            assert_eq!((is_legacy_label_name(name), is_legacy_metric_name(name)), (label, metric), "{name}");
        }
        for name in ["", "1a", "a-b", "ä", "a b"] {
            assert!(!is_legacy_label_name(name) && !is_legacy_metric_name(name), "{name}");
        }
        assert_eq!(legacy_label_name_len(b"le=\"1\""), 2);
        assert_eq!(legacy_label_name_len(b"1le"), 0);
        for len in 16..50 {
            let name = "aZ_:09zA".repeat(7)[..len].to_owned();
            assert!(is_legacy_metric_name(&name), "{name}");
            for at in 0..len {
                for wrong in ["-", "/", ";", "@", "[", "`", "{", "\u{0}", "é"] {
                    let mut name = name.clone();
                    name.replace_range(at..=at, wrong);
                    assert!(!is_legacy_metric_name(&name), "{name}");
                }
            }
        }
    }

    #[test]
    fn names_in_utf8_are_printed_quoted() {
        assert_eq!(Labels::from_pairs([("my.name", "1")]).to_string(), r#"{"my.name"="1"}"#);
    }
}
