//! `remote_write`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Builder;
use super::global::Global;
use super::http::HttpDefaults;
use crate::config::raw::{
    Given, List, RawDuration, RawMetadataConfig, RawQueueConfig, RawRemoteWrite, Section,
};
use crate::config::remarks::{self, Stage};
use crate::config::report::Spot;
use crate::config::{MetadataConfig, ProtobufMessage, QueueConfig, RemoteWrite, hash};
use crate::duration::format_duration;

/// `remote_timeout` where nothing is said.
const REMOTE_TIMEOUT: Duration = Duration::from_secs(30);

impl Builder<'_> {
    pub(super) fn remote_writes(
        &mut self,
        raw: &Given<List<RawRemoteWrite>>,
        global: &Global,
    ) -> Vec<Arc<RemoteWrite>> {
        let mut all: Vec<Arc<RemoteWrite>> = Vec::new();
        let mut names: HashMap<String, u32> = HashMap::new();
        let mut unnamed: HashMap<String, (Spot, u64)> = HashMap::new();
        for item in self.items(raw) {
            let (item, spot) = match item {
                Given::Is(item, spot) => (item, *spot),
                Given::Null(spot) => {
                    self.empty_item(*spot, RawRemoteWrite::NAME);
                    continue;
                }
                Given::Absent | Given::Broken(_) => continue,
            };
            let Some(mut write) = self.remote_write(item, spot, global) else { continue };
            if write.name.is_empty() {
                write.name = hash::remote_write_name(&write);
                let settings = hash::remote_write_hash(&write);
                match unnamed.get(&write.name) {
                    Some((first, hash)) => {
                        self.two_without_a_name(&write, *first, spot, *hash == settings);
                        all.push(Arc::new(write));
                        continue;
                    }
                    None => unnamed.insert(write.name.clone(), (spot, settings)),
                };
            }
            let name_spot = item.name.spot().unwrap_or(spot);
            if let Some(line) = names.insert(write.name.clone(), name_spot.line) {
                self.report
                    .error(
                        name_spot,
                        format!(
                            "a second remote_write of the name {}; the first is on line {line}",
                            write.name
                        ),
                    )
                    .value(&write.name)
                    .hint("give each a name of its own");
            }
            all.push(Arc::new(write));
        }
        all
    }

    /// Reports a second destination without a name that goes where the first one goes, by the same headers and as the same user. Both
    /// would have one queue; numbers by their places would mix the queues up once one of them is taken out, or they are swapped.
    fn two_without_a_name(&mut self, write: &RemoteWrite, first: Spot, second: Spot, alike: bool) {
        let place = |spot: Spot| format!("line {}, column {}", spot.line, spot.column);
        let (first, at) = (place(first), place(second));
        let (message, hint) = if alike {
            (
                format!(
                    "a second remote_write without a name, with the same settings: the first stands at {first}, the second at {at}; Prometheus says when it starts: duplicate remote write configs are not allowed"
                ),
                "give each a name of its own (name: …) if its samples are to be sent twice, or remove one of the two",
            )
        } else {
            (
                format!(
                    "a second remote_write without a name to the same URL, with the same headers and the same user: the first stands at {first}, the second at {at}; nothing but a name tells their queues apart"
                ),
                "give each a name of its own (name: …)",
            )
        };
        self.report.error(second, message).value(&write.url.to_string()).hint(hint);
    }

    fn remote_write(&mut self, raw: &RawRemoteWrite, spot: Spot, global: &Global) -> Option<RemoteWrite> {
        let url = self.required(&raw.url, spot, "url", RawRemoteWrite::NAME);
        let url_spot = raw.url.spot().unwrap_or(spot);
        let url = url.and_then(|text| self.http_url(&text, url_spot));
        if let Some(url) = &url {
            remarks::remote_write_url(self.report, url_spot, url);
        }
        self.remote_write_without(raw);
        let headers = self.text_map(&raw.headers);
        for pair in raw.headers.get().into_iter().flat_map(|headers| headers.iter()) {
            self.header_is_free(&pair.name, pair.spot);
            if let Given::Is(value, spot) = &pair.value
                && value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control())
            {
                // Not shown: it may be a token.
                self.report
                    .error(*spot, "the header's value holds a line break or another control character")
                    .hint("write it in one line; a block text (|) ends in a line break, and |- does not");
            }
        }
        let protobuf_message = match &raw.protobuf_message {
            Given::Is(text, spot) => {
                let choices = [
                    ("prometheus.WriteRequest", ProtobufMessage::V1),
                    ("io.prometheus.write.v2.Request", ProtobufMessage::V2),
                ];
                self.one_of(*spot, text, &choices, "protobuf message")
            }
            Given::Null(spot) => {
                self.report
                    .error(*spot, "a message is missing")
                    .hint("remove the key for prometheus.WriteRequest");
                None
            }
            Given::Absent | Given::Broken(_) => None,
        };
        let write_relabel = self.rules(&raw.write_relabel_configs, global.validation, Stage::Write);
        Some(RemoteWrite {
            name: self.text(&raw.name, ""),
            remote_timeout: self.duration(&raw.remote_timeout, REMOTE_TIMEOUT),
            headers,
            write_relabel,
            send_exemplars: self.bool(&raw.send_exemplars, false),
            send_native_histograms: self.bool(&raw.send_native_histograms, false),
            protobuf_message: protobuf_message.unwrap_or_default(),
            queue: self.queue_config(&raw.queue_config),
            metadata: self.metadata_config(&raw.metadata_config),
            http: self.http_client(&raw.http, HttpDefaults::REMOTE_WRITE, spot),
            url: url?,
        })
    }

    /// What Prometheus has and we have not.
    fn remote_write_without(&mut self, raw: &RawRemoteWrite) {
        for (name, given) in
            [("sigv4", &raw.sigv4), ("azuread", &raw.azuread), ("google_iam", &raw.google_iam)]
        {
            if let Given::Is(_, spot) = given {
                self.report
                    .error(*spot, format!("promring has no {name}"))
                    .hint("send to a proxy that signs requests, such as an OpenTelemetry Collector beside the scraper");
            }
        }
        for (name, given) in [
            ("round_robin_dns", &raw.round_robin_dns),
            ("failed_request_logging", &raw.failed_request_logging),
        ] {
            if let Given::Is(true, spot) = given {
                self.report.warning(*spot, format!("{name} has no effect here"));
            }
        }
    }

    fn queue_config(&mut self, raw: &Given<Box<RawQueueConfig>>) -> QueueConfig {
        let default = Box::default();
        let section = raw.spot().unwrap_or_default();
        let raw = raw.get().unwrap_or(&default);
        let queue = QueueConfig {
            capacity: self.count(&raw.capacity, 10_000, "capacity"),
            max_shards: self.count(&raw.max_shards, 50, "max_shards"),
            min_shards: self.count(&raw.min_shards, 1, "min_shards"),
            max_samples_per_send: self.count(&raw.max_samples_per_send, 2_000, "max_samples_per_send"),
            batch_send_deadline: self.duration(&raw.batch_send_deadline, Duration::from_secs(5)),
            min_backoff: self.duration(&raw.min_backoff, Duration::from_millis(30)),
            max_backoff: self.duration(&raw.max_backoff, Duration::from_secs(5)),
            // A listed divergence: in Prometheus unset means false, which loses data under rate limits.
            retry_on_http_429: raw.retry_on_http_429.get().copied().unwrap_or(true),
            sample_age_limit: self.duration(&raw.sample_age_limit, Duration::ZERO),
        };
        if queue.min_shards > queue.max_shards {
            let spot = raw.min_shards.spot().or(raw.max_shards.spot()).unwrap_or(section);
            self.report
                .error(spot, "min_shards is greater than max_shards")
                .value(&queue.min_shards.to_string())
                .hint(format!("max_shards is {}", queue.max_shards));
        }
        if queue.max_backoff < queue.min_backoff {
            let (min, max) = (
                as_written(&raw.min_backoff, queue.min_backoff),
                as_written(&raw.max_backoff, queue.max_backoff),
            );
            // One of the two is there, as the defaults are in order.
            let finding = match &raw.max_backoff {
                Given::Absent => {
                    let spot = raw.min_backoff.spot().unwrap_or(section);
                    self.report.error(spot, "min_backoff is longer than max_backoff").value(&min)
                }
                max_backoff => {
                    let spot = max_backoff.spot().unwrap_or(section);
                    self.report.error(spot, "max_backoff is shorter than min_backoff").value(&max)
                }
            };
            finding.hint(match (&raw.min_backoff, &raw.max_backoff) {
                (Given::Absent, _) => format!("the default of min_backoff is {min}: write a longer max_backoff, or a shorter min_backoff"),
                (_, Given::Absent) => format!("the default of max_backoff is {max}: write a shorter min_backoff, or a longer max_backoff"),
                _ => format!("min_backoff is {min}"),
            });
        }
        queue
    }

    fn metadata_config(&mut self, raw: &Given<Box<RawMetadataConfig>>) -> MetadataConfig {
        if let Given::Null(spot) = raw {
            self.report
                .warning(
                    *spot,
                    "an empty metadata_config means its defaults here; Prometheus takes it as send: false",
                )
                .hint("write send: false, or remove the key");
        }
        let default = Box::default();
        let raw = raw.get().unwrap_or(&default);
        MetadataConfig {
            send: self.bool(&raw.send, true),
            send_interval: self.duration(&raw.send_interval, Duration::from_secs(60)),
            max_samples_per_send: self.count(&raw.max_samples_per_send, 2_000, "max_samples_per_send"),
        }
    }

    /// A number that must be positive.
    fn count(&mut self, given: &Given<i64>, default: usize, key: &str) -> usize {
        let (value, spot) = match given {
            Given::Is(value, spot) => (*value, *spot),
            Given::Null(spot) => (0, *spot),
            Given::Absent | Given::Broken(_) => return default,
        };
        match usize::try_from(value) {
            Ok(count) if count > 0 => count,
            _ => {
                self.report
                    .error(spot, format!("{key} must be positive"))
                    .value(&value.to_string())
                    .hint(format!("the default is {default}"));
                default
            }
        }
    }
}

/// A duration as it stands in the file, or what holds where it does not.
fn as_written(given: &Given<RawDuration>, value: Duration) -> String {
    given.get().map_or_else(|| format_duration(value), |duration| duration.written.to_string())
}
