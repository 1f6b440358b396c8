//! The body of a scrape: plain bytes, as many at a time as the caller wants, within the scrape's timeout.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::cores::Cores;
use super::fetch::FetchError;
use super::http::gzip::{Unpacked, Unpacker};
use super::http::{Connection, Incoming, Keep};
use crate::buffers::Buffers;

/// Packed bytes that are asked for at once.
const PACKED_BYTES: usize = 256 << 10;

/// A body grows to about this many bytes for each that is packed: so much work is unpacking.
const UNPACKED_FACTOR: usize = 8;

/// What unpacking takes beside the bytes.
const DECODER_BYTES: usize = 40 << 10;

/// A body that is being read.
pub struct Body {
    /// The answer's Content-Type, as it was sent; empty where there was none.
    pub content_type: Arc<str>,
    incoming: Incoming,
    packed: Option<Packed>,
    /// Set where the connection may serve the next scrape.
    keep: Option<Keep>,
    deadline: Instant,
    timeout: Duration,
    ended: bool,
    /// Its buffers are of the pool.
    borrowed: bool,
}

struct Packed {
    unpacker: Unpacker,
    plain: Vec<u8>,
    consumed: u64,
}

/// How a body's reading is bounded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) bytes_max: u64,
    pub(super) deadline: Instant,
    pub(super) timeout: Duration,
}

/// What comes until the deadline. A server that always has something to send is not let go on past it.
async fn in_time<T>(
    deadline: Instant,
    timeout: Duration,
    work: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    if Instant::now() >= deadline {
        return Err(FetchError::Timeout(timeout));
    }
    timeout_at(deadline, work).await.map_err(|_| FetchError::Timeout(timeout))?
}

impl Body {
    pub(super) fn new(
        content_type: Arc<str>,
        incoming: Incoming,
        gzip: bool,
        keep: Option<Keep>,
        bounds: Bounds,
    ) -> Self {
        let Bounds { bytes_max, deadline, timeout } = bounds;
        let packed =
            gzip.then(|| Packed { unpacker: Unpacker::new(bytes_max), plain: Vec::new(), consumed: 0 });
        let ended = packed.is_none() && incoming.has_ended();
        Self { content_type, incoming, packed, keep, deadline, timeout, ended, borrowed: false }
    }

    /// Goes on in buffers of the pool, which are large.
    pub fn take_buffers(&mut self, buffers: &Buffers) {
        self.borrowed = true;
        self.incoming.move_to(buffers.take());
        if let Some(packed) = &mut self.packed {
            packed.plain = buffers.take();
        }
    }

    /// Waits for something else within the time of the scrape. False: that is over.
    pub async fn before_deadline(&self, other: impl Future<Output = ()>) -> bool {
        timeout_at(self.deadline, other).await.is_ok()
    }

    /// Waits until `wanted` bytes are there, or somewhat more, or the body has ended. True: nothing follows what is there.
    ///
    /// # Errors
    /// Where the connection breaks, the body is too large or does not unpack, or the scrape's time is over.
    pub async fn fill(&mut self, wanted: usize, cores: &Cores) -> Result<bool, FetchError> {
        let Some(packed) = &mut self.packed else {
            self.ended = in_time(self.deadline, self.timeout, self.incoming.fill(wanted)).await?;
            return Ok(self.ended);
        };
        let step = PACKED_BYTES.min(wanted);
        let mut fresh = step;
        while !self.ended && packed.plain.len() < wanted {
            let is_last = in_time(self.deadline, self.timeout, self.incoming.fill(fresh)).await?;
            let work = (self.incoming.bytes().len() * UNPACKED_FACTOR).min(wanted);
            let unpack = || packed.unpacker.unpack(&mut self.incoming, is_last, &mut packed.plain, wanted);
            match cores.run_sized(work, unpack).await? {
                // What is there is more than enough for now.
                Unpacked::Enough => {}
                Unpacked::Hungry => fresh = self.incoming.bytes().len() + step,
                Unpacked::All => self.ended = true,
            }
        }
        Ok(self.ended)
    }

    /// Whether nothing follows what is there.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Memory held, in bytes, about.
    #[must_use]
    pub fn held(&self) -> usize {
        self.incoming.held()
            + self.packed.as_ref().map_or(0, |packed| packed.plain.capacity())
            + self.unpacking_bytes()
    }

    /// What unpacking takes beside the bytes.
    #[must_use]
    pub fn unpacking_bytes(&self) -> usize {
        if self.packed.is_some() { DECODER_BYTES } else { 0 }
    }

    /// What is there and was not consumed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.packed {
            Some(packed) => &packed.plain,
            None => self.incoming.bytes(),
        }
    }

    /// Takes these bytes off the front.
    pub fn consume(&mut self, count: usize) {
        match &mut self.packed {
            Some(packed) => {
                packed.plain.drain(..count);
                packed.consumed += count as u64;
            }
            None => self.incoming.consume(count),
        }
    }

    /// Bytes of the unpacked body so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        match &self.packed {
            Some(packed) => packed.consumed + packed.plain.len() as u64,
            None => self.incoming.total(),
        }
    }

    /// Gives back what was borrowed: buffers, and the connection if the body was read to its end.
    pub fn close(self, connection: &mut Connection, buffers: &Buffers) {
        let (buffer, stream) = self.incoming.into_parts();
        connection.keep(stream, self.keep);
        if !self.borrowed {
            return;
        }
        buffers.give(buffer);
        if let Some(packed) = self.packed {
            buffers.give(packed.plain);
        }
    }
}
