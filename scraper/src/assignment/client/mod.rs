//! Talks to the allocator: long polls for the assignment, reports.
//!
//! Of two allocators one leads; the other one redirects to it. Redirects are followed here, with the same credentials and to
//! allocators of the same Service alone, and the leader is asked directly from then on, until it does not answer; so is a peer that
//! answers where the first allocator does not.

mod access;
mod clock;

use std::io::Read as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use access::AllocatorAccess;
use bytes::Bytes;
use clock::AllocatorClock;
use flate2::read::MultiGzDecoder;
use promring_model::target::TargetKey;
use promring_net::client::{ClientError, HttpClient, describe};
use promring_net::clock::now_ms;
use promring_proto::api::{Assignment, Report, ReportAnswer, Version};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, IF_NONE_MATCH, LOCATION,
};
use reqwest::{Method, Request, Response, StatusCode};
use serde_json as json;
use url::Url;

/// How long the allocator may hold a poll back while nothing is new.
const POLL_WAIT_SECONDS: u64 = 30;

/// How much longer than that an answer may take.
const POLL_GRACE: Duration = Duration::from_secs(10);

/// How long an answer may take that nothing holds back: who asks for it is in doubt, and scrapes nothing meanwhile.
const DOUBT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the scraper that gives a key may take to answer.
const GIVER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a report may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Redirects that one request follows: while leadership changes hands, one may lead to another.
const REDIRECTS_MAX: usize = 3;

/// An answer may have this many bytes.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// Bytes of a refusal that the log shows.
const REFUSAL_BYTES_MAX: usize = 200;

/// The allocator, as one scraper sees it. Clones share what they learn.
#[derive(Clone, Debug)]
pub struct AllocatorClient {
    client: HttpClient,
    /// For other scrapers: they are not shown what is for the allocator alone.
    scrapers: HttpClient,
    access: AllocatorAccess,
    scraper: String,
    /// Who answered last, where that is not the first to be asked.
    leader: Arc<Mutex<Option<Url>>>,
    /// When an allocator last answered anything at all, in Unix milliseconds.
    heard_ms: Arc<AtomicI64>,
    clock: Arc<AllocatorClock>,
}

