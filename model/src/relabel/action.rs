//! What the actions do to a label set.
//!
//! Nothing is allocated for a rule that changes nothing: values are compared before they are copied, joined source
//! values and expanded templates lie in buffers that are used again, and a part of a borrowed value stays borrowed.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;
use std::ops::Range;

use md5::{Digest, Md5};

use super::casing::{lowercase, uppercase};
use super::expand::Template;
use super::matcher::{Captures, Matcher};
use super::rule::{Operation, Rule, is_valid_name};
use crate::labels::LabelsBuilder;

/// Most bytes of a value that rules make or look at. `$1$1`, applied often enough, would fill any memory; a rule whose
/// joined source values or result would be longer changes nothing and drops nothing.
pub(super) const VALUE_BYTES_MAX: usize = 16 << 20;

/// Most names that are kept for the next label set.
const KEPT_NAMES_MAX: usize = 1_024;

/// Up to so many names are looked for one by one.
const SEARCHED_MAX: usize = 32;

/// Most bytes of a buffer that is kept for the next label set.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Buffers that are used again from rule to rule and from label set to label set.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    joined: String,
    text: String,
    name: String,
    written: Written,
}

/// Names of the labels that were set so far, in order of their first setting; see [`Order`].
#[derive(Debug, Default)]
struct Written {
    /// The names, and behind them texts that are used again.
    names: Vec<String>,
    len: usize,
    /// Positions of labels in Prometheus's order.
    order: Vec<usize>,
    /// Of each label, whether it was set.
    marks: Vec<bool>,
}

impl Written {
    const fn new() -> Self {
        Self { names: Vec::new(), len: 0, order: Vec::new(), marks: Vec::new() }
    }

    fn clear(&mut self) {
        self.len = 0;
        // Names are short, and few; what was not is not kept.
        if self.names.len() > KEPT_NAMES_MAX || self.names.iter().any(|name| name.capacity() > KEPT_BYTES_MAX)
        {
            self.names = Vec::new();
        }
    }

    fn names(&self) -> &[String] {
        &self.names[..self.len]
    }

    /// A rule has set the label, or removed it.
    fn note(&mut self, name: &str, stays: bool) {
        match self.names().iter().position(|known| known == name) {
            Some(at) if !stays => {
                self.names[at..self.len].rotate_left(1);
                self.len -= 1;
            }
            None if stays => self.push(name),
            _ => {}
        }
    }

    /// A rule has set these labels, in this order.
    fn note_all(&mut self, names: &[String]) {
        if names.is_empty() {
            return;
        }
        let mut known: HashSet<&str> = self.names().iter().map(String::as_str).collect();
        let new: Vec<&String> = names.iter().filter(|name| known.insert(name)).collect();
        new.into_iter().for_each(|name| self.push(name));
    }

    fn push(&mut self, name: &str) {
        if self.len == self.names.len() {
            self.names.push(String::new());
        }
        let place = &mut self.names[self.len];
        place.clear();
        place.push_str(name);
        self.len += 1;
    }

    fn retain(&mut self, stays: impl Fn(&str) -> bool) {
        let mut kept = 0;
        for at in 0..self.len {
            if stays(&self.names[at]) {
                self.names.swap(kept, at);
                kept += 1;
            }
        }
        self.len = kept;
    }

    /// Works out the positions of labels in Prometheus's order: those that were set come last.
    fn arrange(&mut self, pairs: &[(Cow<'_, str>, Cow<'_, str>)]) {
        let Self { names, len, order, marks } = self;
        marks.clear();
        marks.resize(pairs.len(), false);
        order.clear();
        for name in &names[..*len] {
            if let Ok(at) = pairs.binary_search_by(|(known, _)| (**known).cmp(name.as_str())) {
                marks[at] = true;
                order.push(at);
            }
        }
        let set = order.len();
        order.extend((0..pairs.len()).filter(|&at| !marks[at]));
        order.rotate_left(set);
    }
}

impl Scratch {
    pub(super) const fn new() -> Self {
        Self { joined: String::new(), text: String::new(), name: String::new(), written: Written::new() }
    }

    /// Takes note of labels that were set before, each of them once, in this order; tells how many.
    pub(super) fn begin<'n>(&mut self, set: impl IntoIterator<Item = &'n str>) -> usize {
        set.into_iter().for_each(|name| self.written.push(name));
        self.written.len
    }

    /// Makes it ready for another label set.
    pub(super) fn clear(&mut self) {
        self.written.clear();
        for buffer in [&mut self.joined, &mut self.text, &mut self.name] {
            if buffer.capacity() > KEPT_BYTES_MAX {
                *buffer = String::new();
            }
        }
    }
}

