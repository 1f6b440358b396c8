//! `/etc/resolv.conf`: name servers, and the domains that short names are tried in.

use std::net::IpAddr;

/// What of it counts here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<IpAddr>,
    search: Vec<String>,
    /// A name with at least so many dots is tried as it is first.
    ndots: usize,
}

impl ResolvConf {
    /// Reads the file's text. Lines that make no sense are passed over, as resolvers do.
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // An address may name its link: fe80::1%eth0.
                    let address: Option<IpAddr> =
                        words.next().and_then(|word| word.split('%').next()?.parse().ok());
                    conf.servers.extend(address);
                }
                Some("domain") => conf.search = words.take(1).map(str::to_owned).collect(),
                Some("search") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let mut ndots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    conf.ndots = ndots.next_back().map_or(conf.ndots, |ndots: usize| ndots.min(15));
                }
                _ => {}
            }
        }
        conf
    }

    /// The whole names to try for `name`, in order.
    pub(super) fn names(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let whole = format!("{name}.");
        let domains = self.search.iter().map(|domain| domain.trim_matches('.')).filter(|d| !d.is_empty());
        let searched = domains.map(|domain| format!("{name}.{domain}."));
        if name.split('.').count() > self.ndots {
            std::iter::once(whole).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(whole)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_tried_in_the_search_domains_first() {
        let conf = ResolvConf::parse(
            "# comment\nnameserver 10.0.0.10\nnameserver fe80::1%eth0\nnameserver nonsense\nsearch default.svc.cluster.local cluster.local\noptions edns0 ndots:2\n",
        );
        assert_eq!(conf.servers, ["10.0.0.10".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
        assert_eq!(conf.names("a.b"), ["a.b.default.svc.cluster.local.", "a.b.cluster.local.", "a.b."]);
        assert_eq!(conf.names("a.b.c")[0], "a.b.c.");
        assert_eq!(conf.names("a.b."), ["a.b."]);
    }
}
