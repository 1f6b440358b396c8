//! The way to one receiver: one attempt to send one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use promring_model::config::RemoteWrite;
use promring_net::client::{ClientError, HttpClient, describe};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};

use super::answer::{Answer, Meaning, Refusal, meaning};
use super::backoff::retry_after;
use super::body_size::BodySize;
use super::lookout::Lookout;
use super::metrics::SendMetrics;
use super::pace::Pace;
use super::refused_series::{FAIR_MAX, RefusedSeries};
use super::versions::{Hinted, Refused, Versions};
use super::written::Written;
use super::{ASIDE_PAUSE, lanes};
use crate::handover::Gate;
use crate::news::News;
use crate::queue::Encoding;

/// Of a receiver's message so much is read and logged.
const MESSAGE_BYTES_MAX: usize = 512;

/// Of a message that names the samples that are not stored, a line each, so much is read.
const REASONS_BYTES_MAX: usize = 1 << 20;

/// This part of an attempt's time its connection may take.
const CONNECT_SHARE: f64 = 0.75;

/// A destination, as all its lanes share it.
pub(super) struct Link {
    pub(super) config: Arc<RemoteWrite>,
    pub(super) metrics: SendMetrics,
    /// It knows whether others have scraped this scraper's targets; None: there are no others.
    pub(super) gate: Option<Arc<Gate>>,
    /// What is logged about requests that are sent again.
    pub(super) retries: News,
    /// What is logged about samples that are given up.
    pub(super) refusals: News,
    /// What is logged about samples past sample_age_limit.
    pub(super) aged: News,
    /// What is logged about requests that are too large.
    large: News,
    /// What is logged about histograms that 1.0 cannot carry.
    pub(super) not_carried: News,
    /// What is logged about versions.
    news: News,
    http: HttpClient,
    /// Those of every request, but who we are.
    headers: HeaderMap,
    /// What was learned of the receiver, for as long as the destination is not configured anew.
    versions: Versions,
    /// It stores what it can of a request that it refuses.
    stores_in_part: AtomicBool,
    /// By 1.0 it has, as was seen by what it refused then and took again.
    pub(super) has_stored_v1_in_part: AtomicBool,
    /// How large a body it takes; the same.
    pub(super) body_size: BodySize,
    /// Which series it does not take; the same.
    pub(super) refused_series: RefusedSeries,
    /// Which lanes aside are known.
    pub(super) lookout: Lookout,
    /// When what lies aside is asked for.
    pub(super) pace: Pace,
}

