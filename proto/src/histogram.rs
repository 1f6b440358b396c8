//! The native histogram: what a scrape finds and remote write sends.
//!
//! Nothing here knows a wire format. The rules of [`NativeHistogram::validate`] are those by which Prometheus takes a
//! histogram in (`model/histogram`).

/// The schema of custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// The schemas of exponential buckets that Prometheus takes in.
pub const EXPONENTIAL_SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// A native histogram at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NativeHistogram {
    /// The resolution: [`EXPONENTIAL_SCHEMAS`] or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Observations up to this absolute value are in the zero bucket.
    pub zero_threshold: f64,
    /// Sum of all observations; the staleness marker where the series is stale.
    pub sum: f64,
    /// What is known of counter resets.
    pub reset_hint: ResetHint,
    /// Which buckets of positive observations there are.
    pub positive_spans: Vec<Span>,
    /// Which buckets of negative observations there are.
    pub negative_spans: Vec<Span>,
    /// How many observations there are.
    pub counts: Counts,
    /// Upper bounds, for custom buckets only.
    pub custom_values: Vec<f64>,
}

/// The counts of a native histogram.
#[derive(Clone, Debug, PartialEq)]
pub enum Counts {
    /// Whole numbers, in buckets as differences from the bucket before.
    Integer {
        /// All observations.
        count: u64,
        /// Observations in the zero bucket.
        zero_count: u64,
        /// One a bucket of the positive spans.
        positive_deltas: Vec<i64>,
        /// One a bucket of the negative spans.
        negative_deltas: Vec<i64>,
    },
    /// Floats, absolute.
    Float {
        /// All observations.
        count: f64,
        /// Observations in the zero bucket.
        zero_count: f64,
        /// One a bucket of the positive spans.
        positive_counts: Vec<f64>,
        /// One a bucket of the negative spans.
        negative_counts: Vec<f64>,
    },
}

impl Default for Counts {
    fn default() -> Self {
        Self::Integer { count: 0, zero_count: 0, positive_deltas: Vec::new(), negative_deltas: Vec::new() }
    }
}

/// Consecutive buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Buckets between the span before and this one; for the first one the index of its first bucket.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// What is known of counter resets. The numbers are those of remote write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ResetHint {
    /// Whether there was one must be tested for.
    Unknown = 0,
    /// This is the first one after a reset.
    Yes = 1,
    /// There was none since the one before.
    No = 2,
    /// A gauge, which has none.
    Gauge = 3,
}

impl NativeHistogram {
    /// What marks a series of native histograms as stale: an empty one whose sum is the staleness marker, of floats
    /// where the series is (Prometheus, `tsdb`).
    #[must_use]
    pub fn stale(is_float: bool) -> Self {
        let counts = if is_float {
            let (positive_counts, negative_counts) = (Vec::new(), Vec::new());
            Counts::Float { count: 0.0, zero_count: 0.0, positive_counts, negative_counts }
        } else {
            Counts::default()
        };
        Self { sum: crate::remote_write::stale_marker(), counts, ..Self::default() }
    }

    /// Whether it has bounds of its own, which remote write 1.0 cannot carry.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Whether its counts are floats.
    #[must_use]
    pub fn is_float(&self) -> bool {
        matches!(self.counts, Counts::Float { .. })
    }

