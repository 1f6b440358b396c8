//! The answer to a poll as the allocator holds it: an [`Assignment`] whose targets are made one by one while it is written.
//! Those of a whole answer, with the labels of tens of thousands of targets, never lie in memory together.

use std::collections::BTreeMap;
use std::sync::Arc;

use promring_model::handover::{Grant, MoveId, MoveTerms};
use promring_model::target::{TargetId, TargetKey};
use promring_proto::api::{AssignedTarget, Assignment, JobAssignment, Version};
use serde::{Serialize, Serializer};

use crate::targets::Discovered;

/// Written as [`Assignment`] is.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Everything but the targets.
    pub(super) frame: Assignment,
    /// The targets of each job that stands in the frame.
    pub(super) targets: BTreeMap<String, Vec<Given>>,
}

/// A target, and by which moves it comes and goes.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) target: Arc<Discovered>,
    pub(super) grant: Grant,
}

impl Given {
    fn assigned(&self, moves: &BTreeMap<MoveId, MoveTerms>) -> AssignedTarget {
        let at = |id: Option<MoveId>| id.and_then(|id| moves.get(&id)?.at);
        AssignedTarget {
            id: self.target.target.id,
            labels: self.target.target.labels.to_labels(),
            from: at(self.grant.incoming),
            until: at(self.grant.outgoing),
            grant: self.grant,
        }
    }
}

impl Answer {
    /// What the scraper is brought to.
    pub(crate) fn version(&self) -> Version {
        self.frame.version
    }

    /// The same with all its targets.
    pub(crate) fn into_assignment(self) -> Assignment {
        let Self { mut frame, targets } = self;
        for (job, targets) in targets {
            if let Some(assignment) = frame.upsert.get_mut(&job) {
                assignment.targets = targets.iter().map(|given| given.assigned(&frame.moves)).collect();
            }
        }
        frame
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Whatever is added to these is missed here by the compiler.
        let Assignment { version, base, upsert, gone, moved, gone_keys, moves } = &self.frame;
        let job = |(name, job): (&'_ String, &'_ JobAssignment)| {
            let JobAssignment { config_hash, synced, refusal, targets: _ } = job.clone();
            let given = self.targets.get(name).map_or(&[][..], Vec::as_slice);
            (name.clone(), Job { config_hash, synced, refusal, targets: Targets { given, moves } })
        };
        let upsert = upsert.iter().map(job).collect();
        Written { version, base, upsert, gone, moved, gone_keys, moves }.serialize(serializer)
    }
}

#[derive(Serialize)]
struct Written<'a> {
    version: &'a Version,
    base: &'a Option<Version>,
    upsert: BTreeMap<String, Job<'a>>,
    gone: &'a [TargetId],
    moved: &'a [TargetId],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    gone_keys: &'a [TargetKey],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    moves: &'a BTreeMap<MoveId, MoveTerms>,
}

#[derive(Serialize)]
struct Job<'a> {
    config_hash: String,
    synced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    targets: Targets<'a>,
}

struct Targets<'a> {
    given: &'a [Given],
    moves: &'a BTreeMap<MoveId, MoveTerms>,
}

impl Serialize for Targets<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.given.iter().map(|given| given.assigned(self.moves)))
    }
}
