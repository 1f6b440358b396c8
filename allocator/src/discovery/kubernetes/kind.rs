//! What can be watched, and how builders of target groups look at the objects of other kinds.

use std::sync::Arc;

use promring_model::config::KubernetesAttach;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::labels::{Meta, Pairs, or_default};
use super::service::ServiceObject;
use crate::discovery::Group;
use crate::packed::Packed;

/// A kind of objects: where the API server has it, what is read of it, and what is kept.
pub(crate) trait Kind: Send + Sync + 'static {
    /// The plural in the path.
    const RESOURCE: &'static str;
    /// The path of its API group and version.
    const API: &'static str;
    /// Nothing but metadata is needed, and asked for.
    const METADATA_ONLY: bool = false;
    /// An object as it is read.
    type Raw: DeserializeOwned + Send;
    /// What is kept of it.
    type Stored: PartialEq + Send + Sync + 'static;

    /// An object's metadata.
    fn meta(raw: &Self::Raw) -> &Meta;

    /// What to keep of an object.
    fn compact(raw: Self::Raw) -> Self::Stored;

    /// The object's key, where it is kept with the object.
    fn key(_stored: &Self::Stored) -> Option<&Arc<str>> {
        None
    }
}

/// Metadata of other objects to attach. `KubernetesAttach` under a short name.
pub(crate) type Attach = KubernetesAttach;

/// Objects of other kinds, for whoever builds a target group. What is looked up is remembered, whether it was there or
/// not, so that the group is built again when it changes.
pub(crate) trait Lookup {
    /// The pod `NAMESPACE/NAME`.
    fn pod(&mut self, key: &str) -> Option<Arc<Group>>;
    /// The service `NAMESPACE/NAME`.
    fn service(&mut self, key: &str) -> Option<Arc<ServiceObject>>;
    /// The node of this name.
    fn node(&mut self, name: &str) -> Option<Arc<Group>>;
    /// Labels made of a namespace's labels and annotations.
    fn namespace(&mut self, name: &str) -> Option<Arc<Packed>>;
    /// The Deployment of the ReplicaSet `NAMESPACE/NAME`.
    fn deployment_of(&mut self, key: &str) -> Option<Arc<str>>;
    /// The CronJob of the Job `NAMESPACE/NAME`.
    fn cronjob_of(&mut self, key: &str) -> Option<Arc<str>>;
}

/// An object of which only the metadata is read.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct MetaObject {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) metadata: Meta,
}

/// Namespaces.
#[derive(Debug)]
pub(crate) struct Namespaces;

impl Kind for Namespaces {
    const RESOURCE: &'static str = "namespaces";
    const API: &'static str = "/api/v1";
    const METADATA_ONLY: bool = true;
    type Raw = MetaObject;
    type Stored = Packed;

    fn meta(raw: &MetaObject) -> &Meta {
        &raw.metadata
    }

    fn compact(raw: MetaObject) -> Packed {
        let mut pairs = Pairs::default();
        pairs.labels_and_annotations("namespace", &raw.metadata);
        pairs.pack()
    }
}

/// ReplicaSets, kept as the name of their Deployment, or nothing.
#[derive(Debug)]
pub(crate) struct ReplicaSets;

impl Kind for ReplicaSets {
    const RESOURCE: &'static str = "replicasets";
    const API: &'static str = "/apis/apps/v1";
    const METADATA_ONLY: bool = true;
    type Raw = MetaObject;
    type Stored = Option<Arc<str>>;

    fn meta(raw: &MetaObject) -> &Meta {
        &raw.metadata
    }

    fn compact(raw: MetaObject) -> Option<Arc<str>> {
        controller_name(&raw.metadata, "Deployment")
    }
}

/// Jobs, kept as the name of their CronJob, or nothing.
#[derive(Debug)]
pub(crate) struct Jobs;

impl Kind for Jobs {
    const RESOURCE: &'static str = "jobs";
    const API: &'static str = "/apis/batch/v1";
    const METADATA_ONLY: bool = true;
    type Raw = MetaObject;
    type Stored = Option<Arc<str>>;

    fn meta(raw: &MetaObject) -> &Meta {
        &raw.metadata
    }

    fn compact(raw: MetaObject) -> Option<Arc<str>> {
        controller_name(&raw.metadata, "CronJob")
    }
}

fn controller_name(meta: &Meta, kind: &str) -> Option<Arc<str>> {
    meta.controller().filter(|owner| owner.kind == kind).map(|owner| Arc::from(owner.name.as_str()))
}