/// Whether it must be known in which order labels were set.
///
/// Prometheus keeps what is set, by rules or before them, in a list behind the original labels, and `labelmap` goes through
/// both. Where two names map to one, the later wins. So the order matters, but only for a labelmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Tracked,
    Untracked,
}

/// Applies `rule`; false: it drops the set.
pub(super) fn apply(
    rule: &Rule,
    labels: &mut LabelsBuilder<'_>,
    scratch: &mut Scratch,
    order: Order,
) -> bool {
    let Scratch { joined, text, name, written } = scratch;
    let mut set = Set { labels, written: (order == Order::Tracked).then_some(written) };
    match &rule.operation {
        Operation::LabelDrop(matcher) => {
            set.retain(|name| !matcher.is_match(name));
            return true;
        }
        Operation::LabelKeep(matcher) => {
            set.retain(|name| matcher.is_match(name));
            return true;
        }
        Operation::LabelMap { matcher, replacement } => {
            label_map(matcher, replacement, &mut set, text);
            return true;
        }
        _ => {}
    }
    let Some(value) = join(rule, set.labels, joined) else { return true };
    text.clear();
    match &rule.operation {
        Operation::Keep(matcher) => return matcher.is_match(value),
        Operation::Drop(matcher) => return !matcher.is_match(value),
        Operation::KeepEqual { target } => return set.labels.get(target) == value,
        Operation::DropEqual { target } => return set.labels.get(target) != value,
        Operation::HashMod { target, modulus } => {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}", hash(value) % modulus);
            set.put_text(target, text);
        }
        Operation::Lowercase { target } => {
            lowercase(value, text);
            set.put_text(target, text);
        }
        Operation::Uppercase { target } => {
            uppercase(value, text);
            set.put_text(target, text);
        }
        Operation::Replace { matcher, target, replacement } => {
            let both = move |captures: Captures<'_>| {
                let (text, name) = (text, name);
                let name = expand_name(target, value, captures, name)?;
                is_valid_name(name, rule.names).then_some(())?;
                make(replacement, value, captures, text).map(|made| (name, made))
            };
            let made = if matcher.whole && !target.has_groups() && !replacement.has_groups() {
                // Nothing of the match is needed but that there is one.
                matcher.is_match(value).then(|| both(Captures::Known { spans: &[], len: value.len() }))
            } else {
                matcher.captures(value, both)
            };
            let Some(Some((name, made))) = made else { return true };
            match made {
                Made::Constant(text) | Made::Expanded(text) => set.put_text(name, text),
                Made::Part(range) if set.labels.get(name) == &value[range.clone()] => {
                    set.note(name, !range.is_empty());
                }
                Made::Part(range) => {
                    let part = match &*rule.sources {
                        [only] => set.labels.held(only).map_or(Cow::Borrowed(""), |held| part(held, range)),
                        _ => Cow::Owned(value[range].to_owned()),
                    };
                    set.put(name, part);
                }
            }
        }
        Operation::LabelDrop(_) | Operation::LabelKeep(_) | Operation::LabelMap { .. } => {}
    }
    true
}

/// What the rule reads: the values of its source labels, joined. None where it goes by label names, or where the
/// value would be too long to work with.
pub(super) fn input(rule: &Rule, labels: &LabelsBuilder<'_>) -> Option<String> {
    match rule.operation {
        Operation::LabelDrop(_) | Operation::LabelKeep(_) | Operation::LabelMap { .. } => None,
        _ => join(rule, labels, &mut String::new()).map(str::to_owned),
    }
}

fn join<'v>(rule: &Rule, labels: &'v LabelsBuilder<'_>, joined: &'v mut String) -> Option<&'v str> {
    match &*rule.sources {
        [] => Some(""),
        [only] => Some(labels.get(only)),
        [first, others @ ..] => {
            joined.clear();
            joined.push_str(labels.get(first));
            for source in others {
                joined.push_str(&rule.separator);
                joined.push_str(labels.get(source));
                if joined.len() > VALUE_BYTES_MAX {
                    return None;
                }
            }
            Some(joined)
        }
    }
}