/// Why a report was not taken, in words.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is larger than the allocator, or what is in between, takes.
    #[error("{0}")]
    TooLarge(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for ReportError {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
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
    /// A client for this allocator, on behalf of the scraper of this name.
    ///
    /// # Errors
    /// Where a certificate or authority cannot be used.
    pub fn new(access: AllocatorAccess, scraper: &str) -> Result<Self, ClientError> {
        let (client, scrapers) = (access.client()?, access.client_of_scrapers()?);
        let heard_ms = Arc::new(AtomicI64::new(i64::MIN));
        let (scraper, leader, clock) = (scraper.to_owned(), Arc::default(), Arc::default());
        Ok(Self { client, scrapers, access, scraper, leader, heard_ms, clock })
    }

    /// When an allocator last answered anything, be it that it does not lead, in Unix milliseconds.
    #[must_use]
    pub fn heard_ms(&self) -> i64 {
        self.heard_ms.load(Ordering::Relaxed)
    }

    /// Asks for what is newer than `held`, and with `wait` waits for it. `run` is that of this process.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn poll(&self, run: u64, held: Option<Version>, wait: bool) -> Result<Poll, String> {
        let (wait, timeout) = match wait {
            true => (POLL_WAIT_SECONDS, Duration::from_secs(POLL_WAIT_SECONDS) + POLL_GRACE),
            false => (0, DOUBT_TIMEOUT),
        };
        let path = format!("api/v1/assignments/{}?wait={wait}s&run={run}", self.scraper);
        let make = |url: Url| {
            let mut request = Request::new(Method::GET, url);
            *request.timeout_mut() = Some(timeout);
            request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
            if let Some(version) = held.and_then(|version| format!("\"{version}\"").parse().ok()) {
                request.headers_mut().insert(IF_NONE_MATCH, version);
            }
            request
        };
        let response = self.send(&path, make).await?;
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
    /// What went wrong.
    pub async fn report(&self, report: &Report) -> Result<ReportAnswer, ReportError> {
        let path = format!("api/v1/scrapers/{}/report", self.scraper);
        // Shared by all redirects.
        let body = Bytes::from(json::to_vec(report).map_err(|error| error.to_string())?);
        let make = |url: Url| {
            let mut request = Request::new(Method::POST, url);
            *request.timeout_mut() = Some(REPORT_TIMEOUT);
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, json);
            *request.body_mut() = Some(body.clone().into());
            request
        };
        let response = self.send(&path, make).await?;
        self.clock.compare(response.headers(), now_ms());
        match response.status() {
            StatusCode::OK => json::from_slice(&bounded(response, ANSWER_BYTES_MAX).await?)
                .map_err(|error| format!("the answer cannot be read: {error}").into()),
            status => {
                let bytes = body.len();
                let text = refusal(response).await;
                let message = format!("the allocator answered {status} to {bytes} bytes: {text}");
                Err(match status {
                    StatusCode::PAYLOAD_TOO_LARGE => ReportError::TooLarge(message),
                    _ => ReportError::Failed(message),
                })
            }
        }
    }

    /// Asks the scraper that gives a key when it stops, and for the series of its last scrape. `address` is what the
    /// allocator says; `bytes_max` bounds the answer.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub async fn ask_giver(&self, address: &str, key: TargetKey, bytes_max: usize) -> Result<Bytes, String> {
        let url = format!("{}/api/v1/handover/{key}?by={}", address.trim_end_matches('/'), self.scraper);
        let request = self.scrapers.connections().get(url).timeout(GIVER_TIMEOUT);
        let response = request.send().await.map_err(|error| describe(&error))?;
        match response.status() {
            StatusCode::OK => Ok(Bytes::from(bounded(response, bytes_max).await?)),
            status => Err(format!("{address} answered {status}: {}", refusal(response).await)),
        }
    }

    /// Sends a request to the leader, as far as it is known, and follows redirects to it. Where nobody answers, the others
    /// are asked, one after the other.
    async fn send(&self, path: &str, make: impl Fn(Url) -> Request) -> Result<Response, String> {
        let known = self.leader().clone();
        let mut base = known.unwrap_or_else(|| self.access.url.clone());
        let mut others = self.access.allocators();
        others.retain(|url| *url != base);
        let mut others = others.into_iter();
        let mut redirects = 0;
        loop {
            let sent = self.send_once(make(below(&base, path)?)).await;
            // A leader that cannot be reached or does not lead any more: the next request asks the Service.
            let lost = match &sent {
                Ok(response) => response.status() == StatusCode::SERVICE_UNAVAILABLE,
                Err(_) => true,
            };
            if lost {
                *self.leader() = None;
            }
            let response = match sent {
                Ok(response) => {
                    self.heard_ms.fetch_max(now_ms(), Ordering::Relaxed);
                    response
                }
                Err(error) => {
                    base = others.next().ok_or(error)?;
                    continue;
                }
            };
            if response.status() != StatusCode::TEMPORARY_REDIRECT {
                // Where the first one is lost without a word, nobody waits for it again.
                if !lost && base != self.access.url {
                    *self.leader() = Some(base);
                }
                return Ok(response);
            }
            *self.leader() = None;
            redirects += 1;
            if redirects > REDIRECTS_MAX {
                return Err("the allocators redirect to each other".to_owned());
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            base = self.access.redirected(location.unwrap_or_default()).await?;
            *self.leader() = Some(base.clone());
        }
    }

    async fn send_once(&self, mut request: Request) -> Result<Response, String> {
        let headers = self.client.headers().await.map_err(|error| error.to_string())?;
        request.headers_mut().extend(headers);
        self.client.connections().execute(request).await.map_err(|error| describe(&error))
    }

    fn leader(&self) -> MutexGuard<'_, Option<Url>> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A path below a URL that may have a path of its own.
fn below(base: &Url, path: &str) -> Result<Url, String> {
    let text = format!("{}/{path}", base.as_str().trim_end_matches('/'));
    Url::parse(&text).map_err(|error| format!("{text}: {error}"))
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

async fn bounded(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, String> {
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
async fn refusal(response: Response) -> String {
    let body = bounded(response, ANSWER_BYTES_MAX).await.unwrap_or_default();
    String::from_utf8_lossy(&body[..body.len().min(REFUSAL_BYTES_MAX)]).trim().to_owned()
}

#[cfg(test)]
mod tests;
