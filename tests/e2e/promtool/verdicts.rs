//! `promtool check config` beside `promring check`: good or bad, file by file.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Version;
use super::random::Random;
use crate::divergences;
use crate::support::testdata;

/// Whether a file is good, and all that was said of it.
struct Verdict {
    good: bool,
    said: String,
}

#[test]
fn each_file_of_testdata_gets_the_verdict_of_promtool() {
    let dir = testdata().join("config");
    let mut files: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yml"))
        .collect();
    files.sort();
    files.extend(["../seed.yml", "../../helm/promring/files/prometheus.yml"].map(str::to_owned));
    assert!(files.len() >= 100, "{} files", files.len());
    let ours = promring(&dir, &files);
    let newer = promtool(Version::V3_15, &dir, &files);
    let older = promtool(Version::V2_42, &dir, &files);

    let differ = |theirs: &BTreeMap<String, Verdict>, counts: &dyn Fn(&str) -> bool| {
        let differs = |file: &&String| ours[*file].good != theirs[*file].good && counts(file);
        let both = |file: &String| {
            let (ours, theirs) = (&ours[file].said, &theirs[file].said);
            (file.clone(), format!("promring says\n{ours}promtool says\n{theirs}"))
        };
        files.iter().filter(differs).map(both).collect()
    };
    divergences::CONFIG.settle("verdicts of 3.15", &differ(&newer, &|_| true));
    // What 3.15 takes and 2.42 refuses is newer than 2.42, and where promring differs from both it is listed above.
    // What is left are files that were good once.
    divergences::CONFIG
        .settle("verdicts of 2.42", &differ(&older, &|file| older[file].good && !newer[file].good));
}

/// As many rules, good and bad, as one run of promtool reads in a moment.
const RANDOM_RULES: usize = 5_000;

#[test]
fn random_rules_get_the_verdict_of_promtool() {
    let mut random = Random::from_environment();
    let dir = tempfile::tempdir().unwrap();
    let count = if super::generated::is_full() { RANDOM_RULES * 10 } else { RANDOM_RULES };
    let files: Vec<String> = (0..count).map(|number| format!("{number}.yml")).collect();
    let mut rules = BTreeMap::new();
    for file in &files {
        let rule = random.any_rule();
        let job = serde_json::json!({"job_name": "a", "relabel_configs": [rule]});
        let config = serde_json::json!({"scrape_configs": [job]});
        std::fs::write(dir.path().join(file), super::discovery::yaml(&config)).unwrap();
        rules.insert(file, rule);
    }
    let ours = promring(dir.path(), &files);
    let theirs = promtool(Version::V3_15, dir.path(), &files);
    let good = ours.values().filter(|verdict| verdict.good).count();
    assert!(good > count / 5 && good < count * 4 / 5, "{good} of {count} rules are good");
    let mut differing: Vec<String> = Vec::new();
    for (file, rule) in &rules {
        let (ours, theirs) = (&ours[*file], &theirs[*file]);
        if ours.good != theirs.good {
            differing.push(format!("{rule}\npromring says\n{}promtool says\n{}", ours.said, theirs.said));
        }
    }
    let (seed, few) = (random.seed(), differing.len().min(10));
    assert!(
        differing.is_empty(),
        "{} differ (seed {seed}):\n{}",
        differing.len(),
        differing[..few].join("\n")
    );
}

fn promring(dir: &Path, files: &[String]) -> BTreeMap<String, Verdict> {
    let said = said(Command::new(env!("CARGO_BIN_EXE_promring")).arg("check").args(files).current_dir(dir));
    let mut verdicts = BTreeMap::new();
    let mut text = String::new();
    let mut expected = files.iter();
    let mut next = expected.next();
    for line in said.lines() {
        text.push_str(line);
        text.push('\n');
        // The verdict is the last line about a file, and the files come in the order given.
        let Some(file) = next else { break };
        let Some(rest) = line.strip_prefix(file.as_str()).and_then(|rest| rest.strip_prefix(": ")) else {
            continue;
        };
        let good = rest.starts_with("OK: ");
        if good || rest.starts_with("FAILED: ") {
            verdicts.insert(file.clone(), Verdict { good, said: std::mem::take(&mut text) });
            next = expected.next();
        }
    }
    assert_eq!(verdicts.len(), files.len(), "promring's words on {next:?} were not understood:\n{text}");
    verdicts
}

fn promtool(version: Version, dir: &Path, files: &[String]) -> BTreeMap<String, Verdict> {
    let said = said(Command::new(version.program()).args(["check", "config"]).args(files).current_dir(dir));
    let mut verdicts = BTreeMap::new();
    let mut rest = said.as_str();
    for (at, file) in files.iter().enumerate() {
        let heading = |file: &String| format!("Checking {file}\n");
        let begin = rest.find(&heading(file)).unwrap_or_else(|| panic!("nothing said on {file}:\n{rest}"));
        rest = &rest[begin..];
        let end = files.get(at + 1).and_then(|next| rest.find(&heading(next))).unwrap_or(rest.len());
        let text = &rest[..end];
        let (good, bad) = (text.contains("\n SUCCESS: "), text.contains("\n  FAILED: "));
        assert!(good || bad, "no verdict of promtool on {file}:\n{text}");
        verdicts.insert(file.clone(), Verdict { good: !bad, said: text.to_owned() });
        rest = &rest[end..];
    }
    verdicts
}

/// All that a command says, standard output and error in the order in which it said them.
fn said(command: &mut Command) -> String {
    let mut output = tempfile::tempfile().unwrap();
    let handle = |output: &File| output.try_clone().unwrap();
    command.stdin(Stdio::null()).stdout(handle(&output)).stderr(handle(&output));
    command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut output).unwrap();
    std::io::Read::read_to_end(&mut output, &mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
