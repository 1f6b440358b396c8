//! The way to one receiver: one attempt to send one request.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use promring_model::config::RemoteWrite;
use promring_net::client::{ClientError, HttpClient, describe};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use super::answer::{Answer, Meaning, Refusal, meaning};
use super::backoff::retry_after;
use super::metrics::SendMetrics;
use super::news::News;

/// Of a receiver's message so much is read and logged.
const MESSAGE_BYTES_MAX: usize = 512;

/// A destination, as all its lanes share it.
pub(super) struct Link {
    pub(super) config: std::sync::Arc<RemoteWrite>,
    pub(super) metrics: SendMetrics,
    /// What is logged about requests that are sent again.
    pub(super) retries: News,
    /// What is logged about samples that are given up.
    pub(super) refusals: News,
    http: HttpClient,
    /// Those of every request, but who we are.
    headers: HeaderMap,
}

impl Link {
    pub(super) fn new(config: std::sync::Arc<RemoteWrite>) -> Result<Self, ClientError> {
        let http = HttpClient::new(&config.http)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let failed = || ClientError::Header { name: name.clone() };
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| failed())?;
            headers.insert(parsed, HeaderValue::from_str(value).map_err(|_| failed())?);
        }
        // Remote-Write 1.0, "Protocol".
        headers.insert("content-encoding", HeaderValue::from_static("snappy"));
        headers.insert("content-type", HeaderValue::from_static("application/x-protobuf"));
        headers.insert("x-prometheus-remote-write-version", HeaderValue::from_static("0.1.0"));
        let user_agent = HeaderValue::from_static(concat!("promring/", env!("CARGO_PKG_VERSION")));
        headers.insert("user-agent", user_agent);
        let metrics = SendMetrics::new(&config);
        Ok(Self { config, metrics, retries: News::default(), refusals: News::default(), http, headers })
    }

    /// Sends a request once. `attempt` counts from 0.
    pub(super) async fn attempt(&self, body: Bytes, attempt: u32) -> Answer {
        let mut headers = self.headers.clone();
        match self.http.headers().await {
            Ok(more) => headers.extend(more),
            Err(error) => return Answer::Again { why: error.to_string(), after: None, maybe_stored: false },
        }
        if attempt > 0 {
            headers.insert("retry-attempt", HeaderValue::from(attempt));
        }
        let request = self.http.connections().post(self.config.url.clone()).headers(headers);
        let bytes = body.len() as u64;
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
        self.metrics.bytes.increment(bytes);
        self.read(response).await
    }

    async fn read(&self, response: reqwest::Response) -> Answer {
        let status = response.status();
        if status.is_success() {
            // Reading to the end lets the connection be used again; what it says does not matter.
            read_message(response).await;
            return Answer::Accepted;
        }
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after: Option<Duration> = after.and_then(|value| retry_after(value, SystemTime::now()));
        let refusal = Refusal { status: status.as_u16(), message: read_message(response).await };
        match meaning(refusal.status, self.config.queue.retry_on_http_429) {
            Meaning::Again { maybe_stored } => {
                let why = format!("HTTP status {status}: {}", refusal.message);
                Answer::Again { why, after, maybe_stored }
            }
            Meaning::TooLarge => Answer::TooLarge(refusal),
            Meaning::Refused => Answer::Refused(refusal),
            Meaning::Unwanted => Answer::Unwanted(refusal),
        }
    }
}

/// The first line or so of what a receiver says.
async fn read_message(mut response: reqwest::Response) -> String {
    let mut message = Vec::new();
    // The answer's time is limited with the request's; its length here.
    while message.len() < MESSAGE_BYTES_MAX
        && let Ok(Some(chunk)) = response.chunk().await
    {
        message.extend_from_slice(&chunk);
    }
    message.truncate(MESSAGE_BYTES_MAX);
    String::from_utf8_lossy(&message).trim().escape_debug().collect()
}
