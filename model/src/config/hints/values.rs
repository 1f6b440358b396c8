//! Values of known keys that cannot be used.

use super::joined;
use crate::config::raw::{
    RawAuthorization, RawFileSd, RawHttpSd, RawKubernetes, RawNamespaces, RawRemoteWrite, RawTargetGroup,
    Section,
};
use crate::config::remarks::variable_hint;
use crate::config::yaml::{Kind, NodeId, Tree};
use crate::duration::DurationError;

/// What should stand where something else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A single value.
    Text,
    /// A map whose keys are known, by the name of the section.
    Section(&'static str),
    /// A map whose keys are free.
    Map,
}

/// What stands where a list should, and how to make one of it. `shown`: it may be shown.
pub(crate) fn not_a_list(found: &Kind, shown: bool) -> (&'static str, String) {
    const SHOWN_CHARS_MAX: usize = 120;
    match found {
        Kind::Mapping(_) => ("a map", "begin each entry with a dash: \"- \"".to_owned()),
        Kind::Scalar(scalar) => {
            let parts = scalar.text.split([',', ';']).map(str::trim).filter(|part| !part.is_empty());
            let list = parts.map(|part| format!("'{part}'")).collect::<Vec<_>>().join(", ");
            // A password in a URL stands before an `@`, a token behind a `?`.
            let has_secret = list.contains(['@', '?']);
            let hint = if !shown || has_secret || list.chars().count() > SHOWN_CHARS_MAX {
                "write it in brackets".to_owned()
            } else {
                format!("write [{list}]")
            };
            ("a single value", hint)
        }
        Kind::Sequence(_) | Kind::Broken => ("a list", String::new()),
    }
}

/// How to repair a node of the wrong kind, where that is likely. `shown`: a text there may be shown.
pub(crate) fn mismatch(tree: &Tree, wanted: Wanted, found: &Kind, shown: bool) -> Option<String> {
    let wanted_text = wanted == Wanted::Text;
    let is_map = |id: &NodeId| matches!(tree.node(*id).kind, Kind::Mapping(_));
    let hint = match found {
        Kind::Mapping(pairs) if wanted_text && pairs.iter().any(|(key, _)| is_map(key)) => {
            "this looks like an unrendered template ({{ … }}): render it first"
        }
        Kind::Mapping(_) if wanted_text => {
            "put quotes around a value that begins with { or holds a colon and a space"
        }
        Kind::Sequence(_) if wanted == Wanted::Section(RawNamespaces::NAME) => "write {names: […]}",
        Kind::Sequence(_) if wanted_text => "write one value, and put quotes around one that begins with [",
        Kind::Sequence(items) if items.iter().any(is_map) => "this is a single map: remove the dash",
        Kind::Sequence(_) => "write keys with their values instead, such as {KEY: VALUE}",
        Kind::Scalar(scalar) if !wanted_text => {
            if let Wanted::Section(section) = wanted
                && let Some(entry) = entry(section, &scalar.text)
            {
                return Some(format!("write {entry}"));
            }
            if wanted == Wanted::Section(RawAuthorization::NAME) {
                return Some("write {type: Bearer, credentials_file: …}".to_owned());
            }
            let hint = match wanted {
                Wanted::Map => joined::in_text_of_names(&scalar.text, shown),
                _ => joined::in_text(&scalar.text),
            };
            if let Some(hint) = hint.filter(|_| scalar.plain) {
                return Some(hint);
            }
            "write keys below it, indented; or {} for none"
        }
        Kind::Scalar(_) | Kind::Mapping(_) | Kind::Broken => return None,
    };
    Some(hint.to_owned())
}

