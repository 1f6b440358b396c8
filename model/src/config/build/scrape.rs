//! `scrape_configs`.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::global::{Global, Limits};
use super::http::HttpDefaults;
use super::scalars::filled_duration;
use super::{Builder, Mode};
use crate::config::raw::{Given, List, RawDuration, RawScrapeConfig, Text};
use crate::config::remarks::{self, Stage};
use crate::config::report::Spot;
use crate::config::{
    NameEscaping, NameValidation, Scheme, ScrapeConfig, ScrapeLimits, ScrapeProtocol, hash, hints,
};
use crate::duration::format_duration;

impl Builder<'_> {
    /// One job. `None` where it has no name.
    pub(super) fn job(&mut self, raw: &RawScrapeConfig, spot: Spot, global: &Global) -> Option<ScrapeConfig> {
        let errors_before = self.report.errors();
        let job_name = self.job_name(raw, spot);
        let shared = &raw.shared;
        let (scrape_interval, scrape_timeout) = self.interval_and_timeout(raw, global);
        let scrape_native_histograms =
            Self::inherited(&shared.scrape_native_histograms, global.scrape_native_histograms);
        let (validation, escaping) = self.names(raw, global);
        let scrape_protocols = match self.protocols(&shared.scrape_protocols) {
            Some(protocols) => protocols,
            None => match &global.scrape_protocols {
                Some(protocols) => protocols.clone(),
                None => ScrapeProtocol::defaults(scrape_native_histograms),
            },
        };
        let fallback_scrape_protocol = match &raw.fallback_scrape_protocol {
            Given::Is(text, spot) if !text.is_empty() => self.protocol(text, *spot),
            _ => None,
        };
        if let Some(spot) = super::http::filled(&shared.scrape_failure_log_file) {
            self.server_keys.push(("scrape_configs.scrape_failure_log_file", spot));
        }
        let with_instance = remarks::may_come_with_instance(raw);
        let relabel = self.rules(&raw.relabel_configs, validation, Stage::Target { with_instance });
        let mut job = ScrapeConfig {
            job_name: job_name.unwrap_or_default(),
            scrape_interval,
            scrape_timeout,
            honor_labels: self.bool(&raw.honor_labels, false),
            honor_timestamps: self.bool(&raw.honor_timestamps, true),
            track_timestamps_staleness: self.bool(&raw.track_timestamps_staleness, false),
            params: self.params(raw),
            metrics_path: self.metrics_path(raw),
            scheme: self.scheme(&raw.scheme),
            scrape_protocols,
            fallback_scrape_protocol,
            enable_compression: self.bool(&raw.enable_compression, true),
            scrape_native_histograms,
            always_scrape_classic_histograms: Self::inherited(
                &shared.always_scrape_classic_histograms,
                global.always_scrape_classic_histograms,
            ),
            convert_classic_histograms_to_nhcb: Self::inherited(
                &shared.convert_classic_histograms_to_nhcb,
                global.convert_classic_histograms_to_nhcb,
            ),
            extra_scrape_metrics: Self::inherited(&shared.extra_scrape_metrics, global.extra_scrape_metrics),
            metric_name_validation_scheme: validation,
            metric_name_escaping_scheme: escaping,
            limits: limits(raw, global),
            http: self.http_client(&raw.http, HttpDefaults::SCRAPE, spot),
            http_written: super::http::written(&raw.http),
            relabel,
            metric_relabel: self.rules(&raw.metric_relabel_configs, validation, Stage::Metric),
            discovery: self.discoveries(raw),
            scraper_hash: 0,
        };
        job.scraper_hash = hash::scraper_hash(&job);
        remarks::without_targets(self.report, spot, raw);
        if self.report.errors() == errors_before {
            self.static_targets(&job, raw);
            if self.mode == Mode::Check {
                self.target_files(&job, raw);
            }
        }
        (!job.job_name.is_empty()).then_some(job)
    }

    fn job_name(&mut self, raw: &RawScrapeConfig, spot: Spot) -> Option<String> {
        match &raw.job_name {
            Given::Is(name, name_spot) if !name.is_empty() => {
                self.job_name_is_free(name, *name_spot, spot);
                Some(name.to_string())
            }
            Given::Broken(_) => None,
            other => {
                self.report
                    .error(other.spot().unwrap_or(spot), "a job without job_name")
                    .hint("add a name that no other job has, such as job_name: node");
                None
            }
        }
    }

    fn interval_and_timeout(&mut self, raw: &RawScrapeConfig, global: &Global) -> (Duration, Duration) {
        let raw = &raw.shared;
        let own_interval = filled_duration(&raw.scrape_interval);
        let interval = own_interval.map_or(global.scrape_interval, |interval| interval.value);
        let Some(timeout) = filled_duration(&raw.scrape_timeout) else {
            return (interval, global.scrape_timeout.min(interval));
        };
        if let Some(spot) = raw.scrape_timeout.spot()
            && !raw.scrape_interval.is_broken()
        {
            self.timeout_fits(timeout, interval, own_interval, spot);
        }
        (interval, timeout.value)
    }

    /// Reports a timeout that is longer than the interval; `own_interval`: how that is written in the same section.
    pub(super) fn timeout_fits(
        &mut self,
        timeout: &RawDuration,
        interval: Duration,
        own_interval: Option<&RawDuration>,
        spot: Spot,
    ) {
        if timeout.value > interval {
            let interval = own_interval.map_or(format_duration(interval), |own| own.written.to_string());
            let timeout = &timeout.written;
            self.report
                .error(
                    spot,
                    format!("the scrape timeout is longer than the scrape interval, which is {interval}"),
                )
                .value(timeout)
                .hint(format!("lower scrape_timeout to {interval}, or raise scrape_interval to {timeout}"));
        }
    }

    /// `scrape_protocols`, `None` where nothing is said.
    pub(super) fn protocols(&mut self, raw: &Given<List<Text>>) -> Option<Vec<ScrapeProtocol>> {
        let Given::Is(list, spot) = raw else { return None };
        let mut protocols = Vec::new();
        let mut seen = HashSet::new();
        for item in list.iter() {
            match item {
                Given::Is(text, spot) => {
                    if !seen.insert(text) {
                        self.report
                            .error(*spot, "a protocol that stands in the list twice")
                            .value(text)
                            .hint("remove one of the two");
                        continue;
                    }
                    protocols.extend(self.protocol(text, *spot));
                }
                Given::Null(spot) => self.empty_item(*spot, "protocol"),
                Given::Absent | Given::Broken(_) => {}
            }
        }
        if list.is_empty() {
            self.report
                .error(*spot, "the list of protocols is empty")
                .hint("name one at least, or remove the key for the default");
        }
        Some(protocols)
    }

    fn protocol(&mut self, text: &str, spot: Spot) -> Option<ScrapeProtocol> {
        if text == "OpenMetricsText2.0.0" {
            self.report
                .warning(spot, "promring does not ask for OpenMetrics 2.0 yet; this entry is left out")
                .hint("list OpenMetricsText1.0.0 as well");
            return None;
        }
        let choices = ScrapeProtocol::ALL.map(|protocol| (protocol.as_str(), protocol));
        if let Some(name) = hints::scrape_protocol(text) {
            self.report
                .error(spot, "not a scrape protocol")
                .value(text)
                .hint(format!("write {name}: protocols have names of their own here"));
            return None;
        }
        self.one_of(spot, text, &choices, "scrape protocol")
    }

    pub(super) fn validation(&mut self, raw: &Given<Text>) -> Option<NameValidation> {
        match raw {
            Given::Is(text, spot) if !text.is_empty() => {
                let choices = [("utf8", NameValidation::Utf8), ("legacy", NameValidation::Legacy)];
                self.one_of(*spot, text, &choices, "validation scheme")
            }
            _ => None,
        }
    }

    pub(super) fn escaping(&mut self, raw: &Given<Text>) -> Option<NameEscaping> {
        let choices = [
            ("allow-utf-8", NameEscaping::AllowUtf8),
            ("underscores", NameEscaping::Underscores),
            ("dots", NameEscaping::Dots),
            ("values", NameEscaping::Values),
        ];
        match raw {
            Given::Is(text, spot) if !text.is_empty() => {
                self.one_of(*spot, text, &choices, "name escaping scheme")
            }
            _ => None,
        }
    }

    /// Which names are valid in a job and how others are asked to be escaped. A job that says only the one
    /// gets the other that fits it; a job that says neither has both from `global`.
    fn names(&mut self, raw: &RawScrapeConfig, global: &Global) -> (NameValidation, NameEscaping) {
        let own = self.validation(&raw.shared.metric_name_validation_scheme);
        let validation = own.unwrap_or(global.validation);
        let own_escaping = self.escaping(&raw.shared.metric_name_escaping_scheme);
        let escaping = own_escaping.unwrap_or(match own {
            None => global.escaping,
            Some(NameValidation::Legacy) => NameEscaping::Underscores,
            Some(NameValidation::Utf8) => NameEscaping::AllowUtf8,
        });
        if escaping == NameEscaping::AllowUtf8 && validation == NameValidation::Legacy {
            let spot =
                raw.shared.metric_name_escaping_scheme.spot().or(raw.job_name.spot()).unwrap_or_default();
            self.report
                .error(spot, "UTF-8 names are asked for, but metric_name_validation_scheme is legacy")
                .hint("set metric_name_escaping_scheme to underscores, or the validation scheme to utf8");
        }
        (validation, escaping)
    }

    fn params(&mut self, raw: &RawScrapeConfig) -> BTreeMap<String, Vec<String>> {
        let Some(params) = raw.params.get() else { return BTreeMap::new() };
        params.iter().map(|pair| (pair.name.to_string(), self.texts(&pair.value))).collect()
    }

    fn metrics_path(&mut self, raw: &RawScrapeConfig) -> String {
        let path = self.text(&raw.metrics_path, "/metrics");
        if let Some(spot) = raw.metrics_path.spot() {
            remarks::metrics_path(self.report, spot, &path);
        }
        path
    }

    fn scheme(&mut self, raw: &Given<Text>) -> Scheme {
        match raw {
            Given::Is(text, spot) => {
                let choices = [("http", Scheme::Http), ("https", Scheme::Https)];
                // Those of URLs may be in whatever letters.
                let known = choices.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
                match known {
                    Some((_, scheme)) => *scheme,
                    None => self.one_of(*spot, text, &choices, "scheme").unwrap_or_default(),
                }
            }
            Given::Null(spot) => {
                self.report
                    .error(*spot, "a scheme is missing")
                    .hint("write http or https, or remove the key");
                Scheme::Http
            }
            Given::Absent | Given::Broken(_) => Scheme::Http,
        }
    }
}

