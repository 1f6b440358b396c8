//! The list of what differs on purpose.

use std::collections::BTreeMap;

use super::testdata;

/// The names that stand under a heading of testdata/config/divergences.txt.
pub(super) fn listed(heading: &str) -> Vec<String> {
    let text = std::fs::read_to_string(testdata().join("config/divergences.txt")).unwrap();
    let mut sections: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut section = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(heading) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = heading;
            sections.entry(section).or_default();
            continue;
        }
        let (name, reason) = line.split_once(' ').unwrap_or_else(|| panic!("no reason: {line}"));
        assert!(!reason.trim().is_empty(), "no reason: {line}");
        sections.entry(section).or_default().push(name.to_owned());
    }
    sections.remove(heading).unwrap_or_else(|| panic!("divergences.txt has no heading [{heading}]"))
}

/// Compares what differs with what is listed under `heading`: each that is not listed, and each that is listed but
/// agrees, is a failure. `differing`: names, and what was found.
pub(super) fn settle(heading: &str, differing: &BTreeMap<String, String>) {
    let listed = listed(heading);
    let mut failures: Vec<String> = differing
        .iter()
        .filter(|(name, _)| !listed.contains(name))
        .map(|(name, found)| format!("{name}: {found}"))
        .collect();
    let settled = listed.iter().filter(|name| !differing.contains_key(*name));
    failures.extend(
        settled.map(|name| format!("{name}: listed under [{heading}], but nothing differs any more")),
    );
    assert!(failures.is_empty(), "{} differ:\n\n{}", failures.len(), failures.join("\n\n"));
}
