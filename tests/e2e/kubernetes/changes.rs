//! What Prometheus and promring find in a cluster, and how the cluster is changed under them.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use kube::api::{DeleteParams, Patch, PatchParams};
use promring_cluster::Cluster;
use serde_json::{Value, json};

use super::{api, apply_one};
use crate::support::get_json;

/// Requests that the test makes at once.
const AT_ONCE: usize = 16;

/// A target: its job, discovered labels, final labels and URL; the last two are null where it was dropped.
pub(super) type Found = BTreeSet<String>;

/// What `/api/v1/targets` says.
pub(super) async fn found(base: &str) -> Option<Found> {
    let answer = get_json(&format!("{base}/api/v1/targets?state=any")).await?;
    let list = |key: &str| answer["data"][key].as_array().cloned().unwrap_or_default();
    let active = list("activeTargets").into_iter().map(|target| {
        json!({
            "job": target["scrapePool"], "discovered": target["discoveredLabels"], "labels": target["labels"],
            "url": target["scrapeUrl"],
        })
    });
    let dropped = list("droppedTargets")
        .into_iter()
        .map(|target| json!({"job": target["scrapePool"], "discovered": target["discoveredLabels"]}));
    Some(active.chain(dropped).map(|target| target.to_string()).collect())
}

/// How many of them a job has.
pub(super) fn of_job(found: &Found, job: &str) -> usize {
    let job = json!(job);
    found.iter().filter(|target| serde_json::from_str::<Value>(target).unwrap()["job"] == job).count()
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
