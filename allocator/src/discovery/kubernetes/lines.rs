//! The lines of an answer as they arrive, each within a bound of size and time.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::time::{Instant, timeout_at};

use super::watch::Trouble;

/// A line, which is one object, may have this many bytes. The API server stores no object over 1.5 MiB.
pub(crate) const LINE_BYTES_MAX: usize = 16 << 20;

/// Buffers larger than this are given back once they are empty.
const BUFFER_KEPT_MAX: usize = 64 << 10;

/// Splits a body into lines.
pub(crate) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// How far the buffer was searched for a line's end.
    searched: usize,
}

impl Lines {
    /// The lines of this body.
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line, without its end; None at the end of the answer.
    ///
    /// # Errors
    /// When nothing at all comes for `idle`, at the `deadline`, where the connection breaks, in the middle of a line
    /// included, and for a line that is too long.
    pub(crate) async fn next(
        &mut self,
        idle: Duration,
        deadline: Option<Instant>,
    ) -> Result<Option<Bytes>, Trouble> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
                let line = self.buffer.split_to(self.searched + at).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(Trouble::Other(format!("an object of more than {} MiB", LINE_BYTES_MAX >> 20)));
            }
            match frame(&mut self.body, idle, deadline).await? {
                Some(data) => {
                    if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_KEPT_MAX {
                        self.buffer = BytesMut::new();
                    }
                    self.buffer.extend_from_slice(&data);
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Trouble::Other("the answer ends in the middle of a line".to_owned())),
            }
        }
    }
}

/// A whole body of at most `bytes_max`.
///
/// # Errors
/// As [`Lines::next`].
pub(crate) async fn whole(
    mut body: Body,
    bytes_max: usize,
    idle: Duration,
    deadline: Instant,
) -> Result<Vec<u8>, Trouble> {
    let mut whole = Vec::new();
    while let Some(data) = frame(&mut body, idle, Some(deadline)).await? {
        if whole.len() + data.len() > bytes_max {
            return Err(Trouble::Other(format!("an answer of more than {} MiB", bytes_max >> 20)));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

async fn frame(body: &mut Body, idle: Duration, deadline: Option<Instant>) -> Result<Option<Bytes>, Trouble> {
    let idle_at = Instant::now() + idle;
    let until = deadline.map_or(idle_at, |deadline| deadline.min(idle_at));
    loop {
        match timeout_at(until, body.frame()).await {
            Err(_) if until == idle_at => {
                return Err(Trouble::Silent(format!("the API server sent nothing for {idle:?}")));
            }
            Err(_) => return Err(Trouble::Other("the API server took too long for a list".to_owned())),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                return Err(Trouble::Other(format!(
                    "the connection broke: {}",
                    promring_net::client::describe(&error)
                )));
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