    /// Merges buckets until the resolution is `schema`, which must be lower than the histogram's own: a bucket of
    /// the lower resolution spans `2^(difference)` of the higher one.
    ///
    /// # Errors
    /// Where it has custom bounds, the schema is not lower, or spans and buckets do not fit.
    pub fn reduce_resolution(&mut self, schema: i32) -> Result<(), &'static str> {
        if self.is_custom() || schema >= self.schema {
            return Err("the histogram's resolution cannot be reduced");
        }
        // A shift by more than this has no bit left to move.
        let shift = self.schema.saturating_sub(schema).min(31) as u32;
        let (positive, negative) = (&mut self.positive_spans, &mut self.negative_spans);
        match &mut self.counts {
            Counts::Integer { positive_deltas, negative_deltas, .. } => {
                merge_deltas(positive, positive_deltas, shift)?;
                merge_deltas(negative, negative_deltas, shift)?;
            }
            Counts::Float { positive_counts, negative_counts, .. } => {
                merge_counts(positive, positive_counts, shift)?;
                merge_counts(negative, negative_counts, shift)?;
            }
        }
        self.schema = schema;
        Ok(())
    }

    /// Number of buckets in both directions.
    #[must_use]
    pub fn buckets(&self) -> usize {
        match &self.counts {
            Counts::Integer { positive_deltas, negative_deltas, .. } => {
                positive_deltas.len() + negative_deltas.len()
            }
            Counts::Float { positive_counts, negative_counts, .. } => {
                positive_counts.len() + negative_counts.len()
            }
        }
    }

    /// Leaves out empty buckets, and spans of none, as Prometheus does with what it scrapes. Spans must fit their
    /// buckets ([`spans_fit`]); otherwise nothing is changed.
    pub fn compact(&mut self) {
        let (positive, negative) = (&mut self.positive_spans, &mut self.negative_spans);
        match &mut self.counts {
            Counts::Integer { positive_deltas, negative_deltas, .. } => {
                compact_deltas(positive, positive_deltas);
                compact_deltas(negative, negative_deltas);
            }
            Counts::Float { positive_counts, negative_counts, .. } => {
                compact_counts(positive, positive_counts);
                compact_counts(negative, negative_counts);
            }
        }
    }

    /// Whether Prometheus would take it in.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), &'static str> {
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            self.validate_custom()?;
        } else if !EXPONENTIAL_SCHEMAS.contains(&self.schema) {
            return Err("the histogram has an unknown schema");
        } else if !self.custom_values.is_empty() {
            return Err("the histogram has custom bounds with an exponential schema");
        }
        match &self.counts {
            Counts::Integer { count, zero_count, positive_deltas, negative_deltas } => {
                check_spans(&self.positive_spans, positive_deltas.len())?;
                check_spans(&self.negative_spans, negative_deltas.len())?;
                let in_buckets = sum_deltas(positive_deltas)?
                    .wrapping_add(sum_deltas(negative_deltas)?)
                    .wrapping_add(*zero_count);
                // A NaN is in no bucket, and makes the sum one.
                if in_buckets > *count || (in_buckets < *count && !self.sum.is_nan()) {
                    return Err("the histogram's count does not match its buckets");
                }
            }
            Counts::Float { count, zero_count, positive_counts, negative_counts } => {
                check_spans(&self.positive_spans, positive_counts.len())?;
                check_spans(&self.negative_spans, negative_counts.len())?;
                let negative = |count: &f64| *count < 0.0;
                if positive_counts.iter().chain(negative_counts).any(negative) {
                    return Err("the histogram has a bucket with a negative count");
                }
                if *zero_count < 0.0 || *count < 0.0 {
                    return Err("the histogram has a negative count");
                }
            }
        }
        Ok(())
    }

    fn validate_custom(&self) -> Result<(), &'static str> {
        let zero_count = match &self.counts {
            Counts::Integer { zero_count, .. } => *zero_count != 0,
            Counts::Float { zero_count, .. } => *zero_count != 0.0,
        };
        if zero_count || self.zero_threshold != 0.0 {
            return Err("the histogram has a zero bucket with custom bounds");
        }
        if !self.negative_spans.is_empty() {
            return Err("the histogram has negative buckets with custom bounds");
        }
        let bounds = &self.custom_values;
        // The comparison is false for a NaN, which is no bound either.
        let ascending = bounds.windows(2).all(|two| two[0] < two[1]);
        if !ascending || bounds.last().is_some_and(|last| *last == f64::INFINITY || last.is_nan()) {
            return Err("the histogram's custom bounds do not ascend");
        }
        let needed: i64 =
            self.positive_spans.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
        if needed > bounds.len() as i64 + 1 || self.positive_spans.first().is_some_and(|span| span.offset < 0)
        {
            return Err("the histogram has more buckets than custom bounds");
        }
        Ok(())
    }
}

/// Whether spans and buckets are of one number.
#[must_use]
pub fn spans_fit(spans: &[Span], buckets: usize) -> bool {
    spans.iter().map(|span| u64::from(span.length)).sum::<u64>() == buckets as u64
}

fn check_spans(spans: &[Span], buckets: usize) -> Result<(), &'static str> {
    if spans.iter().skip(1).any(|span| span.offset < 0) {
        return Err("the histogram has a span with a negative offset");
    }
    if spans_fit(spans, buckets) { Ok(()) } else { Err("the histogram's spans do not match its buckets") }
}

fn sum_deltas(deltas: &[i64]) -> Result<u64, &'static str> {
    let (mut count, mut sum) = (0_i64, 0_u64);
    for delta in deltas {
        count = count.wrapping_add(*delta);
        let count = u64::try_from(count).map_err(|_| "the histogram has a bucket with a negative count")?;
        sum = sum.wrapping_add(count);
    }
    Ok(sum)
}

