//! Label sets as discovery keeps them: the names once for all sets that have the same ones, the values in one block.
//!
//! A cluster has a hundred thousand pods and a few hundred different sets of label names; a pod's names are three
//! times as long as its values. Kept this way a set costs its values, a byte for each, and sixteen bytes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use promring_model::hash::FieldHasher;
use promring_model::labels::Labels;

/// Names of labels in order. Sets with the same names share one.
#[derive(PartialEq, Eq, Debug)]
struct Shape(Box<[Name]>);

#[derive(PartialEq, Eq, Debug)]
struct Name {
    text: Box<str>,
    /// Its value is [`PRESENT`] and is not kept: a third of a pod's labels say that another one is there.
    is_presence: bool,
}

/// The value of labels such as `__meta_kubernetes_pod_labelpresent_app`.
const PRESENT: &str = "true";

fn is_presence(name: &str, value: &str) -> bool {
    value == PRESENT && name.contains("present_")
}

/// Sorted labels, names unique, no empty value: as [`Labels`], but smaller and slower to look into.
#[derive(Clone)]
pub struct Packed {
    shape: Arc<Shape>,
    /// For each name the length of its value (LEB128) and the value.
    values: Box<[u8]>,
}

impl Packed {
    /// The set of these pairs, with the rules of [`Labels::from_pairs`]: any order, the last of a name wins, empty values
    /// are left out.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        // Stable, so that the last of equal names is the one given last.
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        let mut names = Vec::with_capacity(pairs.len());
        let mut values = Vec::with_capacity(pairs.iter().map(|(_, value)| value.as_ref().len() + 2).sum());
        for (at, (name, value)) in pairs.iter().enumerate() {
            let (name, value) = (name.as_ref(), value.as_ref());
            let overridden = pairs.get(at + 1).is_some_and(|next| next.0.as_ref() == name);
            if overridden || value.is_empty() {
                continue;
            }
            let is_presence = is_presence(name, value);
            names.push((name, is_presence));
            if !is_presence {
                write_length(&mut values, value.len());
                values.extend_from_slice(value.as_bytes());
            }
        }
        Self { shape: SHAPES.get(&names), values: values.into_boxed_slice() }
    }

    /// Names and values in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &*self.values;
        self.shape.0.iter().map(move |name| {
            let value = if name.is_presence { PRESENT } else { read_value(&mut rest) };
            (&*name.text, value)
        })
    }

    /// The same labels for those who look into them often.
    #[must_use]
    pub fn to_labels(&self) -> Labels {
        Labels::from_pairs(self.iter())
    }

    /// The value of `name`, if it is there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.shape.0.binary_search_by(|known| (*known.text).cmp(name)).ok()?;
        self.iter().nth(at).map(|(_, value)| value)
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shape.0.is_empty()
    }
}

impl From<&Labels> for Packed {
    fn from(labels: &Labels) -> Self {
        Self::from_pairs(labels.iter())
    }
}

impl Default for Packed {
    fn default() -> Self {
        Self::from_pairs([("", ""); 0])
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values && (Arc::ptr_eq(&self.shape, &other.shape) || self.shape == other.shape)
    }
}

