//! Fetching a target's body: one GET, its answer checked, unpacked and bounded.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use promring_model::config::{Auth, NameEscaping, ScrapeConfig, ScrapeProtocol};
use promring_net::client::{ClientError, HttpClient, REDIRECTS_MAX, USER_AGENT, user_of};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls::pki_types::ServerName;
use url::Url;

use super::download::{Body, Bounds};
use super::http::{Ask, Connection, Outcome, Tls, redirect};
use super::library;
use crate::memory::{Full, Memory};

/// Why a target could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Before the request: credentials, certificates.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Connection, redirects, a body that broke off.
    #[error("{0}")]
    Transport(String),
    /// Nothing, or not everything, came within the scrape timeout.
    #[error("context deadline exceeded: no complete answer within the scrape timeout of {0:?}")]
    Timeout(Duration),
    /// Anything but 200.
    #[error("server returned HTTP status {0}")]
    Status(String),
    /// More bytes than allowed.
    #[error("body size limit exceeded")]
    BodySize,
    /// The content is packed in a way that was not asked for, or does not unpack.
    #[error("the body cannot be unpacked: {0}")]
    Encoding(String),
    /// There is no memory for a long head.
    #[error(transparent)]
    Memory(#[from] Full),
}

/// How one job's targets are asked.
#[derive(Debug)]
pub struct Fetcher {
    client: HttpClient,
    /// The lines of a request's head that never change.
    fixed: Box<[u8]>,
    configured: Mutex<Configured>,
    server_name: Option<ServerName<'static>>,
    http2: bool,
    follow_redirects: bool,
    /// Everything goes by the HTTP library, since a proxy may be in between.
    by_library: bool,
    /// A token of `oauth2` takes the place of a user that a URL names; nothing else does.
    has_tokens: bool,
    /// With `http_headers` nothing that is like a credential goes to another host, be it of the URL itself, as in Prometheus.
    has_headers: bool,
    body_bytes_max: u64,
}

/// Lines that the HTTP client block adds, ready to be sent; made anew where its files changed.
#[derive(Clone, Default)]
struct Configured {
    source: Option<Arc<HeaderMap>>,
    /// May go to any host.
    open: Arc<[u8]>,
    /// Only for the target itself.
    credentials: Arc<[u8]>,
    /// `Authorization`, which is one of them.
    authorization: Arc<[u8]>,
}

