//! Keys that a section does not have.

use super::{joined, nearest};
use crate::config::raw::{OTHER_DISCOVERIES, keys_of_all_sections};
use crate::config::report::{Report, Spot, without_value};
use crate::config::yaml::{Kind, Node};

/// Keys that people write, and what they mean. `None` as the section: wherever it stands.
const MISTAKEN_KEYS: &[(Option<&str>, &str, &str)] = &[
    (None, "<<", "<< without quotes: in quotes it is a key like any other"),
    (None, "k8s_sd_configs", "kubernetes_sd_configs"),
    (None, "cacert", "ca_file"),
    (None, "tls", "tls_config"),
    (None, "proxy", "proxy_url"),
    (None, "auth", "basic_auth, authorization or oauth2"),
    (None, "metric_relabel_config", "metric_relabel_configs (a list)"),
    (None, "metrics_relabel_configs", "metric_relabel_configs"),
    (None, "metric_relabelings", "metric_relabel_configs"),
    (None, "metricRelabelings", "metric_relabel_configs (metricRelabelings is prometheus-operator's)"),
    (None, "relabelings", "relabel_configs (relabelings is prometheus-operator's)"),
    (None, "relabel_config", "relabel_configs (a list)"),
    (None, "write_relabel_config", "write_relabel_configs (a list)"),
    (None, "static_config", "static_configs (a list)"),
    (None, "kubernetes_sd_config", "kubernetes_sd_configs (a list)"),
    (None, "file_sd_config", "file_sd_configs (a list)"),
    (None, "http_sd_config", "http_sd_configs (a list)"),
    (None, "dns_sd_config", "dns_sd_configs (a list)"),
    (None, "scrape_config", "scrape_configs (a list)"),
    (None, "source_label", "source_labels (a list)"),
    (None, "sourceLabels", "source_labels"),
    (None, "target_labels", "target_label (one name)"),
    (None, "targetLabel", "target_label"),
    (Some("scrape_config"), "interval", "scrape_interval"),
    (Some("scrape_config"), "timeout", "scrape_timeout"),
    (Some("scrape_config"), "path", "metrics_path"),
    (Some("scrape_config"), "name", "job_name"),
    (Some("scrape_config"), "job", "job_name"),
    (Some("scrape_config"), "targets", "static_configs: [{targets: ['HOST:PORT']}]"),
    (Some("scrape_config"), "labels", "static_configs: [{targets: […], labels: {…}}]"),
    (Some("scrape_config"), "username", "basic_auth: {username: …, password_file: …}"),
    (Some("scrape_config"), "password", "basic_auth: {username: …, password_file: …}"),
    (Some("scrape_config"), "insecure_skip_verify", "tls_config: {insecure_skip_verify: true}"),
    (Some("scrape_config"), "ca_file", "tls_config: {ca_file: …}"),
    (Some("scrape_config"), "external_labels", "external_labels under global"),
    (Some("global"), "interval", "scrape_interval"),
    (Some("global"), "timeout", "scrape_timeout"),
    (Some("relabel_config"), "source", "source_labels (a list)"),
    (Some("relabel_config"), "target", "target_label"),
    (Some("relabel_config"), "value", "replacement"),
    (Some("relabel_config"), "regexp", "regex"),
    (Some("relabel_config"), "mod", "modulus"),
    (Some("remote_write"), "endpoint", "url"),
    (Some("remote_write"), "timeout", "remote_timeout"),
    (Some("remote_write"), "queue", "queue_config"),
    (Some("remote_write"), "relabel_configs", "write_relabel_configs"),
    (Some("the configuration file"), "scrape_interval", "scrape_interval under global"),
    (Some("the configuration file"), "scrape_timeout", "scrape_timeout under global"),
    (Some("the configuration file"), "external_labels", "external_labels under global"),
    (Some("the configuration file"), "remoteWrite", "remote_write"),
    (Some("the configuration file"), "static_configs", "static_configs under an entry of scrape_configs"),
    (Some("the configuration file"), "job_name", "it under scrape_configs, as - job_name: …"),
    (Some("scrape_config"), "scrape_fallback_protocol", "fallback_scrape_protocol"),
    (Some("scrape_config"), "fallback_protocol", "fallback_scrape_protocol"),
    (Some("scrape_config"), "scrape_protocol", "scrape_protocols (a list)"),
    (Some("scrape_config"), "scrape_classic_histograms", "always_scrape_classic_histograms"),
    (Some("basic_auth"), "user", "username"),
    (Some("basic_auth"), "pass", "password or password_file"),
    (Some("queue_config"), "retry_on_rate_limit", "retry_on_http_429"),
    (Some("http_headers"), "value", "values (a list)"),
    (Some("authorization"), "token", "credentials"),
];

const PROXY_CREDENTIALS: &str = "write user and password into proxy_url, or a header into proxy_connect_header: {Proxy-Authorization: [VALUE]}";
const OTHER_SOURCE: &str =
    "write the targets to a file (file_sd_configs) or serve them over HTTP (http_sd_configs)";
