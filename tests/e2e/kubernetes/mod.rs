//! In a cluster: a real control plane, and pods as processes (`tests/cluster`).

mod callers;
mod changes;
mod chart;
mod cluster;
mod failover;
mod faults;
mod handover;
mod install;
mod load;
mod oracle;
mod pods;
mod scenario;
mod tunnel;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use promring_cluster::{Cluster, Options, Request};
use serde_json::Value;

use crate::servers::part;

/// The ServiceAccount that the chart gives the allocator.
const ALLOCATOR: &str = "system:serviceaccount:metrics:promring-allocator";

/// A cluster that runs promring and a shell.
fn options() -> Options {
    Options::new(part("KUBERNETES"))
        .image("promring", env!("CARGO_BIN_EXE_promring"))
        .image("busybox/sh", "/bin/sh")
}

/// Makes or changes objects, in this order.
async fn apply(cluster: &Cluster, objects: &[Value]) {
    for object in objects {
        apply_one(cluster, object).await;
    }
}

/// Makes or changes an object, and its status where it has one.
async fn apply_one(cluster: &Cluster, object: &Value) {
    let (api, name) = api(cluster, object);
    let parameters = PatchParams::apply("test").force();
    let fail = |error: kube::Error| -> Value { panic!("{error}: {object}") };
    let mut main = object.clone();
    let status = main.as_object_mut().unwrap().remove("status");
    if let Err(error) = api.patch(&name, &parameters, &Patch::Apply(&main)).await {
        fail(error);
    }
    if let Some(status) = status {
        let patch = Patch::Merge(serde_json::json!({"status": status}));
        if let Err(error) = api.patch_status(&name, &PatchParams::default(), &patch).await {
            fail(error);
        }
    }
}

/// The collection that an object belongs to, and its name.
fn api(cluster: &Cluster, object: &Value) -> (Api<DynamicObject>, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let resource = kube::core::ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(group, version, &kind),
        &plural(&kind),
    );
    let name = text(&object["metadata"]["name"]);
    let api = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(cluster.client(), namespace, &resource),
        None => Api::all_with(cluster.client(), &resource),
    };
    (api, name)
}

fn plural(kind: &str) -> String {
    match kind.to_ascii_lowercase() {
        kind if kind == "endpoints" => kind,
        kind if kind.ends_with('s') => format!("{kind}es"),
        kind => format!("{kind}s"),
    }
}

/// Makes objects, and says so where one cannot be read back by its kind.
async fn apply_file(cluster: &Cluster, name: &str, objects: &[Value]) {
    let path = cluster.dir().join(format!("{name}.json"));
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(&path, list.to_string()).unwrap();
    cluster.kubectl(&["apply", "-f", path.to_str().unwrap()]).await;
}

/// Runs Helm against the cluster.
async fn helm(cluster: &Cluster, arguments: &[&str]) -> String {
    let program = PathBuf::from(part("HELM"));
    match cluster.tool(&program, arguments).await {
        Ok(output) => output,
        Err(error) => panic!("{error}\n{}", state(cluster, "metrics").await),
    }
}

/// What a namespace's pods are like, and what they have written: for who has waited for them in vain.
async fn state(cluster: &Cluster, namespace: &str) -> String {
    let mut state = cluster.kubectl(&["describe", "pods", "-n", namespace]).await;
    for pod in cluster.kubectl(&["get", "pods", "-n", namespace, "-o", "name"]).await.lines() {
        let pod = pod.trim_start_matches("pod/");
        state += &format!("\n== {pod}\n{}", cluster.logs(namespace, pod));
    }
    state
}

/// A verb on a resource in a namespace, or, where that is empty, in all.
type Right = (String, String, String);

fn right(verb: &str, resource: &str, namespace: &str) -> Right {
    (verb.to_owned(), resource.to_owned(), namespace.to_owned())
}

/// What a rendering's roles allow.
fn granted(objects: &[Value]) -> BTreeSet<Right> {
    let mut granted = BTreeSet::new();
    let strings = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    for role in objects.iter().filter(|object| object["kind"] == "ClusterRole" || object["kind"] == "Role") {
        let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
        for rule in role["rules"].as_array().unwrap() {
            for resource in strings(&rule["resources"]) {
                let verbs = strings(&rule["verbs"]);
                granted.extend(verbs.iter().map(|verb| right(verb, &resource, namespace)));
            }
        }
    }
    granted
}

/// What was used of what the chart's roles grant: in the release's namespace by the role there, otherwise by that for the
/// whole cluster.
fn used(requests: &[Request]) -> BTreeSet<Right> {
    let of_release = |namespace: &str| if namespace == "metrics" { "metrics" } else { "" };
    let used = requests.iter().map(|one| right(&one.verb, &one.resource, of_release(&one.namespace)));
    used.collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
