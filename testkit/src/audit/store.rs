//! Which series there are: found by a 64-bit hash of their encoded labels, with the labels kept in little space.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use promring_model::hash::{FieldHasher, hash64};
use promring_model::labels::Labels;
use promring_proto::remote_write::v1::encode_labels;

/// Series by number, in the order that they became known.
///
/// Label pairs repeat a lot (an instance has a thousand series), so each pair is kept once and a series is a list
/// of numbers of pairs: some 40 bytes instead of 250. Two series whose hashes collide would be taken for one: with
/// a million series the chance is 3 in 10^8.
#[derive(Debug, Default)]
pub(super) struct Store {
    by_hash: HashMap<u64, u32, BuildHasherDefault<Passthrough>>,
    pairs: Vec<Pair>,
    pair_by_hash: HashMap<u64, u32, BuildHasherDefault<Passthrough>>,
    /// Pairs of all series, one series after the other.
    refs: Vec<u32>,
    /// Where in `refs` each series ends.
    ends: Vec<u32>,
}

#[derive(Debug)]
struct Pair {
    text: Box<str>,
    name_len: u32,
}

/// Takes a hash for its own hash.
#[derive(Default)]
pub(super) struct Passthrough(u64);

impl Hasher for Passthrough {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash64(bytes);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

impl Store {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The series with these encoded labels.
    pub(super) fn find(&self, encoded: &[u8]) -> Option<u32> {
        self.by_hash.get(&hash64(encoded)).copied()
    }

    /// The series with these labels.
    pub(super) fn find_labels(&self, labels: &Labels) -> Option<u32> {
        let mut encoded = Vec::new();
        encode_labels(labels.iter(), &mut encoded);
        self.find(&encoded)
    }

    /// Adds a series; the pairs are sorted by name, and `encoded` is what encoding gives of them.
    pub(super) fn insert<'l>(
        &mut self,
        encoded: &[u8],
        pairs: impl Iterator<Item = (&'l str, &'l str)>,
    ) -> u32 {
        let number = self.ends.len() as u32;
        for (name, value) in pairs {
            let pair = self.pair(name, value);
            self.refs.push(pair);
        }
        self.ends.push(self.refs.len() as u32);
        self.by_hash.insert(hash64(encoded), number);
        number
    }

    fn pair(&mut self, name: &str, value: &str) -> u32 {
        let hash = FieldHasher::new().field(name.as_bytes()).field(value.as_bytes()).finish64();
        *self.pair_by_hash.entry(hash).or_insert_with(|| {
            let text = format!("{name}{value}").into_boxed_str();
            self.pairs.push(Pair { text, name_len: name.len() as u32 });
            (self.pairs.len() - 1) as u32
        })
    }

    fn pairs_of(&self, series: u32) -> impl Iterator<Item = (&str, &str)> {
        let at = series as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        self.refs[start..self.ends[at] as usize].iter().map(|&pair| {
            let Pair { text, name_len } = &self.pairs[pair as usize];
            text.split_at(*name_len as usize)
        })
    }

    /// The labels of a series.
    pub(super) fn labels(&self, series: u32) -> Labels {
        Labels::from_pairs(self.pairs_of(series))
    }

    /// The value of one label of a series.
    pub(super) fn label(&self, series: u32, name: &str) -> Option<&str> {
        self.pairs_of(series).find(|(pair, _)| *pair == name).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_again_with_their_labels() {
        let mut store = Store::default();
        let sets: Vec<Labels> = (0..50)
            .map(|n| {
                Labels::from_pairs([
                    ("__name__", "m".to_owned()),
                    ("a", format!("{}", n % 7)),
                    ("b", format!("{n}")),
                ])
            })
            .collect();
        for labels in &sets {
            let mut encoded = Vec::new();
            encode_labels(labels.iter(), &mut encoded);
            assert_eq!(store.find(&encoded), None);
            store.insert(&encoded, labels.iter());
        }
        for (number, labels) in (0..).zip(&sets) {
            assert_eq!(store.find_labels(labels), Some(number));
            assert_eq!(&store.labels(number), labels);
            assert_eq!(store.label(number, "b"), labels.get("b"));
        }
        assert_eq!(store.pairs.len(), 1 + 7 + 50, "every pair is kept once");
    }
}
