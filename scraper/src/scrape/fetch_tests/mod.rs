//! Fetching from real sockets.

mod answers;
mod certificates;
mod connections;
mod http2;
mod proxies;
mod redirects;
mod server;
mod tls;

use std::time::Duration;

use super::super::cores::Cores;
use super::*;
use crate::buffers::Buffers;
use crate::testing::job;
use server::Server;

/// Long enough for whatever a test does.
const PATIENCE: Duration = Duration::from_secs(10);

/// Small, so that bodies come in many pieces.
const PIECE_BYTES: usize = 16;

/// One target of a job, with what its loop would keep.
struct Client {
    fetcher: Fetcher,
    connection: Connection,
    buffers: Buffers,
    cores: Cores,
    memory: Arc<Memory>,
}

impl Client {
    fn new(config: &str) -> Self {
        let fetcher = Fetcher::new(&job(config), 1 << 20).unwrap();
        Self {
            fetcher,
            connection: Connection::default(),
            buffers: Buffers::default(),
            cores: Cores::default(),
            memory: Memory::new(Some(u64::MAX)),
        }
    }

    /// The body, or the error's words.
    async fn fetch(&mut self, url: &Url) -> Result<String, String> {
        self.fetch_within(url, PATIENCE).await
    }

    async fn fetch_within(&mut self, url: &Url, timeout: Duration) -> Result<String, String> {
        let Self { fetcher, connection, buffers, cores, memory } = self;
        buffers.give(b"left over".to_vec());
        let result = async {
            let mut body = fetcher.open(connection, url, timeout, memory).await?;
            body.take_buffers(buffers);
            // As large bodies are read.
            let mut whole = Vec::new();
            loop {
                let ended = match body.fill(PIECE_BYTES, cores).await {
                    Ok(ended) => ended,
                    Err(error) => {
                        body.close(connection, buffers);
                        return Err(error);
                    }
                };
                whole.extend_from_slice(body.bytes());
                body.consume(body.bytes().len());
                if ended {
                    assert_eq!(body.total(), whole.len() as u64);
                    body.close(connection, buffers);
                    return Ok(String::from_utf8(whole).unwrap());
                }
            }
        };
        result.await.map_err(|error: FetchError| error.to_string())
    }
}

/// What a job with this configuration makes of one answer.
async fn fetch(config: &str, answer: impl Into<Vec<u8>>) -> Result<String, String> {
    let server = Server::start([vec![answer.into()]]).await;
    Client::new(config).fetch(&server.url("/metrics")).await
}

/// An answer with status 200, text and this body.
fn text(body: &str) -> Vec<u8> {
    answer("200 OK\r\nContent-Type: text/plain; version=0.0.4", body.as_bytes())
}

/// An answer with this status line and these headers.
fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
