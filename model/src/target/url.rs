//! The URL that a target's labels make, as Go writes it for Prometheus.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::{METRICS_PATH, NoUrl, PARAM_PREFIX, SCHEME};
use crate::config::ScrapeConfig;
use crate::labels::Labels;

/// What Go's `URL.EscapedPath` escapes. The label is a path and nothing but a path, so that a `?` in it begins no query.
const OF_PATH: AsciiSet = unreserved(NON_ALPHANUMERIC)
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');
/// What Go's `QueryEscape` escapes; of a space it makes a plus sign.
const OF_QUERY: AsciiSet = unreserved(NON_ALPHANUMERIC).remove(b' ');

/// What Go escapes in a host.
const OF_HOST: AsciiSet = unreserved(NON_ALPHANUMERIC)
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'[')
    .remove(b']')
    .remove(b'<')
    .remove(b'>')
    .remove(b'"');

const fn unreserved(set: &AsciiSet) -> AsciiSet {
    set.remove(b'-').remove(b'_').remove(b'.').remove(b'~')
}

/// Scheme, address, path and parameters; a label `__param_x` replaces the first value of parameter x.
pub(super) fn of_target(config: &ScrapeConfig, labels: &Labels, address: &str) -> Result<Url, NoUrl> {
    // Every target has one to begin with; a rule may have taken it away.
    let scheme = labels.get(SCHEME).unwrap_or_default();
    let path = labels.get(METRICS_PATH).unwrap_or("");
    let slash = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
    // In Go a path that is an asterisk stands for the server itself.
    let path = if path == "*" { path.into() } else { Cow::from(utf8_percent_encode(path, &OF_PATH)) };
    let query = query(config, labels);
    let question_mark = if query.is_empty() { "" } else { "?" };
    let behind_address = format!("{slash}{path}{question_mark}{query}");
    let fail = |reason: &str| NoUrl {
        url: format!(
            "{scheme}{}//{}{behind_address}",
            if scheme.is_empty() { "" } else { ":" },
            shown_host(address)
        ),
        reason: reason.to_owned(),
    };
    // As Go's URLs are: in whatever letters.
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(fail("the scheme is neither http nor https"));
    }
    // Anything else than host and port would be read as user, query or fragment.
    if address.contains(['@', '?', '#', '%', '\\', '\t', '\r', '\n']) {
        return Err(fail("the address is not a host and a port"));
    }
    let text = format!("{scheme}://{}{behind_address}", dialled(address));
    Url::parse(&text).map_err(|error| fail(&error.to_string()))
}

/// Host and port as Go writes them in a URL.
pub(crate) fn shown_host(address: &str) -> String {
    utf8_percent_encode(address, &OF_HOST).to_string()
}

/// Parameters in order of names, as Go's `Values.Encode` writes them.
fn query(config: &ScrapeConfig, labels: &Labels) -> String {
    let mut params = config.params.clone();
    for (name, value) in labels.iter() {
        if let Some(param) = name.strip_prefix(PARAM_PREFIX) {
            let values = params.entry(param.to_owned()).or_default();
            match values.first_mut() {
                Some(first) => value.clone_into(first),
                None => values.push(value.to_owned()),
            }
        }
    }
    let mut query = String::new();
    for (name, value) in
        params.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
    {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(&query_escaped(name));
        query.push('=');
        query.push_str(&query_escaped(value));
    }
    query
}

/// A text as Go's `url.QueryEscape` writes it: servers may compare what they get.
#[must_use]
pub fn query_escaped(text: &str) -> String {
    // A space is one of the text; what is escaped has none.
    utf8_percent_encode(text, &OF_QUERY).to_string().replace(' ', "+")
}

/// The host and port that are connected to: a port alone is one of this machine, as it is for Go's dialer.
pub(crate) fn dialled(address: &str) -> Cow<'_, str> {
    match address.strip_prefix(':') {
        Some(port) if port.starts_with(|char: char| char.is_ascii_digit()) => {
            format!("localhost:{port}").into()
        }
        _ => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_this_machine() {
        assert_eq!(dialled(":80"), "localhost:80");
        for other in ["", ":", ":a", "h", "h:80", "[::1]:80"] {
            assert_eq!(dialled(other), other);
        }
    }

    #[test]
    fn parameters_are_escaped_as_go_does() {
        let query = query_escaped("a b~c*d'e+f/g?h=i&ü%-_.");
        assert_eq!(query, "a+b~c%2Ad%27e%2Bf%2Fg%3Fh%3Di%26%C3%BC%25-_.");
    }
}
