//! The test cluster itself: what the other tests here take for granted.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use promring_cluster::run;
use serde_json::json;

use super::options;
use crate::support::eventually;

/// Writes what it finds on its volumes and in its environment, counts its starts on its claim, and serves until SIGTERM.
const SCRIPT: &str = r#"
echo start >> /data/starts
echo "name=$NAME host=$(cat /proc/sys/kernel/hostname) user=$(id -u):$(id -g) starts=$(wc -l < /data/starts)"
cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo
test -s /var/run/secrets/kubernetes.io/serviceaccount/token && echo has-token
touch /forbidden 2>/dev/null || echo root-is-read-only
trap 'echo stopping; exit 0' TERM
old=
while :; do
  new=$(cat /etc/app/greeting)
  [ "$new" = "$old" ] || echo "greeting=$new"
  old=$new
  getent hosts app-0.app >/dev/null && [ -z "$resolved" ] && resolved=1 && echo resolves
  sleep 0.1
done
"#;

#[test]
fn a_stateful_set_runs_as_processes_with_volumes_names_and_an_orderly_end() {
    run(&options(), async |cluster| {
        let manifest = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": {"greeting": "hello"}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"},
             "spec": {"clusterIP": "None", "selector": {"app": "app"}, "ports": [{"port": 80}]}},
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "app"}, "spec": {
                "replicas": 2,
                "serviceName": "app",
                "selector": {"matchLabels": {"app": "app"}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}],
                "template": {
                    "metadata": {"labels": {"app": "app"}},
                    "spec": {
                        "securityContext": {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532},
                        "volumes": [{"name": "config", "configMap": {"name": "app"}}],
                        "containers": [{
                            "name": "app", "image": "busybox/sh:1", "args": ["-c", SCRIPT],
                            "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                            "securityContext": {"readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                                "allowPrivilegeEscalation": false},
                            "volumeMounts": [
                                {"name": "config", "mountPath": "/etc/app"}, {"name": "data", "mountPath": "/data"}],
                        }],
                    },
                },
            }},
        ]});
        let path = cluster.dir().join("app.json");
        std::fs::write(&path, manifest.to_string()).unwrap();
        cluster.kubectl(&["apply", "-f", path.to_str().unwrap()]).await;
        cluster.kubectl(&["rollout", "status", "statefulset/app", "--timeout=60s"]).await;
        let log = |pod: &str| cluster.logs("default", pod);
        let says = async |pod: &str, line: &str| {
            let found = async || log(pod).lines().any(|found| found == line).then_some(());
            eventually(&format!("{pod} says {line}"), found).await;
        };
        says("app-0", "name=app-0 host=app-0 user=65532:65532 starts=1").await;
        for line in ["default", "has-token", "root-is-read-only", "greeting=hello", "resolves"] {
            says("app-1", line).await;
        }

        // A changed ConfigMap arrives in the running pod.
        cluster.kubectl(&["patch", "configmap", "app", "-p", r#"{"data":{"greeting":"bye"}}"#]).await;
        says("app-1", "greeting=bye").await;

        // A killed process comes back; a deleted pod ends in order, and its successor has the same claim.
        let pods: Api<Pod> = Api::default_namespaced(cluster.client());
        let restarts = async |wanted: i32| {
            let pod = pods.get_opt("app-0").await.unwrap()?;
            let status = pod.status?.container_statuses?.into_iter().next()?;
            (status.restart_count == wanted && status.ready).then_some(())
        };
        cluster.kill("default", "app-0");
        eventually("a killed container runs again", async || restarts(1).await).await;
        says("app-0", "name=app-0 host=app-0 user=65532:65532 starts=2").await;
        let first = pods.get("app-0").await.unwrap().uid();
        // kubectl would wait for ever where the pod is gone before it looks.
        cluster.kubectl(&["delete", "pod", "app-0", "--wait=false"]).await;
        says("app-0", "stopping").await;
        eventually("another pod has its place", async || {
            pods.get_opt("app-0").await.unwrap().filter(|pod| pod.uid() != first)
        })
        .await;
        says("app-0", "name=app-0 host=app-0 user=65532:65532 starts=3").await;

        // The API server may go and come back: pods do not notice.
        cluster.stop_api_server().await;
        cluster.start_api_server().await;
        let sets: Api<StatefulSet> = Api::default_namespaced(cluster.client());
        let scale = json!({"spec": {"replicas": 1}});
        sets.patch_scale("app", &PatchParams::default(), &Patch::Merge(&scale)).await.unwrap();
        eventually("the second pod is gone", async || match pods.get_opt("app-1").await {
            Ok(None) => Some(()),
            _ => None,
        })
        .await;
        assert!(log("app-1").contains("stopping"));
    });
    let left = std::fs::read_dir("/var/run/netns").into_iter().flatten().flatten();
    let ours = format!("promring-test-{}-", std::process::id());
    let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(&ours)).collect();
    assert!(left.is_empty(), "network namespaces are left: {left:?}");
}
