//! Pods: one target for each port of each container, init containers included; a container without ports gives one
//! target with the bare address.

use std::sync::Arc;

use serde::Deserialize;

use super::kind::{Attach, Kind, Lookup};
use super::labels::{Meta, NAMESPACE, Pairs, join_host_port, or_default};
use crate::discovery::Group;
use crate::packed::Packed;

pub(crate) const POD_IP: &str = "__meta_kubernetes_pod_ip";
pub(crate) const CONTAINER_ID: &str = "__meta_kubernetes_pod_container_id";
pub(crate) const CONTAINER_NAME: &str = "__meta_kubernetes_pod_container_name";
pub(crate) const PORT_NUMBER: &str = "__meta_kubernetes_pod_container_port_number";
pub(crate) const PORT_PROTOCOL: &str = "__meta_kubernetes_pod_container_port_protocol";
const NODE_NAME: &str = "__meta_kubernetes_pod_node_name";
const CONTROLLER_KIND: &str = "__meta_kubernetes_pod_controller_kind";
const CONTROLLER_NAME: &str = "__meta_kubernetes_pod_controller_name";

/// Pods. A pod is kept as its target group: everything that other roles want of it stands there.
#[derive(Debug)]
pub(crate) struct Pods;

impl Kind for Pods {
    const RESOURCE: &'static str = "pods";
    const API: &'static str = "/api/v1";
    type Raw = Pod;
    type Stored = Group;

    fn meta(raw: &Pod) -> &Meta {
        &raw.metadata
    }

    fn key(pod: &Group) -> Option<&Arc<str>> {
        Some(&pod.source)
    }

    fn compact(raw: Pod) -> Group {
        let raw = &raw;
        let ip = &raw.status.pod_ip;
        let containers = raw.spec.containers.iter().map(|container| (container, false));
        let init_containers = raw.spec.init_containers.iter().map(|container| (container, true));
        let targets = containers.chain(init_containers).flat_map(|(container, init)| {
            let statuses =
                if init { &raw.status.init_container_statuses } else { &raw.status.container_statuses };
            let status = statuses.iter().find(|status| status.name == container.name);
            let id = status.map_or("", |status| &status.container_id);
            let base = move || {
                let mut pairs = Pairs::default();
                pairs
                    .meta("pod_container_name", container.name.as_str())
                    .meta("pod_container_id", id)
                    .meta("pod_container_image", container.image.as_str())
                    .meta("pod_container_init", if init { "true" } else { "false" });
                pairs
            };
            let without_port = container.ports.is_empty().then(|| {
                let mut pairs = base();
                pairs.address(ip.as_str());
                pairs.pack()
            });
            let with_port = container.ports.iter().map(move |port| {
                let mut pairs = base();
                pairs
                    .address(join_host_port(ip, port.container_port))
                    .meta("pod_container_port_number", port.container_port.to_string())
                    .meta("pod_container_port_name", port.name.as_str())
                    .meta("pod_container_port_protocol", port.protocol.as_str());
                pairs.pack()
            });
            without_port.into_iter().chain(with_port)
        });
        Group { source: Arc::from(raw.metadata.key()), labels: labels(raw), targets: targets.collect() }
    }
}

fn labels(pod: &Pod) -> Packed {
    let mut pairs = Pairs::default();
    pairs
        .set(NAMESPACE, pod.metadata.namespace.as_str())
        .meta("pod_ip", pod.status.pod_ip.as_str())
        .meta("pod_ready", pod.status.ready().to_ascii_lowercase())
        .meta("pod_phase", pod.status.phase.as_str())
        .meta("pod_node_name", pod.spec.node_name.as_str())
        .meta("pod_host_ip", pod.status.host_ip.as_str())
        .meta("pod_uid", pod.metadata.uid.as_str())
        .object("pod", &pod.metadata);
    if let Some(controller) = pod.metadata.controller() {
        pairs
            .meta("pod_controller_kind", controller.kind.as_str())
            .meta("pod_controller_name", controller.name.as_str());
    }
    pairs.pack()
}

