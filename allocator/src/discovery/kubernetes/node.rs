//! Nodes: one target each, the kubelet.

use std::sync::Arc;

use serde::Deserialize;

use super::kind::Kind;
use super::labels::{Meta, Pairs, join_host_port, or_default, sanitize};
use super::pod::Condition;
use crate::discovery::Group;

/// Which of a node's addresses is the target's: the first type in this order that it has.
const ADDRESS_ORDER: [&str; 6] =
    ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];

/// Nodes. A node without any address is kept as a group without targets.
#[derive(Debug)]
pub(crate) struct Nodes;

impl Kind for Nodes {
    const RESOURCE: &'static str = "nodes";
    const API: &'static str = "/api/v1";
    type Raw = Node;
    type Stored = Group;

    fn meta(raw: &Node) -> &Meta {
        &raw.metadata
    }

    fn compact(raw: Node) -> Group {
        let raw = &raw;
        let mut labels = Pairs::default();
        labels.meta("node_provider_id", raw.spec.provider_id.as_str());
        for condition in &raw.status.conditions {
            let name = sanitize(&condition.kind.to_lowercase());
            labels.meta(format_args!("node_condition_{name}"), condition.status.to_lowercase());
        }
        labels.object("node", &raw.metadata);
        let addresses = &raw.status.addresses;
        let first = |kind: &str| addresses.iter().find(|address| address.kind == kind);
        let target = ADDRESS_ORDER.into_iter().find_map(first).map(|address| {
            let port = raw.status.daemon_endpoints.kubelet_endpoint.port;
            let mut pairs = Pairs::default();
            pairs.address(join_host_port(&address.address, port)).set("instance", raw.metadata.name.as_str());
            // Backwards, so that the first of a type is the one that counts.
            for address in addresses.iter().rev() {
                pairs
                    .meta(format_args!("node_address_{}", sanitize(&address.kind)), address.address.as_str());
            }
            pairs.pack()
        });
        Group {
            source: Arc::from(raw.metadata.name.as_str()),
            labels: labels.pack(),
            targets: target.into_iter().collect(),
        }
    }
}

/// What targets on a node get of it: its name, labels and annotations.
pub(crate) fn attached(node: &Group) -> impl Iterator<Item = (&str, &str)> {
    node.labels.iter().filter(|(name, _)| {
        *name == "__meta_kubernetes_node_name"
            || name.starts_with("__meta_kubernetes_node_label")
            || name.starts_with("__meta_kubernetes_node_annotation")
    })
}

/// A node, trimmed.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    spec: NodeSpec,
    #[serde(default, deserialize_with = "or_default")]
    status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
struct NodeSpec {
    #[serde(default, rename = "providerID", deserialize_with = "or_default")]
    provider_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeStatus {
    #[serde(default, deserialize_with = "or_default")]
    conditions: Vec<Condition>,
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<NodeAddress>,
    #[serde(default, deserialize_with = "or_default")]
    daemon_endpoints: DaemonEndpoints,
}

#[derive(Debug, Deserialize)]
struct NodeAddress {
    #[serde(default, rename = "type", deserialize_with = "or_default")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    address: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DaemonEndpoints {
    #[serde(default, deserialize_with = "or_default")]
    kubelet_endpoint: KubeletEndpoint,
}

#[derive(Debug, Default, Deserialize)]
struct KubeletEndpoint {
    // Kubernetes's own spelling.
    #[serde(default, rename = "Port", deserialize_with = "or_default")]
    port: i64,
}
