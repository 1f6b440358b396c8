//! HTTP clients as the configuration's HTTP client block describes them.
//!
//! [`HttpClient`] stands for one block: it holds the connections, reads files again when they change, and puts
//! authentication and headers on every request. Redirects, proxies and TLS are set as Prometheus sets them.
//! Who speaks HTTP on a socket of its own takes [`HttpClient::tls`] and [`HttpClient::shared_headers`].

mod auth;
mod authority;
mod oauth2;
mod proxy;
mod tls;
mod verify;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use promring_model::config::{Auth, HttpClientConfig, SecretSource};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};

use crate::files::read_bounded;
use crate::reload::Watched;
use auth::Authenticator;
pub use auth::user_of;

/// A credential or certificate file may have this many bytes.
pub const SECRET_FILE_BYTES_MAX: u64 = 1 << 20;

/// The redirect that is not followed any more, as in Go's client: a request is one of at most ten.
pub const REDIRECTS_MAX: usize = 10;

/// An answer's head may have this many header lines.
const HEAD_LINES_MAX: usize = 1_000;

/// By HTTP/2 an answer's head may have this many bytes. Who asks sees none of it before all of it is there, so that nobody can charge
/// for it meanwhile.
pub const HTTP2_HEAD_BYTES_MAX: u32 = 64 << 10;

/// How long an HTTP/2 connection may be silent before it is asked whether it lives, as in Prometheus.
pub const HTTP2_QUIET: Duration = Duration::from_secs(60);

/// How long it may take to say so, as in Go's client.
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(15);

/// What requests call their sender.
pub const USER_AGENT: &str = concat!("promring/", env!("CARGO_PKG_VERSION"));

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
    purpose: Purpose,
    authenticator: Authenticator,
    connections: Mutex<Connections>,
    headers: Mutex<Option<HeldHeaders>>,
}

/// What the requests are for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// Something is asked for: every redirect is followed, where the block has them followed.
    Ask,
    /// Something is brought, which is to arrive as it is: of redirects 307 and 308 are followed.
    Bring {
        /// How long a connection may take.
        connect_max: Duration,
    },
}

/// The client with its pool, and what would make it outdated.
#[derive(Debug)]
struct Connections {
    client: reqwest::Client,
    tls: Arc<rustls::ClientConfig>,
    tls_files: Watched,
}

/// Headers as they were last made, and what would make them outdated.
#[derive(Debug)]
struct HeldHeaders {
    headers: Arc<HeaderMap>,
    files: Watched,
    expires: Option<Instant>,
}

impl HttpClient {
    /// A client for `config`. Files are read now, so that a missing one shows at once.
    ///
    /// # Errors
    /// Where certificates, proxy or headers cannot be used.
    pub fn new(config: &HttpClientConfig) -> Result<Self, ClientError> {
        Self::with_purpose(config, Purpose::Ask)
    }

