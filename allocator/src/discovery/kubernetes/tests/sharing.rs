//! Several jobs and kinds of objects together.

use std::collections::BTreeMap;

use serde_json::json;

use super::api_server::{ApiServer, pod};
use super::following::{Following, Told, config};

#[tokio::test]
async fn any_number_of_jobs_makes_one_request_a_kind_and_a_reload_makes_none() {
    let server = ApiServer::start().await;
    server.apply("pods", pod("a", 1));
    let job = |name: &str, role: &str| {
        format!("- job_name: {name}\n  kubernetes_sd_configs: [{{role: {role}, API}}]\n")
    };
    let mut jobs = String::new();
    for n in 0..10 {
        jobs += &job(&format!("pods-{n}"), "pod");
        jobs += &job(&format!("endpoints-{n}"), "endpoints");
        jobs += &job(&format!("slices-{n}"), "endpointslice");
    }
    let mut following = Following::start(&server, &jobs);
    following.until("all jobs", |jobs| jobs.len() == 30 && jobs.values().all(|told| told.complete)).await;
    following.reload(&config(&server, &(jobs.clone() + &job("one-more", "pod"))));
    following.until("all jobs", |jobs| jobs.len() == 31 && jobs.values().all(|told| told.complete)).await;
    assert_eq!(following.addresses("one-more"), ["10.0.0.1:80"]);
    for resource in ["pods", "services", "endpoints", "endpointslices"] {
        assert_eq!(server.requests(resource, ""), 1, "{resource}");
    }
    assert_eq!(following.watches.len(), 4);
    following.reload(&config(&server, &job("pods", "pod")));
    following.until_addresses("pods", &["10.0.0.1:80"]).await;
    assert_eq!(following.watches.len(), 1, "watches that nobody needs any more end");
}

#[tokio::test]
async fn a_right_that_is_missing_for_one_kind_is_an_error_of_its_jobs_alone() {
    let server = ApiServer::start().await;
    server.apply("pods", pod("a", 1));
    server.forbid("nodes");
    let jobs = "- job_name: pods\n  kubernetes_sd_configs: [{role: pod, API}]\n\
                - job_name: nodes\n  kubernetes_sd_configs: [{role: node, API}]\n\
                - job_name: both\n  kubernetes_sd_configs: [{role: pod, API, attach_metadata: {node: true}}]\n";
    let mut following = Following::start(&server, jobs);
    following.until_addresses("pods", &["10.0.0.1:80"]).await;
    following.until_failure("nodes", "nodes is forbidden").await;
    following.until_failure("both", "nodes is forbidden").await;
    assert!(!following.jobs["both"].complete && following.jobs["pods"].failure.is_none());
    server.apply("nodes", json!({"metadata": {"name": "node"}}));
    server.allow("nodes");
    following.until_addresses("both", &["10.0.0.1:80"]).await;
    following.until("the nodes", |jobs| jobs["nodes"].complete && jobs["nodes"].failure.is_none()).await;
}

#[tokio::test]
async fn a_namespace_without_rights_keeps_no_other_one_waiting() {
    let server = ApiServer::start().await;
    for (n, namespace) in [(1, "a"), (2, "b")] {
        let mut pod = pod("p", n);
        pod["metadata"]["namespace"] = json!(namespace);
        server.apply("pods", pod);
    }
    server.forbid("b/pods");
    let jobs = "- job_name: pods\n  kubernetes_sd_configs: [{role: pod, API, namespaces: {names: [a, b]}}]\n";
    let mut following = Following::start(&server, jobs);
    let told = |jobs: &BTreeMap<String, Told>| {
        let Some(told) = jobs.get("pods") else { return false };
        told.addresses() == ["10.0.0.1:80"] && !told.complete && told.failure.is_some()
    };
    following.until("one namespace's pods, and the other's failure", told).await;
    server.allow("b/pods");
    following.until_addresses("pods", &["10.0.0.1:80", "10.0.0.2:80"]).await;
}

#[tokio::test]
async fn a_kind_that_fails_is_told_of_while_another_changes() {
    let server = ApiServer::start().await;
    server.apply("nodes", json!({"metadata": {"name": "node"}}));
    server.apply("pods", pod("a", 1));
    let jobs =
        "- job_name: both\n  kubernetes_sd_configs: [{role: pod, API, attach_metadata: {node: true}}]\n";
    let mut following = Following::start(&server, jobs);
    following.until_addresses("both", &["10.0.0.1:80"]).await;
    server.forbid("nodes");
    server.stop().await;
    server.start_again().await;
    following.until_failure("both", "nodes is forbidden").await;
    server.apply("pods", pod("b", 2));
    following
        .until("the new pod, and the failure all the same", |jobs| {
            jobs["both"].addresses().contains(&"10.0.0.2:80") && jobs["both"].failure.is_some()
        })
        .await;
    server.allow("nodes");
    following.until("the end of the failure", |jobs| jobs["both"].failure.is_none()).await;
}

