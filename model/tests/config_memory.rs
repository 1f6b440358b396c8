//! What files cost that want much: those with very many mistakes, of which only some are shown, and those with large regexes.

use std::path::{Path, PathBuf};

use allocation_counter::measure;
use promring_model::config::{ConfigSource, Diagnostic, Loaded, Severity, load};

/// One file, whatever its name.
struct One(String);

impl ConfigSource for One {
    fn read(&self, _: &Path) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }

    fn glob(&self, _: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// How many mistakes of a file are not shown, and the most bytes that reading it took at a time.
fn cost(text: String) -> (usize, u64) {
    let source = One(text);
    let mut left_out = 0;
    let memory = measure(|| {
        let Loaded { config, diagnostics, .. } = load(Path::new("a.yml"), &source);
        assert!(config.is_none());
        let last = &diagnostics.last().expect("mistakes").message;
        left_out = last.split(' ').find_map(|word| word.parse().ok()).expect("more than are shown");
    });
    (left_out, memory.bytes_max)
}

#[test]
fn mistakes_that_aliases_multiply_are_counted_and_not_kept() {
    let rules = "{a: }, ".repeat(1_000);
    let first = format!("- {{job_name: j, relabel_configs: &r [{rules}]}}\n");
    let more = "- {job_name: j, relabel_configs: *r}\n".repeat(900);
    let (left_out, bytes) = cost(format!("scrape_configs:\n{first}{more}"));
    assert!(left_out > 200_000 && bytes < 10 << 20, "{left_out} mistakes, {bytes} bytes");
}

#[test]
fn many_jobs_with_a_mistake_each_are_counted_and_not_kept() {
    let jobs = "- {job_name: x, bogus: 1}\n".repeat(100_000);
    let size = jobs.len() as u64;
    let (left_out, bytes) = cost(format!("scrape_configs:\n{jobs}"));
    assert!(left_out >= 99_800 && bytes < 30 * size, "{left_out} mistakes, {bytes} bytes");
}

/// A regex that needs no engine, and for which the places of 61 groups are kept for each of 3,906 texts: some 8 MB of them.
fn texts_with_many_groups(number: usize) -> String {
    let letters = || ('a'..='z').chain('A'..='Z').chain('0'..='9');
    let mut texts: Vec<String> = letters().map(String::from).collect();
    texts.extend(letters().flat_map(|one| letters().map(move |two| format!("{one}{two}"))));
    format!("{}({}|{number})", "()".repeat(60), texts.join("|"))
}

/// Whether these rules are taken, the errors, and the most bytes that reading them took at a time.
fn cost_of_rules(rules: impl Iterator<Item = String>) -> (bool, Vec<String>, u64) {
    let rules: String = rules.map(|rule| format!("  - {{source_labels: [a], {rule}}}\n")).collect();
    let source = One(format!("scrape_configs:\n- job_name: a\n  relabel_configs:\n{rules}"));
    let (mut taken, mut errors) = (false, Vec::new());
    let memory = measure(|| {
        let Loaded { config, diagnostics, .. } = load(Path::new("a.yml"), &source);
        let is_error = |found: &&Diagnostic| found.severity == Severity::Error;
        errors = diagnostics.iter().filter(is_error).map(|found| found.message.clone()).collect();
        taken = config.is_some();
    });
    (taken, errors, memory.bytes_max)
}

#[test]
fn rules_with_one_regex_share_it_compiled() {
    let regex = texts_with_many_groups(0);
    let rules = |count: usize| {
        let first = format!("target_label: x, regex: &r '{regex}'");
        // Rules that are alike, and rules that have only the regex in common.
        let alike = std::iter::repeat_n("target_label: x, regex: *r".to_owned(), count);
        let others = (0..count).map(|at| format!("target_label: x{at}, regex: *r, replacement: '$61'"));
        std::iter::once(first).chain(alike).chain(others)
    };
    let (alone, errors, bytes_of_one) = cost_of_rules(rules(0));
    assert!(alone, "{errors:?}");
    let (taken, errors, bytes) = cost_of_rules(rules(300));
    assert!(taken, "{errors:?}");
    // What 300 rules have of their own is the regex as it is written.
    let texts = 300 * regex.len() as u64;
    assert!(bytes < bytes_of_one + 2 * texts, "{bytes} bytes, and {bytes_of_one} of one rule");
}

#[test]
fn texts_with_many_groups_are_refused_before_they_fill_the_memory() {
    let rules =
        (0..300).map(|at| format!("target_label: x, regex: '{}'", texts_with_many_groups(1_000 + at)));
    let (taken, errors, bytes) = cost_of_rules(rules);
    let [error] = &*errors else { panic!("{errors:?}") };
    assert!(!taken && error.contains("more than 128 MiB when they are compiled"), "{error}");
    assert!(bytes < 192 << 20, "{bytes} bytes");
}
