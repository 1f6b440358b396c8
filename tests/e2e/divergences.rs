//! The lists of what differs on purpose.

use std::collections::BTreeMap;

use crate::support::testdata;

/// A list of testdata.
#[derive(Clone, Copy, Debug)]
pub struct Divergences(pub &'static str);

/// What configurations mean.
pub const CONFIG: Divergences = Divergences("config/divergences.txt");

/// What scrapes yield.
pub const SCRAPE: Divergences = Divergences("scrape/divergences.txt");

impl Divergences {
    /// The names that stand under a heading.
    fn listed(self, heading: &str) -> Vec<String> {
        let text = std::fs::read_to_string(testdata().join(self.0)).unwrap();
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
        sections.remove(heading).unwrap_or_else(|| panic!("{} has no heading [{heading}]", self.0))
    }

    /// Compares what differs with what is listed under `heading`: each that is not listed, and each that is listed but
    /// agrees, is a failure. `differing`: names, and what was found.
    pub fn settle(self, heading: &str, differing: &BTreeMap<String, String>) {
        let listed = self.listed(heading);
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
}
