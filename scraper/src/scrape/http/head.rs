//! The head of an answer.

use std::borrow::Cow;

use tokio::io::AsyncReadExt;

use super::Broken;
use super::connect::Stream;
use super::incoming::{Framing, reserve};
use crate::scrape::fetch::FetchError;

/// A head may have this many bytes.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// The first read asks for this many bytes: a head, and a small body whole.
pub(super) const FIRST_BYTES: usize = 16 << 10;

/// A head may have this many header lines.
const HEAD_LINES_MAX: usize = 1_000;

/// Few heads have more lines than this, so that the room for more is not made each time.
const HEAD_LINES_USUAL: usize = 64;

/// Bytes of what a server sent that a message shows.
const SHOWN_BYTES_MAX: usize = 64;

/// Bytes of the Content-Type that count.
const CONTENT_TYPE_BYTES_MAX: usize = 1 << 10;

/// What the head tells that matters here.
pub(super) struct Head<'b> {
    /// How many bytes it takes, the empty line included.
    pub(super) length: usize,
    pub(super) status: u16,
    pub(super) reason: &'b [u8],
    /// Whether the server lets the connection open after this answer.
    pub(super) keep_alive: bool,
    pub(super) packing: Packing<'b>,
    /// Empty where there is none.
    pub(super) content_type: &'b [u8],
    pub(super) location: Option<&'b [u8]>,
    content_length: Option<&'b [u8]>,
    chunked: bool,
    has_packing: bool,
}

/// How the body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing<'b> {
    Plain,
    Gzip,
    Other(&'b [u8]),
}

impl Head<'_> {
    /// Where the body ends.
    pub(super) fn framing(&self) -> Result<Framing, FetchError> {
        // RFC 9112, section 6.3: chunks win over a length.
        if self.chunked {
            return Ok(Framing::Chunked);
        }
        let Some(text) = self.content_length else { return Ok(Framing::UntilClose) };
        let digits =
            std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.and_then(|text| text.parse().ok()) {
            Some(length) => Ok(Framing::Length(length)),
            None => Err(malformed(&format!("bad Content-Length {:?}", shown(text)))),
        }
    }
}

/// Reads what there is of the head, and of the body behind it, to the end of `body`.
pub(super) async fn read_some(stream: &mut Stream, body: &mut Vec<u8>) -> Result<(), Broken> {
    let fresh = body.is_empty();
    if body.len() >= HEAD_BYTES_MAX {
        return Err(malformed(&format!("its head has more than {HEAD_BYTES_MAX} bytes")).into());
    }
    // Not more at first: what follows the head must be moved to its place.
    let room = reserve(body, FIRST_BYTES, FIRST_BYTES);
    let error = match stream.read_buf(&mut bytes::BufMut::limit(&mut *body, room.min(FIRST_BYTES))).await {
        Ok(0) if fresh => "EOF: the server closed the connection without an answer".to_owned(),
        Ok(0) => "unexpected EOF: the server closed the connection in the head of its answer".to_owned(),
        Ok(_) => return Ok(()),
        Err(error) => format!("reading the answer: {error}"),
    };
    let error = FetchError::Transport(error);
    Err(if fresh { Broken::Unanswered(error) } else { Broken::Failed(error) })
}

/// Makes of another version the one that its answers are read as: any number is, as in Go.
pub(super) fn settle_version(bytes: &mut [u8]) {
    if let [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, ..] = bytes
        && major.is_ascii_digit()
        && minor.is_ascii_digit()
    {
        let keeps = (*major, *minor) >= (b'1', b'1');
        (*major, *minor) = (b'1', if keeps { b'1' } else { b'0' });
    }
}

/// Until so much is there, nobody knows which version an answer names.
const VERSION_BYTES: usize = b"HTTP/1.1".len();

/// The head at the start of `bytes`, if it is complete. The first `seen` bytes were there before and held no
/// complete head: without an end of it in the new ones, there is nothing to look at.
pub(super) fn parse(bytes: &[u8], seen: usize) -> Result<Option<Head<'_>>, FetchError> {
    if let Some(b'\r' | b'\n') = bytes.first() {
        return Err(malformed("an empty line comes before it"));
    }
    if bytes.len() < VERSION_BYTES && bytes.starts_with(b"HTTP/") {
        return Ok(None);
    }
    // A short one is looked at each time, so that what is no HTTP shows at once.
    if seen > SHOWN_BYTES_MAX && !has_end(&bytes[seen.saturating_sub(3)..]) {
        return Ok(None);
    }
    let mut few = [httparse::EMPTY_HEADER; HEAD_LINES_USUAL];
    match parse_lines(bytes, &mut few) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![httparse::EMPTY_HEADER; HEAD_LINES_MAX];
            understood(parse_lines(bytes, &mut many), bytes)
        }
        parsed => understood(parsed, bytes),
    }
}

