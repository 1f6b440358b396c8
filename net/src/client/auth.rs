//! The `Authorization` header: basic, bearer and other types, OAuth2.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use promring_model::config::{Auth, HttpClientConfig, OAuth2, SecretSource};
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::{ClientError, HttpClient, describe, read_secret};

/// A token is renewed this long before it expires, as Go's oauth2 package does.
const TOKEN_EXPIRY_MARGIN: Duration = Duration::from_secs(10);

/// How long the token server may take.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A token server's answer may have this many bytes.
const TOKEN_BYTES_MAX: usize = 1 << 20;

/// Makes the header of every request.
#[derive(Debug)]
pub(super) enum Authenticator {
    None,
    Basic { username: Option<SecretSource>, password: Option<SecretSource> },
    Authorization { scheme: String, credentials: Option<SecretSource> },
    OAuth2(Box<TokenSource>),
}

impl Authenticator {
    pub(super) fn new(auth: Option<&Auth>) -> Result<Self, ClientError> {
        Ok(match auth {
            None => Self::None,
            Some(Auth::Basic { username, password }) => {
                Self::Basic { username: username.clone(), password: password.clone() }
            }
            Some(Auth::Authorization { scheme, credentials }) => {
                Self::Authorization { scheme: scheme.clone(), credentials: credentials.clone() }
            }
            Some(Auth::OAuth2(config)) => Self::OAuth2(Box::new(TokenSource::new(config)?)),
        })
    }

    /// The header's value, marked as sensitive so that no log prints it.
    pub(super) async fn authorization(&self) -> Result<Option<HeaderValue>, ClientError> {
        let text = match self {
            Self::None => return Ok(None),
            Self::Basic { username, password } => {
                let read =
                    |source: &Option<SecretSource>| source.as_ref().map_or(Ok(String::new()), read_secret);
                format!("Basic {}", base64(format!("{}:{}", read(username)?, read(password)?).as_bytes()))
            }
            Self::Authorization { scheme, credentials } => {
                let credentials = credentials.as_ref().map_or(Ok(String::new()), read_secret)?;
                format!("{scheme} {credentials}")
            }
            Self::OAuth2(tokens) => format!("Bearer {}", tokens.token().await?),
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| ClientError::Header { name: "Authorization".to_owned() })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// When the header that was made last must be made anew, where no file changes before.
    pub(super) fn expires(&self) -> Option<Instant> {
        match self {
            Self::None | Self::Basic { .. } | Self::Authorization { .. } => None,
            Self::OAuth2(tokens) => tokens.held().as_ref().and_then(|(_, expires)| *expires),
        }
    }
}

/// Tokens by the client credentials grant (RFC 6749, section 4.4).
pub(super) struct TokenSource {
    config: OAuth2,
    client: HttpClient,
    held: Mutex<Option<(String, Option<Instant>)>>,
    /// One fetches a token; the others wait for it.
    fetching: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSource").field("token_url", &self.config.token_url).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl TokenSource {
    fn new(config: &OAuth2) -> Result<Self, ClientError> {
        let client = HttpClient::new(&HttpClientConfig {
            tls: config.tls.clone(),
            proxy: config.proxy.clone(),
            follow_redirects: true,
            enable_http2: true,
            ..HttpClientConfig::default()
        })?;
        Ok(Self {
            config: config.clone(),
            client,
            held: Mutex::new(None),
            fetching: tokio::sync::Mutex::new(()),
        })
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<(String, Option<Instant>)>> {
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The token that is held, as long as it is good.
    fn good(&self) -> Option<String> {
        let held = self.held();
        let (token, expires) = held.as_ref()?;
        expires.is_none_or(|at| Instant::now() < at).then(|| token.clone())
    }

    async fn token(&self) -> Result<String, ClientError> {
        if let Some(token) = self.good() {
            return Ok(token);
        }
        let _fetching = self.fetching.lock().await;
        if let Some(token) = self.good() {
            return Ok(token);
        }
        let answer = self.fetch().await?;
        let expires = answer
            .expires_in
            .map(|seconds| Instant::now() + Duration::from_secs(seconds).saturating_sub(TOKEN_EXPIRY_MARGIN));
        *self.held() = Some((answer.access_token.clone(), expires));
        Ok(answer.access_token)
    }

    async fn fetch(&self) -> Result<TokenAnswer, ClientError> {
        let fail = |reason: String| ClientError::Token(format!("{}: {reason}", self.config.token_url));
        let secret = self.config.client_secret.as_ref().map_or(Ok(String::new()), read_secret)?;
        let scopes = self.config.scopes.join(" ");
        let mut form = vec![("grant_type", "client_credentials")];
        if !scopes.is_empty() {
            form.push(("scope", &scopes));
        }
        form.extend(self.config.endpoint_params.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        let response = self
            .client
            .connections()
            .post(reqwest::Url::clone(&self.config.token_url))
            .basic_auth(&self.config.client_id, Some(secret))
            .timeout(TOKEN_TIMEOUT)
            .form(&form)
            .send()
            .await
            .map_err(|error| fail(describe(&error)))?;
        if !response.status().is_success() {
            return Err(fail(format!("it answered {}", response.status())));
        }
        let body = response.bytes().await.map_err(|error| fail(describe(&error)))?;
        if body.len() > TOKEN_BYTES_MAX {
            return Err(fail("its answer is too large".to_owned()));
        }
        serde_json::from_slice(&body).map_err(|error| fail(format!("its answer cannot be read: {error}")))
    }
}

/// RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            if digit <= chunk.len() {
                text.push(ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use promring_model::config::Secret;

    use super::*;

    #[test]
    fn base64_gives_the_test_vectors_of_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[tokio::test]
    async fn a_password_file_that_changed_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "one\n").unwrap();
        let auth = Auth::Basic {
            username: Some(SecretSource::Inline(Secret::new("user".to_owned()))),
            password: Some(SecretSource::File(path.clone())),
        };
        let authenticator = Authenticator::new(Some(&auth)).unwrap();
        let header = async || authenticator.authorization().await.unwrap().unwrap();
        assert_eq!(header().await.to_str().unwrap(), format!("Basic {}", base64(b"user:one")));
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(header().await.to_str().unwrap(), format!("Basic {}", base64(b"user:two")));
        assert!(header().await.is_sensitive());
    }

    #[tokio::test]
    async fn many_requests_at_once_fetch_one_token() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let mut asked = 0;
            while let Ok((mut socket, _)) = listener.accept().await {
                asked += 1;
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                let body = format!("{{\"access_token\":\"token-{asked}\",\"expires_in\":3600}}");
                let head =
                    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = socket.write_all((head + &body).as_bytes()).await;
            }
        });
        let config = OAuth2 {
            client_id: "id".to_owned(),
            client_secret: None,
            scopes: Vec::new(),
            token_url: reqwest::Url::parse(&url).unwrap().into(),
            endpoint_params: Default::default(),
            tls: Default::default(),
            proxy: Default::default(),
        };
        let tokens = std::sync::Arc::new(TokenSource::new(&config).unwrap());
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let tokens = std::sync::Arc::clone(&tokens);
            requests.spawn(async move { tokens.token().await.unwrap() });
        }
        assert!(requests.join_all().await.iter().all(|token| token == "token-1"));
        server.abort();
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let auth = Auth::Authorization {
            scheme: "Bearer".to_owned(),
            credentials: Some(SecretSource::File("/nonexistent/token".into())),
        };
        let error = Authenticator::new(Some(&auth)).unwrap().authorization().await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/token"), "{error}");
    }
}