    /// The same for requests that must not become others: of redirects only those are followed that keep method and body,
    /// 307 and 308; any other one (301, 302 and 303 make a GET of a POST) is the answer. A connection that is not there
    /// after `connect_max` is an error of connecting, so that it is known that nothing was sent.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn for_posts(config: &HttpClientConfig, connect_max: Duration) -> Result<Self, ClientError> {
        Self::with_purpose(config, Purpose::Bring { connect_max })
    }

    fn with_purpose(config: &HttpClientConfig, purpose: Purpose) -> Result<Self, ClientError> {
        // Looked at before they are read: what changes in between is read twice rather than never.
        let tls_files = Watched::new(tls::files(&config.tls), Vec::new());
        let (client, tls) = build(config, purpose)?;
        Ok(Self {
            inner: Arc::new(Inner {
                authenticator: Authenticator::new(config.auth.as_ref())?,
                connections: Mutex::new(Connections { client, tls, tls_files }),
                headers: Mutex::new(None),
                config: config.clone(),
                purpose,
            }),
        })
    }

    /// The client as it is to be used now: certificate files that changed are read again.
    /// Where the new ones cannot be used, the old ones stay, and the log says so.
    #[must_use]
    pub fn connections(&self) -> reqwest::Client {
        self.refreshed().client.clone()
    }

    /// The block's TLS settings as they are now, for connections that are made without [`Self::connections`]. It
    /// is the same `Arc` until a file changes; a connection that was made by another one is outdated. The
    /// certificate is checked against `server_name` where the block sets one. ALPN is the caller's to set.
    #[must_use]
    pub fn tls(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.refreshed().tls)
    }

    fn refreshed(&self) -> MutexGuard<'_, Connections> {
        let mut held = self.inner.connections.lock().unwrap_or_else(PoisonError::into_inner);
        // A look costs about a microsecond a file.
        if held.tls_files.changed() {
            match build(&self.inner.config, self.inner.purpose) {
                Ok((client, tls)) => (held.client, held.tls) = (client, tls),
                Err(error) => {
                    tracing::warn!(%error, "changed TLS files cannot be used; the old ones stay");
                }
            }
        }
        held
    }

    /// The headers that say who we are, and those that the block adds. Files are read anew each time they changed;
    /// an OAuth2 token is fetched when it is due.
    ///
    /// # Errors
    /// Where a file is missing, a value is no header, or the token server refuses.
    pub async fn headers(&self) -> Result<HeaderMap, ClientError> {
        Ok((*self.shared_headers().await?).clone())
    }

    /// [`Self::headers`] without a copy: the same `Arc` as long as nothing changed.
    ///
    /// # Errors
    /// As [`Self::headers`].
    pub async fn shared_headers(&self) -> Result<Arc<HeaderMap>, ClientError> {
        if let Some(held) = &mut *self.held_headers()
            && held.expires.is_none_or(|at| Instant::now() < at)
            && !held.files.changed()
        {
            return Ok(Arc::clone(&held.headers));
        }
        // Forgotten first: a file that cannot be read fails every request until it can be.
        *self.held_headers() = None;
        let files = Watched::new(self.secret_files(), Vec::new());
        let mut headers = HeaderMap::new();
        for (name, values) in &self.inner.config.http_headers {
            let fail = || ClientError::Header { name: name.clone() };
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fail())?;
            for value in values {
                let text = read_secret(value)?;
                let mut value = header_value(&text).map_err(|_| fail())?;
                value.set_sensitive(true);
                headers.append(parsed.clone(), value);
            }
        }
        if let Some(value) = self.inner.authenticator.authorization().await? {
            headers.insert(reqwest::header::AUTHORIZATION, value);
        }
        let headers = Arc::new(headers);
        let expires = self.inner.authenticator.expires();
        *self.held_headers() = Some(HeldHeaders { headers: Arc::clone(&headers), files, expires });
        Ok(headers)
    }

    fn held_headers(&self) -> MutexGuard<'_, Option<HeldHeaders>> {
        self.inner.headers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn secret_files(&self) -> Vec<PathBuf> {
        let config = &self.inner.config;
        let auth = match &config.auth {
            Some(Auth::Basic { username, password }) => [username.as_ref(), password.as_ref()],
            Some(Auth::Authorization { credentials, .. }) => [credentials.as_ref(), None],
            Some(Auth::OAuth2(oauth2)) => [oauth2.client_secret.as_ref(), None],
            None => [None, None],
        };
        let sources = config.http_headers.values().flatten().chain(auth.into_iter().flatten());
        sources
            .filter_map(|source| match source {
                SecretSource::File(path) => Some(path.clone()),
                SecretSource::Inline(_) => None,
            })
            .collect()
    }
}

