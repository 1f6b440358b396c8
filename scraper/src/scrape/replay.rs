//! An answer from a list of pieces instead of a socket: what the fuzz target of the loop reads. The code that reads it
//! is the one that reads every scrape.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use url::Url;

use super::download::{Body, Bounds};
use super::fetch::FetchError;
use super::http::{Ask, Connection, Outcome};
use crate::memory::Memory;

/// Each read gives one piece; then the connection ends.
#[derive(Debug)]
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(into.remaining()));
            into.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The body of an HTTP answer that comes in these pieces, none of them empty.
///
/// # Errors
/// Where it is no answer, or none that a scrape takes. Redirects are not followed.
pub async fn answer(
    pieces: impl IntoIterator<Item = Vec<u8>>,
    bytes_max: u64,
    timeout: Duration,
) -> Result<Body, FetchError> {
    let url =
        Url::parse("http://target/metrics").map_err(|error| FetchError::Transport(error.to_string()))?;
    let memory = Memory::new(Some(u64::MAX));
    let ask = Ask { url: &url, tls: None, lines: &[], bytes_max, redirects: false, memory: &memory };
    let stream = Box::new(Pieces(pieces.into_iter().collect()));
    let mut connection = Connection::default();
    match connection.exchange_on(stream, &ask, &mut Vec::new()).await? {
        Outcome::Body { content_type, gzip, incoming, keep } => {
            let bounds = Bounds { bytes_max, deadline: Instant::now() + timeout, timeout };
            Ok(Body::new(content_type, incoming, gzip, keep, bounds))
        }
        Outcome::Redirect(_) | Outcome::Http2 => Err(FetchError::Status("elsewhere".to_owned())),
    }
}
