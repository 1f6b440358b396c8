//! The way to the allocator: its URL, who belongs to it, and what the scraper shows of itself.

use std::net::IpAddr;

use promring_model::config::HttpClientConfig;
use promring_net::client::{ClientError, HttpClient};
use url::{Host, Url};

/// How an allocator is reached.
#[derive(Clone, Debug)]
pub struct AllocatorAccess {
    /// Its URL, with `http` or `https`.
    pub url: Url,
    /// Names whose addresses are allocators of the same Service, as `HOST` or `HOST:PORT` (default: the port of `url`), in
    /// addition to the host of `url`. Nowhere else does a redirect lead.
    pub peers: Vec<String>,
    /// Authorities, our certificate, the server's name, the token. Without a server's name it is the host of `url`,
    /// wherever a redirect leads.
    pub http: HttpClientConfig,
}

impl AllocatorAccess {
    /// One that wants to see nothing.
    #[must_use]
    pub fn plain(url: Url) -> Self {
        Self { url, peers: Vec::new(), http: HttpClientConfig::default() }
    }

    /// The client for it. Redirects are not its business.
    pub(super) fn client(&self) -> Result<HttpClient, ClientError> {
        let mut http = HttpClientConfig { follow_redirects: false, ..self.http.clone() };
        if http.tls.server_name.is_none() && self.url.scheme() == "https" {
            http.tls.server_name = match self.url.host() {
                // Without the brackets of a URL.
                Some(Host::Ipv6(address)) => Some(address.to_string()),
                host => host.map(|host| host.to_string()),
            };
        }
        HttpClient::new(&http)
    }

    /// The client for other scrapers, by their own names: the same authorities and certificate, and no token, which is for the
    /// allocator alone.
    pub(super) fn client_of_scrapers(&self) -> Result<HttpClient, ClientError> {
        let mut http = HttpClientConfig { follow_redirects: false, auth: None, ..self.http.clone() };
        http.tls.server_name = None;
        HttpClient::new(&http)
    }

    /// The allocators that may be asked, the URL's own first.
    pub(super) fn allocators(&self) -> Vec<Url> {
        let peer = |peer: &String| {
            let (host, port) = self.split(peer);
            let mut url = self.url.clone();
            url.set_host(Some(host)).ok()?;
            url.set_port(Some(port)).ok()?;
            Some(url)
        };
        std::iter::once(self.url.clone()).chain(self.peers.iter().filter_map(peer)).collect()
    }

    /// Where a redirect leads: to another allocator of the same Service, or nowhere. Of `location` only scheme, host and
    /// port count.
    pub(super) async fn redirected(&self, location: &str) -> Result<Url, String> {
        let fail = |reason: &str| format!("a redirect to {location:?} is not followed: {reason}");
        let url = Url::parse(location).map_err(|_| fail("it is no absolute URL"))?;
        if url.scheme() != self.url.scheme() {
            return Err(fail("it has another scheme than the allocator"));
        }
        let origin = url.join("/").map_err(|_| fail("it has no host"))?;
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(fail("it has no host"));
        };
        let own = self.url.host().map(|host| host.to_string());
        let own = own.iter().map(String::as_str).chain(self.peers.iter().map(String::as_str));
        for peer in own {
            let (name, at) = self.split(peer);
            if at == port && (host.to_string() == name || has_address(name, port, &host).await) {
                return Ok(origin);
            }
        }
        Err(fail("no allocator of this Service has that address (--allocator-peers)"))
    }

    fn split<'a>(&self, peer: &'a str) -> (&'a str, u16) {
        let own = self.url.port_or_known_default().unwrap_or(80);
        match peer.rsplit_once(':') {
            // The colons of an IPv6 address are no port's unless it stands in brackets.
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
                port.parse().map_or((peer, own), |port| (name, port))
            }
            _ => (peer, own),
        }
    }
}

/// Whether a name leads to this address now.
async fn has_address(name: &str, port: u16, host: &Host<&str>) -> bool {
    let address = match host {
        Host::Ipv4(address) => IpAddr::from(*address),
        Host::Ipv6(address) => IpAddr::from(*address),
        Host::Domain(_) => return false,
    };
    let found = tokio::net::lookup_host((name.trim_matches(['[', ']']), port)).await;
    found.is_ok_and(|mut found| found.any(|one| one.ip() == address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(url: &str, peers: &[&str]) -> AllocatorAccess {
        let peers = peers.iter().map(|peer| (*peer).to_owned()).collect();
        AllocatorAccess { peers, ..AllocatorAccess::plain(url.parse().unwrap()) }
    }

    #[tokio::test]
    async fn a_redirect_leads_to_the_host_itself_and_to_the_addresses_of_peers() {
        let access = access("https://127.0.0.9:8080/prefix", &["localhost", "[::1]:9090", "localhost:9091"]);
        for (location, origin) in [
            ("https://127.0.0.9:8080/api/v1/anything?x=y", Some("https://127.0.0.9:8080/")),
            ("https://127.0.0.1:8080/", Some("https://127.0.0.1:8080/")),
            ("https://localhost:8080/", Some("https://localhost:8080/")),
            ("https://[::1]:9090/", Some("https://[::1]:9090/")),
            ("https://localhost:9091/", Some("https://localhost:9091/")),
            ("http://127.0.0.1:8080/", None),
            ("https://127.0.0.1:9090/", None),
            ("https://127.0.0.2:8080/", None),
            ("https://evil.svc:8080/", None),
            ("https://localhost.evil:8080/", None),
            ("https://user@evil.svc:8080/", None),
            ("/api/v1/anything", None),
            ("data:text", None),
        ] {
            let found = access.redirected(location).await;
            assert_eq!(found.as_ref().ok().map(Url::as_str), origin, "{location}: {found:?}");
        }
    }
}