impl Eq for Packed {}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn write_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// Takes one value off the block, which [`Packed::from_pairs`] wrote.
fn read_value<'a>(rest: &mut &'a [u8]) -> &'a str {
    let mut length = 0;
    for shift in (0..usize::BITS).step_by(7) {
        let Some((&byte, after)) = rest.split_first() else { break };
        *rest = after;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    let (value, after) = rest.split_at(length.min(rest.len()));
    *rest = after;
    std::str::from_utf8(value).unwrap_or_default()
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(Shapes::default);

/// Shapes are looked through for unused ones when there are twice as many as after the last look, and at least so many.
const SHAPES_SWEPT_MIN: usize = 1_024;

/// All shapes in use, by the hash of their names. One table for the process: sets of equal names come from different
/// jobs, sources and kinds of objects.
#[derive(Default)]
struct Shapes(Mutex<Table>);

#[derive(Default)]
struct Table {
    by_hash: HashMap<u64, Arc<Shape>>,
    sweep_at: usize,
}

impl Shapes {
    fn get(&self, names: &[(&str, bool)]) -> Arc<Shape> {
        let mut hasher = FieldHasher::new();
        for (name, is_presence) in names {
            hasher.field(name.as_bytes());
            hasher.field(&[u8::from(*is_presence)]);
        }
        let hash = hasher.finish64();
        let same = |shape: &Shape| {
            let pairs = shape.0.iter().map(|name| (&*name.text, name.is_presence));
            pairs.eq(names.iter().copied())
        };
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shape) = table.by_hash.get(&hash).filter(|shape| same(shape)) {
            return Arc::clone(shape);
        }
        let name = |&(text, is_presence): &(&str, bool)| Name { text: Box::from(text), is_presence };
        let shape = Arc::new(Shape(names.iter().map(name).collect()));
        // Of two shapes with one hash, which never happens, the older is no longer shared.
        table.by_hash.insert(hash, Arc::clone(&shape));
        if table.by_hash.len() > table.sweep_at.max(SHAPES_SWEPT_MIN) {
            table.by_hash.retain(|_, shape| Arc::strong_count(shape) > 1);
            table.sweep_at = table.by_hash.len() * 2;
        }
        shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_set_reads_as_the_labels_that_it_was_made_of() {
        let long = "x".repeat(20_000);
        let labels = Labels::from_pairs([("b", "2"), ("a", ""), ("c", &long), ("b", "3"), ("ünï", "ö")]);
        let packed = Packed::from_pairs([("b", "2"), ("a", ""), ("c", &long), ("b", "3"), ("ünï", "ö")]);
        assert_eq!(packed.iter().collect::<Labels>(), labels);
        assert_eq!(packed, Packed::from(&labels));
        assert_eq!((packed.get("b"), packed.get("a"), packed.len()), (Some("3"), None, 3));
        assert!(Packed::default().is_empty());
    }

    #[test]
    fn labels_that_say_that_another_one_is_there_cost_nothing() {
        let pairs = [("annotation_a", "true"), ("annotationpresent_a", "true"), ("labelpresent_b", "yes")];
        let packed = Packed::from_pairs(pairs);
        assert!(packed.iter().eq(pairs));
        assert_eq!(packed.values.len(), "true".len() + 1 + "yes".len() + 1);
        assert_eq!(packed.get("annotationpresent_a"), Some("true"));
        let absent = Packed::from_pairs([pairs[0], ("annotationpresent_a", "no"), pairs[2]]);
        assert_eq!((absent.get("annotationpresent_a"), absent == packed), (Some("no"), false));
    }

    #[test]
    fn sets_of_equal_names_share_them_and_differ_by_value() {
        let one = Packed::from_pairs([("share_a", "1"), ("share_b", "2")]);
        let two = Packed::from_pairs([("share_b", "3"), ("share_a", "1")]);
        assert!(Arc::ptr_eq(&one.shape, &two.shape));
        assert_ne!(one, two);
        assert_ne!(one, Packed::from_pairs([("share_a", "1"), ("share_c", "2")]), "same values, other names");
    }

    #[test]
    fn names_that_nobody_uses_any_more_are_forgotten() {
        let shapes = Shapes::default();
        let kept = shapes.get(&[("kept", false)]);
        for n in 0..10 * SHAPES_SWEPT_MIN {
            shapes.get(&[(&format!("name_{n}"), false)]);
        }
        assert!(shapes.0.lock().unwrap().by_hash.len() <= 2 * SHAPES_SWEPT_MIN);
        assert!(Arc::ptr_eq(&kept, &shapes.get(&[("kept", false)])));
    }
}
