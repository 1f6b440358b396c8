//! This machine's name, and what others see of addresses that mean this machine.

use std::sync::OnceLock;

/// The URL of a target as another machine would reach it: where its host is this machine's own (`localhost`, `127.0.0.1` or
/// `::1`), this machine's name takes its place, as in Prometheus. The port has to be there.
#[must_use]
pub fn global_url(url: &str) -> String {
    static NAME: OnceLock<String> = OnceLock::new();
    let name = NAME.get_or_init(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    as_seen_elsewhere(url, name).unwrap_or_else(|| url.to_owned())
}

fn as_seen_elsewhere(url: &str, name: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = authority.rsplit_once(':')?;
    let is_own = !name.is_empty() && matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    is_own.then(|| format!("{scheme}://{name}:{port}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_get_its_name() {
        for (url, elsewhere) in [
            ("http://localhost:9100/metrics", Some("http://node-1:9100/metrics")),
            ("https://127.0.0.1:80/?x=http://localhost:1", Some("https://node-1:80/?x=http://localhost:1")),
            ("http://[::1]:1", Some("http://node-1:1")),
            ("http://127.0.0.2:1/", None),
            ("http://localhost/metrics", None),
            ("http://other:9100/localhost:1/", None),
            ("localhost:1", None),
        ] {
            assert_eq!(as_seen_elsewhere(url, "node-1").as_deref(), elsewhere, "{url}");
        }
        assert_eq!(as_seen_elsewhere("http://localhost:1/", ""), None);
    }
}
