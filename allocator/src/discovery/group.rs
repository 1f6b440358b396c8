//! What sources tell: groups of targets, and how they changed.

use std::sync::Arc;

use promring_model::target::TargetGroup;

use crate::packed::Packed;

/// Targets that come and go together: those of one Kubernetes object, one entry of a file. Sources and jobs share groups,
/// so a group never changes.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// Names the group among its source's groups.
    pub source: Arc<str>,
    /// Labels of every target; a target's own win.
    pub labels: Packed,
    /// The labels of each target, `__address__` among them.
    pub targets: Box<[Packed]>,
}

impl From<&TargetGroup> for Group {
    fn from(group: &TargetGroup) -> Self {
        Self {
            source: Arc::from(group.source.as_str()),
            labels: Packed::from(&group.labels),
            targets: group.targets.iter().map(Packed::from).collect(),
        }
    }
}

/// What a source has to tell.
#[derive(Debug)]
pub enum Found {
    /// All groups that there are.
    All(Vec<Arc<Group>>),
    /// Some groups are new or others than before, some are gone.
    Changes {
        /// New and changed groups.
        upsert: Vec<Arc<Group>>,
        /// Names of groups that are gone.
        removed: Vec<Arc<str>>,
        /// With these, every group has been told since the source started: what it has not told is gone.
        complete: bool,
    },
    /// More will be told: the first list has begun to come in, or goes on doing so.
    Arriving,
    /// Nothing for now, for this reason in words. What was told stays.
    Failed(String),
}

impl Found {
    /// All groups, from the form in which the configuration and the readers of files have them.
    pub fn all<'a>(groups: impl IntoIterator<Item = &'a TargetGroup>) -> Self {
        Self::All(groups.into_iter().map(|group| Arc::new(Group::from(group))).collect())
    }
}
