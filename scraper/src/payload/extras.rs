//! What samples of a scrape have beside value and time, while the scrape is staged.

use std::ops::Range;

use promring_proto::histogram::NativeHistogram;
use promring_proto::remote_write::histogram::push_content;

use super::exemplars::{Exemplars, StagedExemplar};
use super::{Outgoing, Value};
use crate::labelsets::Shared;
use crate::symbols::Symbol;

/// Which type of histogram a series has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HistogramKind {
    pub(crate) is_float: bool,
    pub(crate) is_custom: bool,
}

/// What one sample has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    /// Where its histogram's message lies.
    pub(crate) histogram: Option<(Range<usize>, HistogramKind)>,
    /// Which of the exemplars are its own.
    pub(crate) exemplars: Range<usize>,
    /// When counting began, in Unix milliseconds; 0: not known.
    pub(crate) start_ms: i64,
}

/// What the samples of a scrape have, by number from 1.
#[derive(Debug, Default)]
pub struct Extras {
    list: Vec<Extra>,
    /// Messages of histograms.
    messages: Vec<u8>,
    pub(super) exemplars: Vec<StagedExemplar>,
    /// Names and values of the exemplars' labels in turn; one reference is held to each.
    pub(super) symbols: Vec<Symbol>,
    /// A histogram's memory, used again.
    pub(crate) histogram: NativeHistogram,
}

impl Extras {
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.messages.clear();
        self.exemplars.clear();
        self.symbols.clear();
    }

    /// Gives back the strings of exemplars.
    pub(crate) fn release(&mut self, shared: &Shared) {
        if !self.symbols.is_empty() {
            shared.symbols.release(self.symbols.drain(..));
        }
    }

    /// The number of what was added.
    pub(crate) fn add(&mut self, extra: Extra) -> u32 {
        self.list.push(extra);
        self.list.len() as u32
    }

    /// How many exemplars there are so far.
    pub(crate) fn exemplars_len(&self) -> usize {
        self.exemplars.len()
    }

    /// Gives a sample what has this number.
    pub(crate) fn complete<'s>(&'s self, number: u32, outgoing: &mut Outgoing<'s>) {
        let Some(extra) = (number as usize).checked_sub(1).and_then(|at| self.list.get(at)) else { return };
        outgoing.start_ms = extra.start_ms;
        let list = self.exemplars.get(extra.exemplars.clone()).unwrap_or_default();
        outgoing.exemplars = Exemplars { list, symbols: &self.symbols };
        if let Some((range, kind)) = &extra.histogram {
            let content = self.messages.get(range.clone()).unwrap_or_default();
            outgoing.value = Value::Histogram { content, is_custom: kind.is_custom, is_stale: false };
        }
    }

    /// Encodes the histogram at hand.
    pub(crate) fn encode(&mut self, timestamp_ms: i64) -> Range<usize> {
        let start = self.messages.len();
        push_content(&self.histogram, timestamp_ms, &mut self.messages);
        start..self.messages.len()
    }

    /// Memory held, in bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.list.capacity() * size_of::<Extra>()
            + self.messages.capacity()
            + self.exemplars.capacity() * size_of::<StagedExemplar>()
            + self.symbols.capacity() * 4
    }
}
