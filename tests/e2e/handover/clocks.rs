//! Scrapers whose clocks stand half a second apart hand over: nothing is lost and nothing doubled.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use promring_net::clock::{now_ms, rfc3339};

use super::fleet::{Fleet, Setup, TARGETS, moved};
use crate::support::{Process, eventually};

const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// Clocks that are off: a library stands before the C library's, through which the standard library asks for the time.
pub struct Skew {
    library: PathBuf,
    by_ms: [i64; 2],
}

impl Skew {
    /// The clocks of processes with even and with odd numbers are off by this much.
    fn new(dir: &Path, by_ms: [i64; 2]) -> Self {
        let library = dir.join("skew.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/handover/skew.c");
        let mut compile = Command::new("cc");
        compile.args(["-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
        assert!(compile.status().unwrap().success(), "{compile:?}");
        Self { library, by_ms }
    }

    /// Starts promring by such a clock.
    pub fn start(&self, number: usize, log: &str, arguments: &[&str], dir: &Path) -> Process {
        let skew_ms = self.by_ms[number % 2].to_string();
        let variables = [("LD_PRELOAD", &*self.library), ("CLOCK_SKEW_MS", Path::new(&skew_ms))];
        Process::start_with(log, env!("CARGO_BIN_EXE_promring"), arguments, dir, &variables)
    }
}

/// The product goes by the clock that it is shown: a log's first line says what day that is.
async fn assert_clocks_are_off(dir: &Path) {
    let skew = Skew::new(dir, [100 * DAY_MS; 2]);
    let config = dir.join("none.yml");
    std::fs::write(&config, "scrape_configs: []\n").unwrap();
    let arguments = ["allocator", "--config", config.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let before = rfc3339(now_ms() + 100 * DAY_MS);
    let process = skew.start(0, "probe", &arguments, dir);
    let log =
        eventually("it has logged", async || Some(process.log()).filter(|log| log.contains('\n'))).await;
    let after = rfc3339(now_ms() + 100 * DAY_MS);
    assert!(log.contains(&before[..10]) || log.contains(&after[..10]), "no line of {before}: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_stand_half_a_second_apart_lose_and_double_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert_clocks_are_off(dir.path()).await;
    let clocks = Some(Skew::new(dir.path(), [250, -250]));
    let mut fleet = Fleet::start(Setup { scrapers: 2, clocks, ..Setup::default() }).await;
    let before = fleet.settled().await;
    // One early and one late scraper give to one of either kind.
    fleet.scale(4).await;
    let after = fleet.settled().await;
    let changed = moved(&before, &after);
    assert!(changed.len() > TARGETS / 3, "{} targets moved", changed.len());
    let ways: BTreeSet<_> = changed.iter().map(|target| (&before[target], &after[target])).collect();
    assert_eq!(ways.len(), 4, "{ways:?}");
    fleet.slots_pass(2, 30).await;
    fleet.assert_clean("clocks half a second apart", 8).await;
    fleet.end();
}