/// A head's lines and how long it is, if it is complete.
fn parse_lines<'h, 'b>(
    bytes: &'b [u8],
    lines: &'h mut [httparse::Header<'b>],
) -> httparse::Result<(usize, httparse::Response<'h, 'b>)> {
    let mut response = httparse::Response::new(lines);
    let mut config = httparse::ParserConfig::default();
    // Go's client reads these too.
    config.allow_obsolete_multiline_headers_in_responses(true);
    config.allow_multiple_spaces_in_response_status_delimiters(true);
    config.allow_spaces_after_header_name_in_responses(true);
    Ok(match config.parse_response(&mut response, bytes)? {
        httparse::Status::Complete(length) => httparse::Status::Complete((length, response)),
        httparse::Status::Partial => httparse::Status::Partial,
    })
}

/// Whether white space stands between a name, which is a part of `bytes`, and its colon.
fn has_space_behind(name: &str, bytes: &[u8]) -> bool {
    let behind = (name.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize) + name.len();
    bytes.get(behind).is_some_and(|byte| *byte != b':')
}

/// What the lines mean.
fn understood<'b>(
    parsed: httparse::Result<(usize, httparse::Response<'_, 'b>)>,
    bytes: &'b [u8],
) -> Result<Option<Head<'b>>, FetchError> {
    let (length, response) = match parsed {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(malformed(&format!("more than {HEAD_LINES_MAX} header lines")));
        }
        Err(error) => {
            return Err(malformed(&format!("{error} in {:?}", shown(bytes))));
        }
    };
    if length > HEAD_BYTES_MAX {
        return Err(malformed(&format!("its head has more than {HEAD_BYTES_MAX} bytes")));
    }
    let mut head = Head {
        length,
        status: response.code.unwrap_or_default(),
        reason: response.reason.unwrap_or_default().as_bytes(),
        // HTTP/1.0 closes unless it says otherwise.
        keep_alive: response.version == Some(1),
        packing: Packing::Plain,
        has_packing: false,
        content_type: b"",
        location: None,
        content_length: None,
        chunked: false,
    };
    let is_1_0 = response.version == Some(0);
    for line in &*response.headers {
        // To Go such a line is of another name.
        if has_space_behind(line.name, bytes) || is_1_0 && line.name.eq_ignore_ascii_case("transfer-encoding")
        {
            continue;
        }
        head.take(line.name, line.value.trim_ascii())?;
    }
    Ok(Some(head))
}

impl<'b> Head<'b> {
    fn take(&mut self, name: &str, value: &'b [u8]) -> Result<(), FetchError> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("content-type") {
            // The first one counts, here and below, as in Go.
            if self.content_type.is_empty() {
                self.content_type = &value[..value.len().min(CONTENT_TYPE_BYTES_MAX)];
            }
        } else if is("content-length") {
            if self.content_length.is_some_and(|other| other != value) {
                return Err(malformed("it has several Content-Lengths"));
            }
            self.content_length = Some(value);
        } else if is("content-encoding") {
            if !std::mem::replace(&mut self.has_packing, true) {
                self.packing = match value {
                    b"" => Packing::Plain,
                    _ if value.eq_ignore_ascii_case(b"identity") => Packing::Plain,
                    _ if value.eq_ignore_ascii_case(b"gzip") => Packing::Gzip,
                    _ => Packing::Other(value),
                };
            }
        } else if is("transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(malformed(&format!("unsupported transfer encoding {:?}", shown(value))));
            }
            self.chunked = true;
        } else if is("connection") {
            for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if token.eq_ignore_ascii_case(b"close") {
                    self.keep_alive = false;
                } else if token.eq_ignore_ascii_case(b"keep-alive") {
                    self.keep_alive = true;
                }
            }
        } else if is("location") {
            self.location.get_or_insert(value);
        }
        Ok(())
    }
}

/// The start of what a server sent, for a message.
pub(super) fn shown(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)])
}

