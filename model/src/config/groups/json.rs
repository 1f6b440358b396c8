//! Target groups in JSON, as Go's reader takes them, with where each target stands.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::columns::{characters, in_characters};
use crate::labels::Labels;
use crate::target::ADDRESS;

/// What a list of target groups says.
pub(super) struct Groups<'t> {
    pub(super) groups: Vec<Group>,
    text: Cow<'t, str>,
    /// Where each line begins, but the first: bytes from the text's start.
    lines: Vec<usize>,
    /// The last byte that was asked for, and the characters before it in its line: the next most often stands in the same
    /// line, which may be the whole text.
    last: (usize, usize),
}

pub(super) struct Group {
    pub(super) labels: Labels,
    /// Each with the byte that it begins at.
    pub(super) targets: Vec<(Labels, usize)>,
}

/// What is wrong with JSON; line 0 for the whole.
pub(super) struct Problem {
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    pub(super) message: String,
}

impl<'t> Groups<'t> {
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn read(bytes: &'t [u8]) -> Result<Self, Problem> {
        // Go's reader takes bytes that are no UTF-8, too.
        let text = String::from_utf8_lossy(bytes);
        let groups: Option<Vec<Option<JsonGroup>>> =
            serde_json::from_str(&text).map_err(|error| Problem {
                line: error.line(),
                column: in_characters(text.as_bytes(), error.line(), error.column()),
                message: without_place(&error),
            })?;
        let begin = text.as_ptr().addr();
        let groups = groups.unwrap_or_default().into_iter().enumerate();
        Ok(Self {
            groups: groups.map(|(index, group)| Group::of(index, group, begin)).collect::<Result<_, _>>()?,
            lines: text.match_indices('\n').map(|(end, _)| end + 1).collect(),
            text,
            last: (0, 0),
        })
    }

    /// Line and column (in characters) of a byte, both from 1.
    pub(super) fn place(&mut self, byte: usize) -> (usize, usize) {
        let before = self.lines.partition_point(|begin| *begin <= byte);
        let begin = before.checked_sub(1).map_or(0, |last| self.lines[last]);
        let (from, counted) = if (begin..=byte).contains(&self.last.0) { self.last } else { (begin, 0) };
        let column = counted + characters(self.text.as_bytes().get(from..byte).unwrap_or_default());
        self.last = (byte, column);
        (before + 1, column + 1)
    }
}

impl Group {
    fn of(index: usize, group: Option<JsonGroup>, begin: usize) -> Result<Self, Problem> {
        let fail = |message| Problem { line: 0, column: 0, message };
        let JsonGroup { targets, labels } =
            group.ok_or_else(|| fail(format!("the group {index} is null")))?;
        let labels = labels.unwrap_or_default();
        if labels.contains_key("") {
            return Err(fail(format!("the group {index} has a label without a name")));
        }
        let labels = labels.iter().map(|(name, value)| (name, value.as_deref().unwrap_or_default()));
        let target =
            |text: &Text| (Labels::from_pairs([(ADDRESS, &text.text)]), text.address.saturating_sub(begin));
        Ok(Self {
            labels: Labels::from_pairs(labels),
            targets: targets.as_slice().iter().map(target).collect(),
        })
    }
}

/// What serde_json says, but for the place, which it tells apart.
fn without_place(error: &serde_json::Error) -> String {
    error.to_string().split(" at line ").next().unwrap_or_default().to_owned()
}

/// A group as Go's reader takes it: keys in any case, and the last one counts where one is there twice.
#[derive(Default)]
struct JsonGroup {
    targets: Texts,
    labels: Option<BTreeMap<String, Option<String>>>,
}

/// A list of texts into which Go's reader reads: a list that comes again is put over the one before, and null leaves what was
/// there, or is empty where nothing was.
#[derive(Default)]
struct Texts {
    held: Vec<Text>,
    len: usize,
}

/// A text of a list, and the address in memory of where it was read from.
#[derive(Clone, Default)]
struct Text {
    text: String,
    address: usize,
}

/// A text or null.
struct Item {
    text: Option<String>,
    address: usize,
}

impl Texts {
    fn as_slice(&self) -> &[Text] {
        &self.held[..self.len]
    }

    fn put(&mut self, list: Option<Vec<Item>>) {
        let list = list.unwrap_or_default();
        self.len = list.len();
        if list.is_empty() {
            self.held.clear();
        }
        if self.held.len() < list.len() {
            self.held.resize_with(list.len(), Text::default);
        }
        for (held, Item { text, address }) in self.held.iter_mut().zip(list) {
            held.address = address;
            if let Some(text) = text {
                held.text = text;
            }
        }
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let text = serde_json::from_str(raw).map_err(|error| D::Error::custom(without_place(&error)))?;
        Ok(Self { text, address: raw.as_ptr().addr() })
    }
}

impl<'de> Deserialize<'de> for JsonGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(GroupVisitor)
    }
}

struct GroupVisitor;

impl<'de> Visitor<'de> for GroupVisitor {
    type Value = JsonGroup;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a target group")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonGroup, A::Error> {
        let mut group = JsonGroup::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if names(&key, "targets") {
                group.targets.put(map.next_value()?);
            } else if names(&key, "labels") {
                group.labels = map.next_value()?;
            } else {
                return Err(A::Error::unknown_field(&key, &["targets", "labels"]));
            }
        }
        Ok(group)
    }
}

/// Whether a key stands for a field as Go compares them: in any case, and the long s (ſ) is one more of the letter's.
fn names(key: &str, field: &str) -> bool {
    key.replace('\u{17f}', "s").eq_ignore_ascii_case(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_stands_where_its_character_does() {
        let place = |text: &str| {
            let problem = Groups::read(text.as_bytes()).err().expect("a mistake");
            (problem.line, problem.column)
        };
        assert_eq!(place("[{\"targets\": [\"ae\" x]}]"), (1, 20));
        assert_eq!(place("[{\"targets\": [\"äé\" x]}]"), (1, 20));
        assert_eq!(place("[{\"targets\":\n [\"\u{1f600}\",\n \"é\": 1]}]"), (3, 5));
    }

    #[test]
    fn a_target_stands_where_its_text_begins() {
        let text = "[{\"targets\": [\"a\",\n  \"b\", null]},\n{\"targets\": [\"ä\", \"c\"]}]";
        let mut read = Groups::read(text.as_bytes()).unwrap_or_else(|problem| panic!("{}", problem.message));
        let groups = std::mem::take(&mut read.groups);
        let places: Vec<_> = groups
            .iter()
            .flat_map(|group| &group.targets)
            .map(|(labels, byte)| (labels.get(ADDRESS).unwrap_or(""), read.place(*byte)))
            .collect();
        assert_eq!(places, [("a", (1, 15)), ("b", (2, 3)), ("", (2, 8)), ("ä", (3, 14)), ("c", (3, 19))]);
    }
}
