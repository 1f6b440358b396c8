//! The chunked transfer coding, taken off in place.

use super::incoming::cut_short;
use crate::scrape::fetch::FetchError;

/// A chunk's size with its extensions may take this many bytes, as in Go.
const SIZE_LINE_BYTES_MAX: usize = 4 << 10;

/// All lines behind the last chunk may take this many bytes.
const TRAILER_BYTES_MAX: usize = 16 << 10;

/// Decodes a buffer that grows: its first `decoded` bytes are the body so far, what follows is still coded.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    decoded: usize,
    /// Decoded bytes that were taken off the buffer's front.
    consumed: u64,
    state: State,
    trailer_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// At the line of a chunk's size.
    #[default]
    Size,
    /// Within a chunk, with this many bytes to come.
    Data(u64),
    /// Behind a chunk's data.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
    /// Behind everything.
    Done,
}

impl Chunked {
    /// Decodes as far as `buffer` reaches. What cannot be decoded yet stays behind what is; bytes in the middle of
    /// a large chunk are where they belong as they are read.
    pub(super) fn advance(&mut self, buffer: &mut Vec<u8>, bytes_max: u64) -> Result<(), FetchError> {
        let mut at = self.decoded;
        loop {
            let coded = &buffer[at..];
            match self.state {
                State::Size => match size_line(coded)? {
                    Some((line, 0)) => {
                        at += line;
                        self.state = State::Trailers;
                    }
                    Some((line, size)) => {
                        if size > bytes_max.saturating_sub(self.total()) {
                            return Err(FetchError::BodySize);
                        }
                        at += line;
                        self.state = State::Data(size);
                    }
                    None => break,
                },
                State::Data(left) => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(coded.len());
                    if at != self.decoded {
                        buffer.copy_within(at..at + count, self.decoded);
                    }
                    self.decoded += count;
                    at += count;
                    let left = left - count as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    if left > 0 {
                        break;
                    }
                }
                State::DataEnd => match coded {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => break,
                    _ => return Err(malformed("a chunk is longer than its size")),
                },
                State::Trailers => {
                    let end = memchr::memchr(b'\n', coded).map(|end| end + 1);
                    let line = end.unwrap_or(coded.len());
                    if self.trailer_bytes + line > TRAILER_BYTES_MAX {
                        return Err(malformed("too many trailers"));
                    }
                    let Some(end) = end else { break };
                    if matches!(&coded[..end], b"\r\n" | b"\n") {
                        self.state = State::Done;
                    }
                    self.trailer_bytes += line;
                    at += end;
                }
                State::Done => break,
            }
        }
        if at != self.decoded {
            buffer.copy_within(at.., self.decoded);
            buffer.truncate(self.decoded + buffer.len() - at);
        }
        Ok(())
    }

    /// How many bytes at the front of the buffer are the body.
    pub(super) fn decoded(&self) -> usize {
        self.decoded
    }

    /// This many of them were taken off.
    pub(super) fn consumed(&mut self, count: usize) {
        self.decoded -= count;
        self.consumed += count as u64;
    }

    /// Bytes of the body so far.
    fn total(&self) -> u64 {
        self.consumed + self.decoded as u64
    }

    /// Whether the end was reached.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Removes what follows the end; false where anything did.
    pub(super) fn finish(&self, buffer: &mut Vec<u8>) -> bool {
        let clean = buffer.len() == self.decoded;
        buffer.truncate(self.decoded);
        clean
    }

    /// The connection closed before the end.
    pub(super) fn cut_short(&self) -> FetchError {
        cut_short(&format!("after {} bytes of a chunked body", self.total()))
    }
}

