//! The demo as a user runs it: how it ends, and what it leaves behind.

use std::path::Path;

use rustix::process::Signal;

use crate::support::{Process, eventually};

/// A demo whose temporary files go to `tmp`.
fn demo(dir: &Path, tmp: &Path, arguments: &[&str]) -> Process {
    let mut all = vec!["demo", "--targets", "6", "--listen", "127.0.0.1:0"];
    all.extend(arguments);
    Process::start_with("demo", env!("CARGO_BIN_EXE_promring"), &all, dir, &[("TMPDIR", tmp)])
}

/// Whether this process ignores the signal, and with it every process that it starts.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal.as_raw() - 1) & 1 == 1
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_by_itself_with_a_clean_audit_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let tmp = tempfile::tempdir().unwrap();
    let mut demo = demo(dir.path(), tmp.path(), &["--duration", "4s"]);
    let status = demo.wait();
    let log = demo.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("OK: every series has exactly one sample a slot"), "{log}");
    let slots: u64 =
        log.split("audited slots").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!(slots > 1_000, "{log}");
    assert!(is_empty(tmp.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_it_with_a_summary() {
    let dir = tempfile::tempdir().unwrap();
    let tmp = tempfile::tempdir().unwrap();
    let mut demo = demo(dir.path(), tmp.path(), &[]);
    eventually("the live line", async || demo.log().contains("samples/s | queue").then_some(())).await;
    demo.signal(Signal::INT);
    let status = demo.wait();
    let log = demo.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("ended: SIGINT") && log.contains("audited slots"), "{log}");
    assert!(is_empty(tmp.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_it_starts_leaves_nothing_behind() {
    let mut signals = vec![Signal::INT, Signal::TERM];
    if !is_ignored(Signal::HUP) {
        // Under nohup the demo inherits that it is ignored, and rightly lives on.
        signals.push(Signal::HUP);
    }
    for signal in signals {
        let dir = tempfile::tempdir().unwrap();
        let tmp = tempfile::tempdir().unwrap();
        let mut demo = demo(dir.path(), tmp.path(), &[]);
        eventually("its directory", async || (!is_empty(tmp.path())).then_some(())).await;
        demo.signal(signal);
        let status = demo.wait();
        assert_eq!(status.code(), Some(0), "{signal:?}: {}", demo.log());
        assert!(is_empty(tmp.path()), "{signal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_nohup_it_outlives_its_terminal_and_a_name_may_say_where_it_listens() {
    let dir = tempfile::tempdir().unwrap();
    let tmp = tempfile::tempdir().unwrap();
    let script = "trap '' HUP; exec \"$0\" demo --targets 6 --listen localhost:0";
    let program = env!("CARGO_BIN_EXE_promring");
    let mut demo =
        Process::start_with("demo", "sh", &["-c", script, program], dir.path(), &[("TMPDIR", tmp.path())]);
    eventually("the live line", async || demo.log().contains("samples/s | queue").then_some(())).await;
    let lines = || demo.log().matches("samples/s | queue").count();
    demo.signal(Signal::HUP);
    let before = lines();
    eventually("it goes on", async || (lines() > before + 1).then_some(())).await;
    demo.signal(Signal::TERM);
    let status = demo.wait();
    assert_eq!(status.code(), Some(0), "{}", demo.log());
    assert!(demo.log().contains("ended: SIGTERM"), "{}", demo.log());
    assert!(is_empty(tmp.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_found_and_told_by_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let tmp = tempfile::tempdir().unwrap();
    let mut demo = demo(dir.path(), tmp.path(), &[]);
    eventually("the live line", async || demo.log().contains("samples/s | queue").then_some(())).await;
    // Stopped for longer than an interval, it cannot scrape every slot.
    demo.signal(Signal::STOP);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    demo.signal(Signal::CONT);
    demo.signal(Signal::INT);
    let status = demo.wait();
    let log = demo.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("FAILED"), "{log}");
    assert!(is_empty(tmp.path()));
}
