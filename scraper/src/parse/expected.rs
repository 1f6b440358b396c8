//! The series that is expected next. Exporters print their series in one order, so the next line most often begins with the
//! text that stood in this place in the last scrape. Where it does, which a hash tells, the line need not be searched for the
//! end of the series, nor the text hashed once more to find the series.
//!
//! What a parser gives does not depend on what is expected, but for the form of it: a text that is followed by a blank and a
//! number up to the end of the line is the whole series, because no number holds a brace.

use super::Item;
use super::lex::Dialect;
use super::series::{NumberLabel, SeriesText};

/// The text that the next line is expected to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    len: u16,
    identity: u64,
}

/// What a parser finds next.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<'b> {
    /// A sample of the series that was expected.
    Expected {
        /// The value's bits; NaNs are normalised.
        value: f64,
        /// The exposed timestamp in Unix milliseconds.
        timestamp_ms: Option<i64>,
    },
    /// Anything, whether it was expected or not.
    Item(Item<'b>),
}

impl Expected {
    /// The series with this identity, whose text has so many bytes, as [`SeriesText::line_bytes`] tells it; 0: it cannot be expected.
    #[inline]
    #[must_use]
    pub fn new(line_bytes: u16, identity: u64) -> Option<Self> {
        (line_bytes > 0).then_some(Self { len: line_bytes, identity })
    }

    /// What follows the text in `rest`, from the blank on, if it begins with it.
    #[inline]
    pub(super) fn after(self, rest: &[u8], dialect: Dialect, number: NumberLabel) -> Option<&[u8]> {
        let (series, after) = rest.split_at_checked(self.len.into())?;
        if after.first() != Some(&b' ')
            || SeriesText::text(series, dialect, number).identity() != self.identity
        {
            return None;
        }
        Some(after)
    }

    /// Bytes of the text.
    #[inline]
    pub(super) fn len(self) -> usize {
        self.len.into()
    }
}

#[cfg(test)]
#[path = "expected_tests.rs"]
mod tests;
