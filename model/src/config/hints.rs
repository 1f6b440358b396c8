//! Common mistakes and what to write instead.

use super::raw::{OTHER_DISCOVERIES, keys_of_all_sections};
use super::report::{Report, Spot};
use super::yaml::{Kind, Node};
use crate::duration::DurationError;
use crate::relabel::{RuleField, RuleSpec};

/// Keys that people write, and what they mean. `None` as the section: wherever it stands.
const MISTAKEN_KEYS: &[(Option<&str>, &str, &str)] = &[
    (None, "metric_relabel_config", "metric_relabel_configs (a list)"),
    (None, "metrics_relabel_configs", "metric_relabel_configs"),
    (None, "metric_relabelings", "metric_relabel_configs (metricRelabelings is prometheus-operator's)"),
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
    (Some("scrape_config"), "targets", "static_configs: [{targets: [\"host:port\"]}]"),
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
    (Some("the configuration file"), "scrape_interval", "scrape_interval under global"),
    (Some("the configuration file"), "scrape_timeout", "scrape_timeout under global"),
    (Some("the configuration file"), "external_labels", "external_labels under global"),
    (Some("the configuration file"), "remoteWrite", "remote_write"),
    (Some("the configuration file"), "static_configs", "static_configs under an entry of scrape_configs"),
    (Some("the configuration file"), "job_name", "job_name under an entry of scrape_configs: - job_name: …"),
    (Some("http_headers"), "value", "values (a list)"),
    (Some("authorization"), "bearer_token", "credentials"),
    (Some("authorization"), "token", "credentials"),
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
    let hint = if let Some((_, _, right)) =
        MISTAKEN_KEYS.iter().find(|(of, wrong, _)| *wrong == key && of.is_none_or(|of| of == section))
    {
        format!("write {right}")
    } else if let Some(unjoined) = unjoined(key, value) {
        unjoined
    } else if let Some(name) = nearest(key, keys) {
        format!("did you mean {name}?")
    } else if let Some(place) = keys_of_all_sections().iter().find(|(_, keys)| keys.contains(&key)) {
        format!("{key} belongs to {}; check the indentation", place.0)
    } else if let Some(name) = nearest(key, &OTHER_DISCOVERIES) {
        format!("did you mean {name}? promring does not have it; use file_sd_configs or http_sd_configs")
    } else {
        format!("there are: {}", shown(keys))
    };
    report.error(spot, format!("{section} has no key {key}")).hint(hint);
}

