//! The shape of a pattern: a few literal texts with `.*` or `.+` between them, where it has such a shape.
//!
//! Most patterns that people write are such: `true`, `node_cpu.*|up`, `.*_bucket`, `__meta_kubernetes_pod_label_(.+)`.
//! They are matched by comparing bytes, and what their groups caught lies at places known beforehand.

use super::re2::{ClassItem, Look, Node, Pattern};

/// Most alternatives that a pattern is taken apart into.
const ALTERNATIVES_MAX: usize = 100_000;
/// Most work to take one apart: nodes looked at and bytes of text copied.
const COST_MAX: usize = 8 << 20;
/// What a place for a group costs, beside a byte of text.
const SPAN_COST: usize = 16;
/// Most groups of a pattern that is taken apart: each alternative says where each of them lies.
const GROUPS_MAX: usize = 64;
/// Most characters of a set that is taken apart, such as `[123]`.
const SET_CHARACTERS_MAX: u32 = 16;

/// All ways to match a pattern; which stands first matters only for what groups caught.
pub(super) struct Shape {
    pub(super) alternatives: Vec<Alternative>,
    /// Whether the spans of groups can be told from the first alternative that fits.
    pub(super) spans_known: bool,
}

/// Literal, gap, literal, gap, …, literal: one literal more than gaps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alternative {
    pub(super) literals: Vec<String>,
    pub(super) gaps: Vec<Gap>,
    /// Where each group begins and ends, by its number; None: it caught nothing.
    spans: Vec<Option<(Place, Place)>>,
    /// A `$` was read: nothing more can follow.
    ended: bool,
}

/// Any text between two literals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// `.*`
    Any,
    /// `.+`
    NotEmpty,
}

/// A place in the literals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    literal: usize,
    offset: usize,
}

/// A border of a group in the text that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Border {
    /// That many bytes after its start.
    FromStart(usize),
    /// That many bytes before its end.
    FromEnd(usize),
}

impl Border {
    /// The byte offset in a text of `len` bytes.
    pub(super) fn at(self, len: usize) -> usize {
        match self {
            Self::FromStart(offset) => offset,
            Self::FromEnd(offset) => len.saturating_sub(offset),
        }
    }
}

/// Where a group lies; None: it took no part in the match.
pub(super) type Span = Option<(Border, Border)>;

impl Shape {
    /// The shape of `pattern`; None: only a regex engine will do.
    pub(super) fn of(pattern: &Pattern) -> Option<Self> {
        let inner = pattern.between_anchors()?;
        if pattern.groups.len() > GROUPS_MAX {
            return None;
        }
        let empty = Alternative {
            literals: vec![String::new()],
            gaps: Vec::new(),
            spans: vec![None; pattern.groups.len()],
            ended: false,
        };
        let mut walk = Walk { cost: 0, choice_after_gap: false };
        let mut alternatives = vec![empty];
        for node in inner {
            alternatives = walk.each(alternatives, node)?;
        }
        // Two gaps without text between them would count characters; only the engine does that.
        let plain = |alternative: &Alternative| {
            let between = alternative.literals.iter().skip(1).take(alternative.gaps.len().saturating_sub(1));
            between.into_iter().all(|literal| !literal.is_empty())
        };
        if !alternatives.iter().all(plain) {
            return None;
        }
        let spans_known = match alternatives.as_slice() {
            [only] => only.gaps.len() <= 1,
            several => several.iter().all(|alternative| alternative.gaps.is_empty()),
        };
        Some(Self { alternatives, spans_known: spans_known && !walk.choice_after_gap })
    }
}

impl Alternative {
    /// Where its groups lie, by their numbers, in a text that it matches as a whole. Right with one gap at most.
    pub(super) fn spans(&self) -> Box<[Span]> {
        let border = |place: Place| match place.literal {
            0 => Border::FromStart(place.offset),
            literal => Border::FromEnd(self.literals[literal].len() - place.offset),
        };
        self.spans.iter().map(|span| span.map(|(start, end)| (border(start), border(end)))).collect()
    }

    fn place(&self) -> Place {
        Place { literal: self.gaps.len(), offset: self.literals[self.gaps.len()].len() }
    }

    fn is_at_start(&self) -> bool {
        self.gaps.is_empty() && self.literals[0].is_empty()
    }

    fn push(&mut self, char: char) {
        let last = self.gaps.len();
        self.literals[last].push(char);
    }
}

struct Walk {
    cost: usize,
    /// A choice lies behind a gap: then the engine's order of trying is not the order of the alternatives.
    choice_after_gap: bool,
}

