//! What the absence and the emptiness of a key mean.
//!
//! Prometheus's YAML library sets a key that is written without a value to the zero of its type, not to its
//! default: `honor_timestamps:` alone is false. That is kept, with a warning where it makes a difference.

use std::time::Duration;

use super::Builder;
use crate::config::raw::{Given, List, RawDuration, Text};
use crate::config::remarks;
use crate::config::report::Spot;
use crate::nearest::nearest;

impl Builder<'_> {
    /// A boolean with this default.
    pub(super) fn bool(&mut self, given: &Given<bool>, default: bool) -> bool {
        match given {
            Given::Is(value, _) => *value,
            Given::Null(spot) if default => {
                self.null_is_zero(*spot, "false", "true");
                false
            }
            _ => default && !matches!(given, Given::Null(_)),
        }
    }

    /// A boolean that is inherited where the key is absent or null.
    pub(super) fn inherited(given: &Given<bool>, inherited: bool) -> bool {
        given.get().copied().unwrap_or(inherited)
    }

    /// A text with this default.
    pub(super) fn text(&mut self, given: &Given<Text>, default: &str) -> String {
        match given {
            Given::Is(value, _) => value.to_string(),
            Given::Null(spot) if !default.is_empty() => {
                self.null_is_zero(*spot, "an empty text", default);
                String::new()
            }
            _ => default.to_owned(),
        }
    }

    /// A duration with this default.
    pub(super) fn duration(&mut self, given: &Given<RawDuration>, default: Duration) -> Duration {
        match given {
            Given::Is(duration, _) => duration.value,
            Given::Null(spot) if !default.is_zero() => {
                self.null_is_zero(*spot, "0s", &crate::duration::format_duration(default));
                Duration::ZERO
            }
            _ => default,
        }
    }

    /// The items of a list; none where it is absent, null or broken.
    pub(super) fn items<'g, T>(&self, given: &'g Given<List<T>>) -> &'g [Given<T>] {
        given.get().map_or(&[], |list| &**list)
    }

    /// The texts of a list; an item without a value is an empty one.
    pub(super) fn texts(&mut self, given: &Given<List<Text>>) -> Vec<String> {
        let mut texts = Vec::new();
        for item in self.items(given) {
            match item {
                Given::Is(text, _) => texts.push(text.to_string()),
                Given::Null(spot) => {
                    self.report
                        .warning(*spot, "an item without a value means an empty text")
                        .hint("remove the dash, or write '' if an empty text is meant");
                    texts.push(String::new());
                }
                Given::Absent | Given::Broken(_) => {}
            }
        }
        texts
    }

    /// The texts of a list in which none may be empty; one that is is reported.
    pub(super) fn filled_texts(&mut self, given: &Given<List<Text>>) -> Vec<String> {
        let mut texts = Vec::new();
        for item in self.items(given) {
            match item {
                Given::Is(text, _) if !text.is_empty() => texts.push(text.to_string()),
                Given::Is(_, spot) | Given::Null(spot) => self.empty_item(*spot, "text"),
                Given::Absent | Given::Broken(_) => {}
            }
        }
        texts
    }

    /// Reports a list's item without content.
    pub(super) fn empty_item(&mut self, spot: Spot, name: &str) {
        self.report
            .error(spot, format!("an empty {name}"))
            .hint("remove the dash, or indent what belongs to it deeper than the dash");
    }

    fn null_is_zero(&mut self, spot: Spot, zero: &str, default: &str) {
        self.report
            .warning(spot, format!("a key without a value means {zero} here, not the default ({default})"))
            .hint("write a value, or remove the key");
    }

    /// A name among a few, exactly as they are written.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        spot: Spot,
        text: &str,
        choices: &[(&str, T)],
        what: &str,
    ) -> Option<T> {
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let hint = match (remarks::variable_hint(text), nearest(text, &names)) {
            (Some(hint), _) => hint.to_owned(),
            (None, Some(name)) => format!("did you mean {name}? There are: {}", names.join(", ")),
            (None, None) => format!("there are: {}", names.join(", ")),
        };
        self.report.error(spot, format!("not a {what}")).value(text).hint(hint);
        None
    }
}

/// A duration of a section that inherits: one that is absent, null or 0 is inherited.
pub(super) fn filled_duration(given: &Given<RawDuration>) -> Option<&RawDuration> {
    given.get().filter(|duration| !duration.value.is_zero())
}
