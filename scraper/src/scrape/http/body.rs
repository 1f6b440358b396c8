//! The body of an answer, read into the buffer that the caller lends, in few and large reads.

use tokio::io::AsyncReadExt;

use super::chunked::Chunked;
use super::connect::Stream;
use crate::scrape::fetch::FetchError;

/// Room for a read, where less is left in the buffer.
const ROOM_BYTES_MIN: usize = 64 << 10;

/// A length that a server tells is believed up to here before that much came.
const ROOM_BYTES_MAX: usize = 8 << 20;

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

/// Reads the rest of a body whose first bytes are in `body`. True: the connection stands right behind it.
pub(super) async fn read(
    stream: &mut Stream,
    framing: Framing,
    bytes_max: u64,
    body: &mut Vec<u8>,
) -> Result<bool, FetchError> {
    match framing {
        Framing::Length(length) => {
            if length > bytes_max {
                return Err(FetchError::BodySize);
            }
            while (body.len() as u64) < length {
                let left = usize::try_from(length - body.len() as u64).unwrap_or(usize::MAX);
                if fill(stream, body, left).await? == 0 {
                    return Err(cut_short(&format!("after {} of {length} bytes of the body", body.len())));
                }
            }
            let whole = body.len() as u64 == length;
            // It is not longer than the buffer, so it is a usize.
            body.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            Ok(whole)
        }
        Framing::Chunked => {
            let mut chunked = Chunked::default();
            loop {
                chunked.advance(body, bytes_max)?;
                if chunked.is_done() {
                    return Ok(chunked.finish(body));
                }
                if fill(stream, body, usize::MAX).await? == 0 {
                    return Err(chunked.cut_short());
                }
            }
        }
        Framing::UntilClose => loop {
            if body.len() as u64 > bytes_max {
                return Err(FetchError::BodySize);
            }
            if fill(stream, body, usize::MAX).await? == 0 {
                return Ok(false);
            }
        },
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

/// One read of at most `left` bytes to the end of `body`; 0 at the end of the connection.
async fn fill(stream: &mut Stream, body: &mut Vec<u8>, left: usize) -> Result<usize, FetchError> {
    let wanted = if left == usize::MAX { ROOM_BYTES_MIN } else { left.min(ROOM_BYTES_MAX) };
    let room = reserve(body, ROOM_BYTES_MIN.min(left), wanted);
    let mut target = bytes::BufMut::limit(&mut *body, room.min(left));
    stream.read_buf(&mut target).await.map_err(|error| {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            cut_short(&format!("after {} bytes of the body: {error}", body.len()))
        } else {
            FetchError::Transport(format!("reading the body: {error}"))
        }
    })
}

/// The connection ended too early.
pub(super) fn cut_short(place: &str) -> FetchError {
    FetchError::Transport(format!("unexpected EOF: the connection closed {place}"))
}
