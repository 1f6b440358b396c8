//! What a user sees who gives the program something wrong.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::support::{Process, run};

/// A directory with a configuration file of this content, and the file's path.
fn config(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prometheus.yml");
    fs::write(&path, text).unwrap();
    (dir, path.to_str().unwrap().to_owned())
}

#[test]
fn check_says_ok_with_what_it_found() {
    let (_dir, path) = config(
        "scrape_configs:\n- job_name: a\n  static_configs: [{targets: ['x:1', 'y:2']}]\n  metric_relabel_configs: [{regex: pod, action: labeldrop}]\nremote_write: [{url: 'http://receiver/'}]\n",
    );
    let (code, out, _) = run(&["check", &path]);
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("OK: 1 job, 2 targets in static_configs, 0 other sources of targets, 1 relabelling rule, 1 destination"),
        "{out}"
    );
}

#[test]
fn check_names_file_line_column_and_hint_of_every_error_and_exits_with_1() {
    let (_dir, path) = config("scrape_configs:\n- job_name: a\n  scrape_intervall: 5s\n- job_name: a\n");
    let (code, out, _) = run(&["check", &path]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains(&format!("{path}:3:3: ")) && out.contains("scrape_interval"), "{out}");
    assert!(out.contains(&format!("{path}:4:")), "{out}");
}

#[test]
fn a_role_does_not_start_with_a_bad_configuration() {
    let (_dir, path) = config("scrape_configs: 5\n");
    for role in [&["standalone"][..], &["allocator"], &["scraper", "--allocator", "http://127.0.0.1:1"]] {
        let mut arguments = role.to_vec();
        arguments.extend(["--config", &path, "--listen", "127.0.0.1:0"]);
        let (code, _, err) = run(&arguments);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains(&format!("{path}:1:")), "{err}");
    }
}