fn limits(raw: &RawScrapeConfig, global: &Global) -> ScrapeLimits {
    let own = Limits::new(&raw.shared);
    // A limit of 0 is inherited, so a job cannot lift one.
    let limit = |own: u64, global: u64| Some(if own == 0 { global } else { own }).filter(|&limit| limit > 0);
    // Where nothing is said, the scraper's own limit holds; 0 in either place says that none should.
    let unlimited = || (own.body_size_is_zero || global.limits.body_size_is_zero).then_some(u64::MAX);
    let factor = raw.native_histogram_min_bucket_factor.get().copied().unwrap_or(0.0);
    ScrapeLimits {
        body_size: limit(own.body_size, global.limits.body_size).or_else(unlimited),
        samples: limit(own.samples, global.limits.samples),
        targets: limit(own.targets, global.limits.targets),
        labels: limit(own.labels, global.limits.labels),
        label_name_length: limit(own.label_name_length, global.limits.label_name_length),
        label_value_length: limit(own.label_value_length, global.limits.label_value_length),
        keep_dropped_targets: limit(own.keep_dropped_targets, global.limits.keep_dropped_targets),
        native_histogram_buckets: limit(raw.native_histogram_bucket_limit.get().copied().unwrap_or(0), 0),
        native_histogram_min_bucket_factor_micro: (factor > 0.0)
            .then_some((factor * 1_000_000.0).round() as u64),
    }
}
