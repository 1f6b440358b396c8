//! What a scrape's native histograms may be: Prometheus's limits.

use promring_model::config::ScrapeLimits;
use promring_proto::histogram::{EXPONENTIAL_SCHEMAS, NativeHistogram};

use crate::rules::Refusal;

/// Schemas that stand for exponential buckets, though not all of them are taken in (Prometheus, `model/histogram`).
const RESERVED_SCHEMAS: std::ops::RangeInclusive<i32> = -9..=52;

/// The limits of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramLimits {
    /// Most buckets; more are merged, and where that does not help the scrape fails.
    buckets: Option<u64>,
    /// The highest resolution.
    schema: i32,
}

impl HistogramLimits {
    /// Those that a job is configured with.
    #[must_use]
    pub fn new(limits: &ScrapeLimits) -> Self {
        let factor = limits.native_histogram_min_bucket_factor_micro.map(|micro| micro as f64 / 1e6);
        Self { buckets: limits.native_histogram_buckets, schema: schema_of(factor.unwrap_or(0.0)) }
    }

    /// Reduces the histogram's resolution as far as the limits ask.
    ///
    /// # Errors
    /// Where it has too many buckets all the same, or Prometheus would not take it in: the whole scrape fails.
    pub(crate) fn apply(&self, histogram: &mut NativeHistogram) -> Result<(), Refusal> {
        if self.schema < *EXPONENTIAL_SCHEMAS.end()
            && RESERVED_SCHEMAS.contains(&histogram.schema)
            && histogram.schema > self.schema
        {
            histogram.reduce_resolution(self.schema).map_err(Refusal::Histogram)?;
        }
        if let Some(limit) = self.buckets {
            while histogram.buckets() as u64 > limit {
                let lowest = *EXPONENTIAL_SCHEMAS.start();
                if !EXPONENTIAL_SCHEMAS.contains(&histogram.schema) || histogram.schema == lowest {
                    return Err(Refusal::Buckets);
                }
                histogram.reduce_resolution(histogram.schema - 1).map_err(Refusal::Histogram)?;
            }
        }
        histogram.validate().map_err(Refusal::Histogram)
    }
}

/// The highest resolution whose buckets grow by at least `factor` (Prometheus's `pickSchema`).
fn schema_of(factor: f64) -> i32 {
    // Less than the finest resolution has.
    let factor = if factor <= 1.0 { 1.00271 } else { factor };
    let schema = (-factor.log2().log2()).floor() as i32;
    schema.clamp(*EXPONENTIAL_SCHEMAS.start(), *EXPONENTIAL_SCHEMAS.end())
}

#[cfg(test)]
mod tests {
    use promring_proto::histogram::{CUSTOM_BUCKETS_SCHEMA, Counts, Span};

    use super::*;

    fn limits(buckets: Option<u64>, factor: Option<f64>) -> HistogramLimits {
        HistogramLimits::new(&ScrapeLimits {
            native_histogram_buckets: buckets,
            native_histogram_min_bucket_factor_micro: factor.map(|factor| (factor * 1e6).round() as u64),
            ..ScrapeLimits::default()
        })
    }

    fn histogram(schema: i32, buckets: u32) -> NativeHistogram {
        let mut positive_deltas = vec![0; buckets as usize];
        positive_deltas[0] = 1;
        NativeHistogram {
            schema,
            positive_spans: vec![Span { offset: 1, length: buckets }],
            counts: Counts::Integer {
                count: buckets.into(),
                zero_count: 0,
                positive_deltas,
                negative_deltas: Vec::new(),
            },
            ..NativeHistogram::default()
        }
    }

    #[test]
    fn the_resolution_is_the_highest_whose_buckets_grow_by_the_factor() {
        // 2^(2^-n) for the schemas from 8 to -4.
        for (factor, schema) in [
            (0.0, 8),
            (1.0, 8),
            (1.0027, 8),
            (1.00272, 7),
            (1.0442, 4),
            (1.1, 2),
            (2.0, 0),
            (3.0, -1),
            (65_536.0, -4),
            (1e9, -4),
        ] {
            assert_eq!(schema_of(factor), schema, "{factor}");
        }
    }

    #[test]
    fn min_bucket_factor_reduces_the_resolution() {
        let mut fine = histogram(8, 16);
        limits(None, Some(1.1)).apply(&mut fine).unwrap();
        assert_eq!((fine.schema, fine.buckets()), (2, 1));
        let mut coarse = histogram(1, 16);
        limits(None, Some(1.1)).apply(&mut coarse).unwrap();
        assert_eq!((coarse.schema, coarse.buckets()), (1, 16));
        // A resolution that nobody takes in as it is.
        let mut finest = histogram(12, 16);
        assert!(limits(None, None).apply(&mut finest).is_err());
        limits(None, Some(1.1)).apply(&mut finest).unwrap();
        assert_eq!(finest.schema, 2);
    }

    #[test]
    fn bucket_limit_reduces_the_resolution_and_then_fails_the_scrape() {
        let mut many = histogram(3, 16);
        limits(Some(5), None).apply(&mut many).unwrap();
        assert_eq!((many.schema, many.buckets()), (1, 4));
        let mut within = histogram(3, 16);
        limits(Some(16), None).apply(&mut within).unwrap();
        assert_eq!(within.schema, 3);
        let mut wide = histogram(-4, 16);
        let refusal = limits(Some(5), None).apply(&mut wide).unwrap_err();
        assert_eq!(refusal.to_string(), "histogram bucket limit exceeded");
        let mut custom = histogram(CUSTOM_BUCKETS_SCHEMA, 2);
        assert_eq!(limits(Some(1), None).apply(&mut custom), Err(Refusal::Buckets));
    }

    #[test]
    fn a_histogram_that_prometheus_would_not_take_in_fails_the_scrape() {
        let mut wrong = histogram(3, 2);
        wrong.counts = Counts::default();
        assert!(matches!(limits(None, None).apply(&mut wrong), Err(Refusal::Histogram(_))));
    }
}
