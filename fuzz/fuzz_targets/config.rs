//! A configuration file of any bytes is read or refused; it never stops the process, and it is refused if and only
//! if an error says why.
#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use promring_model::config::{ConfigSource, Severity, check, target_groups};

/// Every file is the same one, the included ones as well.
struct One<'a>(&'a [u8]);

impl ConfigSource for One<'_> {
    fn read(&self, _: &Path) -> Result<Vec<u8>, String> {
        Ok(self.0.to_vec())
    }

    fn glob(&self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(vec![pattern.with_file_name("included.yml")])
    }

    fn env(&self, name: &str) -> Option<String> {
        (name.len() % 2 == 0).then(|| "value".to_owned())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let loaded = check(Path::new("prometheus.yml"), &One(bytes));
    let errors = loaded.diagnostics.iter().any(|found| found.severity == Severity::Error);
    assert_eq!(loaded.config.is_none(), errors);
    for found in &loaded.diagnostics {
        assert!(!found.message.is_empty());
    }
    for name in ["targets.json", "targets.yml"] {
        if let Err(found) = target_groups(Path::new(name), bytes) {
            assert!(!found.is_empty());
        }
    }
});