impl std::fmt::Debug for Configured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The map knows which of its values are secret.
        f.debug_struct("Configured").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Fetcher {
    /// The fetcher of a job; `body_bytes_default` holds where the job sets no limit.
    ///
    /// # Errors
    /// Where the HTTP client block cannot be used.
    pub fn new(config: &ScrapeConfig, body_bytes_default: u64) -> Result<Self, ClientError> {
        let encoding = if config.enable_compression { "gzip" } else { "identity" };
        let fixed = format!(
            "User-Agent: {USER_AGENT}\r\nAccept: {}\r\nAccept-Encoding: {encoding}\r\n",
            accept(config)
        );
        let http = &config.http;
        let server_name = match &http.tls.server_name {
            None => None,
            Some(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|_| ClientError::Tls(format!("server_name {name:?} is no host name")))?,
            ),
        };
        Ok(Self {
            client: HttpClient::new(http)?,
            fixed: fixed.into_bytes().into(),
            configured: Mutex::default(),
            http2: http.enable_http2,
            server_name,
            follow_redirects: http.follow_redirects,
            by_library: http.proxy.url.is_some() || http.proxy.from_environment,
            has_tokens: matches!(http.auth, Some(Auth::OAuth2(_))),
            has_headers: !http.http_headers.is_empty(),
            // A body of exactly the limit is over it, as with Prometheus.
            body_bytes_max: config.limits.body_size.unwrap_or(body_bytes_default).saturating_sub(1),
        })
    }

    /// Asks `url` and reads the head of the answer, for which `memory` is asked where it is long. Everything has to come within
    /// `timeout`. `connection` is the target's own; it gets its socket back when the body is closed.
    ///
    /// # Errors
    /// As [`FetchError`] lists them.
    pub async fn open(
        &self,
        connection: &mut Connection,
        url: &Url,
        timeout: Duration,
        memory: &Arc<Memory>,
    ) -> Result<Body, FetchError> {
        let deadline = Instant::now() + timeout;
        let bounds = Bounds { bytes_max: self.body_bytes_max, deadline, timeout };
        let asked = self.follow(connection, url, bounds, memory);
        timeout_at(deadline, asked).await.map_err(|_| FetchError::Timeout(timeout)).flatten()
    }

    /// Asks `url` and whoever it leads to.
    async fn follow(
        &self,
        connection: &mut Connection,
        url: &Url,
        bounds: Bounds,
        memory: &Arc<Memory>,
    ) -> Result<Body, FetchError> {
        let configured = self.configured().await?;
        // Small, and none of the pool: who never answers would keep it.
        let mut buffer = Vec::new();
        let mut here = Cow::Borrowed(url);
        let mut elsewhere = None;
        let mut credentials = true;
        let mut referer: Option<String> = None;
        for _ in 0..REDIRECTS_MAX {
            let is_own = redirect::same_origin(&here, url);
            let connection = if is_own { &mut *connection } else { elsewhere.insert(connection.sibling()) };
            // A credential never comes back on its way, whoever leads it there.
            credentials &= redirect::keeps_credentials(url, &here);
            let counts = if credentials { !self.has_tokens } else { !self.has_headers };
            let user = user_of(&here).filter(|_| counts);
            let outcome = if self.is_for_library(connection) {
                Outcome::Http2
            } else {
                let user = user.as_ref().map(|user| line(AUTHORIZATION.as_str(), user));
                let [others, configured_authorization]: [&[u8]; 2] = match credentials {
                    true => [&configured.credentials, &configured.authorization],
                    false => [b"", b""],
                };
                let lines: [&[u8]; 4] = [
                    &configured.open,
                    others,
                    user.as_deref().unwrap_or(configured_authorization),
                    referer.as_deref().unwrap_or_default().as_bytes(),
                ];
                self.ask(connection, &here, bounds.timeout, lines, memory, &mut buffer).await?
            };
            match outcome {
                Outcome::Body { content_type, gzip, incoming, keep } => {
                    // Of another server not: a target has one connection.
                    let keep = keep.filter(|_| is_own);
                    return Ok(Body::new(content_type, incoming, gzip, keep, bounds));
                }
                Outcome::Redirect(location) => {
                    let next = redirect::follow(&here, &location).map_err(FetchError::Transport)?;
                    referer = redirect::referer(&here, &next);
                    here = Cow::Owned(next);
                }
                Outcome::Http2 => {
                    let ask = library::Ask {
                        client: self.client.connections(),
                        url: &here,
                        headers: configured.source.as_deref(),
                        credentials,
                        user,
                        referer: referer.as_deref(),
                        fixed: &self.fixed,
                        timeout: bounds.timeout,
                        bytes_max: self.body_bytes_max,
                    };
                    // Boxed, as it is large and rare.
                    let asked = Box::pin(library::exchange(ask));
                    let (incoming, content_type, gzip) = asked.await?;
                    let content_type = connection.content_type(&content_type);
                    return Ok(Body::new(content_type, incoming, gzip, None, bounds));
                }
            }
        }
        Err(FetchError::Transport(format!("stopped after {REDIRECTS_MAX} redirects")))
    }

    async fn ask(
        &self,
        connection: &mut Connection,
        url: &Url,
        timeout: Duration,
        [open, credentials, authorization, referer]: [&[u8]; 4],
        memory: &Arc<Memory>,
        body: &mut Vec<u8>,
    ) -> Result<Outcome, FetchError> {
        let tls = (url.scheme() == "https").then(|| Tls {
            config: self.client.tls(),
            http2: self.http2,
            server_name: self.server_name.as_ref(),
        });
        let mut line = [0; TIMEOUT_LINE_BYTES_MAX];
        let ask = Ask {
            url,
            tls,
            lines: &[
                &self.fixed,
                timeout_line(timeout, &mut line),
                open,
                credentials,
                authorization,
                referer,
            ],
            bytes_max: self.body_bytes_max,
            redirects: self.follow_redirects,
            memory,
        };
        connection.exchange(&ask, body).await
    }

    /// Whether the HTTP library is to ask, as far as is known beforehand.
    pub(super) fn is_for_library(&self, connection: &Connection) -> bool {
        // The library knows only addresses.
        !connection.has_socket() && (self.by_library || connection.is_http2())
    }

    /// The lines of the HTTP client block as they are now.
    async fn configured(&self) -> Result<Configured, ClientError> {
        let source = self.client.shared_headers().await?;
        let mut held = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.source.as_ref().is_some_and(|known| Arc::ptr_eq(known, &source)) {
            let [mut open, mut credentials, mut authorization] = [const { Vec::new() }; 3];
            for (name, value) in &*source {
                let lines = match name.as_str() {
                    "authorization" => &mut authorization,
                    name if redirect::is_credential(name) => &mut credentials,
                    _ => &mut open,
                };
                lines.extend(line(name.as_str(), value));
            }
            *held = Configured {
                source: Some(source),
                open: open.into(),
                credentials: credentials.into(),
                authorization: authorization.into(),
            };
        }
        Ok(held.clone())
    }
}

