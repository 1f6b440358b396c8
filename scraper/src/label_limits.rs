//! The limits of a series' labels: how many there may be, and how long. The errors have Prometheus's words, which people
//! search for.

use promring_model::config::ScrapeLimits;
use promring_model::labels::{LabelsBuilder, METRIC_NAME};

/// An error shows this many characters of a name or a value (`%.50s` in Prometheus's `verifyLabelLimits`).
const SHOWN_CHARS: usize = 50;

/// Checks the labels of a series after relabelling, its name and the target's labels included.
///
/// # Errors
/// The limit that they exceed, in Prometheus's words.
pub(crate) fn check(labels: &LabelsBuilder<'_>, limits: &ScrapeLimits) -> Result<(), String> {
    let metric = || shown(labels.get(METRIC_NAME));
    let over = |limit: Option<u64>, number: usize| limit.filter(|&limit| number as u64 > limit);
    if let Some(limit) = over(limits.labels, labels.len()) {
        let (metric, number) = (metric(), labels.len());
        return Err(format!(
            "label_limit exceeded (metric: {metric}, number of labels: {number}, limit: {limit})"
        ));
    }
    for (name, value) in labels.iter() {
        if let Some(limit) = over(limits.label_name_length, name.len()) {
            let (metric, length, name) = (metric(), name.len(), shown(name));
            return Err(format!(
                "label_name_length_limit exceeded (metric: {metric}, label name: {name}, length: {length}, limit: {limit})"
            ));
        }
        if let Some(limit) = over(limits.label_value_length, value.len()) {
            let (metric, name, length, value) = (metric(), shown(name), value.len(), quoted(shown(value)));
            return Err(format!(
                "label_value_length_limit exceeded (metric: {metric}, label name: {name}, value: {value}, length: {length}, limit: {limit})"
            ));
        }
    }
    Ok(())
}

fn shown(text: &str) -> &str {
    text.char_indices().nth(SHOWN_CHARS).map_or(text, |(end, _)| &text[..end])
}

/// The text in quotes, as Go's `strconv.Quote` writes it.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\'' | '\u{fffd}' => out.push(c),
            c if c < ' ' || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_printable(c) => out.push(c),
            c if c < '\u{10000}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

fn is_printable(c: char) -> bool {
    // Behind another character a mark that combines with it is printed.
    let pair: String = ['a', c].into_iter().collect();
    pair.escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_under(limits: &str, labels: &[(&str, &str)]) -> Result<(), String> {
        let job = crate::testing::job(limits);
        let mut builder = LabelsBuilder::new();
        labels.iter().for_each(|(name, value)| builder.set(*name, *value));
        check(&builder, &job.limits)
    }

    #[test]
    fn label_limit_counts_the_name_and_says_what_prometheus_says() {
        let labels = [("__name__", "up"), ("a", "1"), ("b", "2")];
        assert_eq!(check_under("label_limit: 3", &labels), Ok(()));
        let error = "label_limit exceeded (metric: up, number of labels: 3, limit: 2)";
        assert_eq!(check_under("label_limit: 2", &labels), Err(error.to_owned()));
    }

    #[test]
    fn label_name_length_limit_counts_bytes_and_shows_fifty_characters() {
        let (metric, name) = ("m".repeat(60), "é".repeat(51));
        let labels = [("__name__", &*metric), (&*name, "1")];
        assert_eq!(check_under("label_name_length_limit: 102", &labels), Ok(()));
        let error = format!(
            "label_name_length_limit exceeded (metric: {}, label name: {}, length: 102, limit: 101)",
            "m".repeat(50),
            "é".repeat(50)
        );
        assert_eq!(check_under("label_name_length_limit: 101", &labels), Err(error));
    }

    #[test]
    fn label_value_length_limit_counts_bytes_and_shows_the_value_as_go_quotes_it() {
        let labels = [("__name__", "up"), ("a", "\"x\\\n\u{1}\u{7f}é'\u{a0}\u{e000}\u{1f600}")];
        let error = concat!(
            "label_value_length_limit exceeded (metric: up, label name: a, ",
            r#"value: "\"x\\\n\x01\x7fé'\u00a0\ue000😀", length: 18, limit: 4)"#
        );
        assert_eq!(check_under("label_value_length_limit: 18", &labels), Ok(()));
        assert_eq!(check_under("label_value_length_limit: 4", &labels), Err(error.to_owned()));
        let long = [("__name__", "up"), ("a", &*"v".repeat(60))];
        let shown = check_under("label_value_length_limit: 4", &long).unwrap_err();
        assert!(shown.contains(&format!("value: \"{}\", length: 60", "v".repeat(50))), "{shown}");
    }
}