fn merge_deltas(spans: &mut Vec<Span>, deltas: &mut Vec<i64>, shift: u32) -> Result<(), &'static str> {
    let mut count = 0_i64;
    let absolute = |delta: &i64| {
        count = count.wrapping_add(*delta);
        count
    };
    let mut counts: Vec<i64> = deltas.iter().map(absolute).collect();
    merge(spans, &mut counts, shift, i64::wrapping_add)?;
    let mut before = 0_i64;
    deltas.clear();
    deltas.extend(counts.iter().map(|count| count.wrapping_sub(std::mem::replace(&mut before, *count))));
    Ok(())
}

fn merge_counts(spans: &mut Vec<Span>, counts: &mut Vec<f64>, shift: u32) -> Result<(), &'static str> {
    merge(spans, counts, shift, |one, other| one + other)
}

const OUT_OF_RANGE: &str = "the histogram has a bucket out of range";

/// Adds up the counts of buckets that fall into one at a resolution that is lower by `shift`.
fn merge<C: Copy>(
    spans: &mut Vec<Span>,
    counts: &mut Vec<C>,
    shift: u32,
    add: impl Fn(C, C) -> C,
) -> Result<(), &'static str> {
    check_spans(spans, counts.len())?;
    let mut merged_spans: Vec<Span> = Vec::new();
    let mut merged: Vec<C> = Vec::with_capacity(counts.len());
    let (mut index, mut at) = (0_i64, 0);
    // The index of the newest merged bucket.
    let mut newest = 0_i64;
    for span in spans.iter() {
        index += i64::from(span.offset);
        for _ in 0..span.length {
            if i32::try_from(index).is_err() {
                return Err(OUT_OF_RANGE);
            }
            // Bucket i reaches up to base^i, its upper bound included: hence the 1.
            let target = ((index - 1) >> shift) + 1;
            match (merged_spans.last_mut(), merged.last_mut()) {
                (Some(_), Some(last)) if target == newest => *last = add(*last, counts[at]),
                (Some(span), Some(_)) if target == newest + 1 => {
                    span.length += 1;
                    merged.push(counts[at]);
                }
                (last, _) => {
                    let offset = if last.is_some() { target - newest - 1 } else { target };
                    let offset = i32::try_from(offset).map_err(|_| OUT_OF_RANGE)?;
                    merged_spans.push(Span { offset, length: 1 });
                    merged.push(counts[at]);
                }
            }
            newest = target;
            (index, at) = (index + 1, at + 1);
        }
    }
    (*spans, *counts) = (merged_spans, merged);
    Ok(())
}

fn compact_deltas(spans: &mut Vec<Span>, deltas: &mut Vec<i64>) {
    let (mut count, mut kept_count, mut kept) = (0_i64, 0_i64, 0);
    let Some(compacted) = compact_spans(spans, deltas.len(), |at| {
        count = count.wrapping_add(deltas[at]);
        if count != 0 {
            deltas[kept] = count.wrapping_sub(kept_count);
            kept_count = count;
            kept += 1;
        }
        count != 0
    }) else {
        return;
    };
    *spans = compacted;
    deltas.truncate(kept);
}

fn compact_counts(spans: &mut Vec<Span>, counts: &mut Vec<f64>) {
    let Some(compacted) = compact_spans(spans, counts.len(), |at| counts[at] != 0.0) else { return };
    *spans = compacted;
    counts.retain(|count| *count != 0.0);
}

/// The spans of the buckets that `keep` keeps; it is asked in order. None where spans and buckets do not fit, where a
/// later span goes backwards, or where an offset would not fit its type.
fn compact_spans(spans: &[Span], buckets: usize, mut keep: impl FnMut(usize) -> bool) -> Option<Vec<Span>> {
    let ends = spans.iter().try_fold(0_i64, |end, span| {
        let end = end + i64::from(span.offset) + i64::from(span.length);
        (i64::from(i32::MIN)..=i64::from(i32::MAX)).contains(&end).then_some(end)
    });
    ends?;
    check_spans(spans, buckets).ok()?;
    let mut compacted: Vec<Span> = Vec::new();
    // Where the next bucket is, and where the newest span ends.
    let (mut index, mut end, mut at) = (0_i64, 0_i64, 0);
    for span in spans {
        index += i64::from(span.offset);
        for _ in 0..span.length {
            if keep(at) {
                match compacted.last_mut() {
                    Some(last) if index == end => last.length += 1,
                    _ => compacted.push(Span { offset: i32::try_from(index - end).ok()?, length: 1 }),
                }
                end = index + 1;
            }
            (index, at) = (index + 1, at + 1);
        }
    }
    Some(compacted)
}

#[cfg(test)]
#[path = "histogram_tests.rs"]
mod tests;
