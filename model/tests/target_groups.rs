//! Files of target groups: what is taken, what is refused, and what is in them. tests/e2e asks promtool about the same files.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use std::collections::BTreeMap;
use std::path::Path;

use promring_model::config::{target_groups, target_groups_json};
use promring_model::labels::Labels;
use promring_model::target::{ADDRESS, TargetGroup};
use serde::Deserialize;

/// A file, and what is in it. The end-to-end tests look at what else it says.
#[derive(Deserialize)]
struct Case {
    name: String,
    file: String,
    text: String,
    want: Want,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Want {
    Groups(Vec<Group>),
    Word(Word),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Word {
    Refused,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Group {
    targets: Vec<String>,
    labels: BTreeMap<String, String>,
}

impl Group {
    fn of(group: &TargetGroup) -> Self {
        let address = |target: &Labels| target.get(ADDRESS).unwrap_or_default().to_owned();
        let labels = group.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { targets: group.targets.iter().map(address).collect(), labels: labels.collect() }
    }
}

fn found<E>(groups: Result<Vec<TargetGroup>, E>) -> Want {
    groups.map_or(Want::Word(Word::Refused), |groups| Want::Groups(groups.iter().map(Group::of).collect()))
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("testdata/target-groups.yml");
    let cases: Vec<Case> = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(cases.len() >= 90, "{} cases", cases.len());
    cases
}

#[test]
fn files_are_read_as_is_written_down() {
    for Case { name, file, text, want } in cases() {
        let path = format!("targets.{file}");
        let read = target_groups(Path::new(&path), text.as_bytes());
        for (at, group) in read.iter().flat_map(|file| &file.groups).enumerate() {
            assert_eq!(group.source, format!("{path}:{at}"), "{name}");
        }
        if let Err(found) = &read {
            assert!(found.iter().all(|found| found.hint.is_some()), "{name}: {found:?}");
        }
        assert_eq!(found(read.map(|file| file.groups)), want, "{name}: {text}");
    }
}

#[test]
fn answers_are_read_as_files_of_json_are() {
    for Case { name, file, text, want } in cases() {
        if file == "json" {
            assert_eq!(found(target_groups_json("url", text.as_bytes())), want, "{name}: {text}");
        }
    }
}

#[test]
fn what_stands_behind_the_first_document_is_warned_of() {
    let read = |text: &str| target_groups(Path::new("a.yml"), text.as_bytes()).unwrap().warnings;
    let warnings = read("- targets: [a]\n---\n- targets: [b]\n");
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].to_string().starts_with("a.yml:2:1: warning: only the first document"),
        "{warnings:?}"
    );
    assert_eq!(read("- targets: [a]\n"), []);
}

#[test]
fn a_file_ends_in_the_name_of_its_format() {
    assert!(target_groups(Path::new("a.txt"), b"[]").is_err());
    assert!(target_groups(Path::new("A.JSON"), b"[]").is_ok());
}