/// The target group of a pod, with what is attached; None while the pod has no address, and where its node is not among
/// those that a selector leaves.
pub(crate) fn group(pod: &Arc<Group>, lookup: &mut impl Lookup, attach: Attach) -> Option<Arc<Group>> {
    pod.labels.get(POD_IP)?;
    if attach == Attach::default() {
        return Some(Arc::clone(pod));
    }
    let mut pairs = Pairs::default();
    let node = attach.node.then(|| lookup.node(pod.labels.get(NODE_NAME).unwrap_or_default()));
    let node = match node {
        Some(Some(node)) => Some(node),
        Some(None) => return None,
        None => None,
    };
    let namespace = attach.namespace.then(|| lookup.namespace(pod.labels.get(NAMESPACE).unwrap_or_default()));
    let owners = Owners::of(pod, lookup, attach);
    pairs.extend(pod.labels.iter());
    owners.add_to(&mut pairs);
    if let Some(node) = &node {
        pairs.extend(super::node::attached(node));
    }
    if let Some(Some(namespace)) = &namespace {
        pairs.extend(namespace.iter());
    }
    Some(Arc::new(Group {
        source: Arc::clone(&pod.source),
        labels: pairs.pack(),
        targets: pod.targets.clone(),
    }))
}

/// The names of what stands behind a pod's controller.
pub(crate) struct Owners {
    deployment: Option<Arc<str>>,
    job: Option<String>,
    cronjob: Option<Arc<str>>,
}

impl Owners {
    /// Looks them up as far as they are to be attached.
    pub(crate) fn of(pod: &Group, lookup: &mut impl Lookup, attach: Attach) -> Self {
        let mut owners = Self { deployment: None, job: None, cronjob: None };
        let name = pod.labels.get(CONTROLLER_NAME).unwrap_or_default();
        let key = || format!("{}/{name}", pod.labels.get(NAMESPACE).unwrap_or_default());
        match pod.labels.get(CONTROLLER_KIND) {
            Some("ReplicaSet") if attach.deployment => owners.deployment = lookup.deployment_of(&key()),
            Some("Job") => {
                owners.job = attach.job.then(|| name.to_owned());
                owners.cronjob = if attach.cronjob { lookup.cronjob_of(&key()) } else { None };
            }
            _ => {}
        }
        owners
    }

    /// Sets their labels.
    pub(crate) fn add_to<'a>(&'a self, pairs: &mut Pairs<'a>) {
        pairs
            .meta("pod_deployment_name", self.deployment.as_deref().unwrap_or_default())
            .meta("pod_job_name", self.job.as_deref().unwrap_or_default())
            .meta("pod_cronjob_name", self.cronjob.as_deref().unwrap_or_default());
    }
}

/// A pod, trimmed.
#[derive(Debug, Deserialize)]
pub(crate) struct Pod {
    pub(crate) metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) spec: PodSpec,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodSpec {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) node_name: String,
    #[serde(default, deserialize_with = "or_default")]
    containers: Vec<Container>,
    #[serde(default, deserialize_with = "or_default")]
    init_containers: Vec<Container>,
}

#[derive(Debug, Deserialize)]
struct Container {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    image: String,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<ContainerPort>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    container_port: i64,
    #[serde(default, deserialize_with = "or_default")]
    protocol: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodStatus {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) phase: String,
    #[serde(default, rename = "podIP", deserialize_with = "or_default")]
    pod_ip: String,
    #[serde(default, rename = "hostIP", deserialize_with = "or_default")]
    host_ip: String,
    #[serde(default, deserialize_with = "or_default")]
    conditions: Vec<Condition>,
    #[serde(default, deserialize_with = "or_default")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(default, deserialize_with = "or_default")]
    init_container_statuses: Vec<ContainerStatus>,
}

impl PodStatus {
    /// `True`, `False` or `Unknown`.
    pub(crate) fn ready(&self) -> &str {
        let ready = self.conditions.iter().find(|condition| condition.kind == "Ready");
        ready.map_or("Unknown", |condition| &condition.status)
    }
}

/// A condition of a pod or a node.
#[derive(Debug, Deserialize)]
pub(crate) struct Condition {
    #[serde(default, rename = "type", deserialize_with = "or_default")]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) status: String,
}

#[derive(Debug, Deserialize)]
struct ContainerStatus {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, rename = "containerID", deserialize_with = "or_default")]
    container_id: String,
}
