//! Relabelling: rules that change, keep or drop label sets, as Prometheus 3.15 has them.
//!
//! A [`RuleSpec`] is a rule as it is written; [`Rule::compile`] checks it and prepares everything that can be
//! prepared; [`Rules::apply`] runs a list of them over a [`LabelsBuilder`], for each target and for each series.
//! [`Rules::trace`] does the same and tells what each rule did.
//!
//! Where this differs from Prometheus, on purpose:
//! - a regex of more than 1 MiB (512 KiB as the engine gets it), of more than 100 levels or of more than 8 MiB compiled is refused, and for a rule that asks
//!   for its groups one of which an engine would take more than 32 MiB to remember what they catch;
//! - a rule whose joined source values or result would exceed 16 MiB changes nothing and drops nothing;
//! - Unicode tables are those of the regex crate and of Rust, which may be newer than Go's: letters that Unicode 16 and
//!   later added have their other case here already;
//! - scripts with names of two words (`\p{Old_Italic}`) are taken, which Go 1.25 and later refuse.
//!
//! What lives where: `spec` (the written rule and its errors), `check` (which rules are refused; `by_name`: `labeldrop` and
//! `labelkeep`), `rule` (the compiled rule), `action` (what rules do to labels), `expand` (`$1`), `casing` (upper and lower case as Go has it), `re2`
//! (RE2's dialect for Rust's regex crate), `shape` and `matcher` (patterns that need no regex engine), `regexes` (what rules share), `remark` (rules that
//! are allowed and odd), `trace`.

mod action;
mod by_name;
mod casing;
mod check;
mod expand;
mod globs;
mod literals;
mod matcher;
mod re2;
mod regexes;
mod remark;
mod rule;
mod shape;
mod spec;
mod trace;

use std::cell::RefCell;
use std::sync::Arc;

use action::{Order, Scratch};
pub use regexes::Regexes;
pub use remark::Remark;
pub use rule::Rule;
pub use spec::{RuleError, RuleField, RuleSpec};
pub use trace::{Change, Step};

use crate::labels::{Labels, LabelsBuilder};

/// What a list of rules made of a label set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It stays, with the labels that the builder now holds.
    Kept,
    /// A rule dropped it.
    Dropped {
        /// 0-based index of the rule in its list.
        rule: usize,
    },
}

/// Compiled rules, in order, which copies share. Two lists are equal when their rules were written alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    rules: Arc<[Rule]>,
    /// A rule asks in which order labels were set.
    asks: bool,
    /// It stands behind one that sets labels.
    asks_of_rules: bool,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

impl Rules {
    /// These rules, in this order.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        let first_writer = rules.iter().position(Rule::writes).unwrap_or(rules.len());
        let asks = rules.iter().any(Rule::asks_for_order);
        let asks_of_rules = rules.iter().skip(first_writer + 1).any(Rule::asks_for_order);
        Self { rules: rules.into(), asks, asks_of_rules }
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.rules.iter()
    }

    /// About how many steps it takes to apply them to a target or series whose longest label has so many bytes: one each
    /// where all labels are short.
    #[must_use]
    pub fn steps(&self, longest: usize) -> usize {
        self.iter().fold(0, |steps, rule| steps.saturating_add(rule.steps(longest)))
    }

    /// Applies the rules one after the other, until one drops the set. Where one does, the builder holds
    /// what the rules before it left.
    ///
    /// Nothing is allocated for rules that change nothing (once a thread's buffers have grown to what
    /// its labels need), but for a regex engine's own memory.
    pub fn apply(&self, labels: &mut LabelsBuilder<'_>) -> Outcome {
        self.apply_after(labels, std::iter::empty())
    }

    /// [`Rules::apply`] for labels of which those named by `set` were set one after the other behind the others, which
    /// stand in order of names. Each name stands there once. Where a `labelmap` makes one label of two, the later wins.
    pub fn apply_after<'n>(
        &self,
        labels: &mut LabelsBuilder<'_>,
        set: impl IntoIterator<Item = &'n str>,
    ) -> Outcome {
        if self.rules.is_empty() {
            return Outcome::Kept;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            let order = self.order(scratch, set);
            let dropped = self.rules.iter().position(|rule| !action::apply(rule, labels, scratch, order));
            dropped.map_or(Outcome::Kept, |rule| Outcome::Dropped { rule })
        })
    }

    /// Whether any rule asks in which order labels were set, so that [`Rules::apply_after`] has a use for it.
    #[must_use]
    pub fn ask_for_order(&self) -> bool {
        self.asks
    }

    /// Applies the rules to `labels` and tells what each of them did. It ends with the rule that dropped
    /// the set, where one did.
    #[must_use]
    pub fn trace(&self, labels: &Labels) -> Vec<Step> {
        self.trace_after(labels, std::iter::empty())
    }

    /// [`Rules::trace`] for what [`Rules::apply_after`] is for.
    pub fn trace_after<'n>(&self, labels: &Labels, set: impl IntoIterator<Item = &'n str>) -> Vec<Step> {
        let mut scratch = Scratch::new();
        let order = self.order(&mut scratch, set);
        trace::trace(self, labels, &mut scratch, order)
    }

    fn order<'n>(&self, scratch: &mut Scratch, set: impl IntoIterator<Item = &'n str>) -> Order {
        if self.asks && scratch.begin(set) > 0 || self.asks_of_rules {
            Order::Tracked
        } else {
            Order::Untracked
        }
    }
}