impl Link {
    pub(super) fn new(config: Arc<RemoteWrite>, gate: Option<Arc<Gate>>) -> Result<Self, ClientError> {
        // Before the whole attempt is over, which does not say how far it came.
        let http = HttpClient::for_posts(&config.http, config.remote_timeout.mul_f64(CONNECT_SHARE))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let failed = || ClientError::Header { name: name.clone() };
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| failed())?;
            headers.insert(parsed, HeaderValue::from_str(value).map_err(|_| failed())?);
        }
        // Remote-Write 1.0 and 2.0, "Protocol".
        headers.insert("content-encoding", HeaderValue::from_static("snappy"));
        let user_agent = HeaderValue::from_static(concat!("promring/", env!("CARGO_PKG_VERSION")));
        headers.insert("user-agent", user_agent);
        let metrics = SendMetrics::new(&config);
        let pace = Pace::new(ASIDE_PAUSE, lanes(&config));
        let (retries, refusals, aged, large, not_carried, news) = Default::default();
        let refused_series = RefusedSeries::begun(promring_net::clock::now_ms(), FAIR_MAX);
        let (versions, stores_in_part, has_stored_v1_in_part, body_size, lookout) = Default::default();
        Ok(Self {
            config,
            metrics,
            gate,
            retries,
            refusals,
            aged,
            large,
            not_carried,
            news,
            http,
            headers,
            versions,
            stores_in_part,
            has_stored_v1_in_part,
            body_size,
            refused_series,
            lookout,
            pace,
        })
    }

    /// Whether everything goes as 1.0.
    pub(super) fn lacks_v2(&self) -> bool {
        self.versions.lacks_v2()
    }

    /// Whether what the receiver says to 2.0 is about the samples, and not about the version.
    pub(super) fn speaks_v2(&self) -> bool {
        self.versions.speaks_v2()
    }

    /// The receiver has accepted a request of 2.0 and has not said how much it stored.
    pub(super) fn hinted(&self, why: &str) -> Hinted {
        self.learn(why, Versions::hinted)
    }

    /// It has refused 2.0.
    pub(super) fn refused_v2(&self, why: &str) -> Refused {
        self.learn(why, Versions::refused_v2)
    }

    /// It has refused 1.0, for what could also go as 2.0.
    pub(super) fn refused_v1(&self, why: &str) -> Refused {
        self.learn(why, Versions::refused_v1)
    }

    fn learn<T>(&self, why: &str, learn: impl FnOnce(&Versions) -> T) -> T {
        let before = self.versions.lacks_v2();
        let follows = learn(&self.versions);
        let lacks = self.versions.lacks_v2();
        self.metrics.fallback.set(if lacks { 1.0 } else { 0.0 });
        if lacks != before
            && let Some(untold) = self.news.tell(Instant::now())
        {
            let version = if lacks { "1.0" } else { "2.0" };
            tracing::warn!(
                destination = self.config.name,
                why,
                untold,
                "by the receiver's answer remote write {version} is what it speaks; everything is sent as that from now on"
            );
        }
        follows
    }

    /// The receiver has refused a body of so many bytes as too large.
    pub(super) fn refused_as_too_large(&self, bytes: usize) {
        let now = Instant::now();
        self.body_size.refused(bytes, now);
        if let Some(untold) = self.large.tell(now) {
            tracing::warn!(
                destination = self.config.name,
                bytes,
                untold,
                "a request is too large for the receiver and goes in smaller ones; a lower max_samples_per_send saves taking requests apart"
            );
        }
    }

    /// Whether a refused request need not be looked into: the receiver stores what it can, and says that this is so much.
    pub(super) fn stores_in_part(&self, written: &Written) -> bool {
        if !written.is_nothing() {
            self.stores_in_part.store(true, Ordering::Relaxed);
        }
        self.stores_in_part.load(Ordering::Relaxed)
    }

    /// Sends a request once. `attempt` counts from 0.
    pub(super) async fn attempt(&self, body: Bytes, encoding: Encoding, attempt: u32) -> Answer {
        let mut headers = self.headers.clone();
        let (content_type, version) = match encoding {
            Encoding::V1 => ("application/x-protobuf", "0.1.0"),
            Encoding::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
        };
        headers.insert("content-type", HeaderValue::from_static(content_type));
        headers.insert("x-prometheus-remote-write-version", HeaderValue::from_static(version));
        match self.http.headers().await {
            Ok(more) => headers.extend(more),
            Err(error) => return Answer::Again { why: error.to_string(), after: None, maybe_stored: false },
        }
        if attempt > 0 {
            headers.insert("retry-attempt", HeaderValue::from(attempt));
        }
        let request = self.http.connections().post(reqwest::Url::clone(&self.config.url)).headers(headers);
        let begun = Instant::now();
        let sent = request.timeout(self.config.remote_timeout).body(body).send().await;
        self.metrics.duration_seconds.record(begun.elapsed());
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                // No connection, no request: nothing was stored. Whatever came later may have been too late.
                let maybe_stored = !(error.is_connect() || error.is_builder());
                return Answer::Again { why: describe(&error), after: None, maybe_stored };
            }
        };
        self.read(response, encoding).await
    }

    async fn read(&self, response: reqwest::Response, encoding: Encoding) -> Answer {
        let status = response.status();
        let written = Written::of(response.headers()).filter(|_| encoding == Encoding::V2);
        if written.is_some() {
            self.learn("it says how much it stored of a request of 2.0", Versions::wrote_v2);
        }
        if status.is_success() {
            // Reading to the end lets the connection be used again; what it says does not matter.
            read_message(response, MESSAGE_BYTES_MAX).await;
            return match (encoding, written) {
                // Remote-Write 2.0: such a receiver may have taken it for 1.0, in which it is empty.
                (Encoding::V2, None) => {
                    let why = format!("HTTP status {status} without X-Prometheus-Remote-Write-*-Written");
                    Answer::Hinted { why }
                }
                (Encoding::V1 | Encoding::V2, written) => {
                    Answer::Accepted { status: status.as_u16(), written }
                }
            };
        }
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after: Option<Duration> = after.and_then(|value| retry_after(value, SystemTime::now()));
        let location = response.headers().get(LOCATION).filter(|_| status.is_redirection());
        let location = location.map(|value| shown(&String::from_utf8_lossy(value.as_bytes())));
        let read_max = if written.is_some() { REASONS_BYTES_MAX } else { MESSAGE_BYTES_MAX };
        let text = read_message(response, read_max).await;
        let refusal = Refusal { status: status.as_u16(), message: shown(&text) };
        if encoding == Encoding::V2 && refusal.status == 415 {
            return Answer::NoV2 { why: format!("HTTP status {status}: {}", refusal.message) };
        }
        if refusal.status == 415 {
            return Answer::NoV1 { why: format!("HTTP status {status}: {}", refusal.message) };
        }
        if let Some(location) = location {
            // Followed as it is, it would become a GET, without the samples, of which a 200 says nothing (RFC 9110, 15.4).
            let why = format!(
                "HTTP status {status} to {location}, which is not followed: only 307 and 308 keep a POST as it is, and \
                 follow_redirects must be on"
            );
            return Answer::Again { why, after, maybe_stored: false };
        }
        match meaning(refusal.status, self.config.queue.retry_on_http_429) {
            Meaning::Again { maybe_stored } => {
                let why = format!("HTTP status {status}: {}", refusal.message);
                // Who says how much was stored is believed.
                let maybe_stored = written.map_or(maybe_stored, |written| !written.is_nothing());
                Answer::Again { why, after, maybe_stored }
            }
            Meaning::TooLarge => Answer::TooLarge(refusal),
            Meaning::Refused => {
                let written = written.map(|written| written.explained_by(refusal.status, &text));
                Answer::Refused(refusal, written)
            }
            Meaning::Unwanted => Answer::Unwanted(refusal),
        }
    }
}

/// What a receiver says, cut short.
async fn read_message(mut response: reqwest::Response, bytes_max: usize) -> String {
    let mut message = Vec::new();
    // The answer's time is limited with the request's; its length here.
    while message.len() < bytes_max
        && let Ok(Some(chunk)) = response.chunk().await
    {
        message.extend_from_slice(&chunk);
    }
    message.truncate(bytes_max);
    String::from_utf8_lossy(&message).into_owned()
}

/// The first line or so of a message, for the log.
fn shown(message: &str) -> String {
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
    message.get(..end).unwrap_or_default().trim().escape_debug().collect()
}
