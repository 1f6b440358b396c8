//! Ingresses: one target for each path of each rule, at the rule's host. They are for probing from outside.

use std::sync::Arc;

use serde::Deserialize;

use super::kind::Kind;
use super::labels::{Meta, NAMESPACE, Pairs, or_default};
use crate::discovery::Group;

/// Ingresses, kept as their target groups.
#[derive(Debug)]
pub(crate) struct Ingresses;

impl Kind for Ingresses {
    const RESOURCE: &'static str = "ingresses";
    const API: &'static str = "/apis/networking.k8s.io/v1";
    type Raw = Ingress;
    type Stored = Group;

    fn meta(raw: &Ingress) -> &Meta {
        &raw.metadata
    }

    fn compact(raw: Ingress) -> Group {
        let raw = &raw;
        let mut labels = Pairs::default();
        labels
            .set(NAMESPACE, raw.metadata.namespace.as_str())
            .meta("ingress_class_name", raw.spec.ingress_class_name.as_str())
            .object("ingress", &raw.metadata);
        let targets = raw.spec.rules.iter().flat_map(|rule| {
            let covered = raw.spec.tls.iter().flat_map(|tls| &tls.hosts).any(|host| covers(host, &rule.host));
            let scheme = if covered { "https" } else { "http" };
            rule.paths().into_iter().map(move |path| {
                let mut target = Pairs::default();
                target
                    .address(rule.host.as_str())
                    .meta("ingress_scheme", scheme)
                    .meta("ingress_host", rule.host.as_str())
                    .meta("ingress_path", path);
                target.pack()
            })
        });
        Group { source: Arc::from(raw.metadata.key()), targets: targets.collect(), labels: labels.pack() }
    }
}

/// Whether a certificate for `pattern` is good for `host`: `*` stands for exactly one part of the name.
fn covers(pattern: &str, host: &str) -> bool {
    if pattern == host {
        return true;
    }
    let after_wildcard = pattern.strip_prefix('*').filter(|rest| rest.is_empty() || rest.starts_with('.'));
    let after_first = host.find('.').map_or("", |dot| &host[dot..]);
    after_wildcard == Some(after_first)
}

/// An ingress, trimmed.
#[derive(Debug, Deserialize)]
pub(crate) struct Ingress {
    metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    spec: IngressSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IngressSpec {
    #[serde(default, deserialize_with = "or_default")]
    ingress_class_name: String,
    #[serde(default, deserialize_with = "or_default")]
    rules: Vec<Rule>,
    #[serde(default, deserialize_with = "or_default")]
    tls: Vec<Tls>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    #[serde(default, deserialize_with = "or_default")]
    host: String,
    #[serde(default)]
    http: Option<Http>,
}

impl Rule {
    /// A rule that says nothing of paths is for all of them; one with an empty list is for none.
    fn paths(&self) -> Vec<&str> {
        let Some(http) = &self.http else { return vec!["/"] };
        let paths = http.paths.iter().map(|path| path.path.as_str());
        paths.map(|path| if path.is_empty() { "/" } else { path }).collect()
    }
}

#[derive(Debug, Deserialize)]
struct Http {
    #[serde(default, deserialize_with = "or_default")]
    paths: Vec<HttpPath>,
}

#[derive(Debug, Deserialize)]
struct HttpPath {
    #[serde(default, deserialize_with = "or_default")]
    path: String,
}

#[derive(Debug, Deserialize)]
struct Tls {
    #[serde(default, deserialize_with = "or_default")]
    hosts: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_one_part_of_the_name() {
        for (pattern, host, covered) in [
            ("a.test", "a.test", true),
            ("*.test", "a.test", true),
            ("*.test", "b.a.test", false),
            ("*.test", "test", false),
            ("*", "localhost", true),
            ("*", "a.test", false),
            ("*a.test", "ba.test", false),
            ("*.test", "", false),
        ] {
            assert_eq!(covers(pattern, host), covered, "{pattern} {host}");
        }
    }
}
