//! The answer to a poll as the allocator holds it: an [`Assignment`] whose targets are made one by one while it is written.
//! Those of a whole answer, with the labels of tens of thousands of targets, never lie in memory together.

use std::collections::BTreeMap;
use std::sync::Arc;

use promring_model::handover::{Grant, MoveId, MoveTerms};
use promring_proto::api::{AssignedTarget, Assignment, JobAssignment};
use serde::{Serialize, Serializer};

use crate::targets::Discovered;

/// Written as [`Assignment`] is.
pub(crate) type Answer = Assignment<Given>;

/// A target, and by which moves it comes and goes. Written as [`AssignedTarget`] is.
#[derive(Debug)]
pub(crate) struct Given {
    target: Arc<Discovered>,
    from: Option<i64>,
    until: Option<i64>,
    grant: Grant,
}

impl Given {
    pub(super) fn new(target: &Arc<Discovered>, grant: Grant, moves: &BTreeMap<MoveId, MoveTerms>) -> Self {
        let at = |id: Option<MoveId>| id.and_then(|id| moves.get(&id)?.at);
        Self { target: Arc::clone(target), from: at(grant.incoming), until: at(grant.outgoing), grant }
    }

    fn assigned(&self) -> AssignedTarget {
        let Self { target, from, until, grant } = self;
        let labels = target.target.labels.to_labels();
        AssignedTarget { id: target.target.id, labels, from: *from, until: *until, grant: *grant }
    }
}

impl Serialize for Given {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.assigned().serialize(serializer)
    }
}

/// The same with all its targets.
pub(crate) fn whole(answer: Answer) -> Assignment {
    let Assignment { version, base, upsert, gone, moved, gone_keys, moves } = answer;
    let job = |(name, job): (String, JobAssignment<Given>)| {
        let JobAssignment { config_hash, synced, refusal, targets } = job;
        let targets = targets.iter().map(Given::assigned).collect();
        (name, JobAssignment { config_hash, synced, refusal, targets })
    };
    let upsert = upsert.into_iter().map(job).collect();
    Assignment { version, base, upsert, gone, moved, gone_keys, moves }
}
