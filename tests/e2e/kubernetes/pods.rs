//! Pods as the API server knows them, and what has to arrive of those that are scraped.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use promring_cluster::Cluster;
use promring_model::config::Config;
use promring_model::labels::Labels;
use promring_testkit::audit::{ExpectedTarget, Exposed};

use crate::support::get_json;

/// Pods with these labels that are ready, by their names.
pub(super) async fn ready_pods(cluster: &Cluster, namespace: &str, selector: &str) -> BTreeMap<String, Pod> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let list = pods.list(&ListParams::default().labels(selector)).await.unwrap();
    let ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
        ready && pod.metadata.deletion_timestamp.is_none()
    };
    list.into_iter().filter(ready).map(|pod| (pod.name_any(), pod)).collect()
}

pub(super) fn address(pod: &Pod) -> String {
    pod.status.as_ref().unwrap().pod_ip.clone().unwrap()
}

/// The node that a pod runs on.
pub(super) fn node(pod: &Pod) -> String {
    pod.spec.as_ref().unwrap().node_name.clone().unwrap()
}

/// What has to arrive of an exporter at this port of a pod, found without the allocator's help.
pub(super) async fn expected(config: &Config, pod: &Pod, port: u16) -> ExpectedTarget {
    let address = format!("{}:{port}", address(pod));
    let exposed = get_json(&format!("http://{address}/-/series")).await.unwrap();
    let exposed: Vec<Exposed> = serde_json::from_value(exposed).unwrap();
    let mut discovered = vec![
        ("__address__".to_owned(), address),
        ("__meta_kubernetes_pod_phase".to_owned(), "Running".to_owned()),
        ("__meta_kubernetes_namespace".to_owned(), pod.namespace().unwrap()),
        ("__meta_kubernetes_pod_name".to_owned(), pod.name_any()),
        ("__meta_kubernetes_pod_node_name".to_owned(), node(pod)),
    ];
    for (name, value) in pod.annotations() {
        let name = name.replace(['.', '/', '-'], "_");
        discovered.push((format!("__meta_kubernetes_pod_annotation_{name}"), value.clone()));
    }
    let own = Labels::from_pairs(discovered);
    let job = &config.scrape_configs[0];
    let target = ExpectedTarget::new(job, &config.external_labels, &Labels::default(), &own, &exposed);
    target.unwrap().expect("the rules of the chart keep it")
}
