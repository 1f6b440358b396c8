//! What Prometheus and promring find in a cluster, and how the cluster is changed under them.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use promring_cluster::Cluster;
use serde_json::{Value, json};

use super::scenario::{NAMESPACES, ground};
use super::{api, apply, apply_one};
use crate::support::{eventually, get_json};

/// Requests that the test makes at once.
const AT_ONCE: usize = 16;

/// Targets: the job of each, and its discovered labels, final labels and URL; a dropped one has the first of these only.
pub(super) type Found = BTreeSet<(String, String)>;

/// What `/api/v1/targets` says.
pub(super) async fn found(base: &str) -> Option<Found> {
    let answer = get_json(&format!("{base}/api/v1/targets?state=any")).await?;
    let list = |key: &str| answer["data"][key].as_array().cloned().unwrap_or_default();
    let pick = |target: &Value, keys: &[&str]| {
        let picked: Vec<&Value> = keys.iter().map(|key| &target[*key]).collect();
        (target["scrapePool"].as_str().unwrap_or_default().to_owned(), json!(picked).to_string())
    };
    let mut found: Found = list("activeTargets")
        .iter()
        .map(|target| pick(target, &["discoveredLabels", "labels", "scrapeUrl"]))
        .collect();
    // What makes no target stands there with its error in promring, and only in the log in Prometheus.
    let makes_one = |target: &&Value| target["error"].as_str().is_none_or(str::is_empty);
    let dropped = list("droppedTargets");
    found.extend(dropped.iter().filter(makes_one).map(|target| pick(target, &["discoveredLabels"])));
    Some(found)
}

/// How many of them a job has.
pub(super) fn of_job(found: &Found, job: &str) -> usize {
    found.iter().filter(|(of, _)| of == job).count()
}

/// Makes the namespaces and nodes of the scenario, and waits until pods can be made there.
pub(super) async fn prepare(cluster: &Cluster) {
    apply(cluster, &ground()).await;
    let accounts: Api<ServiceAccount> = Api::all(cluster.client());
    eventually("the namespaces have their service accounts", async || {
        let all = accounts.list(&ListParams::default().fields("metadata.name=default")).await.ok()?;
        let there = |name: &&str| all.iter().any(|account| account.namespace().as_deref() == Some(*name));
        NAMESPACES.iter().all(there).then_some(())
    })
    .await;
}

/// Makes or changes many objects at once.
pub(super) async fn apply_all(cluster: &Cluster, objects: Vec<Value>) {
    let all = stream::iter(objects).map(async |object| apply_one(cluster, &object).await);
    all.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// Deletes many objects at once, and what keeps them.
pub(super) async fn delete_all(cluster: &Cluster, objects: Vec<Value>) {
    let all = stream::iter(objects).map(async |object| {
        let (api, name) = api(cluster, &object);
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        // Gone already where a controller was faster.
        let _ = api.patch(&name, &PatchParams::default(), &free).await;
        let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
    });
    all.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}
