//! Every file of testdata/config gives what stands beside it.
//!
//! `<name>.good.yml` must load; what is remarked on stands in `<name>.good.txt`, which is absent for nothing.
//! `<name>.bad.yml` must be refused with what stands in `<name>.bad.txt`. `PROMRING_UPDATE_GOLDEN=1` writes these
//! texts anew.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which may fail")]

use std::path::{Path, PathBuf};

use promring_model::config::{ConfigSource, check};
use promring_model::glob;

/// Real files, with an environment that is the same everywhere.
struct Files;

impl ConfigSource for Files {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        std::fs::read(path).map_err(|error| error.to_string())
    }

    fn glob(&self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
        let mut found = vec![PathBuf::from("/")];
        for element in pattern.iter().skip(1).map(|element| element.to_str().unwrap()) {
            let names = |dir: &PathBuf| -> Vec<PathBuf> {
                let entries = std::fs::read_dir(dir).into_iter().flatten();
                entries.map(|entry| entry.unwrap().path()).collect()
            };
            found = found.iter().flat_map(names).collect();
            found.retain(|path| glob::is_match(element, path.file_name().unwrap().to_str().unwrap()));
        }
        found.sort();
        Ok(found)
    }

    fn env(&self, name: &str) -> Option<String> {
        match name {
            "CLUSTER" => Some("eu-1".to_owned()),
            "HOSTNAME" | "POD_NAME" => Some("scraper-0".to_owned()),
            _ => None,
        }
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("testdata/config")
}

fn files(ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    files.sort();
    files
}

/// The findings as `promring check` shows them, with paths as seen from testdata/config.
fn findings(path: &Path) -> (bool, String) {
    let loaded = check(path, &Files);
    let prefix = format!("{}/", directory().display());
    let text: String =
        loaded.diagnostics.iter().map(|found| format!("{found}\n").replace(&prefix, "")).collect();
    (loaded.config.is_some(), text)
}

/// Compares with the text beside the file; says the difference, if there is one.
fn differs(path: &Path, findings: &str) -> Option<String> {
    let golden = path.with_extension("txt");
    if std::env::var_os("PROMRING_UPDATE_GOLDEN").is_some() {
        if findings.is_empty() {
            let _ = std::fs::remove_file(&golden);
        } else {
            std::fs::write(&golden, findings).unwrap();
        }
        return None;
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    (expected != findings)
        .then(|| format!("{}\n--- expected\n{expected}--- found\n{findings}", path.display()))
}

#[test]
fn good_files_load_with_the_remarks_that_stand_beside_them() {
    let mut failures = Vec::new();
    for path in files(".good.yml") {
        let (good, text) = findings(&path);
        if !good {
            failures.push(format!("{} is refused:\n{text}", path.display()));
        }
        failures.extend(differs(&path, &text));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn bad_files_are_refused_with_the_findings_that_stand_beside_them() {
    let mut failures = Vec::new();
    for path in files(".bad.yml") {
        let (good, text) = findings(&path);
        if good {
            failures.push(format!("{} is accepted", path.display()));
        }
        failures.extend(differs(&path, &text));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn the_seed_configuration_loads_without_a_finding() {
    let (good, text) = findings(&directory().join("../seed.yml"));
    assert!(good && text.is_empty(), "{text}");
}

#[test]
fn there_are_at_least_a_hundred_files() {
    let files = files(".good.yml").len() + files(".bad.yml").len();
    assert!(files >= 100, "{files}");
}

#[test]
fn no_finding_shows_a_secret() {
    // Every secret of these files is this word, in the right places and in wrong ones.
    let secret = "hidden";
    let with_secret = |path: &&PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.contains(secret));
    let bad = files(".bad.yml");
    let with_secret: Vec<&PathBuf> = bad.iter().filter(with_secret).collect();
    assert!(with_secret.len() > 10, "{with_secret:?}");
    for path in with_secret {
        let (_, text) = findings(path);
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn the_page_of_mistakes_names_files_that_are_there_and_get_a_hint() {
    let page = std::fs::read_to_string(directory().join("../../docs/mistakes.md")).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_suffix(" |")?.rsplit_once("| "))
        .map(|(_, file)| file)
        .filter(|file| file.ends_with(".yml"))
        .collect();
    assert!(rows.len() >= 30, "{}", rows.len());
    for file in rows {
        let (_, text) = findings(&directory().join(file));
        assert!(text.contains("  hint: "), "{file} gets no hint:\n{text}");
    }
}

#[test]
fn the_list_of_divergences_names_files_that_are_there() {
    let list = std::fs::read_to_string(directory().join("divergences.txt")).unwrap();
    for line in list.lines().filter(|line| line.contains(".yml ") && !line.starts_with('#')) {
        let (file, reason) = line.split_once(' ').unwrap();
        assert!(directory().join(file).exists() && !reason.is_empty(), "{line}");
    }
}

#[test]
fn each_divergence_of_scrapes_is_in_the_list_of_the_documentation() {
    let root = directory().join("../..");
    let documentation = std::fs::read_to_string(root.join("docs/configuration.md")).unwrap();
    let (_, listed) = documentation.split_once("## Divergences from Prometheus").unwrap();
    let tested = std::fs::read_to_string(root.join("testdata/scrape/divergences.txt")).unwrap();
    let lines = tested.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
    for line in lines {
        let number = line.strip_suffix(')').and_then(|line| line.rsplit_once(" (")).map(|(_, number)| number);
        let number: u32 =
            number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number: {line}"));
        assert!(listed.contains(&format!("\n{number}. ")), "{line}");
    }
}
