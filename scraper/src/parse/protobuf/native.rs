//! A native histogram as a body has it, which is taken apart when it is asked for.

use promring_proto::histogram::{Counts, NativeHistogram, ResetHint, Span, spans_fit};

use super::wire::{Field, Fields, WireResult, zigzag};
use crate::parse::number::normalise_nan;

/// A `Histogram` message with native buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramText<'b> {
    message: &'b [u8],
    is_gauge: bool,
    /// Spans that do not match the buckets make the body malformed; otherwise only the histogram, where somebody wants it.
    checks_spans: bool,
}

impl<'b> HistogramText<'b> {
    pub(super) fn new(message: &'b [u8], is_gauge: bool, checks_spans: bool) -> Self {
        Self { message, is_gauge, checks_spans }
    }

    /// The histogram, without empty buckets. Whether Prometheus would take it in is for
    /// [`NativeHistogram::validate`] to say.
    ///
    /// # Errors
    /// What is malformed. The whole scrape fails, as in Prometheus.
    pub fn read(&self) -> Result<NativeHistogram, &'static str> {
        let mut histogram = NativeHistogram::default();
        self.read_into(&mut histogram)?;
        Ok(histogram)
    }

    /// The same, into a histogram whose memory is used again.
    ///
    /// # Errors
    /// What is malformed; the histogram is worth nothing then.
    pub fn read_into(&self, histogram: &mut NativeHistogram) -> Result<(), &'static str> {
        let (count, zero_count) = self.float_counts()?;
        // Prometheus's rule: the counts alone decide.
        let is_float = count > 0.0 || zero_count > 0.0;
        histogram.positive_spans.clear();
        histogram.negative_spans.clear();
        histogram.custom_values.clear();
        histogram.reset_hint = if self.is_gauge { ResetHint::Gauge } else { ResetHint::Unknown };
        (histogram.schema, histogram.zero_threshold, histogram.sum) = (0, 0.0, 0.0);
        reset_counts(&mut histogram.counts, is_float);
        let mut fields = Fields::new(self.message);
        while let Some((number, field)) = fields.next()? {
            match number {
                2 => histogram.sum = normalise_nan(field.double()?),
                5 => histogram.schema = zigzag(field.varint()?) as i32,
                6 => histogram.zero_threshold = field.double()?,
                9 => histogram.negative_spans.push(read_span(field.bytes()?)?),
                12 => histogram.positive_spans.push(read_span(field.bytes()?)?),
                _ => read_counts(&mut histogram.counts, number, field)?,
            }
        }
        let (positive, negative) = match &histogram.counts {
            Counts::Integer { positive_deltas, negative_deltas, .. } => {
                (positive_deltas.len(), negative_deltas.len())
            }
            Counts::Float { positive_counts, negative_counts, .. } => {
                (positive_counts.len(), negative_counts.len())
            }
        };
        let fits = || {
            spans_fit(&histogram.positive_spans, positive) && spans_fit(&histogram.negative_spans, negative)
        };
        if self.checks_spans && !fits() {
            return Err("the histogram's spans do not match its buckets");
        }
        histogram.compact();
        Ok(())
    }

    /// Count and zero count as floats, 0 where they are missing.
    fn float_counts(&self) -> WireResult<(f64, f64)> {
        let (mut count, mut zero_count) = (0.0, 0.0);
        let mut fields = Fields::new(self.message);
        while let Some((number, field)) = fields.next()? {
            match number {
                4 => count = field.double()?,
                8 => zero_count = field.double()?,
                _ => {}
            }
        }
        Ok((count, zero_count))
    }
}

fn reset_counts(counts: &mut Counts, is_float: bool) {
    match counts {
        Counts::Integer { count, zero_count, positive_deltas, negative_deltas } if !is_float => {
            (*count, *zero_count) = (0, 0);
            positive_deltas.clear();
            negative_deltas.clear();
        }
        Counts::Float { count, zero_count, positive_counts, negative_counts } if is_float => {
            (*count, *zero_count) = (0.0, 0.0);
            positive_counts.clear();
            negative_counts.clear();
        }
        Counts::Integer { .. } => {
            let (positive_counts, negative_counts) = (Vec::new(), Vec::new());
            *counts = Counts::Float { count: 0.0, zero_count: 0.0, positive_counts, negative_counts };
        }
        Counts::Float { .. } => *counts = Counts::default(),
    }
}

fn read_counts(counts: &mut Counts, number: u32, field: Field<'_>) -> WireResult<()> {
    match counts {
        Counts::Integer { count, zero_count, positive_deltas, negative_deltas } => match number {
            1 => *count = field.varint()?,
            7 => *zero_count = field.varint()?,
            10 => field.each_sint64(|delta| negative_deltas.push(delta))?,
            13 => field.each_sint64(|delta| positive_deltas.push(delta))?,
            _ => {}
        },
        Counts::Float { count, zero_count, positive_counts, negative_counts } => match number {
            4 => *count = field.double()?,
            8 => *zero_count = field.double()?,
            11 => field.each_double(|count| negative_counts.push(count))?,
            14 => field.each_double(|count| positive_counts.push(count))?,
            _ => {}
        },
    }
    Ok(())
}

fn read_span(message: &[u8]) -> WireResult<Span> {
    let mut span = Span::default();
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => span.offset = zigzag(field.varint()?) as i32,
            2 => span.length = field.varint()? as u32,
            _ => {}
        }
    }
    Ok(span)
}
