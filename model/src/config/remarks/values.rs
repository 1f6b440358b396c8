//! Remarks on single values.

use std::borrow::Cow;

use crate::config::Secret;
use crate::config::raw::{Given, RawScrapeConfig};
use crate::config::report::{Report, Spot};
use crate::target::dialled;

/// Variables whose value is another one on every pod, as parts of longer names too.
const POD_VARIABLES: [&str; 6] = ["HOSTNAME", "POD_NAME", "POD_IP", "POD_UID", "NODE_NAME", "HOST_IP"];

/// What to do about an external label that differs from pod to pod.
const SAME_EVERYWHERE: &str = "remove it: external_labels must be the same on every scraper; for replication run two releases, each with its own replica label";

/// Warns of an external label that differs from scraper to scraper.
pub(crate) fn varying_external_label(report: &mut Report, spot: Spot, value: &str, variable: &str) {
    if differs_from_pod_to_pod(variable) {
        report
            .warning(spot, format!("${variable} differs from pod to pod, and external labels are part of every series: a series would become another one when its target moves to another scraper"))
            .value(value)
            .hint(SAME_EVERYWHERE);
    }
}

/// Warns of `$(NAME)` in an external label: Kubernetes and the reloader of prometheus-operator fill in such a variable, and
/// nobody does where the file is read.
pub(crate) fn unfilled_external_label(report: &mut Report, spot: Spot, value: &str) {
    let Some(name) = variable_in_parentheses(value) else { return };
    let finding = report.warning(
        spot,
        format!("$({name}) stands for itself here, in every series: only prometheus-operator's config-reloader fills it in, before Prometheus reads the file"),
    );
    finding.value(value);
    if differs_from_pod_to_pod(name) {
        finding.hint(SAME_EVERYWHERE);
    } else {
        finding.hint(format!("write ${{{name}}} for the environment variable"));
    }
}

fn differs_from_pod_to_pod(variable: &str) -> bool {
    let upper = variable.to_ascii_uppercase();
    POD_VARIABLES.iter().any(|name| upper.contains(name)) || upper == "SHARD"
}

/// Warns of a variable where none is expanded.
pub(crate) fn unexpanded(report: &mut Report, spot: Spot, text: &str) {
    if let Some(name) = variable(text) {
        report
            .warning(spot, format!("${{{name}}} stands for itself here: environment variables are expanded in external_labels only"))
            .hint("write the value");
    }
}

/// The same for a secret, of which nothing is shown.
pub(crate) fn unexpanded_secret(report: &mut Report, spot: Spot, secret: &Secret) {
    if variable(secret.expose()).is_some() {
        report
            .warning(spot, "this looks like a variable and stands for itself: environment variables are expanded in external_labels only")
            .hint("keep the secret in a file, and name that with the key that ends in _file");
    }
}

/// The name in the first `$(NAME)` whose dollar sign is not written twice.
fn variable_in_parentheses(text: &str) -> Option<&str> {
    let (before, rest) = text.split_once("$(")?;
    let name = rest.split_once(')')?.0;
    (is_name(name) && !before.ends_with('$')).then_some(name)
}

fn is_name(name: &str) -> bool {
    name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `${NAME}` anywhere, or a text that is `$NAME` and nothing else.
fn variable(text: &str) -> Option<&str> {
    if let Some((name, _)) = text.split_once("${").and_then(|(_, rest)| rest.split_once('}')) {
        return is_name(name).then_some(name);
    }
    let name = text.strip_prefix('$')?;
    (is_name(name) && name.len() > 1 && !name.bytes().any(|b| b.is_ascii_lowercase())).then_some(name)
}

/// Warns of parameters in a path.
pub(crate) fn metrics_path(report: &mut Report, spot: Spot, path: &str) {
    if path.contains('?') {
        report
            .warning(spot, "a question mark is part of the path here, and begins no parameters")
            .value(path)
            .hint("put parameters under params, as lists: params: {name: [value]}");
    }
}

/// Warns of a static target without a port, as none is added, or without a host.
pub(crate) fn static_target(report: &mut Report, spot: Spot, address: &str, https: bool) {
    if let Cow::Owned(local) = dialled(address) {
        report
            .warning(spot, "the target has no host, so it is one of the machine of the scraper")
            .value(address)
            .hint(format!("write {local} if that is meant, or the host"));
    }
    let after_host = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(_, rest)| rest),
        None => address,
    };
    if !address.is_empty() && !after_host.contains(':') && !address.contains(['/', '$']) {
        let port = if https { 443 } else { 80 };
        report
            .warning(spot, format!("no port: the scrape goes to port {port}"))
            .value(address)
            .hint(format!("add the port, such as {address}:9100, or {address}:{port} if that is meant"));
    }
}

/// Remarks on a destination's URL.
pub(crate) fn remote_write_url(report: &mut Report, spot: Spot, url: &url::Url) {
    if url.path() == "/" {
        report
            .remark(spot, "the URL has no path, and receivers of remote write seldom listen on /")
            .hint("Prometheus, Mimir, Thanos and VictoriaMetrics listen on paths such as /api/v1/write");
    }
}

/// Warns of a job that can never have a target.
pub(crate) fn without_targets(report: &mut Report, spot: Spot, job: &RawScrapeConfig) {
    let none = |lists: &[Option<Spot>]| lists.iter().all(Option::is_none);
    let empty = job.other_sd.0.is_empty()
        && none(&[
            job.static_configs.spot(),
            job.file_sd_configs.spot(),
            job.http_sd_configs.spot(),
            job.dns_sd_configs.spot(),
            job.kubernetes_sd_configs.spot(),
        ]);
    if empty && !report.has_error_below(spot.path) {
        let spot = match &job.job_name {
            Given::Is(_, name) => *name,
            _ => spot,
        };
        report.warning(spot, "a job without targets").hint(
            "add static_configs, file_sd_configs, http_sd_configs, dns_sd_configs or kubernetes_sd_configs",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_seen_where_they_are_meant() {
        assert_eq!(variable("http://${HOST}:1/"), Some("HOST"));
        assert_eq!(variable("$PASSWORD"), Some("PASSWORD"));
        assert_eq!(variable("pa$$word"), None);
        assert_eq!(variable("${1}"), None);
        assert_eq!(variable("$5"), None);
        assert_eq!(variable("x$PASSWORD"), None, "a password may hold this");
    }
}
