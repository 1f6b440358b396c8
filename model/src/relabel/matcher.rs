//! Matching: by comparing bytes where the pattern's shape allows it, by the regex engine elsewhere.

use std::fmt::Display;
use std::ops::Range;
use std::sync::Mutex;

use regex_automata::meta::{BuildError, Config, Regex};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::captures::Captures as Found;
use regex_automata::{Input, util::syntax};

use super::globs::{Glob, GlobSet};
use super::literals::LiteralSet;
use super::re2::{DEPTH_MAX, Error, Pattern};
use super::shape::{Alternative, Gap, Shape, Span};
use crate::bytes::equal;

/// Most bytes of a compiled pattern.
pub(super) const COMPILED_BYTES_MAX: usize = 8 << 20;

/// Most bytes of a pattern for the engine, and most Unicode classes in it: its tree takes some kilobytes for each of
/// them, and that is outside of the limit for what is compiled.
const ENGINE_PATTERN_BYTES_MAX: usize = 512 << 10;
const UNICODE_CLASSES_MAX: usize = 2000;

/// What an engine takes beside what it tells itself: its handle, and its pool of caches, empty.
const ENGINE_BYTES: usize = 4 << 10;

/// Most bytes that an engine may take for what groups catch: to read a long text it keeps the places of all groups, twice, for each
/// state of its program. A thousand groups in a thousand states take 32 MB.
const CAUGHT_BYTES_MAX: usize = 32 << 20;

/// What an allocation takes beside its content.
const ALLOCATION_BYTES: usize = 16;

/// Bytes of a value that has an allocation of its own.
pub(super) fn held_bytes<T: ?Sized>(content: &T) -> usize {
    size_of_val(content) + ALLOCATION_BYTES
}

/// A compiled pattern.
#[derive(Debug)]
pub(super) struct Matcher {
    test: Test,
    /// Where the groups lie, for each alternative; None: ask the engine.
    spans: Option<Box<[Box<[Span]>]>>,
    engine: Option<Engine>,
    /// A match is always the whole text.
    pub(super) whole: bool,
}

/// How a text is tested.
#[derive(Debug)]
enum Test {
    /// `.*`
    Always,
    /// `.+`
    NotEmpty,
    /// One literal.
    Literal(Box<str>),
    /// One alternative with a gap.
    Glob(Glob),
    /// Several alternatives.
    Several { literals: LiteralSet, globs: GlobSet },
    /// None of these.
    Engine,
}

/// How a matcher may be compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paths {
    /// Without the engine where that is possible.
    Fast,
    /// With the engine alone: what the fast paths are measured and tested against.
    EngineOnly,
}

impl Matcher {
    /// Compiles `pattern`. `groups`: what its groups catch will be asked for.
    pub(super) fn compile(pattern: &Pattern, groups: bool, paths: Paths) -> Result<Self, Error> {
        let shape = Shape::of(pattern).filter(|_| paths == Paths::Fast);
        let mut matcher = Self {
            test: Test::Engine,
            spans: None,
            engine: None,
            whole: pattern.between_anchors().is_some(),
        };
        if let Some(shape) = shape {
            let spans_known = shape.spans_known;
            let (test, spans) = Test::new(shape.alternatives);
            matcher.test = test;
            matcher.spans = (groups && spans_known).then_some(spans);
        }
        if matches!(matcher.test, Test::Engine) || (groups && matcher.spans.is_none()) {
            matcher.engine = Some(Engine::compile(pattern, groups)?);
        }
        Ok(matcher)
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        let spans =
            self.spans.iter().flatten().map(|spans| size_of_val(spans) + held_bytes(&**spans)).sum::<usize>();
        let engine = self
            .engine
            .as_ref()
            .map_or(0, |engine| ENGINE_BYTES + engine.regex.memory_usage() + engine.caught_bytes);
        size_of::<Self>() + ALLOCATION_BYTES + self.test.held_bytes() + spans + engine
    }

    /// About how many steps a byte of text costs at worst: one by comparing, and one for each state that an engine may be in where
    /// it has to tell what groups catch.
    pub(super) fn steps_a_byte(&self) -> usize {
        self.engine.as_ref().map_or(1, |engine| engine.steps_a_byte)
    }