#[test]
fn a_missing_configuration_file_is_named() {
    let (code, _, err) = run(&["standalone", "--config", "/nonexistent/prometheus.yml"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("/nonexistent/prometheus.yml"), "{err}");
}

#[test]
fn a_busy_port_is_named_with_what_to_do() {
    let (_dir, path) = config("scrape_configs: []\n");
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let (code, _, err) = run(&["standalone", "--config", &path, "--listen", &address]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(&address) && err.contains("--listen"), "{err}");
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let (dir, path) = config("scrape_configs: []\nremote_write: [{url: 'http://receiver/'}]\n");
    // A file where the directory should be: that stops root as well.
    let occupied = dir.path().join("data");
    fs::write(&occupied, "").unwrap();
    let data = occupied.to_str().unwrap();
    let (code, _, err) =
        run(&["standalone", "--config", &path, "--listen", "127.0.0.1:0", "--data-dir", data]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(data), "{err}");
}

#[test]
fn help_shows_every_flag_with_its_default_and_environment_variable() {
    let (code, out, _) = run(&["standalone", "--help"]);
    assert_eq!(code, Some(0));
    for text in
        ["--config", "PROMRING_CONFIG", "[default: data/]", "[default: 127.0.0.1:8081]", "--log-format"]
    {
        assert!(out.contains(text), "{text} is missing:\n{out}");
    }
}

const RULES: &str = "
scrape_configs:
- job_name: pods
  relabel_configs:
  - {source_labels: [__meta_app], target_label: app}
  - {source_labels: [app], regex: secret, action: drop}
  metric_relabel_configs:
  - {source_labels: [__name__], regex: 'go_.*', action: drop}
  - {regex: pod_ip, action: labeldrop}
";

#[test]
fn relabel_shows_after_each_rule_what_changed_and_the_target_at_the_end() {
    let (_dir, path) = config(RULES);
    let labels = r#"{__address__="10.0.0.1:80", __meta_app="web"}"#;
    let (code, out, _) = run(&["relabel", "--config", &path, "--job", "pods", labels]);
    assert_eq!(code, Some(0), "{out}");
    for text in [
        r#"+ app="web""#,
        "[1]",
        "changes nothing",
        "target http://10.0.0.1:80/metrics",
        r#"instance="10.0.0.1:80""#,
    ] {
        assert!(out.contains(text), "{text} is missing:\n{out}");
    }
}

#[test]
fn relabel_names_the_rule_that_dropped_a_target_or_a_series() {
    let (_dir, path) = config(RULES);
    let labels = r#"{"__address__": "10.0.0.1:80", "__meta_app": "secret"}"#;
    let (_, out, _) = run(&["relabel", "--config", &path, "--job", "pods", labels]);
    assert!(out.contains("dropped by relabel_configs[1]"), "{out}");
    let series = [r#"go_goroutines{pod_ip="1"}"#, r#"{__name__="up", pod_ip="1"}"#];
    let (_, out, _) = run(&["relabel", "--config", &path, "--job", "pods", "--metric", series[0], series[1]]);
    assert!(out.contains("dropped by metric_relabel_configs[0]"), "{out}");
    assert!(out.contains(r#"- pod_ip="1""#) && out.contains(r#"series {__name__="up"}"#), "{out}");
}

#[test]
fn relabel_notes_that_a_series_lost_its_name() {
    let (_dir, path) = config(
        "scrape_configs:\n- job_name: pods\n  metric_relabel_configs: [{regex: '__name__|a|unnamed', action: labelkeep}, \
         {source_labels: [unnamed], regex: .+, target_label: __name__, replacement: ''}]\n",
    );
    let run = |series: &str| run(&["relabel", "--config", &path, "--job", "pods", "--metric", series]).1;
    let note = "note: the metric's name is gone: a scrape with such a series fails as a whole";
    assert!(run(r#"m{a="1", unnamed="yes"}"#).contains(note));
    assert!(!run(r#"m{a="1"}"#).contains("note:"), "the name stays");
    assert!(!run(r#"{a="1", unnamed="yes"}"#).contains("note:"), "there was no name");
}

/// What `relabel` says of these lines on its standard input.
fn relabelled(lines: impl AsRef<[u8]>) -> (Option<i32>, String) {
    use std::io::Write;
    let (_dir, path) = config(RULES);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_promring"))
        .args(["relabel", "--config", &path, "--job", "pods"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_ref()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn relabel_says_where_it_matters_which_labels_of_a_series_are_the_targets() {
    let (_dir, path) = config(
        "scrape_configs:\n- job_name: pods\n  metric_relabel_configs: [{action: labelmap, regex: '[ab]_x', replacement: k}]\n",
    );
    let run = |series: &str| run(&["relabel", "--config", &path, "--job", "pods", "--metric", series]).1;
    assert!(run(r#"m{a_x="T",b_x="E"}"#).contains("note: a labelmap makes one label of several"));
    assert!(!run(r#"m{a_x="T",c_x="E"}"#).contains("note:"));
    assert!(!run(r#"m{a_x="T",b_x="T"}"#).contains("note:"));
}

#[test]
fn relabel_says_so_where_a_rule_sets_one_of_the_labels_that_a_labelmap_makes_one() {
    let (_dir, path) = config(
        "scrape_configs:\n- job_name: pods\n  metric_relabel_configs: [{target_label: a_x, replacement: R}, \
         {action: labelmap, regex: '[ab]_x', replacement: k}]\n",
    );
    let run = |series: &str| run(&["relabel", "--config", &path, "--job", "pods", "--metric", series]).1;
    assert!(run(r#"m{a_x="T",b_x="E"}"#).contains("note: a labelmap makes one label of several"));
    assert!(!run(r#"m{b_x="E"}"#).contains("note:"), "what a rule adds is always last");
}

#[test]
fn relabel_says_where_it_matters_which_labels_are_a_groups() {
    let (_dir, path) = config(
        "scrape_configs:\n- job_name: pods\n  relabel_configs: [{action: labelmap, regex: 'job|[ab]_x', replacement: k}]\n",
    );
    let run = |labels: &str| run(&["relabel", "--config", &path, "--job", "pods", labels]).1;
    assert!(!run(r#"{__address__="h:1",a_x="T",b_x="E"}"#).contains("note:"), "the job comes after both");
    let (_dir, path) = config(
        "scrape_configs:\n- job_name: pods\n  relabel_configs: [{action: labelmap, regex: '[ab]_x', replacement: k}]\n",
    );
    let run = |labels: &str| self::run(&["relabel", "--config", &path, "--job", "pods", labels]).1;
    assert!(
        run(r#"{__address__="h:1",a_x="T",b_x="E"}"#).contains("note: a labelmap makes one label of several")
    );
}

#[test]
fn relabel_prints_no_control_character_of_what_it_is_given() {
    let (_, out) = relabelled("{__address__=\"a:1\",__scheme__=\"x\u{1b}[2J\"}\n{a=\u{7}\n");
    assert!(out.contains("target x\\u{1b}[2J://a:1/metrics"), "{out}");
    assert!(!out.contains(|char: char| char.is_control() && char != '\n'), "{out:?}");
}

#[test]
fn relabel_skips_comments_and_empty_lines_and_counts_them() {
    let (code, out) = relabelled("# targets\n\n  # more\n{__address__=\"a:1\"}\r\n\t\n{__address__=}\n");
    assert_eq!(code, Some(1), "{out}");
    assert!(out.starts_with("{__address__=\"a:1\""), "{out}");
    assert!(out.contains("\nline 6: ") && out.matches("line ").count() == 1, "{out}");
}

#[test]
fn relabel_refuses_a_line_that_is_no_utf_8_and_reads_on() {
    let (code, out) = relabelled(b"{__address__=\"\xff:1\"}\n{__address__=\"a:1\", __meta_x=\"\xc3\xa9\"}\n");
    assert_eq!(code, Some(1));
    assert!(out.starts_with("line 1: not UTF-8: ") && out.contains("__address__=\"a:1\""), "{out}");
}

#[test]
fn relabel_reads_values_that_look_like_json() {
    let (code, out) = relabelled(r#"{__address__="h:1",a="say \"hi\": now","b c"="{\"x\": 1}"}"#);
    assert_eq!(code, Some(0), "{out}");
    let (code, out) = relabelled(r#"{"__address__" : "h:1", "a=": "\"b\"="}"#);
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn relabel_refuses_a_label_that_stands_there_twice() {
    for line in
        [r#"{"a": "1", "__address__": "x:1", "a": "2"}"#, r#"{a="1", a="2"}"#, r#"{"a": "1", "a": ""}"#]
    {
        let (code, out) = relabelled(format!("\n{line}\n"));
        assert_eq!(code, Some(1), "{out}");
        assert!(out.starts_with("line 2: ") && out.contains(line) && !out.contains("line 1"), "{out}");
    }
    let (_, out) = relabelled("{\"a\": \"1\", \"a\": \"2\"}\n");
    assert!(out.contains("the label \"a\" stands there twice"), "{out}");
}

#[test]
fn relabel_says_why_each_scrape_of_a_target_without_a_url_fails() {
    let (code, out) = relabelled("{__address__=\"my host\"}\n");
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("each scrape fails: \"http://my%20host/metrics\" is not a valid URL"), "{out}");
}

#[test]
fn a_start_that_fails_says_why_whatever_is_logged() {
    let (_dir, path) = config("scrape_configs: [{}]\n");
    for format in ["text", "json"] {
        for level in ["off", "error", "info"] {
            let arguments = [
                "--log-level",
                level,
                "--log-format",
                format,
                "standalone",
                "--config",
                &path,
                "--listen",
                "127.0.0.1:0",
            ];
            let (code, _, err) = run(&arguments);
            assert_eq!(code, Some(1), "{err}");
            assert_eq!(err.matches("a job without job_name").count(), 1, "{format} {level}: {err}");
            let last = err.lines().last().unwrap_or_default();
            let json = serde_json::from_str::<serde_json::Value>(last);
            assert_eq!(json.is_ok_and(|json| json["level"] == "ERROR"), format == "json", "{err}");
        }
    }
}

#[test]
fn relabel_names_a_line_that_cannot_be_read_and_a_job_that_is_not_there() {
    let (_dir, path) = config(RULES);
    let (code, out, _) = run(&["relabel", "--config", &path, "--job", "pods", "{a=1}"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("line 1: "), "{out}");
    let (code, _, err) = run(&["relabel", "--config", &path, "--job", "nodes"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("\"nodes\"") && err.contains("pods"), "{err}");
}

#[test]
fn a_second_process_with_the_same_queues_is_refused_and_told_who_has_them() {
    let remote_write = "remote_write: [{url: 'http://127.0.0.1:1/api/v1/write', name: audit}]\n";
    let (dir, config) = config(remote_write);
    let (promring, _) = Process::standalone("promring", Path::new(&config), dir.path());
    let lock = dir.path().join("data/queue/audit/lock");
    while !std::fs::read_to_string(&lock).is_ok_and(|holder| holder.ends_with('\n')) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let data = dir.path().join("data");
    let arguments = ["standalone", "--config", &config, "--data-dir", data.to_str().unwrap()];
    let (code, _, told) = run(&[&arguments[..], &["--listen", "127.0.0.1:0"]].concat());
    assert_eq!(code, Some(1), "{told}");
    let holder = format!("in use by process {}", promring.id());
    assert!(told.contains(&holder) && told.contains("--data-dir"), "{told}");
    // Looking is allowed.
    let (code, shown, _) = run(&["queue", data.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("queue of audit") && shown.contains("every checksum is right"), "{shown}");
}

#[test]
fn queues_are_shown_beside_one_that_is_none_and_one_that_lost_its_description() {
    let remote_write = "remote_write: [{url: 'http://127.0.0.1:1/api/v1/write', name: audit}]\n";
    let (dir, config) = config(remote_write);
    let queues = dir.path().join("data/queue");
    let (promring, _) = Process::standalone("promring", Path::new(&config), dir.path());
    while !queues.join("audit/set-00000001/meta").is_file() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    drop(promring);
    std::fs::create_dir(queues.join("aside")).unwrap();
    std::fs::create_dir(queues.join("lost+found")).unwrap();
    std::fs::remove_file(queues.join("audit/meta")).unwrap();
    let (code, shown, told) = run(&["queue", dir.path().join("data").to_str().unwrap()]);
    assert_eq!(code, Some(1), "{shown}{told}");
    assert!(shown.contains("audit/meta is missing") && shown.contains("to send: "), "{shown}");
    assert!(told.contains("aside is no queue") && !told.contains("lost+found"), "{told}");
    // Alone it is no success either.
    let (code, shown, _) = run(&["queue", queues.join("audit").to_str().unwrap()]);
    assert_eq!(code, Some(1), "{shown}");
}
