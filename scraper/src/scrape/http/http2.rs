//! HTTP/2 on connections of our own, where the HTTP library cannot make them: it knows neither unix sockets nor a name to
//! ask for that is not the URL's host.

use std::sync::Arc;

use http::header::{HeaderMap, LOCATION};
use http::{Method, Request, Uri, Version};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use promring_net::client::{HTTP2_HEAD_BYTES_MAX, HTTP2_PING_TIMEOUT, HTTP2_QUIET, describe};
use tokio_rustls::rustls::ClientConfig;
use url::{Position, Url};

use super::connect::Stream;
use super::{Ask, Connection, Outcome};
use crate::scrape::fetch::FetchError;
use crate::scrape::library;

/// A connection that serves one scrape after the other. It is closed once this is dropped.
#[derive(Clone)]
pub(super) struct Http2 {
    sender: SendRequest<reqwest::Body>,
    /// The settings it was made with: when files change, so must it.
    tls: Option<Arc<ClientConfig>>,
}

impl Http2 {
    /// Begins to speak it on a new connection.
    pub(super) async fn begin(stream: Stream, ask: &Ask<'_>) -> Result<Self, FetchError> {
        let handshake = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(HTTP2_QUIET)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .max_header_list_size(HTTP2_HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|error| broken(&error))?;
        // Whoever asks is told as well. It ends with the last sender.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection of a target broke");
            }
        });
        Ok(Self { sender, tls: ask.tls.as_ref().map(|tls| Arc::clone(&tls.config)) })
    }

    /// Whether it can be asked this.
    pub(super) fn serves(&self, ask: &Ask<'_>) -> bool {
        let same = match (&self.tls, &ask.tls) {
            (Some(made_with), Some(now)) => Arc::ptr_eq(made_with, &now.config),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same && !self.sender.is_closed()
    }

    /// Sends the request, and waits for the head of its answer.
    pub(super) async fn ask(mut self, ask: &Ask<'_>) -> Result<reqwest::Response, FetchError> {
        let request = request(ask)?;
        let answered = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let response = answered.await.map_err(|error| broken(&error))?;
        Ok(reqwest::Response::from(response.map(reqwest::Body::wrap)))
    }
}

impl Connection {
    /// What an answer by HTTP/2 means.
    pub(super) fn understand(
        &mut self,
        response: reqwest::Response,
        ask: &Ask<'_>,
    ) -> Result<Outcome, FetchError> {
        let location = response.headers().get(LOCATION).filter(|location| !location.is_empty());
        if let (301 | 302 | 303 | 307 | 308, Some(location), true) =
            (response.status().as_u16(), location, ask.redirects)
        {
            return Ok(Outcome::Redirect(String::from_utf8_lossy(location.as_bytes()).into_owned()));
        }
        let (incoming, content_type, gzip) = library::taken(response, ask.bytes_max)?;
        Ok(Outcome::Body { content_type: self.content_type(&content_type), gzip, incoming, keep: None })
    }
}

fn request(ask: &Ask<'_>) -> Result<Request<reqwest::Body>, FetchError> {
    let uri = uri(ask.url).map_err(|error| FetchError::Transport(format!("the URL: {error}")))?;
    let mut headers = HeaderMap::new();
    for (name, value) in ask.lines.iter().flat_map(|lines| library::lines(lines)) {
        headers.append(name, value);
    }
    let mut request = Request::new(reqwest::Body::default());
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Without names and passwords, which are no part of what is asked for.
fn uri(url: &Url) -> Result<Uri, http::Error> {
    Uri::builder()
        .scheme(url.scheme())
        .authority(&url[Position::BeforeHost..Position::AfterPort])
        .path_and_query(&url[Position::BeforePath..Position::AfterQuery])
        .build()
}

fn broken(error: &hyper::Error) -> FetchError {
    FetchError::Transport(describe(error))
}
