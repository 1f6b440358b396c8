//! The assignment on the scraper's volume: what it scraped last, for when it restarts and no allocator answers.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use promring_proto::api::Assignment;

/// The name of the file in the data directory.
const FILE: &str = "assignment.json";

/// A file may have this many bytes; a million targets take less.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// The file with the assignment.
#[derive(Clone, Debug)]
pub struct SavedAssignment {
    path: PathBuf,
}

impl SavedAssignment {
    /// The file in this data directory, which need not be there.
    #[must_use]
    pub fn in_dir(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE) }
    }

    /// What was saved; None where nothing was.
    ///
    /// # Errors
    /// Where the file cannot be read, or is not what was written.
    pub fn load(&self) -> Result<Option<Assignment>, String> {
        let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(&error)),
            Ok(found) if found.len() > FILE_BYTES_MAX => return Err(fail(&"the file is too large")),
            Ok(_) => {}
        }
        let bytes = std::fs::read(&self.path).map_err(|error| fail(&error))?;
        let assignment: Assignment = serde_json::from_slice(&bytes).map_err(|error| fail(&error))?;
        if assignment.base.is_some() {
            return Err(fail(&"it is no whole assignment"));
        }
        Ok(Some(assignment))
    }

    /// Writes a whole assignment. The old one stays until the new one is whole.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn save(&self, assignment: &Assignment) -> Result<(), String> {
        let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        let bytes = serde_json::to_vec(assignment).map_err(|error| fail(&error))?;
        let new = self.path.with_extension("json.new");
        let write = || {
            let mut file = std::fs::File::create(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)
        };
        write().map_err(|error| fail(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use promring_model::labels::Labels;
    use promring_model::target::TargetId;
    use promring_proto::api::{AssignedTarget, Grant, JobAssignment, Version};

    use super::*;
    use crate::assignment::Held;

    #[test]
    fn what_was_saved_is_loaded_and_a_file_that_is_cut_off_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let saved = SavedAssignment::in_dir(dir.path());
        assert_eq!(saved.load(), Ok(None));
        let target = AssignedTarget {
            id: TargetId(7),
            labels: Labels::from_pairs([("job", "a"), ("__address__", "host:1")]),
            from: None,
            until: None,
            grant: Grant::default(),
        };
        let job = JobAssignment {
            config_hash: "h".to_owned(),
            synced: true,
            refusal: Some("target_limit".to_owned()),
            targets: vec![target],
        };
        let answer = Assignment {
            version: Version { term: 3, counter: 4 },
            base: None,
            upsert: BTreeMap::from([("a".to_owned(), job)]),
            gone: Vec::new(),
            moved: Vec::new(),
            gone_keys: Vec::new(),
            moves: BTreeMap::new(),
        };
        let mut held = Held::default();
        assert_eq!(held.assignment(), None);
        held.apply(answer.clone());
        saved.save(&held.assignment().unwrap()).unwrap();
        assert_eq!(saved.load(), Ok(Some(answer)));
        let path = dir.path().join(FILE);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(saved.load().unwrap_err().contains("assignment.json"));
    }
}
