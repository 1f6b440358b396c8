//! The body of an answer as it comes: read in few and large reads, as far as the caller wants it, without the coding of
//! the transfer.

use bytes::BufMut;
use promring_net::client::describe;
use tokio::io::AsyncReadExt;

use super::chunked::Chunked;
use super::connect::Stream;
use crate::scrape::fetch::FetchError;

/// Room for a read, where less is left in the buffer.
const ROOM_BYTES_MIN: usize = 64 << 10;

/// One read asks for at least this many bytes, whatever is wanted.
const READ_BYTES_MIN: usize = 16 << 10;

/// One read asks for at most this many bytes, whatever is wanted: there is room for them before they come.
const READ_BYTES_MAX: usize = 1 << 20;

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes.
    Length(u64),
    /// Where its chunks say.
    Chunked,
    /// Where the connection does.
    UntilClose,
}

/// Where the bytes come from.
enum Source {
    /// A connection of our own, and where the body ends there.
    Own(Stream, Framing, Chunked),
    /// The HTTP library.
    Library(Box<reqwest::Response>),
}

/// A body on its way.
pub(in crate::scrape) struct Incoming {
    source: Source,
    /// What came and was not consumed; of a chunked body, behind it what is still coded.
    buffer: Vec<u8>,
    /// Bytes that were consumed.
    consumed: u64,
    bytes_max: u64,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// The end was reached, and the connection stands right behind it.
    Clean,
    /// The end was reached, and the connection is of no more use.
    Spoilt,
}

impl Incoming {
    /// A body on a connection of our own, whose first bytes are in `buffer`. It may have `bytes_max` bytes.
    pub(super) fn new(
        stream: Stream,
        framing: Framing,
        bytes_max: u64,
        buffer: Vec<u8>,
    ) -> Result<Self, FetchError> {
        let source = Source::Own(stream, framing, Chunked::default());
        let mut incoming = Self { source, buffer, consumed: 0, bytes_max, end: End::Open };
        match framing {
            Framing::Length(length) if length > bytes_max => return Err(FetchError::BodySize),
            Framing::Length(_) | Framing::Chunked | Framing::UntilClose => {}
        }
        incoming.take_in()?;
        Ok(incoming)
    }

    /// A body that the HTTP library reads.
    pub(in crate::scrape) fn of_library(response: reqwest::Response, bytes_max: u64) -> Self {
        let source = Source::Library(Box::new(response));
        Self { source, buffer: Vec::new(), consumed: 0, bytes_max, end: End::Open }
    }

    /// Waits until `wanted` bytes are there or the body has ended. True: nothing follows what is there.
    pub(in crate::scrape) async fn fill(&mut self, wanted: usize) -> Result<bool, FetchError> {
        while self.end == End::Open && self.ready() < wanted {
            self.read(wanted).await?;
        }
        Ok(self.end != End::Open)
    }

    /// Whether the body came whole.
    pub(in crate::scrape) fn has_ended(&self) -> bool {
        self.end != End::Open
    }

    /// Goes on in this buffer, which is empty.
    pub(in crate::scrape) fn move_to(&mut self, mut buffer: Vec<u8>) {
        buffer.extend_from_slice(&self.buffer);
        self.buffer = buffer;
    }

