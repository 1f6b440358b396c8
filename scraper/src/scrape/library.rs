//! What the HTTP library does instead of our own client: HTTP/2 (but see `http/http2.rs`) and proxies.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use promring_net::client::describe;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::fetch::FetchError;
use super::http::{Incoming, redirect, sent_bytes_max};

/// One request, with the redirects that follow from it.
pub(super) struct Ask<'a> {
    pub(super) client: reqwest::Client,
    pub(super) url: &'a Url,
    /// Headers of the HTTP client block.
    pub(super) headers: Option<&'a HeaderMap>,
    /// Whether `url` may be told those of them that are credentials.
    pub(super) credentials: bool,
    /// What takes the place of `Authorization` among them, as `url` names a user.
    pub(super) user: Option<HeaderValue>,
    /// The line that tells who led here.
    pub(super) referer: Option<&'a str>,
    /// Lines of the head, as our own client sends them.
    pub(super) fixed: &'a [u8],
    pub(super) timeout: Duration,
    /// Most bytes of the body, unpacked.
    pub(super) bytes_max: u64,
}

/// Asks, and hands over the body of an answer with status 200, its Content-Type and whether it is packed by gzip.
pub(super) async fn exchange(ask: Ask<'_>) -> Result<(Incoming, String, bool), FetchError> {
    // The URL is known to whoever reads the message.
    let transport = |error: reqwest::Error| FetchError::Transport(describe(&error.without_url()));
    let mut headers = HeaderMap::new();
    for (name, value) in ask.headers.into_iter().flatten() {
        if ask.credentials || !redirect::is_credential(name.as_str()) {
            headers.append(name, value.clone());
        }
    }
    if let Some(user) = ask.user {
        headers.insert(AUTHORIZATION, user);
    }
    for (name, value) in lines(ask.fixed).chain(lines(ask.referer.unwrap_or_default().as_bytes())) {
        headers.insert(name, value);
    }
    // The library would make a header of a user by itself. Neither fails: the URL has a host.
    let mut url = ask.url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let send = || {
        let request = ask.client.get(url.clone()).headers(headers.clone());
        request.header("X-Prometheus-Scrape-Timeout-Seconds", ask.timeout.as_secs_f64().to_string()).send()
    };
    let response = match send().await {
        // The connection was kept, as a rule, and the other side has closed it meanwhile: a GET may be asked again, once.
        Err(error) if is_unanswered(&error) => send().await,
        result => result,
    };
    taken(response.map_err(transport)?, ask.bytes_max)
}

/// Whether a connection ended before anything of an answer came.
fn is_unanswered(error: &reqwest::Error) -> bool {
    if error.is_timeout() || error.is_connect() {
        return false;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        let is_ended = match (cause.downcast_ref::<hyper::Error>(), cause.downcast_ref::<io::Error>()) {
            (Some(error), _) => error.is_incomplete_message() || error.is_canceled() || error.is_closed(),
            (_, Some(error)) => {
                matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            }
            (None, None) => false,
        };
        if is_ended {
            return true;
        }
        source = cause.source();
    }
    false
}

/// The body of an answer with status 200, its Content-Type and whether it is packed by gzip.
pub(super) fn taken(
    mut response: reqwest::Response,
    bytes_max: u64,
) -> Result<(Incoming, String, bool), FetchError> {
    if response.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Status(response.status().to_string()));
    }
    // The first one, where there are several.
    let gzip = match header(&response, &CONTENT_ENCODING) {
        "" => false,
        name if name.eq_ignore_ascii_case("identity") => false,
        name if name.eq_ignore_ascii_case("gzip") => true,
        other => return Err(FetchError::Encoding(format!("unexpected Content-Encoding {other:?}"))),
    };
    let content_type = header(&response, &CONTENT_TYPE).to_owned();
    // Nobody needs the others while the body comes, which may take long.
    *response.headers_mut() = HeaderMap::new();
    Ok((Incoming::of_library(response, sent_bytes_max(bytes_max, gzip)), content_type, gzip))
}

fn header<'r>(response: &'r reqwest::Response, name: &HeaderName) -> &'r str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The headers that stand in these lines.
pub(super) fn lines(head: &[u8]) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    head.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    })
}
