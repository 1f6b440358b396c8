//! The request: put together from pieces that are ready, without formatting.

use url::{Position, Url};

/// Writes the head of a GET into `out`, whose content goes. Each of `lines` ends with its line end.
pub(super) fn write(url: &Url, lines: &[&[u8]], out: &mut Vec<u8>) {
    out.clear();
    // Once, where the buffer is new: what is written beside the URL and the lines is less than this.
    out.reserve(2 * url.as_str().len() + lines.iter().map(|line| line.len()).sum::<usize>() + 32);
    out.extend_from_slice(b"GET ");
    // A URL that was parsed holds neither spaces nor control characters, and its path is never empty.
    out.extend_from_slice(url[Position::BeforePath..Position::AfterQuery].as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(url[Position::BeforeHost..Position::AfterPort].as_bytes());
    out.extend_from_slice(b"\r\n");
    for line in lines {
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_path_query_host_and_lines() {
        let url = Url::parse("http://[::1]:9100/a b?x=%20y#fragment").unwrap();
        let mut out = b"left over".to_vec();
        write(&url, &[b"A: 1\r\n", b"", b"B: 2\r\nC: 3\r\n"], &mut out);
        let expected = "GET /a%20b?x=%20y HTTP/1.1\r\nHost: [::1]:9100\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_default_port_and_an_empty_path_are_left_to_the_url() {
        let mut out = Vec::new();
        write(&Url::parse("http://host:80?q=\r\n1").unwrap(), &[], &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "GET /?q=1 HTTP/1.1\r\nHost: host\r\n\r\n");
    }
}
