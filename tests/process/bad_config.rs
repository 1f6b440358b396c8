//! Configuration files that want too much: a clear error, in bounded memory and time. The limits are the operating
//! system's: a process that goes over them is killed, and the test fails.

use std::process::Command;

/// Address space, most of which the runtime's threads reserve and never use; and processor time of an unoptimised
/// build on a busy machine. The largest file that is read has 32 MiB.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const CPU_SECONDS_MAX: u32 = 30;

/// Checks a file of this content; gives the exit code and what was said.
fn check(content: &[u8]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("prometheus.yml"), content).unwrap();
    let script =
        format!("ulimit -v {MEMORY_KIB_MAX}; ulimit -t {CPU_SECONDS_MAX}; exec \"$0\" check prometheus.yml");
    let program = env!("CARGO_BIN_EXE_promring");
    let output = Command::new("sh").args(["-c", &script, program]).current_dir(dir.path()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// The file is refused, and the first line says where and why. `place`: `:LINE:COLUMN`, `:LINE`, or nothing.
fn assert_refused(content: impl AsRef<[u8]>, place: &str, why: &str) {
    let (code, said) = check(content.as_ref());
    let first = said.lines().next().unwrap_or_default();
    let begin: String = first.chars().take(300).collect();
    assert_eq!(code, Some(1), "{begin}");
    let (found, message) = first.split_once(": error: ").unwrap_or_else(|| panic!("{begin}"));
    let found = found.strip_prefix("prometheus.yml").unwrap_or_else(|| panic!("{begin}"));
    assert!(found == place || found.starts_with(&format!("{place}:")), "{begin}");
    assert!(message.contains(why), "{begin}");
    assert!(said.len() < 64 << 10, "{} bytes are said", said.len());
}

/// A job with these relabelling rules.
fn rules(rules: &str) -> String {
    format!("scrape_configs:\n- job_name: a\n  relabel_configs: [{rules}]\n")
}

#[test]
fn a_file_of_100_mb_is_refused_by_its_size() {
    let jobs = "scrape_configs:\n".to_owned() + &"- {job_name: a}\n".repeat(6_600_000);
    assert!(jobs.len() > 100_000_000);
    assert_refused(jobs, "", "larger than");
}

#[test]
fn a_file_of_more_values_than_anyone_writes_is_refused() {
    let jobs: String = (0..1_500_000).map(|number| format!("- {{job_name: j{number}}}\n")).collect();
    assert_refused(format!("scrape_configs:\n{jobs}"), ":666667", "more than 2000000 values");
    let targets = "a:1,".repeat(8_000_000);
    let targets = format!("scrape_configs: [{{job_name: a, static_configs: [{{targets: [{targets}]}}]}}]");
    assert_refused(targets, ":1", "more than 2000000 values");
}

#[test]
fn deep_nesting_is_refused_at_its_first_level_too_many() {
    for deep in ["[".repeat(1_000_000), "{a: ".repeat(1_000_000), "- ".repeat(1_000_000)] {
        assert_refused(deep, ":1", "inside each other");
    }
    let stairs: String = (0..5_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    assert_refused(stairs, ":65", "inside each other");
}

#[test]
fn anchors_in_a_circle_are_refused() {
    for circle in ["scrape_configs: &a [*a]", "global: &a {<<: *a}", "global: &a {external_labels: *a}"] {
        assert_refused(circle, ":1", "an anchor that contains itself");
    }
}

#[test]
fn aliases_of_aliases_are_refused() {
    let mut text = "scrape_configs:\n- job_name: a\n  static_configs:\n".to_owned();
    for level in 0..30 {
        let below = if level == 0 { "'t:1'".to_owned() } else { format!("*x{}", level - 1) };
        text.push_str(&format!("  - targets: &x{level} [{}]\n", vec![below; 10].join(", ")));
    }
    let (code, said) = check(text.as_bytes());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(": error: ") && said.len() < 64 << 10, "{said}");
}

#[test]
fn a_regex_that_would_be_huge_when_it_is_compiled_is_refused() {
    for regex in [r"(?i)[\pL\pN]{900}x", r"(\pL{30}){30}x", r"((a{10}b?){10}c?){10}\d{999}\pL{999}x"] {
        assert_refused(
            rules(&format!("{{source_labels: [a], target_label: b, regex: '{regex}'}}")),
            ":3",
            "regex",
        );
    }
    let long = format!("{{regex: '{}', action: labeldrop}}", "[a-z]x".repeat(400_000));
    assert_refused(rules(&long), ":3", "regex");
    let deep = format!("{{regex: '{}{}', action: labeldrop}}", "(".repeat(100_000), ")".repeat(100_000));
    assert_refused(rules(&deep), ":3", "nests deeper");
}

#[test]
fn a_hundred_thousand_rules_are_read_or_refused() {
    let many = |regex: &str| {
        let rule = |number: usize| {
            format!(
                "\n  - {{source_labels: [a], regex: '{}', action: drop}}",
                regex.replace('#', &number.to_string())
            )
        };
        (0..100_000)
            .fold("scrape_configs:\n- job_name: a\n  metric_relabel_configs:".to_owned(), |text, number| {
                text + &rule(number)
            })
    };
    let (code, said) = check(many("metric_#|other_#").as_bytes());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("100000 relabelling rules"), "{said}");
    assert_refused(many("m#[0-9]+x"), "", "the regexes of this configuration take more than 128 MiB");
}

#[test]
fn a_replacement_that_names_a_missing_group_is_named_and_means_what_it_means_in_prometheus() {
    let (code, said) =
        check(rules("{source_labels: [a], target_label: b, regex: '(.+)', replacement: '$2'}").as_bytes());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("prometheus.yml:3:") && said.contains("the regex has no group `2`"), "{said}");
}

#[test]
fn bytes_that_are_no_text_are_refused_where_they_stand() {
    assert_refused(b"scrape_configs:\n- job_name: caf\xe9\n", ":2:16", "byte 0xe9 is not UTF-8");
    assert_refused(b"scrape_configs:\n- job_name: \xed\xa0\x80\n", ":2:13", "not UTF-8");
    assert_refused(b"scrape_configs:\n- job_name: a\0b\n", ":2:14", "U+0000");
    assert_refused(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0", ":1", "control character");
}