fn has_end(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

fn malformed(what: &str) -> FetchError {
    FetchError::Transport(format!("malformed HTTP response: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        match parse(bytes, 0).and_then(|head| head.map(|head| head.framing()).transpose()) {
            Err(error) => error.to_string(),
            Ok(found) => panic!("{found:?}"),
        }
    }

    #[test]
    fn a_head_is_read_whatever_the_case_of_its_names() {
        let text = "HTTP/1.1 200 OK\r\ncontent-TYPE:  text/plain \r\nTransfer-Encoding: Chunked\r\nContent-Length: 7\r\nCONNECTION: foo, Close\r\ncontent-encoding: GZIP\r\n\r\nrest";
        let head = parse(text.as_bytes(), 0).unwrap().unwrap();
        assert_eq!(head.length, text.len() - 4);
        assert_eq!((head.status, head.reason, head.content_type), (200, &b"OK"[..], &b"text/plain"[..]));
        assert_eq!((head.packing, head.keep_alive), (Packing::Gzip, false));
        assert_eq!(head.framing().unwrap(), Framing::Chunked);
    }

    #[test]
    fn http_1_0_keeps_a_connection_only_where_it_says_so() {
        for (line, keeps) in [("", false), ("Connection: keep-alive\r\n", true)] {
            let text = format!("HTTP/1.0 200 OK\r\n{line}\r\n");
            assert_eq!(parse(text.as_bytes(), 0).unwrap().unwrap().keep_alive, keeps);
        }
    }

    #[test]
    fn a_name_with_a_space_behind_it_is_another_one_and_nothing_may_come_before_the_status() {
        let text = b"HTTP/1.1 200 OK\r\nX : y\r\nContent-Length : 7\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(parse(text, 0).unwrap().unwrap().framing().unwrap(), Framing::Length(3));
        assert!(error(&[b"\r\n", &text[..]].concat()).contains("empty line"));
    }

    #[test]
    fn any_version_is_read_and_chunks_are_not_of_1_0() {
        for (version, keeps, framing) in [
            ("0.9", false, Framing::UntilClose),
            ("1.0", false, Framing::UntilClose),
            ("1.1", true, Framing::Chunked),
            ("1.2", true, Framing::Chunked),
            ("2.0", true, Framing::Chunked),
        ] {
            let mut text =
                format!("HTTP/{version} 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
            settle_version(&mut text);
            let head = parse(&text, 0).unwrap().unwrap();
            assert_eq!((head.keep_alive, head.framing().unwrap()), (keeps, framing), "{version}");
        }
    }

    #[test]
    fn an_incomplete_head_is_none_until_its_end_comes_in_any_pieces() {
        let text = [b"HTTP/1.1 200 OK\r\nA: ", &[b'b'; 100][..], b"\r\n\r\n"].concat();
        for cut in 1..text.len() {
            assert!(parse(&text[..cut], 0).unwrap().is_none());
            assert!(parse(&text, cut).unwrap().is_some(), "{cut}");
        }
        // Another version is settled once all of it is there.
        assert!((1..VERSION_BYTES).all(|cut| parse(&b"HTTP/2.1"[..cut], 0).unwrap().is_none()));
        assert!(parse(b"HTTX", 0).is_err());
    }

    #[test]
    fn many_lines_are_read_and_of_several_content_encodings_the_first_counts() {
        let lines = "A: b\r\n".repeat(HEAD_LINES_MAX - 3);
        let text = format!(
            "HTTP/1.1 200 OK\r\n{lines}Content-Encoding: gzip\r\nContent-Encoding: br\r\nLocation: /x\r\n\r\n"
        );
        let head = parse(text.as_bytes(), 0).unwrap().unwrap();
        assert_eq!((head.length, head.packing, head.location), (text.len(), Packing::Gzip, Some(&b"/x"[..])));
        assert!(parse(&text.as_bytes()[..text.len() - 1], 0).unwrap().is_none());
        let empty = b"HTTP/1.1 200 OK\r\nContent-Encoding: \r\nContent-Encoding: br\r\n\r\n";
        assert_eq!(parse(empty, 0).unwrap().unwrap().packing, Packing::Plain);
    }

    #[test]
    fn a_long_content_type_is_cut() {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\n\r\n", "x".repeat(5_000));
        let head = parse(text.as_bytes(), 0).unwrap().unwrap();
        assert_eq!(head.content_type.len(), CONTENT_TYPE_BYTES_MAX);
    }

    #[test]
    fn what_is_no_head_is_malformed() {
        assert!(error(b"SSH-2.0-OpenSSH_9.6\r\n").contains("malformed HTTP response"));
        assert!(
            error(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n").contains("bad Content-Length \"-1\"")
        );
        assert!(
            error(b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n").contains("bad Content-Length \"+1\"")
        );
        assert!(error(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n").contains("bad"));
        assert!(
            error(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n").contains("several")
        );
        assert!(
            error(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")
                .contains("transfer encoding")
        );
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(HEAD_LINES_MAX + 1));
        assert!(error(many.as_bytes()).contains("more than 1000 header lines"));
    }
}