/// The line of a header.
fn line(name: &str, value: &HeaderValue) -> Vec<u8> {
    [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat()
}

/// Room for the line of the timeout: its name and a number of seconds with nine decimals.
const TIMEOUT_LINE_BYTES_MAX: usize = 96;

/// The timeout as Prometheus tells it, in seconds.
fn timeout_line(timeout: Duration, room: &mut [u8; TIMEOUT_LINE_BYTES_MAX]) -> &[u8] {
    let mut rest = &mut room[..];
    let written = write!(rest, "X-Prometheus-Scrape-Timeout-Seconds: {}\r\n", timeout.as_secs_f64());
    let left = rest.len();
    if written.is_err() { b"" } else { &room[..TIMEOUT_LINE_BYTES_MAX - left] }
}

/// The Accept header that Prometheus sends for these protocols: the first one has the highest weight.
fn accept(config: &ScrapeConfig) -> String {
    let escaping = match config.metric_name_escaping_scheme {
        NameEscaping::AllowUtf8 => "allow-utf-8",
        NameEscaping::Underscores => "underscores",
        NameEscaping::Dots => "dots",
        NameEscaping::Values => "values",
    };
    let mut accept = String::new();
    // Of the protocols that there are and the wildcard, each can have a weight of one digit of its own. Prometheus knows one
    // more, OpenMetrics 2.0.
    let mut weight = ScrapeProtocol::ALL.len() + 2;
    for protocol in &config.scrape_protocols {
        let (kind, escaped) = match protocol {
            ScrapeProtocol::PrometheusProto => (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
                false,
            ),
            ScrapeProtocol::PrometheusText0_0_4 => ("text/plain;version=0.0.4", false),
            ScrapeProtocol::PrometheusText1_0_0 => ("text/plain;version=1.0.0", true),
            ScrapeProtocol::OpenMetricsText0_0_1 => ("application/openmetrics-text;version=0.0.1", false),
            ScrapeProtocol::OpenMetricsText1_0_0 => ("application/openmetrics-text;version=1.0.0", true),
        };
        let _ = match escaped {
            true => write!(accept, "{kind};escaping={escaping};q=0.{weight},"),
            false => write!(accept, "{kind};q=0.{weight},"),
        };
        weight -= 1;
    }
    let _ = write!(accept, "*/*;q=0.{weight}");
    accept
}

#[cfg(test)]
#[path = "fetch_tests/mod.rs"]
mod tests;