/// The last eight bytes of the MD5, as Prometheus has always taken them.
fn hash(value: &str) -> u64 {
    let digest: [u8; 16] = Md5::digest(value.as_bytes()).into();
    let [.., a, b, c, d, e, f, g, h] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// What a template makes of a match.
enum Made<'t> {
    /// A part of the value that was matched.
    Part(Range<usize>),
    Constant(&'t str),
    Expanded(&'t str),
}

/// None: it would be too long.
fn make<'t>(
    template: &'t Template,
    value: &str,
    captures: Captures<'_>,
    text: &'t mut String,
) -> Option<Made<'t>> {
    if let Some(group) = template.single_group() {
        return Some(Made::Part(captures.get(group).unwrap_or(0..0)));
    }
    if let Some(constant) = template.constant() {
        return Some(Made::Constant(constant));
    }
    text.clear();
    template.expand(value, captures, VALUE_BYTES_MAX, text).then_some(Made::Expanded(text))
}

fn expand_name<'t>(
    target: &'t Template,
    value: &str,
    captures: Captures<'_>,
    name: &'t mut String,
) -> Option<&'t str> {
    if let Some(constant) = target.constant() {
        return Some(constant);
    }
    name.clear();
    target.expand(value, captures, VALUE_BYTES_MAX, name).then_some(name)
}

fn part<'a>(held: &Cow<'a, str>, range: Range<usize>) -> Cow<'a, str> {
    match held {
        Cow::Borrowed(text) => Cow::Borrowed(&text[range]),
        Cow::Owned(text) => Cow::Owned(text[range].to_owned()),
    }
}

/// Copies each label whose name matches to the name that `replacement` makes of it.
fn label_map(matcher: &Matcher, replacement: &Template, set: &mut Set<'_, '_>, text: &mut String) {
    let Set { labels, written } = set;
    let pairs = labels.pairs();
    // Most series have no such label, and then it matters in no way in which order labels were set.
    if !pairs.iter().any(|(name, _)| matcher.is_match(name)) {
        return;
    }
    let mut written = written.as_deref_mut();
    if let Some(written) = &mut written {
        written.arrange(pairs);
    }
    // What is set is set after all names were read: a label that this rule makes is not mapped again.
    let (mut mapped, mut names) = (Vec::new(), Vec::new());
    for at in 0..pairs.len() {
        let (name, value) = &pairs[written.as_ref().map_or(at, |written| written.order[at])];
        let made = if matcher.whole {
            matcher.captures(name, |captures| make(replacement, name, captures, text)).flatten()
        } else if matcher.is_match(name) {
            text.clear();
            matcher.replace_all(name, text, |captures, out| {
                replacement.expand(name, captures, VALUE_BYTES_MAX, out);
            });
            Some(Made::Expanded(text))
        } else {
            None
        };
        let Some(made) = made else { continue };
        let new: &str = match &made {
            Made::Part(range) => &name[range.clone()],
            Made::Constant(new) | Made::Expanded(new) => new,
        };
        // As long as nothing has changed, what is there already needs no setting. Later it does: it may have to win.
        let is_there = mapped.is_empty() && labels.get(new) == &**value;
        match &mut written {
            Some(written) if pairs.len() <= SEARCHED_MAX => written.note(new, true),
            Some(_) => names.push(new.to_owned()),
            None => {}
        }
        if is_there {
            continue;
        }
        let new = match made {
            Made::Part(range) => part(name, range),
            Made::Constant(new) | Made::Expanded(new) => Cow::Owned(new.to_owned()),
        };
        mapped.push((new, value.clone()));
    }
    if let Some(written) = written {
        written.note_all(&names);
    }
    labels.set_all(mapped);
}

/// The labels, and which of them were set.
struct Set<'s, 'a> {
    labels: &'s mut LabelsBuilder<'a>,
    /// None: nobody will ask.
    written: Option<&'s mut Written>,
}

impl<'a> Set<'_, 'a> {
    fn put_text(&mut self, name: &str, text: &str) {
        if self.labels.get(name) != text {
            self.labels.put(name, Cow::Owned(text.to_owned()));
        }
        self.note(name, !text.is_empty());
    }

    fn put(&mut self, name: &str, value: Cow<'a, str>) {
        let stays = !value.is_empty();
        self.labels.put(name, value);
        self.note(name, stays);
    }

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let before = self.labels.len();
        self.labels.retain(|name, _| keep(name));
        if self.labels.len() < before
            && let Some(written) = &mut self.written
        {
            written.retain(|name| self.labels.contains(name));
        }
    }

    /// A rule has set the label, or removed it.
    fn note(&mut self, name: &str, stays: bool) {
        if let Some(written) = &mut self.written {
            written.note(name, stays);
        }
    }
}
