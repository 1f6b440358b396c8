//! A job as the configuration gives it, with Prometheus's defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use promring_model::config::{
    HttpClientConfig, NameEscaping, NameValidation, Scheme, ScrapeConfig, ScrapeLimits, Written,
};
use promring_model::relabel::{Rule, RuleSpec, Rules};

pub(crate) fn job(name: &str, interval: Duration) -> ScrapeConfig {
    ScrapeConfig {
        job_name: name.to_owned(),
        scrape_interval: interval,
        scrape_timeout: interval,
        honor_labels: false,
        honor_timestamps: true,
        track_timestamps_staleness: false,
        params: BTreeMap::new(),
        metrics_path: "/metrics".to_owned(),
        scheme: Scheme::Http,
        scrape_protocols: Vec::new(),
        fallback_scrape_protocol: None,
        enable_compression: true,
        scrape_native_histograms: false,
        always_scrape_classic_histograms: false,
        convert_classic_histograms_to_nhcb: false,
        extra_scrape_metrics: false,
        metric_name_validation_scheme: NameValidation::Utf8,
        metric_name_escaping_scheme: NameEscaping::AllowUtf8,
        limits: ScrapeLimits::default(),
        http: HttpClientConfig::default(),
        http_written: Written::default(),
        relabel: Rules::default(),
        metric_relabel: Rules::default(),
        discovery: Vec::new(),
        scraper_hash: 0,
    }
}

/// A rule of this action over these source labels, with this regex and target label; empty ones are left out.
pub(crate) fn rule(action: &str, source: &[&str], regex: &str, target: &str) -> Rule {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let source: Vec<String> = source.iter().map(|&label| label.to_owned()).collect();
    let spec = RuleSpec {
        source_labels: (!source.is_empty()).then_some(source),
        regex: given(regex),
        target_label: given(target),
        action: given(action),
        ..RuleSpec::default()
    };
    Rule::compile(&spec, NameValidation::Utf8).unwrap()
}
