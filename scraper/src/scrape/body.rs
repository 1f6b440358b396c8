//! How a target's body is read: its format, what is made of histograms, and how many samples it may have.

use promring_model::config::ScrapeConfig;
use promring_model::target::{
    ALWAYS_SCRAPE_CLASSIC_HISTOGRAMS, CONVERT_CLASSIC_HISTOGRAMS, SCRAPE_NATIVE_HISTOGRAMS, Target,
};

use super::failure::Failure;
use crate::parse::protobuf::HistogramOptions;
use crate::parse::{Expected, Format, Found, Item, Parser, PieceParser};
use crate::rules::{Refusal, SeriesRules};
use crate::series::{Scratch, SeriesCache};

/// What a job says of it, and a target's own labels.
#[derive(Clone, Copy, Debug)]
pub struct BodyRules {
    /// How a body is read whose Content-Type says nothing of use.
    pub fallback: Option<Format>,
    /// Most samples after metric relabelling.
    pub sample_limit: Option<u64>,
    /// What is made of histograms.
    pub histograms: HistogramOptions,
}

impl BodyRules {
    /// The rules for a target of this job.
    #[must_use]
    pub fn new(config: &ScrapeConfig, target: &Target) -> Self {
        // Relabelling may have changed what the configuration says.
        let switch = |label: &str, otherwise: bool| match target.labels.get(label) {
            None => otherwise,
            Some(value) => matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        };
        Self {
            fallback: config.fallback_scrape_protocol.map(Format::from),
            sample_limit: config.limits.samples,
            histograms: HistogramOptions {
                native: switch(SCRAPE_NATIVE_HISTOGRAMS, config.scrape_native_histograms),
                always_classic: switch(
                    ALWAYS_SCRAPE_CLASSIC_HISTOGRAMS,
                    config.always_scrape_classic_histograms,
                ),
                convert_classic: switch(
                    CONVERT_CLASSIC_HISTOGRAMS,
                    config.convert_classic_histograms_to_nhcb,
                ),
            },
        }
    }
}

/// A body on its way into a series cache.
#[derive(Debug)]
pub(crate) struct Staging<'a> {
    pub(crate) body_rules: &'a BodyRules,
    pub(crate) rules: &'a SeriesRules,
    pub(crate) cache: &'a mut SeriesCache,
    pub(crate) scratch: &'a mut Scratch,
    /// Of the scrape, in Unix milliseconds.
    pub(crate) time_ms: i64,
    /// Whether a histogram had too many buckets.
    pub(crate) over_buckets: bool,
}

impl Staging<'_> {
    /// Reads a whole body before anything takes effect: a scrape is stored as a whole or not at all.
    pub(crate) fn whole(&mut self, content_type: &str, body: &[u8]) -> Result<(), Failure> {
        let BodyRules { fallback, histograms, .. } = *self.body_rules;
        let mut parser = Parser::new(content_type, fallback, histograms, body)?;
        let mut expected = self.cache.expected(self.scratch);
        while let Some(found) = parser.next_expecting(expected)? {
            expected = self.stage(found)?;
        }
        self.check_limit()
    }

    /// The same for the next piece of a body; returns how much of it was read.
    pub(crate) fn piece(
        &mut self,
        parser: &mut PieceParser,
        piece: &[u8],
        last: bool,
    ) -> Result<usize, Failure> {
        let used = parser.read(piece, last, |found| self.stage(found))?;
        self.check_limit()?;
        Ok(used)
    }

    /// Tells which series is expected next.
    #[inline]
    fn stage(&mut self, found: Found<'_>) -> Result<Option<Expected>, Failure> {
        let Self { cache, scratch, rules, time_ms, .. } = self;
        match found {
            Found::Expected { value, timestamp_ms } => {
                cache.stage_expected(value, timestamp_ms, *time_ms, rules, scratch);
            }
            Found::Item(Item::Sample(sample)) => cache.stage(&sample, *time_ms, rules, scratch)?,
            Found::Item(Item::Histogram(sample)) => {
                let staged = cache.stage_histogram(&sample, *time_ms, rules, scratch);
                self.pass_over_buckets(staged)?;
            }
            Found::Item(Item::Converted(sample)) => {
                let staged = cache.stage_converted(*sample, *time_ms, rules, scratch);
                self.pass_over_buckets(staged)?;
            }
            Found::Item(Item::Metadata(metadata)) => cache.describe(&metadata, scratch),
        }
        Ok(self.cache.expected(self.scratch))
    }

    /// Notes a histogram with too many buckets, which fails the scrape once the samples behind it are counted.
    fn pass_over_buckets(&mut self, staged: Result<(), Refusal>) -> Result<(), Refusal> {
        match staged {
            Err(Refusal::Buckets) => {
                self.over_buckets = true;
                Ok(())
            }
            staged => staged,
        }
    }

    /// Looked at once a piece, so that all samples of a small body are counted, as in Prometheus.
    fn check_limit(&self) -> Result<(), Failure> {
        match self.body_rules.sample_limit {
            Some(limit) if self.cache.tally().to_store() > limit => Err(Failure::SampleLimit),
            Some(_) | None if self.over_buckets => Err(Refusal::Buckets.into()),
            Some(_) | None => Ok(()),
        }
    }
}
