//! How a target's body is read: its format, what is made of histograms, and how many samples it may have.

use promring_model::config::ScrapeConfig;
use promring_model::target::{
    ALWAYS_SCRAPE_CLASSIC_HISTOGRAMS, CONVERT_CLASSIC_HISTOGRAMS, SCRAPE_NATIVE_HISTOGRAMS, Target,
};

use crate::observe::ScrapeMetrics;
use crate::parse::protobuf::HistogramOptions;
use crate::parse::{Format, Item, Parser};
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

    /// Reads a whole body into `cache` and `scratch` before anything takes effect: a scrape is stored as a whole or not at
    /// all.
    ///
    /// # Errors
    /// Where the scrape fails for it, with the reason.
    pub fn stage(
        &self,
        body: &[u8],
        content_type: &str,
        time_ms: i64,
        rules: &SeriesRules,
        (cache, scratch): (&mut SeriesCache, &mut Scratch),
        metrics: &ScrapeMetrics,
    ) -> Result<(), String> {
        let parser = Parser::new(content_type, self.fallback, self.histograms, body);
        let mut parser = parser.map_err(|error| error.to_string())?;
        while let Some(item) = parser.next_item().map_err(|error| error.to_string())? {
            let staged = match item {
                Item::Sample(sample) => cache.stage(&sample, time_ms, rules, scratch),
                Item::Histogram(sample) => cache.stage_histogram(&sample, time_ms, rules, scratch),
                Item::Converted(sample) => cache.stage_converted(*sample, time_ms, rules, scratch),
                Item::Metadata(metadata) => {
                    cache.describe(&metadata, scratch);
                    continue;
                }
            };
            if let Err(refusal) = staged {
                if refusal == Refusal::Buckets {
                    metrics.exceeded_bucket_limit.increment(1);
                }
                return Err(refusal.to_string());
            }
            if self.sample_limit.is_some_and(|limit| cache.tally().to_store() > limit) {
                metrics.exceeded_sample_limit.increment(1);
                return Err("sample limit exceeded".to_owned());
            }
        }
        Ok(())
    }
}
