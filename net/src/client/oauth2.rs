//! OAuth2 tokens by the client credentials grant (RFC 6749, section 4.4), as Go's golang.org/x/oauth2 asks for them and reads them.

use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use promring_model::config::{HttpClientConfig, OAuth2};
use promring_model::target::query_escaped;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::sync::watch;
use url::form_urlencoded;

use super::{ClientError, HttpClient, describe, read_secret};

/// A token is renewed this long before it expires, as Go's oauth2 package does.
const TOKEN_EXPIRY_MARGIN: Duration = Duration::from_secs(10);

/// How long the token server may take for one answer.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(60);

/// A token server's answer may have this many bytes.
const TOKEN_BYTES_MAX: usize = 1 << 20;

const TOO_LARGE: &str = "its answer is too large";

/// Characters of an error that a token server tells which a message shows.
const SHOWN_MAX: usize = 200;

/// Fetches a token when it is due. Requests that wait for one wait for the same.
pub(super) struct TokenSource {
    shared: Arc<Shared>,
}

struct Shared {
    config: OAuth2,
    client: HttpClient,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Token>,
    /// By which secret a token is being fetched, and who tells it.
    fetching: Option<(String, watch::Receiver<Option<Fetched>>)>,
    /// Where the server has accepted id and secret.
    place: Option<Place>,
}

type Fetched = Result<Token, Arc<str>>;

#[derive(Clone)]
struct Token {
    /// The header's value: type and token.
    header: String,
    /// What it was fetched by: another secret needs another token.
    secret: String,
    /// When it is to be fetched anew.
    expires: Option<Instant>,
}

/// Where id and secret stand in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The header `Authorization`.
    Header,
    /// The form.
    Form,
}

/// Why there is no token.
enum Refusal {
    /// The server could not be asked, or did not answer.
    Unanswered(String),
    /// Its answer holds none.
    Answered(String),
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSource")
            .field("token_url", &self.shared.config.token_url)
            .finish_non_exhaustive()
    }
}

impl TokenSource {
    pub(super) fn new(config: &OAuth2) -> Result<Self, ClientError> {
        let client = HttpClient::new(&HttpClientConfig {
            tls: config.tls.clone(),
            proxy: config.proxy.clone(),
            follow_redirects: true,
            enable_http2: true,
            ..HttpClientConfig::default()
        })?;
        let shared = Shared { config: config.clone(), client, state: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// When the token that is held must be fetched anew.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.shared.state().held.as_ref().and_then(|token| token.expires)
    }

    /// The value of `Authorization`.
    ///
    /// # Errors
    /// Where the secret cannot be read or the server has no token.
    pub(super) async fn authorization(&self) -> Result<String, ClientError> {
        let shared = &self.shared;
        let secret = shared.config.client_secret.as_ref().map_or(Ok(String::new()), read_secret)?;
        let mut told = {
            let mut state = shared.state();
            if let Some(token) = &state.held
                && token.secret == secret
                && token.expires.is_none_or(|at| Instant::now() < at)
            {
                return Ok(token.header.clone());
            }
            match &state.fetching {
                Some((by, told)) if *by == secret && told.has_changed().is_ok() => told.clone(),
                _ => {
                    let told = shared.start(&secret);
                    state.fetching = Some((secret, told.clone()));
                    told
                }
            }
        };
        let fail = |reason: &str| ClientError::Token(format!("{}: {reason}", shared.config.token_url));
        match told.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(token))) => Ok(token.header.clone()),
            Ok(Some(Err(reason))) => Err(fail(reason)),
            Ok(None) | Err(_) => Err(fail("it was not asked to the end")),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches a token in a task of its own: a scrape whose time is over must not take along the token that the next one needs.
    fn start(self: &Arc<Self>, secret: &str) -> watch::Receiver<Option<Fetched>> {
        let (tell, told) = watch::channel(None);
        let (shared, secret) = (Arc::clone(self), secret.to_owned());
        tokio::spawn(async move {
            let fetched = shared.fetch(&secret).await.map_err(Arc::from);
            if let Ok(token) = &fetched {
                shared.state().held = Some(token.clone());
            }
            tell.send_replace(Some(fetched));
        });
        told
    }

    /// Asks with id and secret in the header; where that yields no token and never did, with both in the form.
    async fn fetch(&self, secret: &str) -> Result<Token, String> {
        let known = self.state().place;
        let mut place = known.unwrap_or(Place::Header);
        let mut asked = self.ask(secret, place).await;
        if known.is_none() && matches!(asked, Err(Refusal::Answered(_))) {
            place = Place::Form;
            asked = self.ask(secret, place).await;
        }
        match asked {
            Ok(token) => {
                self.state().place = Some(place);
                Ok(token)
            }
            Err(Refusal::Unanswered(reason) | Refusal::Answered(reason)) => Err(reason),
        }
    }

