//! Templates with `$1`, `${1}`, `$name`, `${name}` and `$$`, read as Go's `Regexp.Expand` reads them.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use regex::Regex;

use super::matcher::Captures;

/// A longer text is no template: its places take fifty times what they are written in.
pub(super) const TEMPLATE_BYTES_MAX: usize = 1 << 20;

/// A text with places for what groups caught.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template {
    parts: Box<[Part]>,
    /// A name of a group that the pattern does not have, as it was written, for remarks.
    pub(super) unknown: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Box<str>),
    Group(usize),
    /// A name that several groups share: the first that took part in the match. All places of a name share the list.
    FirstOf(Arc<[usize]>),
}

/// The longest name: Unicode letters and decimal digits, and `_`.
static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{L}\p{Nd}_]+").ok());

impl Template {
    /// Reads `text`. `groups` has the names of the pattern's groups, by their numbers. A group that the pattern
    /// does not have gives nothing, a `$` that begins no name stands for itself.
    pub(super) fn new(text: &str, groups: &[Option<String>]) -> Self {
        let by_name = LazyCell::new(|| groups_by_name(groups));
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut unknown = None;
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let Some((name, len)) = name(after) else {
                literal.push('$');
                rest = after;
                continue;
            };
            rest = &after[len..];
            let part = match number(name) {
                Some(number) => (number < groups.len()).then_some(Part::Group(number)),
                None => by_name.get(name).map(|found| match **found {
                    [only] => Part::Group(only),
                    _ => Part::FirstOf(Arc::clone(found)),
                }),
            };
            let Some(part) = part else {
                unknown.get_or_insert_with(|| name.to_owned());
                continue;
            };
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into_boxed_str()));
            }
            parts.push(part);
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into_boxed_str()));
        }
        Self { parts: parts.into_boxed_slice(), unknown }
    }

    /// Bytes that it takes, but for what several places share.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.len(),
            Part::Group(_) | Part::FirstOf(_) => 0,
        });
        size_of_val(&*self.parts) + texts.sum::<usize>()
    }

    /// The text, where no group has a place in it.
    pub(super) fn constant(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The group that is all of it.
    pub(super) fn single_group(&self) -> Option<usize> {
        match &*self.parts {
            [Part::Group(group)] => Some(*group),
            _ => None,
        }
    }

    /// Whether it needs more of a match than that there is one.
    pub(super) fn has_groups(&self) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Text(_) | Part::Group(0) => false,
            Part::Group(_) | Part::FirstOf(_) => true,
        })
    }

    /// Appends the text with what the groups caught in `value`. False, and nothing appended, where `out` would
    /// have more than `bytes_max` bytes then.
    pub(super) fn expand(
        &self,
        value: &str,
        captures: Captures<'_>,
        bytes_max: usize,
        out: &mut String,
    ) -> bool {
        let text = |part: &'_ Part| match part {
            Part::Text(_) => None,
            Part::Group(group) => captures.get(*group),
            Part::FirstOf(groups) => groups.iter().find_map(|group| captures.get(*group)),
        };
        let start = out.len();
        for part in &self.parts {
            let piece = match part {
                Part::Text(literal) => literal,
                group => text(group).map_or("", |range| &value[range]),
            };
            if out.len() + piece.len() > bytes_max {
                out.truncate(start);
                return false;
            }
            out.push_str(piece);
        }
        true
    }
}

/// Which groups have a name, each by its number. A pattern may have ten thousands of them, and a template as many places.
fn groups_by_name(groups: &[Option<String>]) -> HashMap<&str, Arc<[usize]>> {
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, name) in groups.iter().enumerate() {
        if let Some(name) = name {
            by_name.entry(name).or_default().push(at);
        }
    }
    by_name.into_iter().map(|(name, found)| (name, found.into())).collect()
}

/// The name at the start of `text`, in braces or without, and how long it is with them.
fn name(text: &str) -> Option<(&str, usize)> {
    let braced = text.strip_prefix('{');
    let name = NAME.as_ref()?.find(braced.unwrap_or(text))?.as_str();
    match braced {
        None => Some((name, name.len())),
        Some(braced) => braced[name.len()..].starts_with('}').then_some((name, name.len() + 2)),
    }
}

/// A group's number: decimal, without leading zeros, of nine digits at most. Anything else is a name.
fn number(name: &str) -> Option<usize> {
    let plain = name.len() <= 9 && name.bytes().all(|b| b.is_ascii_digit());
    name.parse().ok().filter(|_| plain && (name == "0" || !name.starts_with('0')))
}

#[cfg(test)]
mod tests {
    use regex_automata::PatternID;
    use regex_automata::meta::Regex as Meta;

    use super::*;

    fn expand(template: &str, pattern: &str, value: &str) -> String {
        let regex = Meta::new(pattern).expect("a pattern");
        let mut found = regex.create_captures();
        let names = found.group_info().pattern_names(PatternID::ZERO);
        let groups: Vec<_> = names.map(|name| name.map(str::to_owned)).collect();
        regex.captures(value, &mut found);
        let mut out = String::new();
        assert!(Template::new(template, &groups).expand(value, Captures::Engine(&found), 1000, &mut out));
        out
    }

    #[test]
    fn a_template_reads_as_in_go() {
        for (template, want) in [
            ("$1", "ab"),
            ("${1}", "ab"),
            ("$0", "ab:12"),
            ("$1_x", ""),
            ("${1}_x", "ab_x"),
            ("$port/$1", "12/ab"),
            ("$$1", "$1"),
            ("$$$1", "$ab"),
            ("$", "$"),
            ("a$", "a$"),
            ("$-1", "$-1"),
            ("${1", "${1"),
            ("${", "${"),
            ("${}", "${}"),
            ("${1 }", "${1 }"),
            ("$3", ""),
            ("x$99999999999999999999y", "x"),
            ("$01", ""),
            ("$none.", "."),
            ("$1é", ""),
            ("${1}é", "abé"),
            ("$1-$2", "ab-12"),
            ("$1٣", ""),
            ("", ""),
        ] {
            assert_eq!(expand(template, "^([a-z]+):(?P<port>[0-9]+)$", "ab:12"), want, "{template}");
        }
    }

    #[test]
    fn many_places_of_many_groups_cost_what_they_are_long() {
        let groups: Vec<_> =
            [None].into_iter().chain((0..200_000).map(|at| Some(format!("g{}", at % 100_000)))).collect();
        let text: String = (0..200_000).map(|at| format!("${{g{at}}}$g7.")).collect();
        let template = Template::new(&text, &groups);
        assert_eq!(template.unknown.as_deref(), Some("g100000"));
        let lists: Vec<_> = template.parts.iter().filter(|part| matches!(part, Part::FirstOf(_))).collect();
        assert_eq!(lists.len(), 300_000);
        let (Part::FirstOf(one), Part::FirstOf(other)) = (lists[1], lists[3]) else { unreachable!() };
        assert!(Arc::ptr_eq(one, other) && **one == [8, 100_008]);
    }

    #[test]
    fn what_would_grow_beyond_the_limit_is_not_written() {
        let mut out = "x".to_owned();
        let captures = Captures::Known { spans: &[], len: 5 };
        assert!(!Template::new("$0$0", &[None]).expand("12345", captures, 10, &mut out));
        assert_eq!(out, "x");
    }
}