    /// Whether the pattern matches (anywhere in `text`, where it is not anchored).
    pub(super) fn is_match(&self, text: &str) -> bool {
        match (&self.test, &self.engine) {
            (Test::Engine, Some(engine)) => engine.regex.is_match(text),
            (test, _) => test.find(text).is_some(),
        }
    }

    /// Calls `with` with what the groups caught, if the pattern matches.
    pub(super) fn captures<R>(&self, text: &str, with: impl FnOnce(Captures<'_>) -> R) -> Option<R> {
        match (&self.spans, &self.engine) {
            (Some(spans), _) => {
                let found = self.test.find(text)?;
                let spans = spans.get(found).map_or(&[][..], |spans| spans);
                Some(with(Captures::Known { spans, len: text.len() }))
            }
            (None, Some(engine)) => engine.captures(text, with),
            (None, None) => {
                self.is_match(text).then(|| with(Captures::Known { spans: &[], len: text.len() }))
            }
        }
    }

    /// Every match in `text`, replaced by what `with` appends for it. For patterns that are not anchored.
    pub(super) fn replace_all(
        &self,
        text: &str,
        out: &mut String,
        mut with: impl FnMut(Captures<'_>, &mut String),
    ) {
        let Some(engine) = &self.engine else { return };
        let mut done = 0;
        for captures in engine.regex.captures_iter(text) {
            let spans: Vec<_> = captures.iter().map(|group| group.map(|span| span.range())).collect();
            let Some(Some(whole)) = spans.first() else { continue };
            out.push_str(&text[done..whole.start]);
            done = whole.end;
            with(Captures::Found(&spans), out);
        }
        out.push_str(&text[done..]);
    }
}

/// What the groups of a match caught.
#[derive(Clone, Copy, Debug)]
pub(super) enum Captures<'m> {
    /// Known from the shape, in a text of this length.
    Known { spans: &'m [Span], len: usize },
    /// The engine's.
    Engine(&'m Found),
    /// Byte ranges.
    Found(&'m [Option<Range<usize>>]),
}

impl Captures<'_> {
    /// The byte range of a group; 0 is the whole match.
    pub(super) fn get(&self, group: usize) -> Option<Range<usize>> {
        match self {
            Self::Known { len, .. } if group == 0 => Some(0..*len),
            Self::Known { spans, len } => {
                let (start, end) = (*spans.get(group)?)?;
                Some(start.at(*len)..end.at(*len))
            }
            Self::Engine(found) => found.get_group(group).map(|span| span.range()),
            Self::Found(spans) => spans.get(group)?.clone(),
        }
    }
}

impl Test {
    /// The test for these alternatives, and for each number that it can find the spans of its groups.
    fn new(mut alternatives: Vec<Alternative>) -> (Self, Box<[Box<[Span]>]>) {
        let several = alternatives.len() > 1;
        if !several && let Some(only) = alternatives.pop() {
            let spans = Box::new([only.spans()]);
            let test = match (only.literals.as_slice(), only.gaps.as_slice()) {
                ([literal], _) => Self::Literal(literal.as_str().into()),
                ([prefix, suffix], [gap]) if prefix.is_empty() && suffix.is_empty() => match gap {
                    Gap::Any => Self::Always,
                    Gap::NotEmpty => Self::NotEmpty,
                },
                _ => Glob::new(&only).map_or(Self::Engine, Self::Glob),
            };
            return (test, spans);
        }
        let Some(globs) = GlobSet::new(alternatives.iter().filter_map(Glob::new)) else {
            return (Self::Engine, Box::default());
        };
        alternatives.retain(|alternative| alternative.gaps.is_empty());
        let mut spans: Vec<Box<[Span]>> = alternatives.iter().map(Alternative::spans).collect();
        let (literals, came) = LiteralSet::new(alternatives.into_iter().flat_map(|one| one.literals));
        let spans = came.into_iter().map(|at| std::mem::take(&mut spans[at])).collect();
        (Self::Several { literals, globs }, spans)
    }

    /// Bytes beside its own size.
    fn held_bytes(&self) -> usize {
        match self {
            Self::Always | Self::NotEmpty | Self::Engine => 0,
            Self::Literal(literal) => held_bytes(literal),
            Self::Glob(glob) => glob.held_bytes(),
            Self::Several { literals, globs } => literals.held_bytes() + globs.held_bytes(),
        }
    }

    /// The number of the alternative that matches.
    fn find(&self, text: &str) -> Option<usize> {
        match self {
            Self::Always => Some(0),
            Self::NotEmpty => (!text.is_empty()).then_some(0),
            Self::Literal(literal) => equal(literal.as_bytes(), text.as_bytes()).then_some(0),
            Self::Glob(glob) => glob.is_match(text).then_some(0),
            Self::Several { literals, globs } => {
                literals.find(text).or_else(|| globs.is_match(text).then_some(usize::MAX))
            }
            Self::Engine => None,
        }
    }
}

fn not_carried_over(error: &dyn Display) -> Error {
    Error { message: format!("the regex cannot be carried over from RE2: {error}"), hint: None }
}

/// The regex crate's engine, with room for what groups catch that is used again.
#[derive(Debug)]
struct Engine {
    regex: Regex,
    /// Bytes that it may take for what groups catch.
    caught_bytes: usize,
    steps_a_byte: usize,
    /// Taken by who applies the rule; a second thread at the same moment makes its own.
    found: Mutex<Option<Found>>,
}

impl Engine {
    /// `groups`: what they catch will be asked for.
    fn compile(pattern: &Pattern, groups: bool) -> Result<Self, Error> {
        // A level of ours is at most four of the engine's: a group, a concatenation, an alternation, a repeat.
        let nest_limit = (DEPTH_MAX as u32 + 2) * 4;
        let text = pattern.to_rust();
        if text.len() > ENGINE_PATTERN_BYTES_MAX {
            let (has, max) = (text.len() >> 10, ENGINE_PATTERN_BYTES_MAX >> 10);
            return Err(Error {
                message: format!("the regex is too long: written out it has {has} KiB, more than {max}"),
                hint: Some("split it; plain texts with `|` between them may be longer"),
            });
        }
        if text.matches("\\p{").count() + text.matches("\\P{").count() > UNICODE_CLASSES_MAX {
            return Err(Error {
                message: format!("the regex has more than {UNICODE_CLASSES_MAX} Unicode classes"),
                hint: Some("write `[a-z]` for `\\pL`"),
            });
        }
        let refuse = |error: BuildError| match error.size_limit() {
            Some(limit) => Error {
                message: format!("the regex takes more than {} MiB when it is compiled", limit >> 20),
                hint: Some(
                    "counted repeats multiply what they repeat: lower the counts, or write `[a-z]` for `\\pL`",
                ),
            },
            None => not_carried_over(&error),
        };
        let syntax = syntax::Config::new().nest_limit(nest_limit);
        let tree = syntax::parse_with(&text, &syntax).map_err(|error| not_carried_over(&error))?;
        let which = if groups { WhichCaptures::All } else { WhichCaptures::Implicit };
        let config = Config::new().nfa_size_limit(Some(COMPILED_BYTES_MAX)).which_captures(which);
        let regex = Regex::builder().configure(config).build_from_hir(&tree).map_err(refuse)?;
        let slots = regex.group_info().slot_len();
        let config = thompson::Config::new().which_captures(which);
        let program = thompson::Compiler::new().configure(config).build_from_hir(&tree);
        let states = program.map_err(|error| not_carried_over(&error))?.states().len();
        let caught_bytes = 2 * size_of::<usize>() * states * slots;
        if caught_bytes > CAUGHT_BYTES_MAX {
            let (groups, mib, max) = (slots / 2 - 1, caught_bytes >> 20, CAUGHT_BYTES_MAX >> 20);
            return Err(Error {
                message: format!(
                    "the regex has {groups} groups: to remember what they catch may take {mib} MiB, more than {max}"
                ),
                hint: Some("write `(?:…)` for a group whose text is not asked for"),
            });
        }
        let steps_a_byte = if groups { states } else { 1 };
        Ok(Self { regex, caught_bytes, steps_a_byte, found: Mutex::new(None) })
    }

    fn captures<R>(&self, text: &str, with: impl FnOnce(Captures<'_>) -> R) -> Option<R> {
        let spare = self.found.try_lock().ok().and_then(|mut spare| spare.take());
        let mut found = spare.unwrap_or_else(|| self.regex.create_captures());
        self.regex.search_captures(&Input::new(text), &mut found);
        let result = found.is_match().then(|| with(Captures::Engine(&found)));
        if let Ok(mut spare) = self.found.try_lock() {
            *spare = Some(found);
        }
        result
    }
}
