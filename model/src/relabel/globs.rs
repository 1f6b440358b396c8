//! Literals with gaps between them, such as `node_.*` and `.*_bucket`, and sets of such.

use super::matcher::held_bytes;
use super::shape::{Alternative, Gap};
use crate::bytes::{ends_with, starts_with};

/// Most of a set; with more of them the engine is faster.
const GLOBS_MAX: usize = 256;

/// Literals with gaps between them.
#[derive(Debug)]
pub(super) struct Glob {
    prefix: Box<str>,
    /// A gap, and the literal after it.
    inner: Box<[(Gap, Box<str>)]>,
    last: Gap,
    suffix: Box<str>,
}

/// Globs, of which only those are tried that begin as the text does.
#[derive(Debug)]
pub(super) struct GlobSet {
    /// Those that may begin with anything, then the others in the order of their first bytes.
    globs: Box<[Glob]>,
    /// For each byte, where those that begin with it lie.
    ranges: Box<[(u16, u16)]>,
    /// How many may begin with anything.
    anywhere: usize,
}

impl GlobSet {
    /// None: they are too many.
    pub(super) fn new(globs: impl Iterator<Item = Glob>) -> Option<Self> {
        let mut globs: Vec<Glob> = globs.take(GLOBS_MAX + 1).collect();
        if globs.len() > GLOBS_MAX {
            return None;
        }
        let first = |glob: &Glob| glob.prefix.bytes().next();
        globs.sort_by_key(first);
        let place = |found: usize| u16::try_from(found).unwrap_or(u16::MAX);
        let range = |byte: u8| {
            let from = globs.partition_point(|glob| first(glob) < Some(byte));
            let to = globs.partition_point(|glob| first(glob) <= Some(byte));
            (place(from), place(to))
        };
        let ranges = if globs.is_empty() { Box::default() } else { (0..=u8::MAX).map(range).collect() };
        let anywhere = globs.partition_point(|glob| glob.prefix.is_empty());
        Some(Self { globs: globs.into_boxed_slice(), ranges, anywhere })
    }

    /// Bytes beside its own size.
    pub(super) fn held_bytes(&self) -> usize {
        let globs: usize = self.globs.iter().map(Glob::held_bytes).sum();
        held_bytes(&*self.globs) + globs + held_bytes(&*self.ranges)
    }

    /// Whether one of them is the whole text.
    pub(super) fn is_match(&self, text: &str) -> bool {
        let as_it_begins = text.bytes().next().and_then(|byte| self.ranges.get(usize::from(byte)));
        as_it_begins
            .and_then(|&(from, to)| self.globs.get(usize::from(from)..usize::from(to)))
            .is_some_and(|globs| globs.iter().any(|glob| glob.is_match(text)))
            || self.globs[..self.anywhere].iter().any(|glob| glob.is_match(text))
    }
}

impl Glob {
    /// None: it has no gap.
    pub(super) fn new(alternative: &Alternative) -> Option<Self> {
        let (last, gaps) = alternative.gaps.split_last()?;
        let [prefix, inner @ .., suffix] = alternative.literals.as_slice() else { return None };
        Some(Self {
            prefix: prefix.as_str().into(),
            inner: gaps.iter().copied().zip(inner.iter().map(|literal| literal.as_str().into())).collect(),
            last: *last,
            suffix: suffix.as_str().into(),
        })
    }

    /// Bytes beside its own size.
    pub(super) fn held_bytes(&self) -> usize {
        let inner: usize = self.inner.iter().map(|(_, literal)| held_bytes(&**literal)).sum();
        held_bytes(&*self.prefix) + held_bytes(&*self.inner) + inner + held_bytes(&*self.suffix)
    }

    /// Whether it is the whole text.
    pub(super) fn is_match(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        if bytes.len() < self.prefix.len() + self.suffix.len()
            || !starts_with(bytes, self.prefix.as_bytes())
            || !ends_with(bytes, self.suffix.as_bytes())
        {
            return false;
        }
        let mut rest = &text[self.prefix.len()..text.len() - self.suffix.len()];
        // Taking the first place for each literal leaves the most for the ones after it.
        for (gap, literal) in &self.inner {
            let from = match gap {
                Gap::Any => 0,
                Gap::NotEmpty => rest.chars().next().map_or(0, char::len_utf8),
            };
            if *gap == Gap::NotEmpty && from == 0 {
                return false;
            }
            let Some(found) = rest[from..].find(&**literal) else { return false };
            rest = &rest[from + found + literal.len()..];
        }
        self.last == Gap::Any || !rest.is_empty()
    }
}
