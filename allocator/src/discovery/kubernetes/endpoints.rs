//! Endpoints: one target for each address and port, with the labels of the service and of the pod behind the address,
//! and one for each container port of such a pod that no endpoint covers.

use std::sync::Arc;

use serde::Deserialize;

use super::container_ports::Backings;
use super::kind::{Attach, Kind, Lookup};
use super::labels::{Meta, NAMESPACE, Pairs, join_host_port, or_default};
use super::node;
use crate::discovery::Group;
use crate::packed::Packed;

/// Endpoints.
#[derive(Debug)]
pub(crate) struct EndpointsKind;

/// Endpoints as they are kept.
#[derive(Debug, PartialEq)]
pub(crate) struct EndpointsObject {
    /// `NAMESPACE/NAME`, which is its service's as well.
    key: Box<str>,
    namespace: Box<str>,
    labels: Packed,
    subsets: Vec<Subset>,
}

impl Kind for EndpointsKind {
    const RESOURCE: &'static str = "endpoints";
    const API: &'static str = "/api/v1";
    type Raw = Endpoints;
    type Stored = EndpointsObject;

    fn meta(raw: &Endpoints) -> &Meta {
        &raw.metadata
    }

    fn compact(raw: Endpoints) -> EndpointsObject {
        let mut labels = Pairs::default();
        labels.object("endpoints", &raw.metadata);
        EndpointsObject {
            key: raw.metadata.key().into(),
            labels: labels.pack(),
            namespace: raw.metadata.namespace.into(),
            subsets: raw.subsets,
        }
    }
}

/// The target group of endpoints.
pub(crate) fn group(endpoints: &EndpointsObject, lookup: &mut impl Lookup, attach: Attach) -> Group {
    let service = lookup.service(&endpoints.key);
    let namespace = attach.namespace.then(|| lookup.namespace(&endpoints.namespace)).flatten();
    let mut labels = Pairs::default();
    labels.set(NAMESPACE, &*endpoints.namespace);
    if let Some(service) = &service {
        labels.extend(service.group.labels.iter());
    }
    labels.extend(endpoints.labels.iter());
    if let Some(namespace) = &namespace {
        labels.extend(namespace.iter());
    }

    let mut backings = Backings::default();
    let mut targets = Vec::new();
    for subset in &endpoints.subsets {
        for port in &subset.ports {
            let ready = subset.addresses.iter().map(|address| (address, "true"));
            let not_ready = subset.not_ready_addresses.iter().map(|address| (address, "false"));
            for (address, ready) in ready.chain(not_ready) {
                let node = address.node().filter(|_| attach.node).and_then(|name| lookup.node(name));
                let mut target = Pairs::default();
                target
                    .address(join_host_port(&address.ip, port.port))
                    .meta("endpoint_port_name", port.name.as_str())
                    .meta("endpoint_port_protocol", port.protocol.as_str())
                    .meta("endpoint_ready", ready)
                    .meta("endpoint_hostname", address.hostname.as_str())
                    .meta("endpoint_node_name", address.node_name.as_deref().unwrap_or_default());
                if let Some(referred) = &address.target_ref {
                    target
                        .meta("endpoint_address_target_kind", referred.kind.as_str())
                        .meta("endpoint_address_target_name", referred.name.as_str());
                }
                if let Some(node) = &node {
                    target.extend(node::attached(node));
                }
                let pod = address.target_ref.as_ref().and_then(Reference::pod);
                let (port, protocol) = (Some(port.port), Some(port.protocol.as_str()));
                targets.push(backings.join(target, pod, port, protocol, lookup, attach));
            }
        }
    }
    targets.extend(backings.uncovered());
    Group { source: Arc::from(&*endpoints.key), labels: labels.pack(), targets: targets.into_boxed_slice() }
}

/// Endpoints, trimmed.
#[derive(Debug, Deserialize)]
pub(crate) struct Endpoints {
    metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    subsets: Vec<Subset>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subset {
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<Address>,
    #[serde(default, deserialize_with = "or_default")]
    not_ready_addresses: Vec<Address>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<Port>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    #[serde(default, deserialize_with = "or_default")]
    ip: String,
    #[serde(default, deserialize_with = "or_default")]
    hostname: String,
    #[serde(default)]
    node_name: Option<String>,
    #[serde(default)]
    target_ref: Option<Reference>,
}

impl Address {
    /// The node that it is on, or that it is.
    fn node(&self) -> Option<&str> {
        let is_node = || self.target_ref.as_ref().filter(|referred| referred.kind == "Node");
        self.node_name.as_deref().or_else(|| is_node().map(|referred| referred.name.as_str()))
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Port {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    port: i64,
    #[serde(default, deserialize_with = "or_default")]
    protocol: String,
}

/// The object behind an address.
#[derive(Debug, PartialEq, Deserialize)]
pub(crate) struct Reference {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "or_default")]
    namespace: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) name: String,
}

impl Reference {
    /// `NAMESPACE/NAME`, if it is a pod.
    pub(crate) fn pod(&self) -> Option<String> {
        (self.kind == "Pod").then(|| format!("{}/{}", self.namespace, self.name))
    }
}
