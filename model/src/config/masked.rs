//! What is shown of texts that may hold a secret.
//!
//! [`Diagnostic`](super::Diagnostic) masks whatever it is given, so that no finding has to think of it: a password stands in a
//! URL wherever somebody has put one, in a file's name as well as in an address.

use super::report::{PathId, Report};

/// What stands in the place of a secret.
const MASK: &str = "<secret>";

/// URLs of a text that are looked at; of a text with more of them and an `@` nothing is shown.
const URLS_MAX: usize = 8;

/// A value as it may be shown, broken URLs and several in one text too: nothing of what stands before an `@` where a password
/// can be, and nothing of parameters that are named like secrets.
pub(super) fn value(text: &str) -> String {
    without_tokens(&without_users(text, URLS_MAX, true))
}

/// A text with URLs in it, as it may be shown: a message, or a value in which colons and `@` may mean something else.
pub(super) fn text(text: &str) -> String {
    if text.contains('@') { without_users(text, URLS_MAX, false) } else { text.to_owned() }
}

/// A text without users and passwords. `is_url`: it may be a URL without a scheme.
fn without_users(text: &str, urls_max: usize, is_url: bool) -> String {
    let Some(urls_left) = urls_max.checked_sub(1) else {
        return if text.contains(['@', '?']) { MASK.to_owned() } else { text.to_owned() };
    };
    let (scheme, rest) = match behind_scheme(text) {
        Some(at) => text.split_at(at),
        None if is_url => ("", text),
        None => return text.to_owned(),
    };
    let end = if scheme.is_empty() { rest.len() } else { rest.find(['/', '?', '#']).unwrap_or(rest.len()) };
    let (authority, after) = rest.split_at(end);
    let at = match authority.rfind('@') {
        // A user without a password may be a token.
        Some(at) => (!scheme.is_empty() || authority[..at].contains(':')).then_some(at),
        // What follows a colon and is no port may be a password with a slash in it.
        None => authority
            .split_once(':')
            .filter(|(_, port)| port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|_| after.rfind('@').map(|at| end + at)),
    };
    let (mask, rest) = at.map_or(("", rest), |at| (MASK, &rest[at..]));
    format!("{scheme}{mask}{}", without_users(rest, urls_left, false))
}

/// Where what follows a scheme begins. A path that was put together has one slash where there were two.
fn behind_scheme(text: &str) -> Option<usize> {
    let colon = text.find(":/").map(|at| at + 1);
    let slashes = text.find("//").into_iter().chain(colon).min()?;
    Some(text[slashes..].find(|c| c != '/').map_or(text.len(), |end| slashes + end))
}

/// A text without the values of parameters that are named like secrets.
fn without_tokens(text: &str) -> String {
    let Some((before, query)) = text.split_once('?') else { return text.to_owned() };
    let mut shown = format!("{before}?");
    for pair in query.split_inclusive(['&', '?']) {
        match pair.split_once('=') {
            Some((name, _)) if names_a_secret(name) => {
                let end = pair.find(['&', '?']).map_or("", |end| &pair[end..]);
                shown.extend([name, "=", MASK, end]);
            }
            _ => shown.push_str(pair),
        }
    }
    shown
}

/// Whether a parameter's value is probably a secret.
pub(super) fn names_a_secret(param: &str) -> bool {
    let param = param.to_ascii_lowercase();
    ["token", "key", "secret", "password", "passwd", "auth", "sig"].iter().any(|word| param.contains(word))
}

/// Whether nothing is shown of what stands at this path: a header, a parameter or what is named like a secret.
pub(super) fn is_hidden(report: &Report, path: PathId) -> bool {
    report.has_key(path, |key| {
        matches!(key, "headers" | "http_headers" | "proxy_connect_header" | "endpoint_params")
            || (names_a_secret(key) && !key.ends_with("_file") && !key.ends_with("_url"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        for (given, shown) in [
            ("http://u:p@h:1/x", "http://<secret>@h:1/x"),
            ("http://u:p/q@h:1/x", "http://<secret>@h:1/x"),
            ("http://u:/p@h:1/x", "http://<secret>@h:1/x"),
            ("http://[::1]/x", "http://[::1]/x"),
            ("http://h:1/x@y", "http://h:1/x@y"),
            ("http//u:p@h:1/x", "http//<secret>@h:1/x"),
            ("http:/u:p@h:1/x", "http:/<secret>@h:1/x"),
            ("/etc/http:/u:p@h/x.yml", "/etc/http:/<secret>@h/x.yml"),
            ("u:p@h", "<secret>@h"),
            ("http://h/", "http://h/"),
            ("http://:p@h/", "http://<secret>@h/"),
            ("http:////u:p@h/", "http:////<secret>@h/"),
            ("//u:p@h/x", "//<secret>@h/x"),
            ("http://u:p@h,http://v:q@i/x", "http://<secret>@h,http://<secret>@i/x"),
            ("http://h/x,http://v:q@i/x", "http://h/x,http://<secret>@i/x"),
            ("http://h/x?a=b&api_key=c&Token=d", "http://h/x?a=b&api_key=<secret>&Token=<secret>"),
            ("http://h/x?token=a,http://v:q@i/x?b=c&key=d", "http://h/x?token=<secret>?b=c&key=<secret>"),
        ] {
            assert_eq!(value(given), shown, "{given}");
        }
        assert_eq!(value(&format!("{}u:p@h", "/".repeat(100_000))).matches(MASK).count(), 1);
        assert_eq!(value(&"http://u:p@h ".repeat(100)).matches("u:p").count(), 0);
    }

    #[test]
    fn a_message_keeps_all_but_the_passwords_of_its_urls() {
        for (given, shown) in [
            ("write http://u:p@h/x or https://u:p@h/x", "write http://<secret>@h/x or https://<secret>@h/x"),
            (
                "write {regex: '(.+):(.+)@(.+)', action: keep}",
                "write {regex: '(.+):(.+)@(.+)', action: keep}",
            ),
            ("is this it? token=a", "is this it? token=a"),
            ("no http://h:80/a here", "no http://h:80/a here"),
        ] {
            assert_eq!(text(given), shown, "{given}");
        }
    }
}
