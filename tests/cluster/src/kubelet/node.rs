//! Node objects and their heartbeats.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{RETRY, Shared};
use crate::network::BRIDGE;

/// How often a node says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Makes the Node object, ready.
pub(super) async fn register(shared: &Shared, name: &str) {
    let nodes: Api<Node> = Api::all(shared.client.clone());
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
        }},
        "spec": {"podCIDR": "10.244.0.0/16"},
    });
    let apply = PatchParams::apply("kubelet").force();
    nodes.patch(name, &apply, &Patch::Apply(&node)).await.expect("the node is registered");
    let now = Timestamp::now().to_string();
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": "Kubelet", "message": "",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    let resources = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "500Gi", "pods": "1000"});
    let status = json!({"status": {
        "capacity": resources,
        "allocatable": resources,
        "conditions": [
            condition("Ready", "True"),
            condition("MemoryPressure", "False"),
            condition("DiskPressure", "False"),
            condition("PIDPressure", "False"),
        ],
        "addresses": [{"type": "InternalIP", "address": BRIDGE}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    }});
    nodes
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .expect("the node is ready");
}

/// Renews the node's lease for ever.
pub(super) async fn heartbeat(shared: Arc<Shared>, name: String) {
    let leases: Api<Lease> = Api::namespaced(shared.client.clone(), "kube-node-lease");
    let apply = PatchParams::apply("kubelet").force();
    loop {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": MicroTime(Timestamp::now())},
        });
        let pause = match leases.patch(&name, &apply, &Patch::Apply(&lease)).await {
            Ok(_) => HEARTBEAT,
            Err(error) => {
                shared.log(format_args!("lease of {name}: {error}"));
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}
