//! Fetching a target's body: one GET, its answer checked, unpacked and bounded.

use std::fmt::Write as _;
use std::io::Read;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use promring_model::config::{ScrapeConfig, ScrapeProtocol};
use promring_net::client::{ClientError, HttpClient, describe};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};

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
    /// A format that promring does not read.
    #[error("unsupported Content-Type {0:?}; the target may be asked for text by fallback_scrape_protocol")]
    ContentType(String),
}

/// How one job's targets are asked.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: HttpClient,
    headers: HeaderMap,
    body_bytes_max: u64,
    has_fallback: bool,
}

impl Fetcher {
    /// The fetcher of a job; `body_bytes_default` holds where the job sets no limit.
    ///
    /// # Errors
    /// Where the HTTP client block cannot be used.
    pub fn new(config: &ScrapeConfig, body_bytes_default: u64) -> Result<Self, ClientError> {
        let mut headers = HeaderMap::new();
        // What is written here is digits and fixed names: always a valid header value.
        if let Ok(accept) = HeaderValue::from_str(&accept(&config.scrape_protocols)) {
            headers.insert(ACCEPT, accept);
        }
        let encoding = if config.enable_compression { "gzip" } else { "identity" };
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        Ok(Self {
            client: HttpClient::new(&config.http)?,
            headers,
            body_bytes_max: config.limits.body_size.unwrap_or(body_bytes_default),
            has_fallback: config.fallback_scrape_protocol.is_some(),
        })
    }

    /// Fetches `url` into `body`, which is emptied first, within `timeout`.
    ///
    /// # Errors
    /// As [`FetchError`] lists them; `body` then holds nothing of use.
    pub async fn fetch(
        &self,
        url: &url::Url,
        timeout: Duration,
        body: &mut Vec<u8>,
    ) -> Result<(), FetchError> {
        body.clear();
        tokio::time::timeout(timeout, self.exchange(url, timeout, body))
            .await
            .map_err(|_| FetchError::Timeout(timeout))?
    }

    async fn exchange(
        &self,
        url: &url::Url,
        timeout: Duration,
        body: &mut Vec<u8>,
    ) -> Result<(), FetchError> {
        // The URL is known to whoever reads the message.
        let transport = |error: reqwest::Error| FetchError::Transport(describe(&error.without_url()));
        let mut response = self
            .client
            .connections()
            .get(url.clone())
            .headers(self.headers.clone())
            .headers(self.client.headers().await?)
            .header("X-Prometheus-Scrape-Timeout-Seconds", timeout.as_secs_f64().to_string())
            .send()
            .await
            .map_err(transport)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(response.status().to_string()));
        }
        let gzip = match header(&response, &CONTENT_ENCODING) {
            "" | "identity" => false,
            "gzip" => true,
            other => return Err(FetchError::Encoding(format!("unexpected Content-Encoding {other:?}"))),
        };
        let content_type = header(&response, &CONTENT_TYPE).to_owned();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if (body.len() + chunk.len()) as u64 > self.body_bytes_max {
                return Err(FetchError::BodySize);
            }
            body.extend_from_slice(&chunk);
        }
        if gzip {
            self.unpack(body)?;
        }
        // An empty body is no samples, whatever it says that it is.
        if body.is_empty() || self.has_fallback || is_text(&content_type) {
            Ok(())
        } else {
            Err(FetchError::ContentType(content_type))
        }
    }

    /// Unpacks in place. Several gzip members may follow each other.
    fn unpack(&self, body: &mut Vec<u8>) -> Result<(), FetchError> {
        let mut plain = Vec::new();
        let mut limited = MultiGzDecoder::new(body.as_slice()).take(self.body_bytes_max.saturating_add(1));
        limited.read_to_end(&mut plain).map_err(|error| FetchError::Encoding(error.to_string()))?;
        if plain.len() as u64 > self.body_bytes_max {
            return Err(FetchError::BodySize);
        }
        *body = plain;
        Ok(())
    }
}

