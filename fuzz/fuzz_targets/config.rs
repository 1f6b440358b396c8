//! Any bytes as a configuration: it is refused with an error, or it is one that can be used.
//!
//! A line `%%` ends the main file; what is after it is the content of every other file that the main one names.
#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use promring_model::config::{
    ConfigSource, Discovery, Loaded, ScrapeConfig, Severity, check, load, target_groups, target_groups_json,
};
use promring_model::labels::Labels;
use promring_model::target::{DiscoveredLabels, TargetGroup};

const MAIN: &str = "prometheus.yml";

/// Most targets of a file that are made; a small file may stand for many.
const TARGETS_MAX: usize = 100;

struct Files<'f> {
    main: &'f [u8],
    other: &'f [u8],
}

impl ConfigSource for Files<'_> {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        Ok(if path == Path::new(MAIN) { self.main } else { self.other }.to_vec())
    }

    fn glob(&self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(vec![pattern.to_owned()])
    }

    fn env(&self, name: &str) -> Option<String> {
        name.starts_with('H').then(|| "host-0".to_owned())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let split = bytes.windows(4).position(|window| window == b"\n%%\n");
    let (main, other) = split.map_or((bytes, &b""[..]), |at| (&bytes[..at + 1], &bytes[at + 4..]));
    let files = Files { main, other };
    for read in [load, check] {
        let Loaded { config, diagnostics, .. } = read(Path::new(MAIN), &files);
        let bad = diagnostics.iter().any(|found| found.severity == Severity::Error);
        assert_eq!(config.is_none(), bad, "{diagnostics:?}");
        for found in &diagnostics {
            assert!(!found.to_string().is_empty());
        }
        for job in config.iter().flat_map(|config| &config.scrape_configs) {
            for discovery in &job.discovery {
                if let Discovery::Static(groups) = discovery {
                    targets(job, groups);
                }
            }
        }
    }
    let groups = ["a.yml", "a.json"].map(|name| target_groups(Path::new(name), bytes));
    drop((groups, target_groups_json("a", bytes)));
});

fn targets(job: &ScrapeConfig, groups: &[TargetGroup]) {
    let none = vec![Labels::default()];
    for group in groups {
        let own = if group.targets.is_empty() { &none } else { &group.targets };
        for own in own.iter().take(TARGETS_MAX) {
            drop(DiscoveredLabels::new(job, &group.labels, own).assemble());
        }
    }
}
