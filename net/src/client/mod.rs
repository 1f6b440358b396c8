//! HTTP clients as the configuration's HTTP client block describes them.
//!
//! [`HttpClient`] stands for one block: it holds the connections, reads files again when they change, and puts
//! authentication and headers on every request. Redirects, proxies and TLS are set as Prometheus sets them.

mod auth;
mod tls;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use promring_model::config::{HttpClientConfig, ProxyConfig, SecretSource};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::files::read_bounded;
use crate::reload::Watched;
use auth::Authenticator;

/// A credential or certificate file may have this many bytes.
pub const SECRET_FILE_BYTES_MAX: u64 = 1 << 20;

/// How often files of certificates are looked at for changes.
const TLS_FILES_INTERVAL: Duration = Duration::from_secs(5);

/// Redirects followed before a request fails, as in Go's client.
const REDIRECTS_MAX: usize = 10;

/// Why a client cannot be made, or a request not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file of a secret or certificate.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// A header that HTTP does not allow.
    #[error("header {name:?} or its value has characters that HTTP does not allow")]
    Header {
        /// The name as configured.
        name: String,
    },
    /// Certificates, keys, authorities.
    #[error("TLS: {0}")]
    Tls(String),
    /// A proxy's address.
    #[error("proxy: {0}")]
    Proxy(String),
    /// The token server.
    #[error("OAuth2 token: {0}")]
    Token(String),
    /// The client library's own word.
    #[error("{0}")]
    Build(String),
}

/// A client for one HTTP client block. Clones share connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: HttpClientConfig,
    authenticator: Authenticator,
    connections: Mutex<Connections>,
}

/// The client with its pool, and what would make it outdated.
#[derive(Debug)]
struct Connections {
    client: reqwest::Client,
    tls_files: Watched,
    looked: Instant,
}

impl HttpClient {
    /// A client for `config`. Files are read now, so that a missing one shows at once.
    ///
    /// # Errors
    /// Where certificates, proxy or headers cannot be used.
    pub fn new(config: &HttpClientConfig) -> Result<Self, ClientError> {
        let client = build(config)?;
        let tls_files = Watched::new(tls::files(&config.tls), Vec::new());
        Ok(Self {
            inner: Arc::new(Inner {
                authenticator: Authenticator::new(config.auth.as_ref())?,
                connections: Mutex::new(Connections { client, tls_files, looked: Instant::now() }),
                config: config.clone(),
            }),
        })
    }

    /// The client as it is to be used now: certificate files that changed are read again.
    /// Where the new ones cannot be used, the old ones stay, and the log says so.
    #[must_use]
    pub fn connections(&self) -> reqwest::Client {
        let mut held = self.inner.connections.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if held.looked.elapsed() >= TLS_FILES_INTERVAL {
            held.looked = Instant::now();
            if held.tls_files.changed() {
                match build(&self.inner.config) {
                    Ok(client) => held.client = client,
                    Err(error) => {
                        tracing::error!(%error, "changed TLS files cannot be used; the old ones stay");
                    }
                }
            }
        }
        held.client.clone()
    }

    /// The headers that say who we are, and those that the block adds. Files are read anew each time they changed;
    /// an OAuth2 token is fetched when it is due.
    ///
    /// # Errors
    /// Where a file is missing, a value is no header, or the token server refuses.
    pub async fn headers(&self) -> Result<HeaderMap, ClientError> {
        let mut headers = HeaderMap::new();
        for (name, values) in &self.inner.config.http_headers {
            let fail = || ClientError::Header { name: name.clone() };
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fail())?;
            for value in values {
                let text = read_secret(value)?;
                let value = HeaderValue::from_str(&text).map_err(|_| fail())?;
                headers.append(parsed.clone(), value);
            }
        }
        if let Some(value) = self.inner.authenticator.authorization().await? {
            headers.insert(reqwest::header::AUTHORIZATION, value);
        }
        Ok(headers)
    }
}

/// The text of a secret, without the line end that editors leave in files.
fn read_secret(source: &SecretSource) -> Result<String, ClientError> {
    match source {
        SecretSource::Inline(secret) => Ok(secret.expose().to_owned()),
        SecretSource::File(path) => {
            let fail = |reason: String| ClientError::File { path: path.display().to_string(), reason };
            let content = read_bounded(path, SECRET_FILE_BYTES_MAX).map_err(fail)?;
            let text = String::from_utf8(content).map_err(|_| fail("it is not UTF-8".to_owned()))?;
            Ok(text.trim().to_owned())
        }
    }
}

fn build(config: &HttpClientConfig) -> Result<reqwest::Client, ClientError> {
    let tls = tls::client_config(&config.tls, config.enable_http2)?;
    let redirect = if config.follow_redirects {
        reqwest::redirect::Policy::limited(REDIRECTS_MAX)
    } else {
        reqwest::redirect::Policy::none()
    };
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("promring/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect)
        // The retry policy is the caller's.
        .retry(reqwest::retry::never())
        .tls_backend_preconfigured(tls);
    if !config.enable_http2 {
        builder = builder.http1_only();
    }
    builder = set_proxy(builder, &config.proxy)?;
    builder.build().map_err(|error| ClientError::Build(describe(&error)))
}

fn set_proxy(
    builder: reqwest::ClientBuilder,
    config: &ProxyConfig,
) -> Result<reqwest::ClientBuilder, ClientError> {
    if config.from_environment {
        return Ok(builder);
    }
    // Without this the environment's proxies would apply, which Prometheus wants asked for.
    let builder = builder.no_proxy();
    let Some(url) = &config.url else { return Ok(builder) };
    let mut headers = HeaderMap::new();
    for (name, values) in &config.connect_headers {
        let fail = || ClientError::Header { name: name.clone() };
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fail())?;
        for value in values {
            headers.append(parsed.clone(), HeaderValue::from_str(value.expose()).map_err(|_| fail())?);
        }
    }
    let proxy = reqwest::Proxy::all(url.as_str())
        .map_err(|error| ClientError::Proxy(describe(&error)))?
        .no_proxy(reqwest::NoProxy::from_string(&config.no_proxy))
        .headers(headers);
    Ok(builder.proxy(proxy))
}

/// An error with its causes, as one line: reqwest's own text leaves the cause out.
#[must_use]
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let next = inner.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = inner.source();
    }
    text
}
