//! Addresses of targets that are URLs: what to write instead, as keys of a job.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use crate::config::masked::names_a_secret;
use crate::config::report::{Report, Spot};
use crate::target::UNIX_SOCKET;

/// Reports an address that cannot be one.
pub(crate) fn static_target(report: &mut Report, spot: Spot, address: &str) {
    if !address.contains('/') {
        return;
    }
    if let Some(path) = address.strip_prefix("unix:") {
        let path = format!("/{}", path.trim_start_matches('/'));
        report.error(spot, "a target is HOST:PORT, not the path of a unix socket").value(address).hint(format!(
            "write a name for the Host header, such as localhost, and the path as a label: labels: {{{UNIX_SOCKET}: {}}}",
            quoted_where_needed(&path)
        ));
        return;
    }
    let parts = Parts::of(address);
    let problem = if parts.is_url {
        "a target is HOST:PORT, not a URL"
    } else {
        "a target is HOST:PORT, without a path"
    };
    report.error(spot, problem).value(address).hint(parts.hint());
}

/// What an address that is a URL consists of.
struct Parts<'a> {
    is_url: bool,
    scheme: String,
    has_user: bool,
    host: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(address: &'a str) -> Self {
        let (scheme, rest) = match address.split_once("//") {
            Some((scheme, rest)) if scheme.is_empty() || scheme.ends_with(':') => {
                (Some(scheme.trim_end_matches(':')), rest)
            }
            _ => (None, address),
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold a slash, a host may not hold an `@`.
        let at = rest.rfind('@').filter(|at| rest[..*at].contains(':') || !rest[..*at].contains('/'));
        let (user, rest) = at.map_or(("", rest), |at| (&rest[..at], &rest[at + 1..]));
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Self {
            is_url: scheme.is_some(),
            scheme: scheme.unwrap_or_default().to_ascii_lowercase(),
            has_user: !user.is_empty(),
            host,
            path,
            query,
        }
    }

    fn hint(&self) -> String {
        if self.host.is_empty() {
            return "write HOST:PORT, and the path as metrics_path in the job".to_owned();
        }
        let mut keys = Vec::new();
        match &*self.scheme {
            "" => {}
            scheme @ ("http" | "https") => keys.push(format!("scheme: {scheme}")),
            scheme => {
                return format!(
                    "only http and https are spoken here: write the HOST:PORT of what speaks one of them, not {scheme}"
                );
            }
        }
        if self.has_user {
            keys.push("basic_auth: {username: USER, password: PASSWORD}".to_owned());
        }
        if !self.path.is_empty() {
            let path = percent_decode_str(self.path).decode_utf8_lossy();
            keys.push(format!("metrics_path: {}", quoted_where_needed(&path)));
        }
        let mut params = BTreeMap::<Cow<'_, str>, Vec<String>>::new();
        for (name, value) in form_urlencoded::parse(self.query.as_bytes()) {
            let value = if names_a_secret(&name) { "SECRET".to_owned() } else { quoted(&value) };
            params.entry(name).or_default().push(value);
        }
        let params: Vec<String> = params
            .iter()
            .map(|(name, values)| format!("{}: [{}]", quoted(name), values.join(", ")))
            .collect();
        if !params.is_empty() {
            keys.push(format!("params: {{{}}}", params.join(", ")));
        }
        match keys.split_first() {
            Some((first, rest)) => {
                let rest: String = rest.iter().map(|key| format!(", and {key}")).collect();
                format!("write {}, and {first}{rest} in the job", self.host)
            }
            None => format!("write {}", self.host),
        }
    }
}

/// A text as YAML has it between quotes.
fn quoted(text: &str) -> String {
    if text.contains(char::is_control) {
        format!("{text:?}")
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// A text as YAML has it, also within braces.
pub(super) fn quoted_where_needed(text: &str) -> Cow<'_, str> {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/_.-+$^|()\\".contains(char);
    let begins_plain = text.starts_with(|char: char| char.is_ascii_alphabetic() || "/_.^(".contains(char));
    if begins_plain && text.chars().all(plain) { text.into() } else { quoted(text).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_keys_of_a_job() {
        for (address, hint) in [
            ("http://h", "write h, and scheme: http in the job"),
            ("HTTPS://h:1/", "write h:1, and scheme: https, and metrics_path: / in the job"),
            ("h:1/a%20b", "write h:1, and metrics_path: '/a b' in the job"),
            ("//h/m", "write h, and metrics_path: /m in the job"),
            (
                "http://u:p@h/m?a=1&a=it's&b=%3D+x#f",
                "write h, and scheme: http, and basic_auth: {username: USER, password: PASSWORD}, and metrics_path: /m, \
                 and params: {'a': ['1', 'it''s'], 'b': ['= x']} in the job",
            ),
            ("h/?a", "write h, and metrics_path: /, and params: {'a': ['']} in the job"),
            ("h#/x", "write h"),
            (
                "ftp://h/x",
                "only http and https are spoken here: write the HOST:PORT of what speaks one of them, not ftp",
            ),
            ("/metrics", "write HOST:PORT, and the path as metrics_path in the job"),
            ("http:///metrics", "write HOST:PORT, and the path as metrics_path in the job"),
        ] {
            assert_eq!(Parts::of(address).hint(), hint, "{address}");
        }
    }

    #[test]
    fn texts_that_yaml_would_read_otherwise_are_quoted() {
        for plain in ["/metrics", "a.b", "a\\.b", "(a|b)", "/a-b_c"] {
            assert_eq!(quoted_where_needed(plain), plain);
        }
        assert_eq!(quoted_where_needed("a, b"), "'a, b'");
        assert_eq!(quoted_where_needed("it's"), "'it''s'");
        assert_eq!(quoted_where_needed("1"), "'1'");
        assert_eq!(quoted_where_needed("a\nb"), "\"a\\nb\"");
    }
}