impl Walk {
    fn each(&mut self, alternatives: Vec<Alternative>, node: &Node) -> Option<Vec<Alternative>> {
        let mut all = Vec::with_capacity(alternatives.len());
        for alternative in alternatives {
            self.one(alternative, node, &mut all)?;
            if all.len() > ALTERNATIVES_MAX {
                return None;
            }
        }
        Some(all)
    }

    /// Appends to `out` what `alternative` can become with `node` behind it, in the order of trying.
    fn one(&mut self, mut alternative: Alternative, node: &Node, out: &mut Vec<Alternative>) -> Option<()> {
        self.spend(1)?;
        match node {
            Node::Empty => out.push(alternative),
            Node::Look(Look::TextStart) if alternative.is_at_start() => out.push(alternative),
            Node::Look(Look::TextEnd) => {
                alternative.ended = true;
                out.push(alternative);
            }
            Node::Look(_) | Node::Any { .. } => return None,
            // Whatever else follows a `$` is left to the engine.
            _ if alternative.ended => return None,
            Node::Literal { char, fold } => {
                if *fold && !is_caseless(*char) {
                    return None;
                }
                alternative.push(*char);
                out.push(alternative);
            }
            Node::Class(class) => {
                if class.negated || class.fold {
                    return None;
                }
                self.choice(&alternative);
                for char in characters(&class.items)? {
                    let mut next = self.copy(&alternative)?;
                    next.push(char);
                    out.push(next);
                }
            }
            Node::Group { index, node } => {
                let start = alternative.place();
                let from = out.len();
                self.one(alternative, node, out)?;
                for next in &mut out[from..] {
                    next.spans[*index] = Some((start, next.place()));
                }
            }
            Node::Concat(nodes) => {
                let mut alternatives = vec![alternative];
                for node in nodes {
                    // Most of the work is plain text, and that needs no new list.
                    if let ([only], Node::Literal { char, fold: false }) = (alternatives.as_mut_slice(), node)
                        && !only.ended
                    {
                        self.spend(1)?;
                        only.push(*char);
                        continue;
                    }
                    alternatives = self.each(alternatives, node)?;
                }
                out.append(&mut alternatives);
            }
            Node::Alternate(nodes) => {
                self.choice(&alternative);
                for node in nodes {
                    let next = self.copy(&alternative)?;
                    self.one(next, node, out)?;
                }
            }
            Node::Repeat { min: min @ (0 | 1), max: None, node, .. }
                if **node == (Node::Any { newline: true }) =>
            {
                alternative.gaps.push(if *min == 0 { Gap::Any } else { Gap::NotEmpty });
                alternative.literals.push(String::new());
                out.push(alternative);
            }
            Node::Repeat { min: 0, max: Some(1), greedy, node, .. } => {
                self.choice(&alternative);
                let unchanged = alternative.place();
                let next = self.copy(&alternative)?;
                if !greedy {
                    out.push(self.copy(&alternative)?);
                }
                let with = out.len();
                self.one(next, node, out)?;
                // An empty turn of a repetition has rules of its own about groups.
                if out[with..].iter().any(|next| next.place() == unchanged) {
                    return None;
                }
                if *greedy {
                    out.push(alternative);
                }
            }
            Node::Repeat { .. } => return None,
        }
        (out.len() <= ALTERNATIVES_MAX).then_some(())
    }

    fn copy(&mut self, alternative: &Alternative) -> Option<Alternative> {
        let text: usize = alternative.literals.iter().map(String::len).sum();
        self.spend(text + alternative.spans.len() * SPAN_COST)?;
        Some(alternative.clone())
    }

    fn choice(&mut self, alternative: &Alternative) {
        self.choice_after_gap |= !alternative.gaps.is_empty();
    }

    fn spend(&mut self, cost: usize) -> Option<()> {
        self.cost += cost;
        (self.cost <= COST_MAX).then_some(())
    }
}

/// Characters that have no other case. Only ASCII is looked at: the rest has no fast path.
fn is_caseless(char: char) -> bool {
    char.is_ascii() && !char.is_ascii_alphabetic()
}

/// The characters of a small set; none twice.
fn characters(items: &[ClassItem]) -> Option<Vec<char>> {
    let mut all = Vec::new();
    for item in items {
        let ClassItem::Range(low, high) = item else { return None };
        if u32::from(*high) - u32::from(*low) >= SET_CHARACTERS_MAX {
            return None;
        }
        all.extend(*low..=*high);
    }
    all.sort_unstable();
    all.dedup();
    (all.len() <= SET_CHARACTERS_MAX as usize).then_some(all)
}
