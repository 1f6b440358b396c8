//! Samples that have more than a float and a time: native histograms, exemplars, the time at which counting began.

use super::{CUSTOM, FLOATS, HISTOGRAM, Met, Scratch, SeriesCache, Staged};
use crate::parse::{ConvertedHistogram, Exemplar, HistogramSample, Sample, SeriesText};
use crate::payload::{Extra, HistogramKind, Taken};
use crate::rules::{Refusal, SeriesRules};

/// What a native histogram comes with.
struct Around<'a, 'b> {
    series: &'a SeriesText<'b>,
    own_time: Option<i64>,
    start_ms: i64,
}

impl SeriesCache {
    /// Takes one native histogram of the scrape at hand, whose time is `time_ms`.
    ///
    /// # Errors
    /// Where series or histogram cannot be, or there are too many buckets, which fails the whole scrape.
    pub fn stage_histogram(
        &mut self,
        sample: &HistogramSample<'_>,
        time_ms: i64,
        rules: &SeriesRules,
        scratch: &mut Scratch,
    ) -> Result<(), Refusal> {
        // Which type of histogram it is can only be told when it was read.
        sample.histogram.read_into(&mut scratch.extras.histogram).map_err(Refusal::Histogram)?;
        let HistogramSample { series, timestamp_ms, start_ms, exemplars, .. } = sample;
        let around = Around { series, own_time: *timestamp_ms, start_ms: *start_ms };
        self.stage_native(&around, exemplars.into_iter(), time_ms, rules, scratch)
    }

    /// Takes one classic histogram that was made a native one.
    ///
    /// # Errors
    /// As [`SeriesCache::stage_histogram`].
    pub fn stage_converted(
        &mut self,
        sample: ConvertedHistogram<'_>,
        time_ms: i64,
        rules: &SeriesRules,
        scratch: &mut Scratch,
    ) -> Result<(), Refusal> {
        let ConvertedHistogram { series, histogram, timestamp_ms, start_ms, exemplars } = sample;
        scratch.extras.histogram = histogram;
        let around = Around { series: &series, own_time: timestamp_ms, start_ms };
        self.stage_native(&around, exemplars.into_iter().flatten(), time_ms, rules, scratch)
    }

    /// Takes the histogram that stands in `scratch`.
    fn stage_native<'b>(
        &mut self,
        around: &Around<'_, 'b>,
        exemplars: impl Iterator<Item = Exemplar<'b>>,
        time_ms: i64,
        rules: &SeriesRules,
        scratch: &mut Scratch,
    ) -> Result<(), Refusal> {
        let histogram = &scratch.extras.histogram;
        let kind = HistogramKind { is_float: histogram.is_float(), is_custom: histogram.is_custom() };
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = HISTOGRAM | flag(kind.is_float, FLOATS) | flag(kind.is_custom, CUSTOM);
        let met = self.meet(around.series, around.own_time, flags, time_ms, rules, scratch)?;
        let Some(Met { index, timestamp_ms }) = met else { return Ok(()) };
        let limited = rules.histogram_limits.apply(&mut scratch.extras.histogram);
        // As Prometheus counts, one that is malformed was never kept, and one beyond a limit was.
        limited.inspect_err(|refusal| {
            self.tally.kept -= u64::from(matches!(refusal, Refusal::Histogram(_)));
        })?;
        self.tally.histograms += 1;
        let message = scratch.extras.encode(timestamp_ms);
        let from = scratch.extras.exemplars_len();
        if rules.sends_exemplars {
            let key = (self.entries[index].text_hash, 0);
            let (extras, shared) = (&mut scratch.extras, self.labels.shared());
            // Without a time they cannot be told from older ones.
            let taken = self.exemplars.take(key, exemplars, timestamp_ms, true, extras, shared);
            self.count(taken);
        }
        let extra = Extra {
            histogram: Some((message, kind)),
            exemplars: from..scratch.extras.exemplars_len(),
            start_ms: started(around.start_ms, timestamp_ms),
        };
        let extra = scratch.extras.add(extra);
        scratch.staged.push(Staged { entry: index as u32, extra, value_bits: 0, timestamp_ms });
        Ok(())
    }

    /// What a float has beside value and time; 0: nothing that is sent.
    pub(super) fn stage_extra(
        &mut self,
        index: usize,
        sample: &Sample<'_>,
        timestamp_ms: i64,
        rules: &SeriesRules,
        scratch: &mut Scratch,
    ) -> u32 {
        let from = scratch.extras.exemplars_len();
        if rules.sends_exemplars && !sample.exemplars.is_empty() {
            let key = (self.entries[index].text_hash, sample.exemplars.identity());
            if !self.exemplars.knows(key.0, key.1) {
                let exemplars = sample.exemplars.into_iter();
                let (extras, shared) = (&mut scratch.extras, self.labels.shared());
                let taken = self.exemplars.take(key, exemplars, timestamp_ms, false, extras, shared);
                self.count(taken);
            }
        }
        let exemplars = from..scratch.extras.exemplars_len();
        let start_ms = started(sample.start_ms, timestamp_ms);
        if exemplars.is_empty() && start_ms == 0 {
            return 0;
        }
        scratch.extras.add(Extra { histogram: None, exemplars, start_ms })
    }

    /// As Prometheus, counts exemplars as out of order only where all of a sample's are: otherwise some were known and some
    /// are news.
    fn count(&mut self, taken: Taken) {
        if taken.found == taken.out_of_order {
            self.tally.exemplars_out_of_order += taken.out_of_order as u64;
        }
    }
}

/// A time after the sample, or none at all, says nothing about it.
fn started(start_ms: i64, timestamp_ms: i64) -> i64 {
    if start_ms > 0 && start_ms <= timestamp_ms { start_ms } else { 0 }
}
