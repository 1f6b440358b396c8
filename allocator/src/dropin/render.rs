//! Jobs as Prometheus's configuration, in JSON that every YAML parser takes.
//!
//! A client appends them to its own file, where it has defaults of its own. Targets carry final labels, so that rules for
//! targets are left out, as is whatever is told by labels. Of settings only those are written that are not Prometheus's
//! defaults: a client fails as a whole at a key that it does not know, and an older one knows fewer.

use std::fmt::Write;

use bytes::Bytes;
use promring_model::config::{
    NameEscaping, NameValidation, ScrapeConfig, ScrapeLimits, ScrapeProtocol, Written,
};
use promring_model::duration::format_duration;
use promring_model::relabel::{RuleSpec, Rules};
use serde_json::{Map, Value, json};

/// A key of YAML that is longer than this many characters is none, and would spoil the whole answer.
const KEY_CHARS_MAX: usize = 1_000;

/// Whether the job's name, and those that it makes keys of, can be written as keys.
pub(crate) fn has_valid_names(config: &ScrapeConfig) -> bool {
    let fits = |name: &str| name.chars().count() <= KEY_CHARS_MAX;
    fits(&config.job_name) && config.params.keys().all(|name| fits(name)) && keys_fit(&config.http_written)
}

fn keys_fit(written: &Written) -> bool {
    match written {
        Written::Bool(_) | Written::Text(_) | Written::Secret(_) => true,
        Written::List(items) => items.iter().all(keys_fit),
        Written::Map(pairs) => {
            pairs.iter().all(|(key, value)| key.chars().count() <= KEY_CHARS_MAX && keys_fit(value))
        }
    }
}

/// Whether a scraper needs more to scrape the job as it is meant than its targets' labels tell.
pub(crate) fn needs_settings(config: &ScrapeConfig) -> bool {
    // Of a parameter the first value is a label.
    let by_labels = config.params.values().all(|values| values.len() == 1);
    !by_labels || !settings(config).is_empty() || !config.http_written.is_empty()
}

/// A map of jobs by their names.
pub(crate) fn scrape_configs<'a>(jobs: impl Iterator<Item = &'a ScrapeConfig>) -> Bytes {
    let jobs: Map<String, Value> = jobs.map(|job| (job.job_name.clone(), scrape_config(job))).collect();
    Bytes::from(for_yaml(&Value::Object(jobs).to_string()))
}

/// One job with its secrets. Where its targets come from is for the client to add.
pub(crate) fn scrape_config(config: &ScrapeConfig) -> Value {
    let mut keys = settings(config);
    keys.insert("job_name".to_owned(), json!(config.job_name));
    keys.insert("scrape_interval".to_owned(), json!(format_duration(config.scrape_interval)));
    keys.insert("scrape_timeout".to_owned(), json!(format_duration(config.scrape_timeout)));
    keys.insert("metrics_path".to_owned(), json!(config.metrics_path));
    keys.insert("scheme".to_owned(), json!(config.scheme.as_str()));
    if !config.params.is_empty() {
        keys.insert("params".to_owned(), json!(config.params));
    }
    if let Value::Object(http) = config.http_written.expose_json() {
        keys.extend(http);
    }
    Value::Object(keys)
}