/// A header's value, without the blanks around it, which Go's client does not send either.
fn header_value(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    HeaderValue::from_str(text.trim_matches([' ', '\t']))
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

fn build(
    config: &HttpClientConfig,
    purpose: Purpose,
) -> Result<(reqwest::Client, Arc<rustls::ClientConfig>), ClientError> {
    // One set of authorities serves both.
    let own = tls::client_config(&config.tls)?;
    let mut tls = own.clone();
    tls.alpn_protocols = if config.enable_http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    let redirect = match purpose {
        _ if !config.follow_redirects => reqwest::redirect::Policy::none(),
        Purpose::Ask => reqwest::redirect::Policy::custom(follow),
        Purpose::Bring { .. } => {
            reqwest::redirect::Policy::custom(|attempt| match attempt.status().as_u16() {
                307 | 308 => follow(attempt),
                _ => attempt.stop(),
            })
        }
    };
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(redirect)
        // A connection on which nothing comes any more is asked whether it lives, and given up. Otherwise every request
        // would wait on it for as long as the system holds it open.
        .http2_keep_alive_interval(HTTP2_QUIET)
        .http2_keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .http1_max_headers(HEAD_LINES_MAX)
        .http2_max_header_list_size(HTTP2_HEAD_BYTES_MAX)
        .tls_backend_preconfigured(tls);
    if !config.enable_http2 {
        builder = builder.http1_only();
    }
    // What a server has not looked at by its own word (HTTP/2) is asked for again at once, as by Go's client.
    if let Purpose::Bring { connect_max } = purpose {
        // Here the policy is the caller's.
        builder = builder.connect_timeout(connect_max).retry(reqwest::retry::never());
    }
    // Otherwise the environment's proxies would apply, which Prometheus wants asked for.
    builder = builder.no_proxy();
    for proxy in proxy::proxies(&config.proxy)?.into_iter().flatten() {
        builder = builder.proxy(proxy);
    }
    let client = builder.build().map_err(|error| ClientError::Build(describe(&error)))?;
    Ok((client, Arc::new(own)))
}

/// Follows a redirect unless there were too many.
fn follow(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    // The first of these is the request itself.
    if attempt.previous().len() >= REDIRECTS_MAX {
        attempt.error(format!("stopped after {REDIRECTS_MAX} redirects"))
    } else {
        attempt.follow()
    }
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

#[cfg(test)]
mod tests {
    use promring_model::config::TlsConfig;

    use super::*;

    #[tokio::test]
    async fn headers_are_the_same_until_a_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "first").unwrap();
        let auth = Auth::Authorization {
            scheme: "Bearer".to_owned(),
            credentials: Some(SecretSource::File(path.clone())),
        };
        let client =
            HttpClient::new(&HttpClientConfig { auth: Some(auth), ..HttpClientConfig::default() }).unwrap();
        let first = client.shared_headers().await.unwrap();
        assert_eq!(first["authorization"], "Bearer first");
        assert!(Arc::ptr_eq(&first, &client.shared_headers().await.unwrap()));
        std::fs::write(&path, "the second").unwrap();
        assert_eq!(client.shared_headers().await.unwrap()["authorization"], "Bearer the second");
        std::fs::remove_file(&path).unwrap();
        for _ in 0..2 {
            assert!(client.shared_headers().await.is_err());
        }
    }

    #[test]
    fn tls_settings_stay_as_they_are_where_the_new_files_cannot_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let authority = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap();
        std::fs::write(&path, authority.cert.pem()).unwrap();
        let tls = TlsConfig { ca: Some(SecretSource::File(path.clone())), ..TlsConfig::default() };
        let client = HttpClient::new(&HttpClientConfig { tls, ..HttpClientConfig::default() }).unwrap();
        let first = client.tls();
        std::fs::write(&path, "no certificate").unwrap();
        assert!(Arc::ptr_eq(&first, &client.tls()));
        let authority = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).unwrap();
        std::fs::write(&path, authority.cert.pem()).unwrap();
        assert!(!Arc::ptr_eq(&first, &client.tls()));
    }
}
