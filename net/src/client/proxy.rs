//! Which proxy a request takes: the rules of Go's golang.org/x/net/http/httpproxy, which Prometheus follows.

use std::net::IpAddr;
use std::sync::Arc;

use promring_model::config::ProxyConfig;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::{Host, Url};

use super::{ClientError, describe};

/// Where a URL of a socks proxy has no port.
const SOCKS_PORT: u16 = 1080;

/// The proxies of a block, if it has one: for https and for http.
///
/// # Errors
/// Where a header of `proxy_connect_header`, or the proxy's address, cannot be used.
pub(super) fn proxies(config: &ProxyConfig) -> Result<Option<[reqwest::Proxy; 2]>, ClientError> {
    let rules = match &config.url {
        _ if config.from_environment => Rules::from_environment(|name| std::env::var(name).ok()),
        None => return Ok(None),
        Some(url) => {
            // As reqwest would: what it cannot use shows now.
            reqwest::Proxy::all(url.as_str()).map_err(|error| ClientError::Proxy(describe(&error)))?;
            let url = Some(usable(Url::clone(url)));
            let direct = (!config.no_proxy.is_empty()).then(|| Direct::new(&config.no_proxy));
            Rules { http: url.clone(), https: url, direct }
        }
    };
    let mut headers = HeaderMap::new();
    for (name, values) in &config.connect_headers {
        let fail = || ClientError::Header { name: name.clone() };
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fail())?;
        for value in values {
            headers.append(parsed.clone(), HeaderValue::from_str(value.expose()).map_err(|_| fail())?);
        }
    }
    let rules = Arc::new(rules);
    let of = |scheme: &'static str| {
        let rules = Arc::clone(&rules);
        reqwest::Proxy::custom(move |url| {
            (url.scheme() == scheme).then(|| rules.proxy(url).cloned()).flatten()
        })
    };
    // The headers are for a CONNECT alone; reqwest would put them into what it asks a proxy for by http, too.
    Ok(Some([of("https").headers(headers), of("http")]))
}

/// The proxies by scheme, and who is reached without one.
struct Rules {
    http: Option<Url>,
    https: Option<Url>,
    /// None: nobody, not even this machine.
    direct: Option<Direct>,
}

impl Rules {
    fn from_environment(get: impl Fn(&str) -> Option<String>) -> Self {
        let either = |lower: &str| {
            let names = [lower.to_owned(), lower.to_ascii_uppercase()];
            names.iter().filter_map(|name| get(name)).find(|value| !value.is_empty())
        };
        // A CGI script's HTTP_PROXY is a header of its client.
        let http = either("http_proxy").filter(|_| get("REQUEST_METHOD").is_none());
        let direct = either("no_proxy").unwrap_or_default();
        Self {
            http: http.as_deref().and_then(parse),
            https: either("https_proxy").as_deref().and_then(parse),
            direct: Some(Direct::new(&direct)),
        }
    }

    fn proxy(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "http" => self.http.as_ref(),
            "https" => self.https.as_ref(),
            _ => None,
        }?;
        let goes_direct = self.direct.as_ref().is_some_and(|direct| direct.includes(url));
        (!goes_direct).then_some(proxy)
    }
}

/// A proxy as the environment names it, with its scheme or without; None where it cannot be used.
fn parse(text: &str) -> Option<Url> {
    let whole = Url::parse(text).ok().filter(Url::has_host);
    let url = whole.or_else(|| Url::parse(&format!("http://{text}")).ok())?;
    matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h").then(|| usable(url))
}

/// The URL as reqwest understands it. Go lets either kind of SOCKS 5 look up the names.
fn usable(mut url: Url) -> Url {
    if url.scheme() == "socks5"
        && let Ok(by_proxy) = Url::parse(&format!("socks5h{}", &url[url::Position::AfterScheme..]))
    {
        url = by_proxy;
    }
    if url.scheme() == "socks5h" && url.port().is_none() {
        let _ = url.set_port(Some(SOCKS_PORT));
    }
    url
}

/// `no_proxy`: who is reached without a proxy. This machine is in any case.
#[derive(Debug)]
struct Direct {
    everybody: bool,
    entries: Vec<Entry>,
}