    async fn ask(&self, secret: &str, place: Place) -> Result<Token, Refusal> {
        let config = &self.config;
        let scopes = config.scopes.join(" ");
        let mut form = Vec::new();
        if !config.endpoint_params.contains_key("grant_type") {
            form.push(("grant_type", "client_credentials"));
        }
        if !scopes.is_empty() {
            form.push(("scope", &scopes));
        }
        form.extend(config.endpoint_params.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        if place == Place::Form {
            let known = [("client_id", &*config.client_id), ("client_secret", secret)];
            form.extend(known.into_iter().filter(|(_, value)| !value.is_empty()));
        }
        let mut request = self.client.connections().post(reqwest::Url::clone(&config.token_url));
        if place == Place::Header {
            request = request.basic_auth(query_escaped(&config.client_id), Some(query_escaped(secret)));
        }
        let unanswered = |error: reqwest::Error| Refusal::Unanswered(describe(&error.without_url()));
        // Go's client asks for it by itself.
        request = request.header(ACCEPT_ENCODING, "gzip");
        let sent = request.timeout(TOKEN_TIMEOUT).form(&form).send().await;
        let mut response = sent.map_err(unanswered)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
            if body.len() + chunk.len() > TOKEN_BYTES_MAX {
                return Err(Refusal::Answered(TOO_LARGE.to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if header(CONTENT_ENCODING).is_some_and(|packing| packing.eq_ignore_ascii_case("gzip")) {
            body = unpacked(&body).map_err(Refusal::Answered)?;
        }
        let kind = header(CONTENT_TYPE);
        let answer = Answer::read(kind.unwrap_or_default(), &body);
        let error = answer.as_ref().map_or("", |answer| answer.error.as_deref().unwrap_or_default());
        let shown: String = error.chars().take(SHOWN_MAX).collect();
        if !response.status().is_success() || !error.is_empty() {
            let separator = if shown.is_empty() { "" } else { ": " };
            return Err(Refusal::Answered(format!("it answered {}{separator}{shown}", response.status())));
        }
        let answer = answer.map_err(Refusal::Answered)?;
        answer.token(secret, Instant::now()).map_err(Refusal::Answered)
    }
}

/// What a server says of a token.
#[derive(Debug, Default)]
struct Answer {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: serde_json::Value,
    error: Option<String>,
}

impl Answer {
    /// Reads JSON, or a form where the Content-Type says so.
    fn read(content_type: &str, body: &[u8]) -> Result<Self, String> {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let forms = ["application/x-www-form-urlencoded", "text/plain"];
        if !forms.iter().any(|form| kind.eq_ignore_ascii_case(form)) {
            return serde_json::from_slice(body)
                .map_err(|error| format!("its answer cannot be read: {error}"));
        }
        if !is_form(body) {
            return Err("its answer is no form".to_owned());
        }
        let mut answer = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            let value = value.into_owned();
            match &*name {
                // The first one counts.
                "access_token" => _ = answer.access_token.get_or_insert(value),
                "token_type" => _ = answer.token_type.get_or_insert(value),
                "error" => _ = answer.error.get_or_insert(value),
                "expires_in" if answer.expires_in.is_null() => {
                    // What is no number counts as none here, unlike in JSON.
                    answer.expires_in = value.parse::<i64>().map_or(0.into(), Into::into);
                }
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Reads a JSON object as Go does: whatever the case of the keys, the last one of several counts, and null says nothing.
    fn visit<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut answer = Self::default();
        while let Some(mut key) = map.next_key::<String>()? {
            key.make_ascii_lowercase();
            let text = match key.as_str() {
                "access_token" => &mut answer.access_token,
                "token_type" => &mut answer.token_type,
                "error" => &mut answer.error,
                "expires_in" => {
                    let value: serde_json::Value = map.next_value()?;
                    if !value.is_null() {
                        answer.expires_in = value;
                    }
                    continue;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if let Some(value) = map.next_value()? {
                *text = Some(value);
            }
        }
        Ok(answer)
    }

    fn token(self, secret: &str, now: Instant) -> Result<Token, String> {
        let seconds = match &self.expires_in {
            serde_json::Value::Null => Some(0),
            serde_json::Value::Number(number) => number.as_i64(),
            serde_json::Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let seconds = seconds.ok_or_else(|| format!("expires_in is no whole number: {}", self.expires_in))?;
        let token = self.access_token.unwrap_or_default();
        if token.is_empty() {
            return Err("server response missing access_token".to_owned());
        }
        let kind = self.token_type.unwrap_or_default();
        let kind = match kind.to_ascii_lowercase().as_str() {
            "" | "bearer" => "Bearer",
            "mac" => "MAC",
            "basic" => "Basic",
            _ => &kind,
        };
        // 0 says nothing of an end; a negative number is one that has passed: the token serves once.
        let expires = (seconds != 0).then(|| {
            let seconds = Duration::from_secs(u64::try_from(seconds.min(i64::from(i32::MAX))).unwrap_or(0));
            now + seconds.saturating_sub(TOKEN_EXPIRY_MARGIN)
        });
        Ok(Token { header: format!("{kind} {token}"), secret: secret.to_owned(), expires })
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Answer;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Answer, A::Error> {
                Answer::visit(map)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Whether Go reads it as a form: no semicolon separates anything, and behind each `%` are two digits.
fn is_form(body: &[u8]) -> bool {
    let escapes = body.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    let mut digits = escapes.map(|(at, _)| body.get(at + 1..at + 3));
    !body.contains(&b';') && digits.all(|two| two.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)))
}

/// The content of an answer in gzip, which may have as many bytes as one that is not packed.
fn unpacked(body: &[u8]) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let bytes_max = TOKEN_BYTES_MAX as u64;
    let unpacked = MultiGzDecoder::new(body).take(bytes_max + 1).read_to_end(&mut content);
    unpacked.map_err(|error| format!("its answer cannot be unpacked: {error}"))?;
    if content.len() > TOKEN_BYTES_MAX { Err(TOO_LARGE.to_owned()) } else { Ok(content) }
}

#[cfg(test)]
#[path = "oauth2_tests.rs"]
mod tests;
