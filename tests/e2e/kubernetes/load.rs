//! How many requests of the allocator's the API server has taken, by the API server's own metric: FlowSchemas, one for each
//! kind of request, tell them apart and from everybody else's.

use std::collections::BTreeMap;

use axum::http::Request;
use promring_cluster::Cluster;
use serde_json::{Value, json};

use super::{ALLOCATOR, apply_one};
use crate::support::eventually;

/// What the names of our FlowSchemas begin with.
const OURS: &str = "promring-";
/// The FlowSchema that takes what ours leave over of what ServiceAccounts ask for. Those of the control plane have their own.
const OTHERS: &str = "service-accounts";
/// All lists.
const LIST: &str = "list";

/// Requests by what they are, none of them 0: `watch-KIND`, `list`, or `service-accounts` for any other.
pub(super) type Counts = BTreeMap<String, u64>;

/// As many watches of each of these kinds, and nothing else.
pub(super) fn watches(kinds: &[(&str, u64)]) -> Counts {
    kinds.iter().map(|(kind, count)| (watch(kind), *count)).collect()
}

fn watch(kind: &str) -> String {
    format!("watch-{kind}")
}

/// Lets the API server count the watches of each of these kinds by themselves. Gives what it has counted when it does so.
pub(super) async fn count_by_kind(cluster: &Cluster, kinds: &[&str]) -> Counts {
    for kind in kinds {
        apply_one(cluster, &schema(&watch(kind), "watch", kind)).await;
    }
    // Those before it are in force when the last one is.
    apply_one(cluster, &schema(LIST, LIST, "*")).await;
    eventually("requests are counted by their kind", async || {
        let as_allocator = Request::get("/api/v1/pods?limit=1").header("impersonate-user", ALLOCATOR);
        cluster.client().request_text(as_allocator.body(Vec::new()).unwrap()).await.ok()?;
        counts(cluster).await.filter(|counts| counts.contains_key(LIST))
    })
    .await
}

fn schema(name: &str, verb: &str, kind: &str) -> Value {
    let (namespace, account) =
        ALLOCATOR.trim_start_matches("system:serviceaccount:").split_once(':').unwrap();
    let subject =
        json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": account}});
    let rule = json!({
        "verbs": [verb], "apiGroups": ["*"], "resources": [kind], "namespaces": ["*"], "clusterScope": true,
    });
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": format!("{OURS}{name}")},
        "spec": {
            "matchingPrecedence": 100,
            "priorityLevelConfiguration": {"name": "workload-low"},
            "rules": [{"subjects": [subject], "resourceRules": [rule]}],
        },
    })
}

/// What it has counted since it started; None where it does not answer.
pub(super) async fn counts(cluster: &Cluster) -> Option<Counts> {
    let request = Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = cluster.client().request_text(request).await.ok()?;
    let mut counts = Counts::new();
    for line in metrics.lines() {
        let start = "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"";
        let Some(rest) = line.strip_prefix(start) else { continue };
        let (schema, rest) = rest.split_once('"').unwrap();
        let Some(name) = schema.strip_prefix(OURS).or((schema == OTHERS).then_some(OTHERS)) else { continue };
        let count: f64 = rest.rsplit_once(' ').unwrap().1.parse().unwrap();
        *counts.entry(name.to_owned()).or_default() += count as u64;
    }
    Some(counts)
}

/// What has come since.
pub(super) fn since(before: &Counts, now: Counts) -> Counts {
    let more = |(name, count): (String, u64)| {
        let before = before.get(&name).copied().unwrap_or_default();
        (name, count - before)
    };
    now.into_iter().map(more).filter(|(_, count)| *count > 0).collect()
}
