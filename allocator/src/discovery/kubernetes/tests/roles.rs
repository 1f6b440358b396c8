//! `testdata/kubernetes/ROLE.golden.json` holds the discovered labels that Prometheus 3.15 shows for the objects in
//! `cluster.json`, with `attach_metadata` and without.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::super::endpoints::{self, EndpointsKind};
use super::super::endpointslice::{self, EndpointSlices};
use super::super::ingress::Ingresses;
use super::super::kind::{Attach, Jobs, Kind, Lookup, Namespaces, ReplicaSets};
use super::super::node::Nodes;
use super::super::pod::{self, Pods};
use super::super::service::{self, ServiceObject, Services};
use crate::discovery::Group;
use crate::packed::Packed;

fn testdata(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/kubernetes").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The objects of a kind, as they are kept.
fn objects<K: Kind>(cluster: &Value) -> HashMap<String, Arc<K::Stored>> {
    let read = |object: &Value| {
        let raw: K::Raw = serde_json::from_str(&object.to_string()).unwrap();
        (K::meta(&raw).key(), Arc::new(K::compact(raw)))
    };
    cluster[K::RESOURCE].as_array().unwrap().iter().map(read).collect()
}

struct Objects {
    pods: HashMap<String, Arc<Group>>,
    services: HashMap<String, Arc<ServiceObject>>,
    nodes: HashMap<String, Arc<Group>>,
    namespaces: HashMap<String, Arc<Packed>>,
    replica_sets: HashMap<String, Arc<Option<Arc<str>>>>,
    jobs: HashMap<String, Arc<Option<Arc<str>>>>,
}

impl Lookup for Objects {
    fn pod(&mut self, key: &str) -> Option<Arc<Group>> {
        self.pods.get(key).cloned()
    }

    fn service(&mut self, key: &str) -> Option<Arc<ServiceObject>> {
        self.services.get(key).cloned()
    }

    fn node(&mut self, name: &str) -> Option<Arc<Group>> {
        self.nodes.get(name).cloned()
    }

    fn namespace(&mut self, name: &str) -> Option<Arc<Packed>> {
        self.namespaces.get(name).cloned()
    }

    fn deployment_of(&mut self, key: &str) -> Option<Arc<str>> {
        self.replica_sets.get(key)?.as_ref().clone()
    }

    fn cronjob_of(&mut self, key: &str) -> Option<Arc<str>> {
        self.jobs.get(key)?.as_ref().clone()
    }
}

const ALL: Attach = Attach { node: true, namespace: true, deployment: true, job: true, cronjob: true };

/// Labels of every target of the role, in order.
fn discovered(role: &str, attach: Attach) -> Vec<BTreeMap<String, String>> {
    let cluster = testdata("cluster.json");
    let mut lookup = Objects {
        pods: objects::<Pods>(&cluster),
        services: objects::<Services>(&cluster),
        nodes: objects::<Nodes>(&cluster),
        namespaces: objects::<Namespaces>(&cluster),
        replica_sets: objects::<ReplicaSets>(&cluster),
        jobs: objects::<Jobs>(&cluster),
    };
    let groups: Vec<Arc<Group>> = match role {
        "pod" => {
            let pods = objects::<Pods>(&cluster);
            pods.values().filter_map(|pod| pod::group(pod, &mut lookup, attach)).collect()
        }
        "service" => {
            let services = objects::<Services>(&cluster);
            services.values().map(|service| service::group(service, &mut lookup, attach)).collect()
        }
        "endpoints" => {
            let endpoints = objects::<EndpointsKind>(&cluster);
            endpoints.values().map(|e| Arc::new(endpoints::group(e, &mut lookup, attach))).collect()
        }
        "endpointslice" => {
            let slices = objects::<EndpointSlices>(&cluster);
            slices.values().map(|slice| Arc::new(endpointslice::group(slice, &mut lookup, attach))).collect()
        }
        "node" => objects::<Nodes>(&cluster).into_values().collect(),
        "ingress" => {
            let ingresses = objects::<Ingresses>(&cluster);
            ingresses.values().map(|i| service::with_namespace(i, &mut lookup, attach)).collect()
        }
        other => panic!("no role {other}"),
    };
    let mut all: Vec<BTreeMap<String, String>> = groups
        .iter()
        .flat_map(|group| {
            let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            group
                .targets
                .iter()
                .map(move |target| group.labels.iter().chain(target.iter()).map(own).collect())
        })
        .collect();
    all.sort();
    // Two that are the same are one target, there and here.
    all.dedup();
    all
}

fn assert_golden(role: &str) {
    for (suffix, attach) in [("", Attach::default()), ("-attach", ALL)] {
        let golden = testdata(&format!("{role}{suffix}.golden.json"));
        let mut golden: Vec<BTreeMap<String, String>> = serde_json::from_value(golden).unwrap();
        for labels in &mut golden {
            // Prometheus shows a label with an empty value where the object has one; it means that there is none.
            labels.retain(|_, value| !value.is_empty());
        }
        golden.sort();
        let ours = discovered(role, attach);
        for (ours, golden) in ours.iter().zip(&golden) {
            assert_eq!(ours, golden, "{role}{suffix}");
        }
        assert_eq!(ours.len(), golden.len(), "{role}{suffix}");
    }
}

#[test]
fn pods_have_prometheus_labels() {
    assert_golden("pod");
}

#[test]
fn services_have_prometheus_labels() {
    assert_golden("service");
}

#[test]
fn endpoints_have_prometheus_labels() {
    assert_golden("endpoints");
}

#[test]
fn endpoint_slices_have_prometheus_labels() {
    assert_golden("endpointslice");
}

#[test]
fn nodes_have_prometheus_labels() {
    assert_golden("node");
}

#[test]
fn ingresses_have_prometheus_labels() {
    assert_golden("ingress");
}
