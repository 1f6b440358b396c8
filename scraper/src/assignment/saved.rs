//! The assignment on the scraper's volume: what it scraped last, for when it restarts and no allocator answers.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use promring_model::handover::{Saved, SavedKey};
use promring_model::target::TargetKey;
use promring_proto::api::{Assignment, Grant};
use serde::{Deserialize, Serialize};

/// The name of the file in the data directory.
const FILE: &str = "assignment.json";

/// A file may have this many bytes; a million targets take less.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// The format that is written; files of format 0 held nothing but an assignment.
const FORMAT: u32 = 1;

/// What a scraper keeps over a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedState {
    /// What it is granted, and the moves that it is in.
    pub member: Saved,
    /// The targets; None: no answer has come yet.
    pub assignment: Option<Assignment>,
}

#[derive(Serialize, Deserialize)]
struct Written<'s> {
    #[serde(default)]
    format: u32,
    #[serde(default)]
    member: Cow<'s, Saved>,
    #[serde(default)]
    assignment: Option<Cow<'s, Assignment>>,
}

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
    pub fn load(&self) -> Result<Option<SavedState>, String> {
        let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(&error)),
            Ok(found) if found.len() > FILE_BYTES_MAX => return Err(fail(&"the file is too large")),
            Ok(_) => {}
        }
        let bytes = std::fs::read(&self.path).map_err(|error| fail(&error))?;
        let Written { format, member, assignment } =
            serde_json::from_slice(&bytes).map_err(|error| fail(&error))?;
        let state = match format {
            0 => SavedState::of_old(serde_json::from_slice(&bytes).map_err(|error| fail(&error))?),
            FORMAT => SavedState { member: member.into_owned(), assignment: assignment.map(Cow::into_owned) },
            newer => return Err(fail(&format_args!("format {newer} is of a newer version of promring"))),
        };
        if state.assignment.as_ref().is_some_and(|assignment| assignment.base.is_some()) {
            return Err(fail(&"it is no whole assignment"));
        }
        Ok(Some(state))
    }

    /// Writes it. The old one stays until the new one is whole, and when this returns the new one is safe.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn save(&self, state: &SavedState) -> Result<(), String> {
        let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        let SavedState { member, assignment } = state;
        let written = Written {
            format: FORMAT,
            member: Cow::Borrowed(member),
            assignment: assignment.as_ref().map(Cow::Borrowed),
        };
        let bytes = serde_json::to_vec(&written).map_err(|error| fail(&error))?;
        let new = self.path.with_extension("json.new");
        let write = || {
            // Without a destination nobody else has made it.
            self.path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            let mut file = std::fs::File::create(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, &self.path)?;
            self.path.parent().map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all())
        };
        write().map_err(|error| fail(&error))
    }
}

impl SavedState {
    /// Of a version that knew no hand-over: everything is owned.
    fn of_old(assignment: Assignment) -> Self {
        let version = assignment.version;
        let targets = assignment.upsert.iter();
        let keys: BTreeSet<TargetKey> = targets
            .flat_map(|(job, assigned)| {
                assigned.targets.iter().map(move |target| TargetKey::new(job, &target.labels))
            })
            .collect();
        let keys = keys.into_iter().map(|key| SavedKey { key, grant: Grant::default() }).collect();
        let member = Saved { promised: version.term, version: Some(version), keys, ..Saved::default() };
        Self { member, assignment: Some(assignment) }
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
        let member = Saved { promised: 9, version: Some(answer.version), ..Saved::default() };
        let state = SavedState { member, assignment: held.assignment() };
        saved.save(&state).unwrap();
        assert_eq!(saved.load(), Ok(Some(SavedState { assignment: Some(answer), ..state })));
        let path = dir.path().join(FILE);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(saved.load().unwrap_err().contains("assignment.json"));
    }
    #[test]
    fn a_file_of_a_version_without_hand_over_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"version":"3-4","base":null,"upsert":{"a":{"config_hash":"h","synced":true,
            "targets":[{"id":"00000000000000000000000000000007","labels":{"job":"a","__address__":"host:1"}}]}}}"#;
        std::fs::write(dir.path().join(FILE), text).unwrap();
        let SavedState { member, assignment } = SavedAssignment::in_dir(dir.path()).load().unwrap().unwrap();
        assert_eq!((member.promised, member.version), (3, Some(Version { term: 3, counter: 4 })));
        let target = &assignment.unwrap().upsert["a"].targets[0];
        let key = TargetKey::new("a", &target.labels);
        assert_eq!(member.keys, [SavedKey { key, grant: Grant::default() }]);
    }

    #[test]
    fn a_file_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), r#"{"format":2,"whatever":1}"#).unwrap();
        assert!(SavedAssignment::in_dir(dir.path()).load().unwrap_err().contains("newer version"));
    }
}
