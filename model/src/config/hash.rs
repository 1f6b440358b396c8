//! Hashes over settings: what a scraper owns of a job, the name of a destination that has none, and whether two are alike.
//!
//! These hashes are shown and sent, so a secret goes into them with 16 bits only: enough to see that it
//! changed (all but once in 65,536 times), too little to find it out by trying.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    Auth, HttpClientConfig, MetadataConfig, NameEscaping, NameValidation, ProtobufMessage, ProxyConfig,
    QueueConfig, RemoteWrite, ScrapeConfig, ScrapeLimits, Secret, SecretSource, ServerUrl, TlsConfig,
    TlsVersion,
};
use crate::hash::{FieldHasher, hash64};
use crate::relabel::{RuleSpec, Rules};

/// Changes when the order or the meaning of the fields below does.
const VERSION: &[u8] = b"promring settings 1";

/// The hash over everything of a job that the scraper goes by. What the allocator owns is left out: discovery,
/// relabel_configs, interval and timeout, target_limit and keep_dropped_targets.
pub(crate) fn scraper_hash(job: &ScrapeConfig) -> u64 {
    // Destructured in full, so that a new setting is not forgotten here.
    let ScrapeConfig {
        job_name,
        scrape_interval: _,
        scrape_timeout: _,
        honor_labels,
        honor_timestamps,
        track_timestamps_staleness,
        params,
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
        http,
        http_written: _,
        relabel: _,
        metric_relabel,
        discovery: _,
        scraper_hash: _,
    } = job;
    let mut out = Settings::new();
    out.text(job_name);
    for flag in [
        honor_labels,
        honor_timestamps,
        track_timestamps_staleness,
        enable_compression,
        scrape_native_histograms,
        always_scrape_classic_histograms,
        convert_classic_histograms_to_nhcb,
        extra_scrape_metrics,
    ] {
        out.flag(*flag);
    }
    // First values travel as labels, but the others only stand here.
    out.number(params.len() as u64);
    for (name, values) in params {
        out.text(name).texts(values);
    }
    out.number(scrape_protocols.len() as u64);
    for protocol in scrape_protocols {
        out.text(protocol.as_str());
    }
    out.text(fallback_scrape_protocol.map_or("", super::ScrapeProtocol::as_str));
    out.text(match metric_name_validation_scheme {
        NameValidation::Utf8 => "utf8",
        NameValidation::Legacy => "legacy",
    });
    out.text(match metric_name_escaping_scheme {
        NameEscaping::AllowUtf8 => "allow-utf-8",
        NameEscaping::Underscores => "underscores",
        NameEscaping::Dots => "dots",
        NameEscaping::Values => "values",
    });
    out.limits(limits).http(http).rules(metric_relabel);
    out.0.finish64()
}

/// The name of a destination without one: six hexadecimal digits of a hash over where its samples go and on whose behalf. Its
/// queue goes by it, so that whatever else is changed (a password, a timeout, a rule) leaves the queue where it is.
pub(crate) fn remote_write_name(write: &RemoteWrite) -> String {
    let mut url = url::Url::clone(&write.url);
    // Where a password cannot be taken off, there is none.
    let _without = url.set_password(None);
    let mut out = Settings::new();
    out.text(url.as_str()).map(&write.headers).headers(&write.http.http_headers);
    match &write.http.auth {
        Some(Auth::Basic { username, .. }) => out.source(username.as_ref()),
        Some(Auth::OAuth2(oauth2)) => out.text(&oauth2.client_id),
        Some(Auth::Authorization { .. }) | None => &mut out,
    };
    format!("{:06x}", out.0.finish64() >> 40)
}

/// A hash over all settings of a destination but its name.
pub(crate) fn remote_write_hash(write: &RemoteWrite) -> u64 {
    let RemoteWrite {
        name: _,
        url,
        remote_timeout,
        headers,
        write_relabel,
        send_exemplars,
        send_native_histograms,
        protobuf_message,
        queue,
        metadata,
        http,
    } = write;
    let mut out = Settings::new();
    out.url(Some(url)).duration(*remote_timeout).map(headers).rules(write_relabel);
    out.flag(*send_exemplars).flag(*send_native_histograms);
    out.text(match protobuf_message {
        ProtobufMessage::V1 => "1",
        ProtobufMessage::V2 => "2",
    });
    let QueueConfig {
        capacity,
        max_shards,
        min_shards,
        max_samples_per_send,
        batch_send_deadline,
        min_backoff,
        max_backoff,
        retry_on_http_429,
        sample_age_limit,
    } = queue;
    for count in [capacity, max_shards, min_shards, max_samples_per_send] {
        out.number(*count as u64);
    }
    for duration in [batch_send_deadline, min_backoff, max_backoff, sample_age_limit] {
        out.duration(*duration);
    }
    out.flag(*retry_on_http_429);
    let MetadataConfig { send, send_interval, max_samples_per_send } = metadata;
    out.flag(*send).duration(*send_interval).number(*max_samples_per_send as u64).http(http);
    out.0.finish64()
}

/// Settings as a sequence of fields.
struct Settings(FieldHasher);