#[tokio::test]
async fn targets_follow_the_objects_that_were_looked_up_for_them() {
    let server = ApiServer::start().await;
    let reference = json!({"kind": "Pod", "name": "a", "namespace": "default"});
    let slice = json!({
        "metadata": {"name": "s", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 80}],
        "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "node", "targetRef": reference}],
    });
    server.apply("endpointslices", slice);
    let jobs = "- job_name: slices\n  kubernetes_sd_configs: [{role: endpointslice, API, attach_metadata: {node: true, namespace: true, deployment: true}}]\n";
    let mut following = Following::start(&server, jobs);
    following.until_addresses("slices", &["10.0.0.1:80"]).await;
    // Each object comes after the slice, in the order that is worst for it.
    server.apply("namespaces", json!({"metadata": {"name": "default", "labels": {"team": "x"}}}));
    server.apply("nodes", json!({"metadata": {"name": "node", "labels": {"zone": "z"}}}));
    let owner = |kind: &str, name: &str| json!([{"kind": kind, "name": name, "controller": true}]);
    server.apply("replicasets", json!({"metadata": {"name": "rs", "namespace": "default", "ownerReferences": owner("Deployment", "web")}}));
    let mut with_owner = pod("a", 1);
    with_owner["metadata"]["ownerReferences"] = owner("ReplicaSet", "rs");
    server.apply("pods", with_owner);
    server.apply(
        "services",
        json!({"metadata": {"name": "web", "namespace": "default", "labels": {"s": "1"}}}),
    );
    let expected = [
        ("__meta_kubernetes_namespace_label_team", "x"),
        ("__meta_kubernetes_node_label_zone", "z"),
        ("__meta_kubernetes_pod_deployment_name", "web"),
        ("__meta_kubernetes_pod_label_app", "web"),
        ("__meta_kubernetes_pod_container_name", "app"),
        ("__meta_kubernetes_service_label_s", "1"),
    ];
    following
        .until("every label", |jobs| {
            let group = &jobs["slices"].groups["default/s"];
            expected.iter().all(|(name, value)| {
                group.labels.get(name).or_else(|| group.targets[0].get(name)) == Some(*value)
            })
        })
        .await;
    server.delete("services", "default/web");
    server.delete("pods", "default/a");
    following
        .until("the labels' end", |jobs| {
            let group = &jobs["slices"].groups["default/s"];
            group.labels.get("__meta_kubernetes_service_name").is_none()
                && group.targets[0].get("__meta_kubernetes_pod_name").is_none()
        })
        .await;
}

#[tokio::test]
async fn where_namespaces_are_named_others_are_looked_up_in_the_objects_own() {
    let server = ApiServer::start().await;
    let owner = |kind: &str, name: &str| json!([{"kind": kind, "name": name, "controller": true}]);
    for (n, namespace) in [(1, "alpha"), (2, "beta")] {
        let mut pod = pod("p", n);
        pod["metadata"]["namespace"] = json!(namespace);
        pod["metadata"]["ownerReferences"] = owner("ReplicaSet", "rs");
        server.apply("pods", pod);
        let named =
            json!({"name": "rs", "namespace": namespace, "ownerReferences": owner("Deployment", namespace)});
        server.apply("replicasets", json!({"metadata": named}));
    }
    let address = |ip: &str, namespace: &str| {
        let referred = json!({"kind": "Pod", "name": "p", "namespace": namespace});
        json!({"ip": ip, "addresses": [ip], "targetRef": referred})
    };
    let addresses = [address("10.1.0.1", "alpha"), address("10.1.0.2", "beta")];
    let (meta, ports) = (json!({"name": "s", "namespace": "alpha"}), json!([{"port": 8080}]));
    let slice =
        json!({"metadata": meta, "addressType": "IPv4", "endpoints": addresses.clone(), "ports": ports});
    server.apply("endpointslices", slice);
    let subset = json!({"addresses": addresses, "ports": ports});
    server.apply("endpoints", json!({"metadata": meta, "subsets": [subset]}));
    let mut jobs = String::new();
    for role in ["endpoints", "endpointslice"] {
        for (name, namespaces) in [("all", "[]"), ("several", "[beta, alpha]"), ("one", "[alpha]")] {
            let keys = format!(
                "role: {role}, API, namespaces: {{names: {namespaces}}}, attach_metadata: {{deployment: true}}"
            );
            jobs += &format!("- job_name: {role}-{name}\n  kubernetes_sd_configs: [{{{keys}}}]\n");
        }
    }
    let mut following = Following::start(&server, &jobs);
    // A pod that is found gives the port that no endpoint covers, too.
    let (own, other) = (["10.0.0.1:80", "10.1.0.1:8080", "10.1.0.2:8080"], "10.0.0.2:80");
    for role in ["endpoints", "endpointslice"] {
        let all = [&own[..], &[other]].concat();
        following.until_addresses(&format!("{role}-all"), &all).await;
        for name in ["several", "one"] {
            let job = format!("{role}-{name}");
            following.until_addresses(&job, &own).await;
            let targets = following.jobs[&job].groups.values().flat_map(|group| &group.targets);
            let deployments: BTreeMap<&str, Option<&str>> = targets
                .map(|target| {
                    (target.get("__address__").unwrap(), target.get("__meta_kubernetes_pod_deployment_name"))
                })
                .collect();
            let alpha = Some("alpha");
            assert_eq!(
                deployments,
                BTreeMap::from([(own[0], alpha), (own[1], alpha), (own[2], None)]),
                "{job}"
            );
        }
    }
    // The other namespace's own objects still have what they had.
    server.apply(
        "endpointslices",
        json!({"metadata": {"name": "s", "namespace": "beta"}, "addressType": "IPv4", "ports": ports,
        "endpoints": [address("10.2.0.1", "beta")]}),
    );
    following.until_addresses("endpointslice-several", &[&own[..], &["10.2.0.1:8080", other]].concat()).await;
}
