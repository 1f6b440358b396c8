//! RE2's dialect on Rust's regex engine: parsed as Go's `regexp/syntax` parses it, written out for `regex`.
//!
//! Both engines are relatives (linear time, leftmost-first, no lookaround, no backreferences), so what differs is
//! the surface. The tree between the two makes each flag explicit on the node that it rules, so that nothing
//! of the original text's scoping has to survive the way.
//!
//! | pattern | Go (RE2) | Rust's regex | here |
//! |---|---|---|---|
//! | `\d \w \s \b` | ASCII | Unicode | ASCII ranges, `(?-u:\b)` |
//! | `[[:space:]]` | with `\v`; `\s` is without it | `\s` has it too | Go's sets |
//! | `\Q…\E` | literal text | unknown | literals |
//! | `\pN`, `\p{Greek}`, `\p{^Greek}` | categories and scripts, written out in full | many more properties, short names | Go's names only |
//! | `a{1001}`, `(a{40}){40}` | refused, at most 1000 repeats | allowed | refused |
//! | `a**`, `a{2}{3}` | refused | allowed | refused |
//! | `a{,2}`, `a{`, `a{x}` | literal text | refused, or a repeat | literal text |
//! | `(?P<1a>…)`, a name given twice | allowed | refused | groups are numbered, names resolved here |
//! | `(?x)`, `(?u)`, `(?R)`, `(?-u)` | refused | flags | refused |
//! | `(?ii)`, `(?)` | allowed | refused | allowed |
//! | `[a[b]]`, `[a&&b]`, `[a--b]`, `[a~~b]` | `[` and the operators are literals | nested sets and set operations | literals |
//! | `\<`, `\>`, `\b{start}` | literal `<`, `>`; `\b` and text | word boundaries | as Go |
//! | `\101`, `\012` | octal escapes | refused | the character |
//! | `\x{D800}` | a character that no valid text has | refused | never matches |
//! | `\z`, `\A` | ends of the text | the same | the same |
//! | `\Z`, `\G`, `\C`, `\X`, `\R`, `\K`, `\h`, `\u0041` | refused | some are known | refused |
//! | `(?=a)`, `(?!a)`, `(?<=a)`, `(?<!a)`, `(?>a)`, `\1` | refused | refused | refused, with a hint |
//! | `$` | the end of the text only | the same | `\z` |
//! | nesting | 1000 levels | 250 by default | [`DEPTH_MAX`] |
//!
//! Two divergences stay. Go 1.25 and later refuse script names of two words (`\p{Old_Italic}`), older ones take
//! them; here they are taken. And the Unicode tables are those of the regex crate, which may be newer.

mod class;
mod emit;
mod parse;
mod unicode;

use std::sync::Arc;

/// Most bytes of a pattern. Prometheus has no such limit; an allowlist of 20,000 metric names stays below it.
pub(super) const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Most levels of nesting: groups and repeats. Go's limit is 1000; the regex crate's compiler recurses, and a thread's
/// stack of 2 MiB must bear it in a debug build too.
pub(super) const DEPTH_MAX: usize = 100;

/// Most times that nested counted repeats may repeat something, as in RE2.
const REPEAT_MAX: u32 = 1000;

/// Most ranges of one bracket expression; Go has no such limit.
const CLASS_RANGES_MAX: usize = 10_000;

/// A parsed regular expression.
#[derive(Debug)]
pub(super) struct Pattern {
    /// Its tree.
    pub(super) node: Node,
    /// The names of groups; a group's number is its index. 0 is the whole match, which has none.
    pub(super) groups: Arc<[Option<String>]>,
}

/// A regular expression. Flags are resolved: no node depends on what stands around it.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    /// Matches the empty text.
    Empty,
    /// One character; with `fold`, in any case.
    Literal { char: char, fold: bool },
    /// One character out of a set.
    Class(Class),
    /// Any character; `newline`: the newline too.
    Any { newline: bool },
    /// A condition on a position.
    Look(Look),
    /// A capturing group.
    Group { index: usize, node: Box<Node> },
    /// One after the other.
    Concat(Vec<Node>),
    /// The first of these that leads to a match.
    Alternate(Vec<Node>),
    /// `*`, `+`, `?` and, with `counted`, `{min,max}`.
    Repeat { min: u32, max: Option<u32>, greedy: bool, counted: bool, node: Box<Node> },
}

/// A condition on a position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Look {
    TextStart,
    TextEnd,
    LineStart,
    LineEnd,
    WordBoundary,
    NotWordBoundary,
}

/// A set of characters. With `fold`, each item is first widened by the other cases of its characters.
#[derive(Debug, PartialEq)]
pub(super) struct Class {
    pub(super) negated: bool,
    pub(super) fold: bool,
    pub(super) items: Vec<ClassItem>,
}

/// A part of a set of characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ClassItem {
    /// From the first to the second, both included.
    Range(char, char),
    /// A set with a name in the syntax, such as `\d` or `[:^alpha:]`.
    Table { ranges: &'static [(char, char)], negated: bool },
    /// A Unicode property, named as the regex crate names it (`gc=Lu`, `sc=Greek`).
    Property { name: String, negated: bool },
}

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error {
    /// In Go's words, with the fragment that is wrong.
    pub(super) message: String,
    /// What to write instead.
    pub(super) hint: Option<&'static str>,
}

impl Pattern {
    /// Parses `regex` as a relabelling rule has it: Prometheus pastes it into `^(?s:…)$` and parses the whole, so
    /// an unbalanced `a)|(b` means there, and here, what it then says.
    pub(super) fn anchored(regex: &str) -> Result<Self, Error> {
        parse::parse("^(?s:", regex, ")$")
    }

    /// The same pattern for the regex crate. Groups keep their numbers and lose their names.
    pub(super) fn to_rust(&self) -> String {
        emit::emit(&self.node)
    }

    /// What stands between the two anchors, where the whole is anchored: the match is then all of the text.
    pub(super) fn between_anchors(&self) -> Option<&[Node]> {
        match &self.node {
            Node::Concat(nodes) => match nodes.as_slice() {
                [Node::Look(Look::TextStart), inner @ .., Node::Look(Look::TextEnd)] => Some(inner),
                _ => None,
            },
            _ => None,
        }
    }
}
