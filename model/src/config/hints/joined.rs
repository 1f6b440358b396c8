//! A value that stands against the colon of its key. YAML reads the two as one text, and Prometheus with it.

use crate::config::masked::{self, names_a_secret};
use crate::config::raw::keys_of_all_sections;
use crate::config::report::{Report, Spot, without_value};
use crate::config::yaml::Kind;

/// The merge key.
const MERGE: &str = "<<";

/// Characters of a value that are shown again.
const VALUE_CHARS_MAX: usize = 60;

/// How to part a key and its value; only that of a key which is known and bears no secret is shown.
pub(super) fn parted(key: &str, value: &str) -> String {
    let value = if is_known(key) { shown(key, value) } else { withheld(value) };
    format!("put a blank after the colon: {}: {value}", without_value(key))
}

/// The same for a name of the user's, such as a label's.
fn parted_name(name: &str, value: &str) -> String {
    format!("put a blank after the colon: {}: {}", without_value(name), shown(name, value))
}

fn shown(key: &str, value: &str) -> String {
    let is_secret =
        names_a_secret(key) || ["user", "pass", "credentials"].iter().any(|word| key.contains(word));
    let is_long = value.chars().nth(VALUE_CHARS_MAX).is_some();
    // What follows a blank may belong to another key.
    if is_secret || is_long || value.contains(char::is_whitespace) || value.contains('{') {
        return withheld(value);
    }
    let value = masked::value(value);
    if value.contains('@') && !value.contains("<secret>") { withheld(&value) } else { value }
}

/// A mark in the place of a value, with its brackets.
fn withheld(value: &str) -> String {
    match value.chars().next() {
        Some('[') => "[…]",
        Some('{') => "{…}",
        _ => "…",
    }
    .to_owned()
}

/// The hint for `KEY:VALUE` where a section should be.
pub(super) fn in_text(text: &str) -> Option<String> {
    split(text).filter(|(key, _)| is_known(key)).map(|(key, value)| parted(key, value))
}

/// The same where a map of names of the user's should be. `visible`: the value may be shown.
pub(super) fn in_text_of_names(text: &str, visible: bool) -> Option<String> {
    split(text).map(|(name, value)| parted_name(name, if visible { value } else { "…" }))
}

fn is_known(key: &str) -> bool {
    key == MERGE || keys_of_all_sections().iter().any(|(_, keys)| keys.contains(&key))
}

/// Key and value of a text that is most likely both.
fn split(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once(':')?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    let begins = key.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let is_key = key == MERGE || begins && key.bytes().all(fits);
    (is_key && !value.is_empty() && !value.starts_with("//")).then_some((key, value))
}

/// Warns of a name such as a label's that holds its value, in a map in braces: Prometheus takes it, as a name without a value.
pub(crate) fn joined_name(report: &mut Report, spot: Spot, name: &str, value: &Kind) {
    // The parser writes a tilde for what is not there.
    let is_nothing = matches!(value, Kind::Scalar(scalar) if matches!(&*scalar.text, "" | "~"));
    let Some((key, joined)) = split(name).filter(|_| is_nothing) else { return };
    // Labels are there to be shown; a header or a parameter may be a token.
    let is_label = report.has_key(spot.path, |key| matches!(key, "labels" | "external_labels"));
    let hint = if is_label { parted_name(key, joined) } else { parted_name(key, "…") };
    let message =
        "this is one name without a value, for YAML and for Prometheus: there is no blank after the colon";
    if let Some(finding) = report.warning_unless_error(spot, message) {
        finding.hint(hint);
    }
}

/// The hint for `KEY:[` and `KEY:{` within brackets, where the colon stands before this 0-based column of a line, or in it.
pub(crate) fn in_braces(line: &str, column: usize) -> Option<String> {
    let (at, _) = line.char_indices().nth(column)?;
    let colon = line[..at + 1].rfind(':')?;
    let (before, rest) = (&line[..colon], &line[colon + 1..]);
    let key = before.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).next()?;
    let close = match rest.chars().next()? {
        '[' => ']',
        '{' => '}',
        _ => return None,
    };
    let value = rest.split_inclusive(close).next().unwrap_or_default();
    (!key.is_empty()).then(|| parted(key, value))
}

/// The hint for a line that begins with `KEY:VALUE`, where the key is one of the configuration's, or `any`.
pub(crate) fn in_line(line: &str, any: bool) -> Option<String> {
    let mut text = line.trim();
    let mut is_item = false;
    while let Some(rest) = text.strip_prefix("- ") {
        (text, is_item) = (rest.trim_start(), true);
    }
    let (key, value) = split(text)?;
    // A target whose host is called as a key is.
    let is_target = is_item && value.bytes().all(|b| b.is_ascii_digit());
    ((any || is_known(key)) && !value.starts_with(char::is_whitespace) && !is_target)
        .then(|| parted(key, value))
}

/// Keys of single texts whose values may well begin with a bracket.
const TEXTS: [&str; 10] = [
    "regex",
    "replacement",
    "target_label",
    "separator",
    "username",
    "password",
    "credentials",
    "bearer_token",
    "client_secret",
    "url",
];

/// The hint for a value that begins as a list does, and is a text.
pub(crate) fn in_quotes(key: &str, value: &str) -> Option<String> {
    let value = || shown(key, value).replace('\'', "''");
    TEXTS.contains(&key).then(|| format!("put the value into single quotes: {key}: '{}'", value()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_whose_key_and_value_are_one_text_is_seen() {
        for (line, hint) in [
            ("  - job_name:a", "job_name: a"),
            ("- url:http://a/write", "url: http://a/write"),
            ("url:http://u:hidden@a/write", "url: http://<secret>@a/write"),
            ("      password:hidden", "password: …"),
            ("  - targets:[a:1]", "targets: [a:1]"),
            ("    basic_auth:{username: a, password: hidden}", "basic_auth: {…}"),
            ("  - <<:*base", "<<: *base"),
            ("  static_configs:[{targets: [a:1]}]", "static_configs: […]"),
        ] {
            assert_eq!(in_line(line, false), Some(format!("put a blank after the colon: {hint}")), "{line}");
        }
        for line in [
            "job_name: a",
            "- port:9100",
            "- localhost:9100",
            "http://a",
            "a:b",
            "",
            "url: http://a",
            "job_name:",
        ] {
            assert_eq!(in_line(line, false), None, "{line}");
        }
        let long = in_line(&format!("job_name:{}", "x".repeat(100_000)), false);
        assert_eq!(long.as_deref(), Some("put a blank after the colon: job_name: …"));
    }

    #[test]
    fn of_names_that_are_not_known_the_value_is_not_shown() {
        assert_eq!(
            in_line("  X-Token:hidden", true).as_deref(),
            Some("put a blank after the colon: X-Token: …")
        );
        assert_eq!(in_line("  - host:9100", true), None);
    }

    #[test]
    fn a_bracket_against_its_key_is_seen() {
        let hint = |line: &str| in_braces(line, line.find(":[").or(line.find(":{")).unwrap());
        for (line, wanted) in [
            ("static_configs: [{targets:[a:1, b:2]}]", "targets: […]"),
            ("static_configs: [{targets:[a:1]}]", "targets: [a:1]"),
            ("params: {module:[x]}", "module: […]"),
            ("{basic_auth:{username: a}}", "basic_auth: {…}"),
            ("{ü: x, values:[hidden]}", "values: […]"),
        ] {
            assert_eq!(hint(line), Some(format!("put a blank after the colon: {wanted}")), "{line}");
        }
        assert_eq!(in_braces("a", 9), None);
    }
}
