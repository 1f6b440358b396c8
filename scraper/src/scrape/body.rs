//! How a target's body is read: its format, what is made of histograms, and how many samples it may have.

use promring_model::config::ScrapeConfig;
use promring_model::target::{
    ALWAYS_SCRAPE_CLASSIC_HISTOGRAMS, CONVERT_CLASSIC_HISTOGRAMS, SCRAPE_NATIVE_HISTOGRAMS, Target,
};

use crate::parse::Format;
use crate::parse::protobuf::HistogramOptions;

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
