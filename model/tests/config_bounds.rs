//! Files that want too much, and files that chance has written: none may stop or fill the process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may fail")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use promring_model::config::{ConfigSource, Loaded, Severity, check, load};
use proptest::prelude::*;

/// One file, whatever its name.
struct One(Vec<u8>);

impl ConfigSource for One {
    fn read(&self, _: &Path) -> Result<Vec<u8>, String> {
        Ok(self.0.clone())
    }

    fn glob(&self, _: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

fn first_error(text: impl Into<Vec<u8>>) -> String {
    let Loaded { config, diagnostics, .. } = load(Path::new("a.yml"), &One(text.into()));
    assert!(config.is_none());
    diagnostics.iter().find(|found| found.severity == Severity::Error).unwrap().message.clone()
}

#[test]
fn a_file_of_100_mb_is_refused_by_its_size() {
    assert_eq!(first_error(vec![b'#'; 100 << 20]), "the file is larger than 32 MiB");
}

/// Each of these is three megabytes of variables, which took days when each was looked for, or told of, through all of the text.
#[test]
fn texts_full_of_variables_cost_what_their_length_does() {
    let many: String = (0..300_000).map(|at| format!("${{A{at}}}")).collect();
    for text in
        ["${A}".repeat(800_000), many, "${".repeat(1_500_000), "%{".repeat(1_500_000), "$(".repeat(1_500_000)]
    {
        let quoted = format!("'{text}'");
        let file = format!(
            "global: {{external_labels: {{a: {quoted}}}}}\nscrape_configs: [{{job_name: a, static_configs: [{{targets: ['a:1'], labels: {{b: {quoted}}}}}]}}]\n"
        );
        let Loaded { config, diagnostics, .. } = load(Path::new("a.yml"), &One(file.into_bytes()));
        assert!(config.is_some(), "{:?}", diagnostics.first());
        assert!(diagnostics.len() <= 42, "{} findings", diagnostics.len());
    }
}

/// Each value alone is short enough; thirty of them would be thirty times 1 MB of every series.
#[test]
fn external_labels_are_bounded_together() {
    let labels = |count: usize| -> String { (0..count).map(|at| format!("l{at}: *a, ")).collect() };
    let file = |count| {
        format!("global: {{external_labels: {{a: &a '{}', {}}}}}\n", "v".repeat(1 << 20), labels(count))
    };
    assert_eq!(
        first_error(file(16)),
        "up to here, external labels have more than 16 MiB, with variables expanded"
    );
    assert!(load(Path::new("a.yml"), &One(file(15).into_bytes())).config.is_some());
}

/// A source that counts what is read.
struct Counted {
    file: String,
    reads: std::cell::Cell<usize>,
}

impl ConfigSource for Counted {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.reads.set(self.reads.get() + 1);
        let text = match path.to_string_lossy() {
            name if name.ends_with("jobs.yml") => "scrape_configs: [{job_name: included}]",
            name if name.ends_with("targets.yml") => "[{targets: ['a:1']}]",
            name if name.ends_with("secret") => "hidden",
            _ => &self.file,
        };
        Ok(text.as_bytes().to_vec())
    }

    fn glob(&self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(vec![pattern.to_owned()])
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

#[test]
fn a_file_that_is_named_thousands_of_times_is_read_once() {
    let loaded = |file: String| {
        let source = Counted { file, reads: std::cell::Cell::default() };
        (check(Path::new("a.yml"), &source), source.reads.get())
    };
    let (included, reads) = loaded(format!("scrape_config_files: [{}]", "jobs.yml, ".repeat(5_000)));
    let errors: Vec<_> =
        included.diagnostics.iter().filter(|found| found.severity == Severity::Error).collect();
    let [error] = &*errors else { panic!("{errors:?}") };
    assert!(error.message.contains("a second time") && error.path == "scrape_config_files[1]", "{error}");
    assert_eq!((reads, included.files.len()), (2, 2));
    let job = |at: usize| {
        format!(
            "- {{job_name: j{at}, bearer_token_file: secret, file_sd_configs: [{{files: [targets.yml]}}]}}\n"
        )
    };
    let jobs: String = (0..1_000).map(job).collect();
    let (shared, reads) = loaded(format!("scrape_configs:\n{jobs}"));
    assert!(shared.config.is_some(), "{:?}", shared.diagnostics.first());
    assert_eq!(reads, 3);
}

/// What each target costs is bounded by what its rules are and make, and what is not looked at is said.
#[test]
fn targets_are_looked_at_as_far_as_their_rules_allow() {
    let file = |targets: usize, rules: &str| {
        let targets: String = (0..targets).map(|at| format!("'h{at}:1', ")).collect();
        format!(
            "scrape_configs: [{{job_name: a, static_configs: [{{targets: [{targets}]}}], relabel_configs: [{rules}]}}]"
        )
    };
    let left_out = |file: String| {
        let Loaded { config, diagnostics, .. } = load(Path::new("a.yml"), &One(file.into_bytes()));
        assert!(config.is_some());
        diagnostics.iter().filter(|found| found.message.contains("not looked at any more")).count()
    };
    let rule = "{source_labels: [__address__], target_label: a}, ";
    assert_eq!(left_out(file(1_000, &rule.repeat(100))), 0);
    assert_eq!(left_out(file(5_500, &rule.repeat(2_000))), 1);
    // Twenty rules that double a value, and it is a megabyte.
    let doubles = "{source_labels: [a], target_label: a, replacement: $1$1}, ".repeat(20);
    let grown = format!("{{target_label: a, replacement: x}}, {doubles}");
    assert_eq!(left_out(file(200, &grown)), 1);
    // A regex that an engine goes through state by state, over a long label.
    let slow = "{source_labels: [l], target_label: a, regex: '(a*)*(a*)*(a*)*b|(.*)'}, ".repeat(300);
    let long = |bytes: usize| {
        let group = format!("{{targets: ['h:1'], labels: {{l: {}}}}}", "a".repeat(bytes));
        format!("scrape_configs: [{{job_name: a, static_configs: [{group}], relabel_configs: [{slow}]}}]")
    };
    assert_eq!([left_out(long(1_000)), left_out(long(1_000_000))], [0, 1]);
}

/// Each is a rule or two in some hundred kilobytes, which took gigabytes or minutes.
#[test]
fn rules_with_as_many_places_as_groups_or_names_cost_what_their_length_does() {
    let rule = |keys: &str| format!("scrape_configs: [{{job_name: a, relabel_configs: [{{{keys}}}]}}]");
    let numbers = |text: &str, between: &str| {
        (0..40_000).map(|at| format!("{text}{at}")).collect::<Vec<_>>().join(between)
    };
    let shared = rule(&format!(
        "source_labels: [a], target_label: b, regex: '{}', replacement: '{}'",
        "(?P<g>)".repeat(500),
        "$g.".repeat(300_000)
    ));
    let loaded = load(Path::new("a.yml"), &One(shared.into_bytes()));
    assert!(loaded.config.is_some(), "{:?}", loaded.diagnostics);
    let missing = rule(&format!(
        "source_labels: [a], target_label: b, regex: '{}', replacement: '{}'",
        "()".repeat(100_000),
        "$g.".repeat(100_000)
    ));
    assert!(first_error(missing).contains("regex"));
    let drop = rule(&format!(
        "source_labels: [{}], regex: '{}', action: labeldrop",
        numbers("m", ","),
        numbers("x", "|")
    ));
    assert!(first_error(drop).contains("labeldrop"));
}

#[test]
fn replacements_are_shared_and_bounded() {
    let rule = |at: usize, text: &str| {
        format!("    - {{source_labels: [a], target_label: x{at}, replacement: {text}}}\n")
    };
    let job = |rules: &str| format!("scrape_configs:\n- job_name: a\n  relabel_configs:\n{rules}");
    let first = rule(0, &format!("&a '{}'", "$1-".repeat(10_000)));
    let others: String = (1..4_000).map(|at| rule(at, "*a")).collect();
    assert!(load(Path::new("a.yml"), &One(job(&(first + &others)).into_bytes())).config.is_some());
    let each: String = (0..400).map(|at| rule(at, &format!("'{at}{}'", "$1-".repeat(10_000)))).collect();
    assert!(first_error(job(&each)).contains("regexes"));
    let long = rule(0, &"$1".repeat(600_000));
    assert_eq!(first_error(job(&long)), "longer than 1 MiB");
}

#[test]
fn a_list_of_aliases_of_a_job_is_refused_before_it_fills_the_memory() {
    let text = format!("scrape_configs:\n  - &job {{job_name: a}}\n{}", "  - *job\n".repeat(70_000));
    assert_eq!(first_error(text), "this file stands for too many values");
}

#[test]
fn aliases_of_aliases_are_refused_where_they_are_walked() {
    let mut text = "x0: &x0 ['a:1', 'b:1', 'c:1', 'd:1', 'e:1', 'f:1', 'g:1', 'h:1']\n".to_owned();
    for level in 1..12 {
        let below = vec![format!("*x{}", level - 1); 8].join(", ");
        text.push_str(&format!("x{level}: &x{level} [{below}]\n"));
    }
    // No level but the lowest is a list of texts, so the walk ends there and names what it found instead.
    text.push_str("scrape_configs: [{job_name: a, static_configs: [{targets: *x11}]}]\n");
    assert!(first_error(text).contains("has no key x0"));
}

#[test]
fn maps_that_are_merged_again_and_again_count_although_their_keys_are_there_already() {
    let pairs: Vec<_> = (0..4_000).map(|key| format!("k{key}: v")).collect();
    let text = format!(
        "scrape_configs: [{{job_name: a, static_configs: [{{labels: {{<<: [&m {{{}}}{}]}}}}]}}]",
        pairs.join(", "),
        ", *m".repeat(4_000)
    );
    let Loaded { diagnostics, .. } = load(Path::new("a.yml"), &One(text.into()));
    let left_out = &diagnostics.last().unwrap().message;
    let count: usize = left_out.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!(count < 600_000, "{left_out}, of sixteen millions");
}

/// An engine keeps the places of all groups for each of its states: a few kilobytes of groups took gigabytes.
#[test]
fn a_regex_whose_groups_would_fill_the_memory_is_refused_where_they_are_asked_for() {
    let file = |groups: usize, rule: &str| {
        let regex = format!("{}[a-z]*\\w+", "()".repeat(groups));
        let value = "ab".repeat(3_000);
        format!(
            "scrape_configs: [{{job_name: a, static_configs: [{{targets: ['a:1'], labels: {{l: {value}}}}}], \
             relabel_configs: [{{source_labels: [l], regex: '{regex}', {rule}}}]}}]"
        )
    };
    for groups in [1_000, 30_000] {
        let message = first_error(file(groups, "target_label: t, replacement: $1"));
        assert!(message.contains(&format!("{groups} groups")), "{message}");
    }
    for (groups, rule) in
        [(500, "target_label: t, replacement: $1"), (30_000, "target_label: t, replacement: x")]
    {
        let Loaded { config, diagnostics, .. } = load(Path::new("a.yml"), &One(file(groups, rule).into()));
        assert!(config.is_some(), "{:?}", diagnostics.first());
    }
}

#[test]
fn a_regex_that_would_grow_beyond_measure_is_refused() {
    for regex in ["(((((a{30}){30}){30}){30}){30})", "(?i)[\\pL\\pN]{900}[\\pL]{900}"] {
        let text = format!(
            "scrape_configs: [{{job_name: a, relabel_configs: [{{regex: '{regex}', action: labeldrop}}]}}]"
        );
        let message = first_error(text);
        assert!(message.contains("regex"), "{message}");
    }
}

/// A job with so many rules of this pattern, in which `#` is the rule's number.
fn many_rules(count: usize, regex: &str) -> String {
    let mut text = "scrape_configs:\n- job_name: a\n  metric_relabel_configs:\n".to_owned();
    for number in 0..count {
        let regex = regex.replace('#', &number.to_string());
        text.push_str(&format!("  - {{source_labels: [a], regex: '{regex}', action: drop}}\n"));
    }
    text
}

#[test]
fn regexes_that_are_too_large_together_are_refused_once() {
    let Loaded { config, diagnostics, .. } =
        load(Path::new("a.yml"), &One(many_rules(400, "#\\pL{100}x").into()));
    assert!(config.is_none());
    let errors: Vec<_> = diagnostics.iter().filter(|found| found.severity == Severity::Error).collect();
    let [error] = &*errors else { panic!("{errors:?}") };
    assert!(error.message.contains("more than 128 MiB when they are compiled"), "{error}");
    assert!(error.path.ends_with(".regex") && error.line > 10 && error.hint.is_some(), "{error}");
}

#[test]
fn regexes_that_are_refused_one_by_one_are_not_all_tried() {
    let Loaded { diagnostics, .. } = load(Path::new("a.yml"), &One(many_rules(200, "#\\pL{900}x").into()));
    let too_large = |text: &str| diagnostics.iter().filter(|found| found.message.contains(text)).count();
    assert_eq!((too_large("more than 8 MiB"), too_large("more than 128 MiB")), (16, 1), "{diagnostics:?}");
}

#[test]
fn many_rules_that_need_no_engine_or_are_alike_are_taken() {
    for regex in ["metric_#|other_#", "[0-9]+x"] {
        let loaded = load(Path::new("a.yml"), &One(many_rules(10_000, regex).into()));
        assert!(loaded.config.is_some(), "{:?}", loaded.diagnostics);
    }
}

/// What each of these regexes is full of was once looked for in all of it, again and again: up to half a minute for one rule.
#[test]
fn regexes_cost_what_their_length_does() {
    let count = 150_000;
    let escapes: String = (0..9_900).filter_map(|at| char::from_u32(0x4E00 + at)).collect();
    for regex in [
        format!("[{escapes}{}]", "\\pL".repeat(count)),
        "{".repeat(count * 6),
        "{1,2".repeat(count),
        "[[:a]".repeat(count),
    ] {
        // A hashmod has no use for it, but it must be a regex.
        let rule = "{source_labels: [a], target_label: x, modulus: 2, action: hashmod, regex: *r}";
        let text = format!(
            "scrape_configs: [{{job_name: a, params: {{r: [&r '{regex}']}}, relabel_configs: [{}]}}]",
            vec![rule; 25].join(", ")
        );
        let loaded = load(Path::new("a.yml"), &One(text.into()));
        assert!(loaded.config.is_some(), "{:?}", loaded.diagnostics.first());
    }
}

/// Texts that mean something to YAML or to a configuration.
const PIECES: [&str; 32] = [
    " ", "  ", "\n", "\t", ":", ": ", "- ", "#", "\"", "'", "[", "]", "{", "}", ",", "&a ", "*a", "!!str ",
    "|", ">", "<<: ", "---\n", "...\n", "? ", "\\", "é", "\u{feff}", "~", "null", "0x", "$1", "\u{7}",
];

static GOOD_FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/config");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let is_good = |path: &&PathBuf| path.to_string_lossy().ends_with(".good.yml");
    paths.iter().filter(is_good).map(|path| std::fs::read(path).unwrap()).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn broken_files_are_refused_or_read_and_never_stop_the_process(
        file in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..PIECES.len(), 0..4_usize), 1..6),
    ) {
        let mut text = file.get(&GOOD_FILES).clone();
        for (at, piece, removed) in changes {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, PIECES[piece].bytes());
        }
        let lines = text.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
        let Loaded { config, diagnostics, .. } = check(Path::new("a.yml"), &One(text));
        let errors = diagnostics.iter().any(|found| found.severity == Severity::Error);
        prop_assert_eq!(config.is_none(), errors);
        for found in diagnostics {
            prop_assert!(found.line <= lines, "line {} of {}: {}", found.line, lines, found);
        }
    }

    #[test]
    fn bytes_of_any_kind_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let Loaded { config, diagnostics, .. } = load(Path::new("a.yml"), &One(bytes));
        prop_assert_eq!(config.is_none(), diagnostics.iter().any(|found| found.severity == Severity::Error));
    }
}