/// An entry of a list of sections, for a text that stands there alone and can only be one key's.
fn entry(section: &str, text: &str) -> Option<String> {
    const BYTES_MAX: usize = 100;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:/*".contains(&b);
    if text.is_empty() || text.len() > BYTES_MAX || !text.bytes().all(is_plain) {
        return None;
    }
    let is_port = |(host, port): (&str, &str)| {
        !host.is_empty() && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
    };
    let is_url = text.contains("://");
    let is_file = [".json", ".yml", ".yaml"].iter().any(|end| text.ends_with(end));
    match section {
        RawTargetGroup::NAME if text.split_once(':').is_some_and(is_port) => {
            Some(format!("{{targets: ['{text}']}}"))
        }
        RawFileSd::NAME if is_file => Some(format!("{{files: ['{text}']}}")),
        RawHttpSd::NAME | RawRemoteWrite::NAME if is_url => Some(format!("{{url: '{text}'}}")),
        RawKubernetes::NAME if !text.contains(':') => Some(format!("{{role: {text}}}")),
        _ => None,
    }
}

/// How to write a duration that could not be read.
pub(crate) fn duration(text: &str, error: &DurationError) -> String {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let general = "write a number and a unit: 15s, 1m, 1h30m (units y w d h m s ms, the largest first)";
    if digits > 0 && unit.is_empty() {
        return format!("add the unit: {text}s, or {text}m");
    }
    if text.starts_with('-') {
        return "a duration is not negative".to_owned();
    }
    if text.contains(['.', ',']) {
        return "write whole numbers: 1500ms for 1.5s, 1h30m for 1.5h".to_owned();
    }
    if matches!(error, DurationError::Range(_)) {
        return "the longest duration is about 292 years".to_owned();
    }
    let short = match unit.trim().to_ascii_lowercase().as_str() {
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        "ms" | "msec" | "msecs" | "millis" | "milliseconds" => "ms",
        _ => return general.to_owned(),
    };
    if digits == 0 { general.to_owned() } else { format!("write {number}{short}") }
}

/// How to write a size that could not be read.
pub(crate) fn size(text: &str) -> String {
    const DIGITS_OF_MEGABYTES_MAX: usize = 5;
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let is_short = text.len() <= DIGITS_OF_MEGABYTES_MAX;
        return if is_short {
            format!("add the unit: {text}B, or {text}MB")
        } else {
            format!("add the unit: {text}B")
        };
    }
    if crate::size::is_too_large(text) {
        return "the largest size is 7EB".to_owned();
    }
    let upper = text.to_ascii_uppercase().replace('I', "i").replace(' ', "");
    let repaired = if upper.ends_with('B') { upper } else { format!("{upper}B") };
    match crate::size::parse_size(&repaired) {
        Ok(_) => format!("write {repaired}"),
        Err(_) => "write a number and a unit: 512KB, 10MB, 1GB (powers of 1,024)".to_owned(),
    }
}

/// What to use instead of a service discovery that we do not have.
pub(crate) fn instead_of(name: &str) -> &'static str {
    match name.trim_end_matches("_sd_configs") {
        "docker" | "dockerswarm" => {
            "on Kubernetes use kubernetes_sd_configs; otherwise write the targets to a file (file_sd_configs) or serve them (http_sd_configs)"
        }
        "consul" => {
            "Consul answers DNS: use dns_sd_configs with type SRV; or file_sd_configs with a file that consul-template writes"
        }
        _ => "write the targets to a file (file_sd_configs) or serve them over HTTP (http_sd_configs)",
    }
}

/// How to write a path for file discovery.
pub(crate) fn file_sd_path(path: &str) -> &'static str {
    if crate::config::build::is_pattern(path) {
        "the file must end in .json, .yml or .yaml"
    } else {
        "asterisks may stand in the last element of the path only"
    }
}

/// The name of a protocol that is written as HTTP has it, by its media type, or in a word. `None`: it is not recognised.
pub(crate) fn scrape_protocol(text: &str) -> Option<&'static str> {
    let plain: String = text.to_ascii_lowercase().chars().filter(|c| !c.is_whitespace()).collect();
    let (kind, parameters) = plain.split_once(';').unwrap_or((&plain, ""));
    let version = parameters.split(';').find_map(|parameter| parameter.strip_prefix("version="));
    let version = version.map(|version| version.trim_matches('"'));
    Some(match (kind, version) {
        ("application/vnd.google.protobuf" | "protobuf" | "proto" | "prometheusprotobuf", _) => {
            "PrometheusProto"
        }
        ("text/plain", Some("1.0.0")) => "PrometheusText1.0.0",
        ("text/plain" | "text" | "prometheus" | "prometheustext" | "plaintext", _) => "PrometheusText0.0.4",
        ("application/openmetrics-text", Some("0.0.1")) => "OpenMetricsText0.0.1",
        ("application/openmetrics-text" | "openmetrics" | "openmetricstext", _) => "OpenMetricsText1.0.0",
        _ => return None,
    })
}

/// How to write a URL that could not be used.
pub(crate) fn url(text: &str) -> String {
    if let Some(hint) = variable_hint(text) {
        return hint.to_owned();
    }
    match text.split_once("://") {
        Some((scheme, _)) if !matches!(scheme, "http" | "https") => {
            "only http and https are spoken here".to_owned()
        }
        Some(_) => "write http://HOST:PORT/PATH".to_owned(),
        None if text.is_empty() || text.starts_with('/') => "write http://HOST:PORT/PATH".to_owned(),
        // The colon or a slash is missing, or another character stands there.
        None if text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("http"))
            && !text[4..]
                .trim_start_matches(['s', 'S'])
                .starts_with(|char: char| char.is_ascii_alphanumeric() || char == '.' || char == '-') =>
        {
            "write http://HOST:PORT/PATH".to_owned()
        }
        None => format!("write http://{text} or https://{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duration::parse_duration;

    #[test]
    fn durations_that_people_write_get_their_repair() {
        let hint = |text: &str| duration(text, &parse_duration(text).unwrap_err());
        assert_eq!(hint("15"), "add the unit: 15s, or 15m");
        assert_eq!(hint("15 seconds"), "write 15s");
        assert_eq!(hint("5 min"), "write 5m");
        assert_eq!(hint("30S"), "write 30s");
        assert!(hint("1.5m").contains("whole numbers"));
        assert!(hint("-1s").contains("not negative"));
        assert!(hint("1s1m").contains("largest first"));
        assert!(hint("ten").contains("a number and a unit"));
    }

    #[test]
    fn urls_that_people_write_get_their_repair() {
        assert_eq!(url("a:9090/write"), "write http://a:9090/write or https://a:9090/write");
        assert_eq!(url("httpbin.org/write"), "write http://httpbin.org/write or https://httpbin.org/write");
        for text in ["http:a/b", "https:/a/b", "http;//a/b", "http", "/a", ""] {
            assert_eq!(url(text), "write http://HOST:PORT/PATH", "{text}");
        }
    }

    #[test]
    fn protocols_that_are_written_as_media_types_get_their_name() {
        for (text, name) in [
            ("text/plain", "PrometheusText0.0.4"),
            ("text/plain; version=0.0.4; charset=utf-8", "PrometheusText0.0.4"),
            ("Text/Plain;charset=utf-8;version=\"1.0.0\"", "PrometheusText1.0.0"),
            ("application/openmetrics-text; version=0.0.1", "OpenMetricsText0.0.1"),
            ("application/openmetrics-text;version=1.0.0", "OpenMetricsText1.0.0"),
            ("application/vnd.google.protobuf; encoding=delimited", "PrometheusProto"),
            ("OpenMetrics", "OpenMetricsText1.0.0"),
            ("protobuf", "PrometheusProto"),
        ] {
            assert_eq!(scrape_protocol(text), Some(name), "{text}");
        }
        for other in ["", "text/html", "PrometheusText0.0.4", "prometheusproto", "json"] {
            assert_eq!(scrape_protocol(other), None, "{other}");
        }
    }

    #[test]
    fn sizes_that_people_write_get_their_repair() {
        assert_eq!(size("10mb"), "write 10MB");
        assert_eq!(size("10 MB"), "write 10MB");
        assert_eq!(size("10M"), "write 10MB");
        assert_eq!(size("10mib"), "write 10MiB");
        assert_eq!(size("10"), "add the unit: 10B, or 10MB");
        assert_eq!(size("10485760"), "add the unit: 10485760B");
        assert_eq!(size("8EB"), "the largest size is 7EB");
        assert!(size("big").contains("a number and a unit"));
    }
}
