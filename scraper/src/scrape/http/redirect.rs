//! Where a redirect leads, and whether credentials may go there.

use url::{Host, Position, Url};

use super::head::shown;

/// Whether credentials meant for `original` may be sent to `host`: to itself and to domains under it, on any
/// port, as Go's client and Prometheus's have it.
pub(in crate::scrape) fn keeps_credentials(original: &Url, next: &Url) -> bool {
    match (original.host(), next.host()) {
        (Some(Host::Domain(original)), Some(Host::Domain(next))) => {
            // Names in a parsed URL are in lower case.
            next.strip_suffix(original).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        }
        (original, next) => original == next,
    }
}

/// Whether one connection serves both.
pub(in crate::scrape) fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Whether a header carries credentials that stop at the host that they are meant for.
pub(in crate::scrape) fn is_credential(name: &str) -> bool {
    ["authorization", "www-authenticate", "cookie", "cookie2", "proxy-authorization", "proxy-authenticate"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// The URL that `location` names, seen from `here`.
pub(in crate::scrape) fn follow(here: &Url, location: &str) -> Result<Url, String> {
    let mut next = here.join(location).map_err(|error| {
        format!("failed to parse Location header {:?}: {error}", shown(location.as_bytes()))
    })?;
    if !matches!(next.scheme(), "http" | "https") {
        return Err(format!("unsupported protocol scheme {:?} in the Location header", next.scheme()));
    }
    next.set_fragment(None);
    Ok(next)
}

/// The line that tells `next` who led there, as Go's client sends it: without name and password, and not from https to http.
pub(in crate::scrape) fn referer(here: &Url, next: &Url) -> Option<String> {
    if here.scheme() == "https" && next.scheme() == "http" {
        return None;
    }
    let (before, behind) =
        (&here[..Position::BeforeUsername], &here[Position::BeforeHost..Position::AfterQuery]);
    Some(format!("Referer: {before}{behind}\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn credentials_go_to_the_host_and_to_domains_under_it() {
        let keeps = |a: &str, b: &str| keeps_credentials(&url(a), &url(b));
        assert!(keeps("http://a.example/x", "https://A.example:8443/y"));
        assert!(keeps("http://a.example/", "http://sub.a.example/"));
        assert!(!keeps("http://a.example/", "http://example/"));
        assert!(!keeps("http://a.example/", "http://nota.example/"));
        assert!(keeps("http://10.0.0.1/", "http://10.0.0.1:1/"));
        assert!(!keeps("http://10.0.0.1/", "http://10.0.0.11/"));
        assert!(!keeps("http://[::1]/", "http://[::2]/"));
    }

    #[test]
    fn the_referer_has_no_password_and_does_not_go_from_https_to_http() {
        let line = |here: &str, next: &str| referer(&url(here), &url(next));
        let told = Some("Referer: http://host:1/a?b\r\n".to_owned());
        assert_eq!(line("http://me:secret@host:1/a?b#c", "http://other/"), told);
        assert_eq!(line("http://host:1/a?b", "https://other/"), told);
        assert_eq!(line("https://host/", "https://other/"), Some("Referer: https://host/\r\n".to_owned()));
        assert_eq!(line("https://host/", "http://other/"), None);
    }

    #[test]
    fn locations_are_relative_to_where_they_are_found() {
        let here = url("http://host:1/a/b?c#d");
        assert_eq!(follow(&here, "../x?y").unwrap().as_str(), "http://host:1/x?y");
        assert_eq!(follow(&here, "//other/z#f").unwrap().as_str(), "http://other/z");
        assert!(follow(&here, "ftp://other/").unwrap_err().contains("\"ftp\""));
        assert!(follow(&here, "http://[/").unwrap_err().contains("failed to parse Location"));
    }
}
