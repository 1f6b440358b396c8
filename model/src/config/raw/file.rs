//! The file itself, `global`, and files that `scrape_config_files` names.

use super::{
    Ignored, List, Map, RawAllocator, RawDuration, RawRemoteWrite, RawScrapeConfig, RawScraper, Size, Text,
    Unused, section,
};

section! {
    /// A whole file.
    RawFile as "the configuration file" {
        global: RawGlobal,
        scrape_config_files: List<Text>,
        scrape_configs: List<RawScrapeConfig>,
        remote_write: List<RawRemoteWrite>,
        allocator: RawAllocator,
        scraper: RawScraper,
        // What belongs to a Prometheus server. What stands in its sections is not looked at: other versions have other keys.
        runtime: Unused<Map<Ignored>>,
        alerting: Unused<Map<Ignored>>,
        rule_files: Unused<List<Text>>,
        storage: Unused<Map<Ignored>>,
        tracing: Unused<Map<Ignored>>,
        remote_read: Unused<List<Map<Ignored>>>,
        otlp: Unused<Map<Ignored>>,
    }
}

section! {
    /// A file that `scrape_config_files` names.
    RawScrapeConfigFile as "a file of scrape_config_files" {
        scrape_configs: List<RawScrapeConfig>,
    }
}

section! {
    /// `global`.
    RawGlobal as "global" {
        external_labels: Map<Text>,
        // What belongs to a Prometheus server.
        evaluation_interval: RawDuration,
        rule_query_offset: RawDuration,
        query_log_file: Text,
    }
    inline { shared: RawScrapeShared, }
}

section! {
    /// What a job inherits from `global` where it says nothing itself.
    RawScrapeShared as "global" {
        scrape_interval: RawDuration,
        scrape_timeout: RawDuration,
        scrape_protocols: List<Text>,
        scrape_failure_log_file: Text,
        body_size_limit: Size,
        sample_limit: u64,
        target_limit: u64,
        label_limit: u64,
        label_name_length_limit: u64,
        label_value_length_limit: u64,
        keep_dropped_targets: u64,
        metric_name_validation_scheme: Text,
        metric_name_escaping_scheme: Text,
        scrape_native_histograms: bool,
        convert_classic_histograms_to_nhcb: bool,
        always_scrape_classic_histograms: bool,
        extra_scrape_metrics: bool,
    }
}