impl Settings {
    fn new() -> Self {
        let mut hasher = FieldHasher::new();
        hasher.field(VERSION);
        Self(hasher)
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.0.field(text.as_bytes());
        self
    }

    fn texts(&mut self, texts: &[String]) -> &mut Self {
        self.number(texts.len() as u64);
        texts.iter().fold(self, |out, text| out.text(text))
    }

    fn map(&mut self, map: &BTreeMap<String, String>) -> &mut Self {
        self.number(map.len() as u64);
        map.iter().fold(self, |out, (name, value)| out.text(name).text(value))
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.0.field(&number.to_le_bytes());
        self
    }

    fn flag(&mut self, flag: bool) -> &mut Self {
        self.number(u64::from(flag))
    }

    fn duration(&mut self, duration: Duration) -> &mut Self {
        self.number(duration.as_millis() as u64)
    }

    fn url(&mut self, url: Option<&ServerUrl>) -> &mut Self {
        let Some(url) = url else { return self.flag(false) };
        // A password in a URL is a secret like any other.
        let mut bare = url::Url::clone(url);
        let password = Secret::new(url.password().unwrap_or_default().to_owned());
        if bare.set_password(None).is_err() {
            return self.flag(true).text(bare.as_str());
        }
        self.flag(true).text(bare.as_str()).secret(&password)
    }

    fn secret(&mut self, secret: &Secret) -> &mut Self {
        let digest = hash64(secret.expose().as_bytes());
        self.number(digest & 0xffff)
    }

    fn source(&mut self, source: Option<&SecretSource>) -> &mut Self {
        match source {
            None => self.number(0),
            Some(SecretSource::Inline(secret)) => self.number(1).secret(secret),
            Some(SecretSource::File(path)) => self.number(2).text(&path.to_string_lossy()),
        }
    }

    fn limits(&mut self, limits: &ScrapeLimits) -> &mut Self {
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
        for limit in [
            body_size,
            samples,
            labels,
            label_name_length,
            label_value_length,
            native_histogram_buckets,
            native_histogram_min_bucket_factor_micro,
        ] {
            self.number(limit.unwrap_or(0));
        }
        self
    }

    fn http(&mut self, http: &HttpClientConfig) -> &mut Self {
        let HttpClientConfig { auth, tls, follow_redirects, enable_http2, proxy, http_headers } = http;
        match auth {
            None => self.text("none"),
            Some(Auth::Basic { username, password }) => {
                self.text("basic").source(username.as_ref()).source(password.as_ref())
            }
            Some(Auth::Authorization { scheme, credentials }) => {
                self.text("authorization").text(scheme).source(credentials.as_ref())
            }
            Some(Auth::OAuth2(oauth2)) => self
                .text("oauth2")
                .text(&oauth2.client_id)
                .source(oauth2.client_secret.as_ref())
                .texts(&oauth2.scopes)
                .url(Some(&oauth2.token_url))
                .map(&oauth2.endpoint_params)
                .tls(&oauth2.tls)
                .proxy(&oauth2.proxy),
        };
        self.tls(tls).flag(*follow_redirects).flag(*enable_http2).proxy(proxy).headers(http_headers)
    }

    fn headers(&mut self, headers: &BTreeMap<String, Vec<SecretSource>>) -> &mut Self {
        self.number(headers.len() as u64);
        for (name, values) in headers {
            self.text(name).number(values.len() as u64);
            for value in values {
                self.source(Some(value));
            }
        }
        self
    }

    fn tls(&mut self, tls: &TlsConfig) -> &mut Self {
        let TlsConfig { ca, cert, key, server_name, insecure_skip_verify, min_version, max_version } = tls;
        let version = |version: Option<TlsVersion>| match version {
            None => 0,
            Some(TlsVersion::Tls12) => 12,
            Some(TlsVersion::Tls13) => 13,
        };
        self.source(ca.as_ref())
            .source(cert.as_ref())
            .source(key.as_ref())
            .text(server_name.as_deref().unwrap_or_default())
            .flag(*insecure_skip_verify)
            .number(version(*min_version))
            .number(version(*max_version))
    }

    fn proxy(&mut self, proxy: &ProxyConfig) -> &mut Self {
        let ProxyConfig { url, no_proxy, from_environment, connect_headers } = proxy;
        self.url(url.as_ref()).text(no_proxy).flag(*from_environment).number(connect_headers.len() as u64);
        for (name, values) in connect_headers {
            self.text(name).number(values.len() as u64);
            for value in values {
                self.secret(value);
            }
        }
        self
    }

    fn rules(&mut self, rules: &Rules) -> &mut Self {
        self.number(rules.len() as u64);
        for rule in rules.iter() {
            let RuleSpec { source_labels, separator, target_label, regex, modulus, replacement, action } =
                rule.spec();
            match source_labels {
                None => self.flag(false),
                Some(names) => self.flag(true).texts(names),
            };
            for text in [separator, target_label, regex, replacement, action] {
                match text {
                    None => self.flag(false),
                    Some(text) => self.flag(true).text(text),
                };
            }
            self.number(modulus.unwrap_or(0));
        }
        self
    }
}