fn header<'r>(response: &'r reqwest::Response, name: &reqwest::header::HeaderName) -> &'r str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The formats that the parser reads.
fn is_text(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain"))
}

/// The Accept header: what the job's scrape_protocols name, as far as the parser reads it, best first.
fn accept(protocols: &[ScrapeProtocol]) -> String {
    let mut accept = String::new();
    let mut weight = protocols.len() + 1;
    for protocol in protocols {
        let kind = match protocol {
            ScrapeProtocol::PrometheusText1_0_0 => "text/plain;version=1.0.0;escaping=allow-utf-8",
            ScrapeProtocol::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            // Not read yet, so not asked for.
            ScrapeProtocol::OpenMetricsText0_0_1
            | ScrapeProtocol::OpenMetricsText1_0_0
            | ScrapeProtocol::PrometheusProto => continue,
        };
        let _ = write!(accept, "{kind};q=0.{weight},");
        weight -= 1;
    }
    let _ = write!(accept, "*/*;q=0.{weight}");
    accept
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::testing::job;

    /// Answers one request with `answer` and keeps the connection open until the client closes it.
    async fn serve(answer: Vec<u8>) -> url::Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(&answer).await;
            let _ = socket.read(&mut request).await;
        });
        format!("http://{address}/metrics").parse().unwrap()
    }

    fn answer(head: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    async fn fetch(config: &str, answer: Vec<u8>) -> Result<String, String> {
        let fetcher = Fetcher::new(&job(config), 1 << 20).unwrap();
        let url = serve(answer).await;
        let mut body = b"left over".to_vec();
        let result = fetcher.fetch(&url, Duration::from_millis(500), &mut body).await;
        result.map(|()| String::from_utf8(body).unwrap()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_plain_and_a_packed_body_are_read() {
        let text = "200 OK\r\nContent-Type: text/plain; version=0.0.4";
        assert_eq!(fetch("", answer(text, b"a 1\n")).await, Ok("a 1\n".to_owned()));
        let mut packed = gzip(b"a 1\n");
        packed.extend(gzip(b"b 2\n"));
        let head = format!("{text}\r\nContent-Encoding: gzip");
        assert_eq!(fetch("", answer(&head, &packed)).await, Ok("a 1\nb 2\n".to_owned()));
    }

    #[tokio::test]
    async fn only_status_200_succeeds() {
        let error = fetch("", answer("500 Internal Server Error\r\nContent-Type: text/plain", b""))
            .await
            .unwrap_err();
        assert_eq!(error, "server returned HTTP status 500 Internal Server Error");
        assert!(fetch("", answer("204 No Content\r\nContent-Type: text/plain", b"")).await.is_err());
    }

    #[tokio::test]
    async fn a_body_without_a_content_type_needs_a_fallback() {
        assert!(fetch("", answer("200 OK", b"a 1\n")).await.unwrap_err().contains("Content-Type"));
        let config = "fallback_scrape_protocol: PrometheusText0.0.4";
        assert_eq!(fetch(config, answer("200 OK", b"a 1\n")).await, Ok("a 1\n".to_owned()));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_packed_or_not() {
        let config = "body_size_limit: 1KB";
        let text = "200 OK\r\nContent-Type: text/plain";
        let large = vec![b'\n'; 2_000];
        assert_eq!(fetch(config, answer(text, &large)).await, Err("body size limit exceeded".to_owned()));
        let head = format!("{text}\r\nContent-Encoding: gzip");
        assert_eq!(
            fetch(config, answer(&head, &gzip(&large))).await,
            Err("body size limit exceeded".to_owned())
        );
    }

    #[tokio::test]
    async fn a_target_that_hangs_runs_into_the_timeout() {
        let error =
            fetch("", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc".to_vec()).await.unwrap_err();
        assert!(error.contains("scrape timeout"), "{error}");
    }

    #[tokio::test]
    async fn a_refused_connection_says_so() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let fetcher = Fetcher::new(&job(""), 1 << 20).unwrap();
        let error = fetcher.fetch(&url, Duration::from_secs(5), &mut Vec::new()).await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