    /// What came and was not consumed.
    pub(in crate::scrape) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.ready()]
    }

    /// Takes these bytes off the front.
    pub(in crate::scrape) fn consume(&mut self, count: usize) {
        let count = count.min(self.ready());
        self.buffer.drain(..count);
        self.consumed += count as u64;
        if let Source::Own(_, Framing::Chunked, chunked) = &mut self.source {
            chunked.consumed(count);
        }
    }

    /// The buffer, and how many bytes of it are there. A caller may take the buffer for a while.
    pub(in crate::scrape) fn buffer(&mut self) -> (&mut Vec<u8>, usize) {
        let ready = self.ready();
        (&mut self.buffer, ready)
    }

    /// Bytes of the body so far.
    pub(in crate::scrape) fn total(&self) -> u64 {
        self.consumed + self.ready() as u64
    }

    /// Memory held, in bytes.
    pub(in crate::scrape) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// The buffer, and the connection if it can be used again.
    pub(in crate::scrape) fn into_parts(self) -> (Vec<u8>, Option<Stream>) {
        match (self.source, self.end) {
            (Source::Own(stream, ..), End::Clean) => (self.buffer, Some(stream)),
            (Source::Own(..) | Source::Library(_), _) => (self.buffer, None),
        }
    }

    fn ready(&self) -> usize {
        match &self.source {
            Source::Own(_, Framing::Chunked, chunked) => chunked.decoded(),
            Source::Own(..) | Source::Library(_) => self.buffer.len(),
        }
    }

    /// One read.
    async fn read(&mut self, wanted: usize) -> Result<(), FetchError> {
        let enough = wanted.saturating_sub(self.ready()).clamp(READ_BYTES_MIN, READ_BYTES_MAX);
        let before = self.consumed + self.buffer.len() as u64;
        let came = match &mut self.source {
            Source::Own(stream, framing, _) => {
                let left = match framing {
                    Framing::Length(length) => usize::try_from(*length - before).unwrap_or(usize::MAX),
                    Framing::Chunked | Framing::UntilClose => usize::MAX,
                };
                match fill(stream, &mut self.buffer, left.min(enough)).await {
                    // As in Go, TLS's own word for the end is not waited for where HTTP's is the connection's.
                    Err(Broken::Cut(_)) if *framing == Framing::UntilClose => false,
                    Err(Broken::Cut(error) | Broken::Failed(error)) => return Err(error),
                    Ok(came) => came,
                }
            }
            Source::Library(response) => match response.chunk().await {
                Ok(Some(chunk)) => {
                    self.buffer.extend_from_slice(&chunk);
                    true
                }
                Ok(None) => false,
                // The URL is known to whoever reads the message.
                Err(error) => return Err(FetchError::Transport(describe(&error.without_url()))),
            },
        };
        if came { self.take_in() } else { self.ended_by_connection() }
    }

    /// Looks at what came.
    fn take_in(&mut self) -> Result<(), FetchError> {
        let so_far = self.consumed + self.buffer.len() as u64;
        match &mut self.source {
            Source::Own(_, Framing::Length(length), _) => {
                if so_far >= *length {
                    self.end = if so_far == *length { End::Clean } else { End::Spoilt };
                    let over = usize::try_from(so_far - *length).unwrap_or(usize::MAX);
                    self.buffer.truncate(self.buffer.len().saturating_sub(over));
                }
            }
            Source::Own(_, Framing::Chunked, chunked) => {
                chunked.advance(&mut self.buffer, self.bytes_max)?;
                if chunked.is_done() {
                    self.end = if chunked.finish(&mut self.buffer) { End::Clean } else { End::Spoilt };
                }
            }
            Source::Own(_, Framing::UntilClose, _) | Source::Library(_) => {
                if so_far > self.bytes_max {
                    return Err(FetchError::BodySize);
                }
            }
        }
        Ok(())
    }

    fn ended_by_connection(&mut self) -> Result<(), FetchError> {
        let so_far = self.consumed + self.buffer.len() as u64;
        match &self.source {
            Source::Own(_, Framing::Length(length), _) => {
                Err(cut_short(&format!("after {so_far} of {length} bytes of the body")))
            }
            Source::Own(_, Framing::Chunked, chunked) => Err(chunked.cut_short()),
            Source::Own(_, Framing::UntilClose, _) | Source::Library(_) => {
                self.end = End::Spoilt;
                Ok(())
            }
        }
    }
}

/// Whether `body` holds a whole body and nothing else, so that its connection can be used again.
pub(super) fn is_whole(framing: Framing, body: &mut Vec<u8>) -> bool {
    match framing {
        Framing::Length(length) => body.len() as u64 == length,
        Framing::Chunked => {
            let mut chunked = Chunked::default();
            chunked.advance(body, u64::MAX).is_ok() && chunked.is_done() && chunked.finish(body)
        }
        Framing::UntilClose => false,
    }
}

/// Makes room for some more bytes, at least `least` of them, and tells how much there is.
pub(super) fn reserve(body: &mut Vec<u8>, least: usize, wanted: usize) -> usize {
    if body.capacity() - body.len() < least {
        body.reserve(wanted);
    }
    body.capacity() - body.len()
}

/// One read of at most `most` bytes to the end of `buffer`; false at the end of the connection.
async fn fill(stream: &mut Stream, buffer: &mut Vec<u8>, most: usize) -> Result<bool, Broken> {
    let room = reserve(buffer, ROOM_BYTES_MIN.min(most), most);
    let mut target = BufMut::limit(&mut *buffer, room.min(most));
    let read = stream.read_buf(&mut target).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            Broken::Cut(cut_short(&format!("after {} bytes of the body: {error}", buffer.len())))
        } else {
            Broken::Failed(FetchError::Transport(format!("reading the body: {error}")))
        }
    });
    Ok(read? > 0)
}

/// Why a read brought nothing.
enum Broken {
    /// The connection was closed without TLS's word for it.
    Cut(FetchError),
    Failed(FetchError),
}

/// The connection ended too early.
pub(super) fn cut_short(place: &str) -> FetchError {
    FetchError::Transport(format!("unexpected EOF: the connection closed {place}"))
}