/// A key that swallowed its value because the space after the colon is missing.
fn unjoined(key: &str, value: &Node) -> Option<String> {
    let (name, rest) = key.split_once(':')?;
    let empty = matches!(&value.kind, Kind::Scalar(scalar) if scalar.text.is_empty());
    (empty && !rest.is_empty()).then(|| format!("put a space after the colon: {name}: {rest}"))
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

/// The name that is most like this text, if one is near enough to be a slip of the pen.
pub(crate) fn nearest<'n>(text: &str, names: &[&'n str]) -> Option<&'n str> {
    let folded = |text: &str| text.to_ascii_lowercase().replace(['-', ' ', '.'], "_");
    let wanted = folded(text);
    if wanted.len() > 64 {
        return None;
    }
    let allowed = match wanted.len() {
        0..=2 => 0,
        3..=5 => 1,
        6..=11 => 2,
        _ => 3,
    };
    names
        .iter()
        .map(|name| (distance(&wanted, &folded(name)), *name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits (a swap of neighbours counts as one) between two short texts.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (row[j - 1] + 1).min(rows[i - 1][j] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// What stands where a list should, and how to make one of it.
pub(crate) fn not_a_list(found: &Kind) -> (&'static str, String) {
    match found {
        Kind::Mapping(_) => ("a map", "begin each entry with a dash: \"- \"".to_owned()),
        Kind::Scalar(scalar) => {
            let parts: Vec<&str> =
                scalar.text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
            let quoted: Vec<String> = parts.iter().map(|part| format!("'{part}'")).collect();
            let shown = quoted.join(", ");
            let hint = if shown.chars().count() > 120 {
                "write it in brackets".to_owned()
            } else {
                format!("write [{shown}]")
            };
            ("a single value", hint)
        }
        Kind::Sequence(_) | Kind::Broken => ("a list", String::new()),
    }
}

/// How to write a duration that could not be read.
pub(crate) fn duration(text: &str, error: &DurationError) -> String {
    let number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if number {
        format!("add the unit: {text}s, or {text}m")
    } else if text.starts_with('-') {
        "a duration is not negative".to_owned()
    } else if text.contains('.') || text.contains(',') {
        "write whole numbers: 1500ms for 1.5s, 1h30m for 1.5h".to_owned()
    } else if text.contains(' ') {
        format!("leave out the spaces: {}", text.replace(' ', ""))
    } else if matches!(error, DurationError::Range(_)) {
        "the longest duration is about 292 years".to_owned()
    } else {
        let unit: String = text.trim_start_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
        let digits = &text[..text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len()];
        let short = match &*unit {
            "sec" | "secs" | "second" | "seconds" => "s",
            "min" | "mins" | "minute" | "minutes" => "m",
            "hr" | "hrs" | "hour" | "hours" => "h",
            "day" | "days" => "d",
            "msec" | "millis" | "milliseconds" => "ms",
            "s" | "m" | "h" | "d" | "w" | "y" | "ms" => &*unit,
            _ => {
                return "write a number and a unit: 15s, 1m, 1h30m (units y w d h m s ms, the largest first)"
                    .to_owned();
            }
        };
        format!("write {digits}{short}")
    }
}

/// How to write a size that could not be read.
pub(crate) fn size(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return format!("add the unit: {text}B, or {text}MB");
    }
    let upper = text.to_ascii_uppercase().replace('I', "i").replace(' ', "");
    let repaired = if upper.ends_with('B') { upper } else { format!("{upper}B") };
    match crate::size::parse_size(&repaired) {
        Ok(_) => format!("write {repaired}"),
        Err(_) => "write a number and a unit: 512KB, 10MB, 1GB (powers of 1,024)".to_owned(),
    }
}

/// A repair for a rule that was refused, where we know a better one than the compiler of rules.
pub(crate) fn rule(spec: &RuleSpec, _field: RuleField) -> Option<String> {
    let action = spec.action.as_deref().unwrap_or("replace").to_ascii_lowercase();
    if matches!(&*action, "labeldrop" | "labelkeep") {
        let named = spec.target_label.as_deref().filter(|name| !name.is_empty());
        let regex = named.or(spec.regex.as_deref()).filter(|regex| !regex.is_empty()).unwrap_or("name");
        return Some(format!("{action} matches names of labels: {{regex: {regex}, action: {action}}}"));
    }
    None
}

/// What to use instead of a service discovery that we do not have.
pub(crate) fn instead_of(name: &str) -> String {
    let service = name.trim_end_matches("_sd_configs");
    match service {
        "docker" | "dockerswarm" => "on Kubernetes use kubernetes_sd_configs; otherwise write the targets to a file (file_sd_configs) or serve them (http_sd_configs)".to_owned(),
        "consul" | "nomad" => format!("{service} answers DNS: use dns_sd_configs with type SRV, or file_sd_configs with a file that {service}-template writes"),
        _ => "write the targets to a file (file_sd_configs) or serve them over HTTP (http_sd_configs)".to_owned(),
    }
}

/// How to write a path for file discovery.
pub(crate) fn file_sd_path(path: &str) -> &'static str {
    if path.contains('*') && !super::build::is_pattern(path) {
        "an asterisk may stand in the last element of the path only, and once"
    } else {
        "the file must end in .json, .yml or .yaml"
    }
}

/// Reports an address that cannot be one.
pub(crate) fn static_target(report: &mut Report, spot: Spot, address: &str) {
    if let Some((scheme, rest)) = address.split_once("://") {
        let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
        let mut hint = format!("write {host} and scheme: {scheme}");
        if !path.is_empty() {
            hint.push_str(&format!(" and metrics_path: /{path}"));
        }
        report.error(spot, "a target is HOST:PORT, not a URL").value(address).hint(hint);
    } else if let Some((host, path)) = address.split_once('/')
        && !address.starts_with("unix:")
    {
        report
            .error(spot, "a target is HOST:PORT, without a path")
            .value(address)
            .hint(format!("write {host} and metrics_path: /{path}"));
    }
}

/// Remarks on paths that do not do what they look like.
pub(crate) fn metrics_path(report: &mut Report, spot: Spot, path: &str) {
    if path.contains('?') {
        report
            .warning(spot, "a question mark in metrics_path is part of the path, not the begin of parameters")
            .value(path)
            .hint("put parameters under params: {name: [value]}");
    }
}

/// How to write a URL that could not be used.
pub(crate) fn url(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, _)) if !matches!(scheme, "http" | "https") => {
            "only http and https are spoken here".to_owned()
        }
        Some(_) => "write http://HOST:PORT/PATH".to_owned(),
        None if text.is_empty() || text.starts_with('/') => "write http://HOST:PORT/PATH".to_owned(),
        None => format!("write http://{text} or https://{text}"),
    }
}

/// A URL as it may be shown.
pub(crate) fn without_password(text: &str) -> String {
    let Some((before, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else { return text.to_owned() };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{before}://{user}:<secret>{}", &rest[at..]),
        None => text.to_owned(),
    }
}

/// Variables whose value is another one on every pod.
const POD_VARIABLES: [&str; 8] =
    ["HOSTNAME", "POD_NAME", "POD_IP", "POD_UID", "NODE_NAME", "HOST_IP", "HOST", "SHARD"];

/// Warns of an external label that differs from scraper to scraper.
pub(crate) fn varying_external_label(report: &mut Report, spot: Spot, label: &str, variable: &str) {
    let upper = variable.to_ascii_uppercase();
    let varies = POD_VARIABLES.contains(&&*upper)
        || ["POD_NAME", "POD_IP", "HOSTNAME", "NODE_NAME"].iter().any(|part| upper.contains(part));
    if varies {
        report
            .warning(spot, format!("${variable} differs from pod to pod, so a series would change its identity when its target moves to another scraper"))
            .value(label)
            .hint("remove it: external_labels must be the same on every scraper; for replication run two releases with different replica labels");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_when_it_is_near() {
        let keys = ["scrape_interval", "scrape_timeout", "job_name", "scheme"];
        assert_eq!(nearest("scrape_intervall", &keys), Some("scrape_interval"));
        assert_eq!(nearest("scrape-interval", &keys), Some("scrape_interval"));
        assert_eq!(nearest("job_nmae", &keys), Some("job_name"));
        assert_eq!(nearest("shceme", &keys), Some("scheme"));
        assert_eq!(nearest("banana", &keys), None);
        assert_eq!(nearest("", &keys), None);
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        assert_eq!(without_password("http://u:p@h:1/x"), "http://u:<secret>@h:1/x");
        assert_eq!(without_password("http://u:p/@h:1/x@y"), "http://u:p/@h:1/x@y");
        assert_eq!(without_password("h:1/x@y"), "h:1/x@y");
    }
}