const GRAPHITE: &str = "match the parts of a name with groups: regex: 'foo\\.(.*)', replacement: '$1'";

/// Keys of vmagent that Prometheus does not have: section, key, what to do.
const OF_VMAGENT: &[(&str, &str, &str)] = &[
    ("scrape_config", "stream_parse", "remove it: large answers are parsed piece by piece by themselves"),
    ("scrape_config", "scrape_align_interval", "remove it: each target has a fixed place in its interval"),
    ("scrape_config", "scrape_offset", "remove it: each target has a fixed place in its interval"),
    ("scrape_config", "series_limit", "use sample_limit, which bounds the samples of one scrape"),
    ("scrape_config", "no_stale_markers", "remove it: promring writes staleness markers as Prometheus does"),
    ("scrape_config", "disable_compression", "write enable_compression: false"),
    ("scrape_config", "disable_keepalive", "remove it: connections are kept"),
    ("scrape_config", "relabel_debug", "remove it: promring relabel shows what each rule does"),
    (
        "scrape_config",
        "metric_relabel_debug",
        "remove it: promring relabel --metric shows what each rule does",
    ),
    ("scrape_config", "headers", "write http_headers: {NAME: {values: [VALUE]}}"),
    ("scrape_config", "max_scrape_size", "write body_size_limit"),
    ("scrape_config", "proxy_headers", "write proxy_connect_header: {NAME: [VALUE]}"),
    ("scrape_config", "proxy_authorization", PROXY_CREDENTIALS),
    ("scrape_config", "proxy_basic_auth", PROXY_CREDENTIALS),
    ("scrape_config", "proxy_bearer_token", PROXY_CREDENTIALS),
    ("scrape_config", "proxy_bearer_token_file", PROXY_CREDENTIALS),
    ("scrape_config", "proxy_tls_config", "write tls_config, which holds for the proxy, too"),
    ("scrape_config", "consulagent_sd_configs", OTHER_SOURCE),
    ("scrape_config", "yandexcloud_sd_configs", OTHER_SOURCE),
    ("scrape_config", "vultr_configs", OTHER_SOURCE),
    ("global", "relabel_configs", "write them under each entry of scrape_configs"),
    (
        "global",
        "metric_relabel_configs",
        "write them under each entry of scrape_configs, or as write_relabel_configs of remote_write",
    ),
    ("relabel_config", "match", GRAPHITE),
    ("relabel_config", "labels", GRAPHITE),
    ("relabel_config", "if", "match a label's value instead: source_labels, regex, and action: keep or drop"),
];

/// Reports a key that its section does not have.
pub(crate) fn unknown_key(
    report: &mut Report,
    spot: Spot,
    section: &str,
    keys: &[&str],
    key: &str,
    value: &Node,
) {
    if report.is_full() {
        report.error(spot, "an unknown key");
        return;
    }
    // Those of a secret manager are known, and always refused.
    let keys: Vec<&str> = keys.iter().copied().filter(|key| !key.ends_with("_ref")).collect();
    let mistaken =
        MISTAKEN_KEYS.iter().find(|(of, wrong, _)| *wrong == key && of.is_none_or(|of| of == section));
    let of_vmagent = OF_VMAGENT.iter().find(|(of, name, _)| *of == section && *name == key);
    let hint = if let Some((_, _, what)) = of_vmagent {
        format!("{what} ({key} is vmagent's)")
    } else if let Some((_, _, right)) = mistaken {
        format!("write {right}")
    } else if let Some(unjoined) = unjoined(key, &keys, value) {
        unjoined
    } else if let Some(name) = nearest(key, &[&*keys, &OTHER_DISCOVERIES].concat()) {
        let ours = if OTHER_DISCOVERIES.contains(&name) { " promring does not have it" } else { "" };
        format!("did you mean {name}?{ours}")
    } else if let Some((place, _)) = keys_of_all_sections().iter().find(|(_, keys)| keys.contains(&key)) {
        format!("{key} belongs to {place}; check the indentation")
    } else {
        format!("there are: {}", shown(&keys))
    };
    report.error(spot, format!("{section} has no key {}", without_value(key))).hint(hint);
}

/// A key that swallowed its value because the space after the colon is missing.
fn unjoined(key: &str, keys: &[&str], value: &Node) -> Option<String> {
    let (name, rest) = key.split_once(':')?;
    let empty = matches!(&value.kind, Kind::Scalar(scalar) if scalar.text.is_empty());
    ((empty || keys.contains(&name)) && !rest.is_empty()).then(|| joined::parted(name, rest))
}

/// The first keys of a long list.
fn shown(keys: &[&str]) -> String {
    const SHOWN_MAX: usize = 12;
    let mut text = keys.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    if keys.len() > SHOWN_MAX {
        text.push_str(", …");
    }
    text
}