/// One entry of the list.
#[derive(Debug)]
struct Entry {
    hosts: Hosts,
    /// Empty: any.
    port: String,
}

#[derive(Debug)]
enum Hosts {
    /// An address, and how many of its bits count.
    Network(IpAddr, u8),
    /// What the names end in, from a dot on; and whether the name behind the dot is one of them.
    Domain(String, bool),
}

impl Direct {
    fn new(list: &str) -> Self {
        let entries = list.split(',').map(|entry| entry.trim().to_lowercase());
        let (mut everybody, mut parsed) = (false, Vec::new());
        for entry in entries {
            everybody |= entry == "*";
            parsed.extend(Entry::parse(&entry));
        }
        Self { everybody, entries: parsed }
    }

    fn includes(&self, url: &Url) -> bool {
        let address = match url.host() {
            None => return true,
            Some(Host::Domain("localhost")) => return true,
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip).to_canonical()),
        };
        if self.everybody || address.is_some_and(|ip| ip.is_loopback()) {
            return true;
        }
        let port = url.port_or_known_default().map_or(String::new(), |port| port.to_string());
        let name = url.host_str().unwrap_or_default();
        self.entries.iter().any(|entry| {
            let named = match (&entry.hosts, address) {
                (Hosts::Network(network, bits), Some(ip)) => same_bits(*network, ip, *bits),
                (Hosts::Domain(end, itself), None) => name.ends_with(end) || *itself && name == &end[1..],
                (Hosts::Network(..), None) | (Hosts::Domain(..), Some(_)) => false,
            };
            named && (entry.port.is_empty() || entry.port == port)
        })
    }
}

impl Entry {
    fn parse(entry: &str) -> Option<Self> {
        if let Some((address, bits)) = entry.split_once('/')
            && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>())
            && bits <= width(address)
        {
            // A network of IPv4 may be written as one of IPv6.
            let (address, bits) = match (address.to_canonical(), bits.checked_sub(96)) {
                (canonical, Some(bits)) if canonical != address => (canonical, bits),
                _ => (address, bits),
            };
            return Some(Self { hosts: Hosts::Network(address, bits), port: String::new() });
        }
        let (host, port) = host_and_port(entry).unwrap_or((entry, ""));
        let hosts = match host.parse::<IpAddr>() {
            Ok(ip) => Hosts::Network(ip.to_canonical(), width(ip.to_canonical())),
            Err(_) => {
                let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
                let (itself, host) = match host.strip_prefix('.') {
                    Some(rest) => (false, rest),
                    None => (true, host),
                };
                if host.is_empty() {
                    return None;
                }
                // As URLs have it: in ASCII.
                let host = match Host::parse(host) {
                    Ok(Host::Domain(name)) => name,
                    Ok(_) | Err(_) => host.to_owned(),
                };
                Hosts::Domain(format!(".{host}"), itself)
            }
        };
        Some(Self { hosts, port: port.to_owned() })
    }
}

