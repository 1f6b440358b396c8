//! As much of HTTP/1.1 as scrapes need: heads of requests, and of answers.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 << 10;

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    /// What formats the client takes, as it says it.
    pub(super) accept: String,
    /// The client takes gzip.
    pub(super) gzip: bool,
    /// The client wants the connection closed after the answer.
    pub(super) close: bool,
    pub(super) body: Vec<u8>,
}

/// Why there is no request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoRequest {
    /// The client has closed the connection, or it broke.
    Closed,
    /// What came is no request that we read.
    Bad(&'static str),
}

/// Reads the next request. `buffer` holds what has come beyond the last one.
pub(super) async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Request, NoRequest> {
    let head_len = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if buffer.len() > HEAD_BYTES_MAX {
            return Err(NoRequest::Bad("the head is too long"));
        }
        read_more(stream, buffer).await?;
    };
    let (mut request, body_len) = parse_head(&buffer[..head_len]).map_err(NoRequest::Bad)?;
    while buffer.len() < head_len + body_len {
        read_more(stream, buffer).await?;
    }
    request.body = buffer[head_len..head_len + body_len].to_vec();
    buffer.drain(..head_len + body_len);
    Ok(request)
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(), NoRequest> {
    match stream.read_buf(buffer).await {
        Ok(0) | Err(_) => Err(NoRequest::Closed),
        Ok(_) => Ok(()),
    }
}

/// The request of this head, without its body, whose length comes with it.
fn parse_head(head: &[u8]) -> Result<(Request, usize), &'static str> {
    let text = std::str::from_utf8(head).map_err(|_| "the head is not UTF-8")?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err("the request line is not: method, target, version");
    };
    let mut request = Request {
        method: method.to_owned(),
        path: target.split('?').next().unwrap_or_default().to_owned(),
        accept: String::new(),
        gzip: false,
        close: version == "HTTP/1.0",
        body: Vec::new(),
    };
    let mut body_len = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("accept-encoding") {
            request.gzip = accepts_gzip(value);
        } else if name.eq_ignore_ascii_case("accept") {
            request.accept = value.to_owned();
        } else if name.eq_ignore_ascii_case("connection") {
            request.close = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("a body needs a Content-Length here");
        } else if name.eq_ignore_ascii_case("content-length") {
            body_len = value.parse().map_err(|_| "the Content-Length is no number")?;
            if body_len > BODY_BYTES_MAX {
                return Err("the body is too long");
            }
        }
    }
    Ok((request, body_len))
}

/// Whether an Accept-Encoding lists gzip and does not refuse it by `q=0`.
fn accepts_gzip(value: &str) -> bool {
    value.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"))
            && !parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f64)))
    })
}

/// Digits that the field for the Content-Length has room for.
const LENGTH_WIDTH: usize = 10;

/// Appends the head of an answer whose body is to follow in `out`; its length is filled in by [`end_body`].
/// Returns where the body begins.
pub(super) fn begin_body(status: u16, content_type: &str, gzip: bool, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(
        format!("HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\n", reason(status)).as_bytes(),
    );
    if gzip {
        out.extend_from_slice(b"Content-Encoding: gzip\r\n");
    }
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(&[b' '; LENGTH_WIDTH]);
    out.extend_from_slice(b"\r\n\r\n");
    out.len()
}

/// Writes the length of the body into the head before it: spaces before a field's value mean nothing.
pub(super) fn end_body(body_start: usize, out: &mut [u8]) {
    let digits = format!("{:>LENGTH_WIDTH$}", out.len() - body_start);
    let end = body_start - 4;
    out[end - LENGTH_WIDTH..end].copy_from_slice(digits.as_bytes());
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "As Told",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_whatever_the_case_of_their_fields() {
        let head =
            b"GET /metrics?x=1 HTTP/1.1\r\nhost: a\r\nACCEPT-encoding: br, GZIP\r\nConnection: Close\r\n\r\n";
        let (request, body_len) = parse_head(head).unwrap();
        assert_eq!(
            (request.path.as_str(), request.gzip, request.close, body_len),
            ("/metrics", true, true, 0)
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in [
            "nonsense\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(parse_head(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn gzip_can_be_refused_by_its_weight() {
        assert!(accepts_gzip("gzip;q=0.5"));
        assert!(!accepts_gzip("gzip; q=0"));
        assert!(!accepts_gzip("identity"));
    }

    #[test]
    fn the_length_of_a_body_is_filled_in_afterwards() {
        let mut out = Vec::new();
        let start = begin_body(200, "text/plain", false, &mut out);
        out.extend_from_slice(b"hello");
        end_body(start, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length:          5\r\n\r\nhello"
        );
    }
}