/// Length of the line and the size that it tells.
fn size_line(coded: &[u8]) -> Result<Option<(usize, u64)>, FetchError> {
    let Some(first) = coded.first() else { return Ok(None) };
    if !first.is_ascii_hexdigit() {
        return Err(malformed("a chunk has no size"));
    }
    match httparse::parse_chunk_size(coded) {
        Ok(httparse::Status::Complete((line, _))) if line > SIZE_LINE_BYTES_MAX => {
            Err(malformed("the line of a chunk's size is too long"))
        }
        // As in Go, and as RFC 9112 has it: white space may end the line, but not stand before an extension.
        Ok(httparse::Status::Complete((line, _))) if has_spaced_extension(&coded[..line]) => {
            Err(malformed("white space before a chunk's extension"))
        }
        Ok(httparse::Status::Complete(found)) => Ok(Some(found)),
        Ok(httparse::Status::Partial) if coded.len() >= SIZE_LINE_BYTES_MAX => {
            Err(malformed("the line of a chunk's size is too long"))
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(malformed("a chunk's size cannot be read")),
    }
}

fn has_spaced_extension(line: &[u8]) -> bool {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = &line[digits..];
    rest.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) && !rest.trim_ascii().is_empty()
}

fn malformed(what: &str) -> FetchError {
    FetchError::Transport(format!("malformed chunked encoding: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_may_end_the_line_of_a_size_but_not_precede_an_extension() {
        for (line, good) in [("1", true), ("1  ", true), ("1;a=b", true), ("1 ;a", false), ("1\t;a", false)] {
            let coded = format!("{line}\r\nx\r\n0\r\n\r\n");
            assert_eq!(decode(coded.as_bytes(), coded.len(), 10).is_ok(), good, "{line:?}");
        }
    }

    /// Decodes `coded` in pieces of `step` bytes.
    fn decode(coded: &[u8], step: usize, bytes_max: u64) -> Result<(String, bool), String> {
        let (mut chunked, mut buffer) = (Chunked::default(), Vec::new());
        for piece in coded.chunks(step) {
            buffer.extend_from_slice(piece);
            chunked.advance(&mut buffer, bytes_max).map_err(|error| error.to_string())?;
        }
        if !chunked.is_done() {
            return Err(chunked.cut_short().to_string());
        }
        let clean = chunked.finish(&mut buffer);
        Ok((String::from_utf8(buffer).unwrap(), clean))
    }

    #[test]
    fn chunks_with_extensions_and_trailers_are_decoded_however_they_are_cut() {
        let coded = b"3;name=\"a b\"\r\nabc\r\n00a;x\r\n0123456789\r\n0\r\nTrailer: t\r\nOther: o\r\n\r\n";
        for step in 1..=coded.len() {
            assert_eq!(decode(coded, step, 13), Ok(("abc0123456789".to_owned(), true)), "{step}");
        }
    }

    #[test]
    fn bytes_behind_the_end_are_noticed() {
        assert_eq!(decode(b"1\r\na\r\n0\r\n\r\nmore", 100, 10), Ok(("a".to_owned(), false)));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for (coded, expected) in [
            (&b"\r\nabc"[..], "no size"),
            (b"-1\r\n", "no size"),
            (b"g\r\n", "no size"),
            (b"1x\r\n", "cannot be read"),
            (b"fffffffffffffffff\r\n", "cannot be read"),
            (b"1\r\nab\r\n", "longer than its size"),
            (b"1\r\na", "after 1 bytes of a chunked body"),
            (b"1\r\na\r\n0\r\n", "after 1 bytes of a chunked body"),
        ] {
            for step in [1, 100] {
                let error = decode(coded, step, 1 << 20).unwrap_err();
                assert!(error.contains(expected), "{error}");
            }
        }
    }

    #[test]
    fn endless_extensions_and_trailers_are_refused() {
        let extension = [b"1;".as_slice(), &vec![b'x'; 2 * SIZE_LINE_BYTES_MAX]].concat();
        assert!(decode(&extension, 1000, 10).unwrap_err().contains("too long"));
        let trailers = [b"0\r\n".as_slice(), &b"a: b\r\n".repeat(TRAILER_BYTES_MAX / 6 + 1)].concat();
        assert!(decode(&trailers, 1000, 10).unwrap_err().contains("too many trailers"));
    }

    #[test]
    fn a_size_over_the_limit_ends_the_body_before_its_bytes_come() {
        assert_eq!(decode(b"8\r\n01234567\r\n9\r\n", 4, 16), Err("body size limit exceeded".to_owned()));
    }
}