/// `HOST:PORT` and `[IPV6]:PORT` in two.
fn host_and_port(entry: &str) -> Option<(&str, &str)> {
    let (host, port) = entry.rsplit_once(':')?;
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => Some((host, port)),
        None => (!host.contains(':')).then_some((host, port)),
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Whether two addresses of one family begin with the same `bits`.
fn same_bits(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let differing = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    differing >= u32::from(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes_direct(list: &str, url: &str) -> bool {
        Direct::new(list).includes(&url.parse().unwrap())
    }

    #[test]
    fn no_proxy_means_what_it_means_in_go() {
        for (list, url, direct) in [
            ("foo.example", "http://foo.example", true),
            ("foo.example", "http://a.foo.example", true),
            ("foo.example", "http://barfoo.example", false),
            ("FOO.example, other", "http://foo.EXAMPLE", true),
            (".foo.example", "http://foo.example", false),
            (".foo.example", "http://a.foo.example", true),
            ("*.foo.example", "http://a.b.foo.example", true),
            ("*.foo.example", "http://foo.example", false),
            ("*foo.example", "http://foo.example", false),
            ("foo.example:9100", "http://foo.example:9100", true),
            ("foo.example:9100", "http://foo.example:91", false),
            ("foo.example:80", "http://foo.example", true),
            ("foo.example:443", "https://foo.example", true),
            ("foo.example:443", "http://foo.example", false),
            ("foo.example:", "http://foo.example:1", true),
            (":80", "http://foo.example", false),
            ("a, *", "http://foo.example", true),
            ("10.0.0.0/8", "http://10.1.2.3", true),
            ("10.0.0.0/8", "http://11.1.2.3", false),
            ("10.0.0.0/33", "http://10.0.0.0", false),
            ("0.0.0.0/0", "http://[2001:db8::1]", false),
            ("::ffff:10.0.0.0/104", "http://10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "http://11.1.2.3", false),
            ("::ffff:10.0.0.0/90", "http://10.1.2.3", false),
            ("10.0.0.1", "http://10.0.0.1:9100", true),
            ("10.0.0.1:91", "http://10.0.0.1:9100", false),
            ("10.0.0.1", "http://[::ffff:10.0.0.1]", true),
            ("2001:db8::/32", "http://[2001:db8::1]", true),
            ("2001:db8::1", "http://[2001:db8::1]", true),
            ("[2001:db8::1]:80", "http://[2001:db8::1]", true),
            ("[2001:db8::1]:80", "http://[2001:db8::1]:81", false),
            ("1", "http://10.0.0.1", false),
            ("bücher.example", "http://xn--bcher-kva.example", true),
            ("", "http://foo.example", false),
            (" , .,*.,:", "http://foo.example", false),
        ] {
            assert_eq!(goes_direct(list, url), direct, "{list:?} {url}");
        }
    }

    #[test]
    fn this_machine_is_reached_without_a_proxy_where_there_is_a_list_of_exceptions() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3:99", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(goes_direct("other", &format!("http://{host}/")), "{host}");
        }
        let url: Url = "http://proxy:1".parse().unwrap();
        let rules = Rules { http: Some(url.clone()), https: None, direct: None };
        assert_eq!(rules.proxy(&"http://localhost".parse().unwrap()), Some(&url));
    }

    #[test]
    fn the_environment_names_proxies_by_scheme() {
        let rules = |set: &'static [(&str, &str)]| {
            Rules::from_environment(|name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let asked = |rules: &Rules, url: &str| {
            rules.proxy(&url.parse().unwrap()).map_or("direct", Url::as_str).to_owned()
        };
        let one =
            rules(&[("http_proxy", ""), ("HTTP_PROXY", "p:1"), ("NO_PROXY", "a"), ("ALL_PROXY", "q:1")]);
        assert_eq!(asked(&one, "http://b/"), "http://p:1/");
        assert_eq!(asked(&one, "http://a/"), "direct");
        assert_eq!(asked(&one, "http://127.0.0.1/"), "direct");
        assert_eq!(asked(&one, "https://b/"), "direct");
        let two = rules(&[("HTTP_PROXY", "p:1"), ("HTTPS_PROXY", "https://q"), ("REQUEST_METHOD", "GET")]);
        assert_eq!(asked(&two, "http://b/"), "direct");
        assert_eq!(asked(&two, "https://b/"), "https://q/");
        let three = rules(&[("HTTP_PROXY", "socks5://u:p@s"), ("HTTPS_PROXY", "gopher://q")]);
        assert_eq!(asked(&three, "http://b/"), "socks5h://u:p@s:1080");
        assert_eq!(asked(&three, "https://b/"), "direct");
        let both = rules(&[
            ("HTTP_PROXY", "upper"),
            ("http_proxy", "lower"),
            ("HTTPS_PROXY", "upper"),
            ("https_proxy", "lower"),
            ("NO_PROXY", "a"),
            ("no_proxy", "c"),
        ]);
        for (url, expected) in [
            ("http://a/", "http://lower/"),
            ("https://a/", "http://lower/"),
            ("http://c/", "direct"),
            ("https://c/", "direct"),
        ] {
            assert_eq!(asked(&both, url), expected, "{url}");
        }
    }
}