/// What neither labels nor the client block tell, as far as it is not the default.
fn settings(config: &ScrapeConfig) -> Map<String, Value> {
    // Destructured in full, so that a new setting is not forgotten here.
    let ScrapeConfig {
        job_name: _,
        scrape_interval: _,
        scrape_timeout: _,
        honor_labels,
        honor_timestamps,
        track_timestamps_staleness,
        params: _,
        metrics_path: _,
        scheme: _,
        scrape_protocols,
        fallback_scrape_protocol,
        enable_compression,
        scrape_native_histograms,
        always_scrape_classic_histograms,
        convert_classic_histograms_to_nhcb,
        extra_scrape_metrics,
        metric_name_validation_scheme,
        metric_name_escaping_scheme,
        limits,
        http: _,
        http_written: _,
        relabel: _,
        metric_relabel,
        discovery: _,
        scraper_hash: _,
    } = config;
    let mut keys = Map::new();
    for (key, value, default) in [
        ("honor_labels", *honor_labels, false),
        ("honor_timestamps", *honor_timestamps, true),
        ("track_timestamps_staleness", *track_timestamps_staleness, false),
        ("enable_compression", *enable_compression, true),
        ("scrape_native_histograms", *scrape_native_histograms, false),
        ("always_scrape_classic_histograms", *always_scrape_classic_histograms, false),
        ("convert_classic_histograms_to_nhcb", *convert_classic_histograms_to_nhcb, false),
        ("extra_scrape_metrics", *extra_scrape_metrics, false),
    ] {
        if value != default {
            keys.insert(key.to_owned(), json!(value));
        }
    }
    if *scrape_protocols != ScrapeProtocol::defaults(*scrape_native_histograms) {
        let names: Vec<&str> = scrape_protocols.iter().map(|protocol| protocol.as_str()).collect();
        keys.insert("scrape_protocols".to_owned(), json!(names));
    }
    if let Some(protocol) = fallback_scrape_protocol {
        keys.insert("fallback_scrape_protocol".to_owned(), json!(protocol.as_str()));
    }
    let validation = match metric_name_validation_scheme {
        NameValidation::Utf8 => "utf8",
        NameValidation::Legacy => "legacy",
    };
    let escaping = match metric_name_escaping_scheme {
        NameEscaping::AllowUtf8 => "allow-utf-8",
        NameEscaping::Underscores => "underscores",
        NameEscaping::Dots => "dots",
        NameEscaping::Values => "values",
    };
    if (validation, escaping) != ("utf8", "allow-utf-8") {
        keys.insert("metric_name_validation_scheme".to_owned(), json!(validation));
        keys.insert("metric_name_escaping_scheme".to_owned(), json!(escaping));
    }
    keys.extend(limits_of_scrapes(limits));
    if !metric_relabel.is_empty() {
        keys.insert("metric_relabel_configs".to_owned(), rules(metric_relabel));
    }
    keys
}

/// Limits of a scrape. Those over the fleet (`target_limit`, `keep_dropped_targets`) are ours.
fn limits_of_scrapes(limits: &ScrapeLimits) -> Map<String, Value> {
    let ScrapeLimits {
        body_size,
        samples,
        targets: _,
        labels,
        label_name_length,
        label_value_length,
        keep_dropped_targets: _,
        native_histogram_buckets,
        native_histogram_min_bucket_factor_micro,
    } = limits;
    let mut keys = Map::new();
    // No limit is what absence says there.
    if let Some(bytes) = body_size.filter(|&bytes| bytes <= i64::MAX as u64) {
        keys.insert("body_size_limit".to_owned(), json!(format!("{bytes}B")));
    }
    for (key, limit) in [
        ("sample_limit", samples),
        ("label_limit", labels),
        ("label_name_length_limit", label_name_length),
        ("label_value_length_limit", label_value_length),
        ("native_histogram_bucket_limit", native_histogram_buckets),
    ] {
        if let Some(limit) = limit {
            keys.insert(key.to_owned(), json!(limit));
        }
    }
    if let Some(micro) = native_histogram_min_bucket_factor_micro {
        keys.insert("native_histogram_min_bucket_factor".to_owned(), json!(*micro as f64 / 1e6));
    }
    keys
}

fn rules(rules: &Rules) -> Value {
    rules.iter().map(|rule| Value::Object(written_rule(rule.spec()))).collect()
}

fn written_rule(spec: &RuleSpec) -> Map<String, Value> {
    let RuleSpec { source_labels, separator, target_label, regex, modulus, replacement, action } = spec;
    let mut keys = Map::new();
    if let Some(names) = source_labels {
        keys.insert("source_labels".to_owned(), json!(names));
    }
    if let Some(modulus) = modulus {
        keys.insert("modulus".to_owned(), json!(modulus));
    }
    for (key, text) in [
        ("separator", separator),
        ("target_label", target_label),
        ("regex", regex),
        ("replacement", replacement),
        ("action", action),
    ] {
        if let Some(text) = text {
            keys.insert(key.to_owned(), json!(text));
        }
    }
    keys
}

/// JSON that is YAML as well: characters that YAML does not take as they are, or takes for line breaks, become escapes.
/// They stand in texts only.
fn for_yaml(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                // Writing to a String never fails.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yaml_does_not_take_as_it_is_becomes_an_escape() {
        let text = "a\u{85}b\u{2028}c\u{feff}d\u{7f}ü😀";
        let written = for_yaml(&json!({ text: 1 }).to_string());
        assert_eq!(written, "{\"a\\u0085b\\u2028c\\ufeffd\\u007fü😀\":1}");
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), json!({ text: 1 }));
    }
}
