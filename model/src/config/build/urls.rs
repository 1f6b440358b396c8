//! URLs of destinations, discoveries and proxies: what both Prometheus and promring can use.

use std::borrow::Cow;

use url::Url;

use super::Builder;
use crate::config::ServerUrl;
use crate::config::report::Spot;
use crate::config::{hints, masked, remarks};
use crate::target::dialled;

impl Builder<'_> {
    /// An absolute URL of the scheme http or https.
    pub(super) fn http_url(&mut self, text: &str, spot: Spot) -> Option<ServerUrl> {
        let no_scheme = "the URL does not begin with http:// or https://";
        // The parser repairs what is not quite a URL, as browsers do: here it is refused.
        let host = text.split_once("://").map(|(_, rest)| user_and_host(rest).1);
        let no_host = |host: &str| host.is_empty() || host.starts_with(':');
        let local = on_this_machine(text);
        if local.is_some() {
            self.report
                .warning(spot, "the URL has no host, so it stands for this machine")
                .value(text)
                .hint("write the host: on Kubernetes every pod is a machine of its own");
        }
        let problem = match Url::parse(local.as_deref().unwrap_or(text)) {
            Ok(_) if let Some(problem) = go_problem(text) => problem.to_owned(),
            Ok(url) if !matches!(url.scheme(), "http" | "https") || host.is_none() => no_scheme.to_owned(),
            _ if local.is_none() && host.is_some_and(no_host) => "the URL has no host".to_owned(),
            Ok(url) => return Some(url.into()),
            Err(url::ParseError::RelativeUrlWithoutBase) => no_scheme.to_owned(),
            Err(error) => format!("not a valid URL: {error}"),
        };
        let shown = masked::value(text);
        let hint = match text.contains("${") {
            // Whatever it stands for, and be it the password.
            true => remarks::variable_hint(text).map(str::to_owned),
            false => None,
        };
        let hint = hint.unwrap_or_else(|| hints::url(&shown));
        self.report.error(spot, problem).value(&shown).hint(hint);
        None
    }

    /// A proxy's URL.
    pub(super) fn proxy_url(&mut self, text: &str, spot: Spot) -> Option<ServerUrl> {
        match Url::parse(text) {
            Ok(url)
                if go_problem(text).is_none()
                    && matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h")
                    && url.has_host() =>
            {
                Some(url.into())
            }
            _ => {
                self.report.error(spot, "not a proxy's URL").value(text).hint(
                    remarks::variable_hint(text)
                        .unwrap_or("write http://HOST:PORT (or https, socks5, socks5h)"),
                );
                None
            }
        }
    }
}

/// What stands before host and port behind a URL's scheme, and these.
fn user_and_host(rest: &str) -> (&str, &str) {
    let authority = rest.find(['/', '?', '#', '\\']).map_or(rest, |end| &rest[..end]);
    authority.split_at(authority.rfind('@').map_or(0, |at| at + 1))
}

/// A URL with a port and no host, which stands for the machine it is used on; with the host that this is.
fn on_this_machine(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let (user, host) = user_and_host(rest);
    let Cow::Owned(dialled) = dialled(host) else { return None };
    Some(format!("{scheme}://{user}{dialled}{}", &rest[user.len() + host.len()..]))
}

/// What Go's parser refuses in a URL and ours repairs or takes, as browsers do.
fn go_problem(text: &str) -> Option<&'static str> {
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Some("the URL holds a control character");
    }
    if text.starts_with(' ') {
        return Some("the URL begins with a space");
    }
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let before_query = text.split_once('?').map_or(text, |(before, _)| before);
    let (_, rest) = before_query.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (user, host),
        None => ("", authority),
    };
    let of_user = |b: u8| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b);
    let of_host = |b: u8| b.is_ascii_alphanumeric() || b >= 0x80 || b"-_.~!$&'()*+,;=:[]<>\"%".contains(&b);
    if !user.bytes().all(of_user) {
        Some("the user and password in the URL hold a character that must be escaped")
    } else if !host.bytes().all(of_host) {
        Some("the URL's host is none")
    } else if escapes(host).any(|code| code.is_none_or(|code| code < 0x80 && code != 0x25)) {
        Some("the URL's host holds a percent sign")
    } else if [user, path, fragment].into_iter().flat_map(escapes).any(|code| code.is_none()) {
        Some("the URL holds a percent sign without two hexadecimal digits")
    } else {
        None
    }
}

/// The codes behind percent signs; none for one that is no code.
fn escapes(text: &str) -> impl Iterator<Item = Option<u8>> {
    let code = |rest: &str| {
        let digits = rest.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u8::from_str_radix(digits, 16).ok()
    };
    text.split('%').skip(1).map(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_without_a_host_is_one_of_this_machine() {
        assert_eq!(on_this_machine("http://:80/a"), Some("http://localhost:80/a".to_owned()));
        assert_eq!(on_this_machine("http://u:80@:80/a"), Some("http://u:80@localhost:80/a".to_owned()));
        for other in ["http:///a", "http://:/a", "http://h:80", "http://:80@h", "a"] {
            assert_eq!(on_this_machine(other), None, "{other}");
        }
    }

    #[test]
    fn urls_that_go_refuses_have_a_problem() {
        for good in [
            "http://a/b",
            "http://u:p%40@a:1/b%20c?d=%zz#e",
            "http://[::1]:80/",
            "http://[fe80::1%25eth0]/",
            "http://é/ü v",
            "a",
        ] {
            assert_eq!(go_problem(good), None, "{good}");
        }
        for bad in [
            " http://a",
            "http://a ",
            "http://a\\b",
            "http://a/%zz",
            "http://a/%2",
            "http://a%41/",
            "http://a/\t",
            "http://u:p w@a/",
            "http://u:%zz@a/",
            "http://{HOST}/",
            "http://a/#%x",
        ] {
            assert!(go_problem(bad).is_some(), "{bad}");
        }
    }
}
