//! Talks to the allocator: long polls for the assignment, reports.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use promring_model::target::TargetKey;
use promring_net::client::{HttpClient, describe};
use promring_proto::api::{Assignment, Report, ReportAnswer, Version};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, IF_NONE_MATCH};
use serde_json as json;

/// How long the allocator may hold a poll back while nothing is new.
const POLL_WAIT_SECONDS: u64 = 30;

/// How much longer than that an answer may take.
const POLL_GRACE: Duration = Duration::from_secs(10);

/// How long the scraper that gives a key may take to answer.
const GIVER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a report may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// An answer may have this many bytes.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// Bytes of a refusal that the log shows.
const REFUSAL_BYTES_MAX: usize = 200;

/// The allocator, as one scraper sees it.
#[derive(Clone, Debug)]
pub struct AllocatorClient {
    client: HttpClient,
    base: String,
    scraper: String,
}

/// What a poll brought.
#[derive(Debug)]
pub enum Poll {
    /// Something new.
    Changed(Box<Assignment>),
    /// Nothing new.
    Unchanged,
    /// The allocator has nothing to give out yet, for the reason it states.
    NotReady(String),
}

impl AllocatorClient {
    /// A client for the allocator at `url` (`http://host:port`), on behalf of the scraper of this name.
    #[must_use]
    pub fn new(client: HttpClient, url: &str, scraper: &str) -> Self {
        Self { client, base: url.trim_end_matches('/').to_owned(), scraper: scraper.to_owned() }
    }

    /// Asks for what is newer than `held`, and with `wait` waits for it.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn poll(&self, held: Option<Version>, wait: bool) -> Result<Poll, String> {
        let wait = if wait { POLL_WAIT_SECONDS } else { 0 };
        let url = format!("{}/api/v1/assignments/{}?wait={wait}s", self.base, self.scraper);
        let timeout = Duration::from_secs(wait) + POLL_GRACE;
        let mut request = self.client.connections().get(url).timeout(timeout).header(ACCEPT_ENCODING, "gzip");
        if let Some(version) = held {
            request = request.header(IF_NONE_MATCH, format!("\"{version}\""));
        }
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::NOT_MODIFIED => Ok(Poll::Unchanged),
            StatusCode::SERVICE_UNAVAILABLE => Ok(Poll::NotReady(refusal(response).await)),
            StatusCode::OK => {
                let packed =
                    response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
                let body = bounded(response, ANSWER_BYTES_MAX).await?;
                // It may be long, and others wait for this thread.
                let read = tokio::task::spawn_blocking(move || read_assignment(&body, packed)).await;
                read.unwrap_or_else(|error| Err(error.to_string()))
                    .map(|assignment| Poll::Changed(Box::new(assignment)))
                    .map_err(|error| format!("the assignment cannot be read: {error}"))
            }
            status => Err(format!("the allocator answered {status}: {}", refusal(response).await)),
        }
    }

    /// Sends a report.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn report(&self, report: &Report) -> Result<ReportAnswer, String> {
        let url = format!("{}/api/v1/scrapers/{}/report", self.base, self.scraper);
        let body = json::to_vec(report).map_err(|error| error.to_string())?;
        let request = self
            .client
            .connections()
            .post(url)
            .timeout(REPORT_TIMEOUT)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body);
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::OK => json::from_slice(&bounded(response, ANSWER_BYTES_MAX).await?)
                .map_err(|error| format!("the answer cannot be read: {error}")),
            status => Err(format!("the allocator answered {status}: {}", refusal(response).await)),
        }
    }

    /// Asks the scraper that gives a key when it stops, and for the series of its last scrape. `address` is what the
    /// allocator says; `bytes_max` bounds the answer.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn ask_giver(&self, address: &str, key: TargetKey, bytes_max: usize) -> Result<Bytes, String> {
        let url = format!("{}/api/v1/handover/{key}?by={}", address.trim_end_matches('/'), self.scraper);
        let request = self.client.connections().get(url).timeout(GIVER_TIMEOUT);
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::OK => Ok(Bytes::from(bounded(response, bytes_max).await?)),
            status => Err(format!("{address} answered {status}: {}", refusal(response).await)),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, String> {
        let headers = self.client.headers().await.map_err(|error| error.to_string())?;
        request.headers(headers).send().await.map_err(|error| describe(&error))
    }
}

fn read_assignment(body: &[u8], packed: bool) -> Result<Assignment, String> {
    if !packed {
        return json::from_slice(body).map_err(|error| error.to_string());
    }
    let mut text = Vec::new();
    let mut unpacked = MultiGzDecoder::new(body).take(ANSWER_BYTES_MAX as u64 + 1);
    unpacked.read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() > ANSWER_BYTES_MAX {
        return Err(format!("it is larger than {ANSWER_BYTES_MAX} bytes"));
    }
    json::from_slice(&text).map_err(|error| error.to_string())
}

async fn bounded(mut response: reqwest::Response, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| describe(&error))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(format!("the answer is larger than {bytes_max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The beginning of what a refusal says.
async fn refusal(response: reqwest::Response) -> String {
    let body = bounded(response, ANSWER_BYTES_MAX).await.unwrap_or_default();
    String::from_utf8_lossy(&body[..body.len().min(REFUSAL_BYTES_MAX)]).trim().to_owned()
}
