//! What targets of endpoints get of the pod behind them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::kind::{Attach, Lookup};
use super::labels::{NAMESPACE, Pairs};
use super::pod::{CONTAINER_ID, CONTAINER_NAME, Owners, POD_IP, PORT_NUMBER, PORT_PROTOCOL};
use crate::discovery::Group;
use crate::packed::Packed;

/// A pod that endpoints lead to.
pub(crate) struct Backing {
    pod: Arc<Group>,
    owners: Owners,
    /// Ports of the pod that targets have been made for.
    covered: Vec<i64>,
}

/// The pods that an object's endpoints lead to, by key.
#[derive(Default)]
pub(crate) struct Backings(BTreeMap<String, Backing>);

impl Backings {
    /// Adds the labels of the pod `NAMESPACE/NAME` and of its container with this port to a target, and remembers the port
    /// as covered. Nothing where the pod is not known.
    pub(crate) fn join(
        &mut self,
        target: Pairs<'_>,
        key: Option<String>,
        port: Option<i64>,
        protocol: Option<&str>,
        lookup: &mut impl Lookup,
        attach: Attach,
    ) -> Packed {
        let Some(key) = key else { return target.pack() };
        let Some(pod) = lookup.pod(&key) else { return target.pack() };
        let owners = Owners::of(&pod, lookup, attach);
        let backing = self.0.entry(key).or_insert_with(|| Backing {
            pod: Arc::clone(&pod),
            owners,
            covered: Vec::new(),
        });
        backing.covered.extend(port);
        let own = target.pack();
        let mut pairs = Pairs::default();
        pairs.extend(own.iter());
        backing.add_pod(&mut pairs);
        if let Some(container) = port.and_then(|port| container_with(&pod, port)) {
            let kept = container.iter().filter(|(name, _)| is_port_label(name));
            pairs.extend(kept);
            if let Some(protocol) = protocol {
                pairs.set(PORT_PROTOCOL, protocol);
            }
        }
        pairs.pack()
    }

    /// Targets for the container ports that no endpoint covers.
    pub(crate) fn uncovered(&self) -> impl Iterator<Item = Packed> {
        let reachable = self.0.values().filter(|backing| backing.pod.labels.get(POD_IP).is_some());
        reachable.flat_map(|backing| {
            let further =
                backing.pod.targets.iter().filter(|container| {
                    port_of(container).is_some_and(|port| !backing.covered.contains(&port))
                });
            further.map(|container| {
                let mut pairs = Pairs::default();
                pairs.extend(container.iter().filter(|(name, _)| *name != CONTAINER_ID));
                backing.add_pod(&mut pairs);
                pairs.pack()
            })
        })
    }
}

impl Backing {
    fn add_pod<'a>(&'a self, pairs: &mut Pairs<'a>) {
        // The namespace is the endpoints' own.
        pairs.extend(self.pod.labels.iter().filter(|(name, _)| *name != NAMESPACE));
        self.owners.add_to(pairs);
    }
}

/// The labels of a pod's target that say which container and port it is.
fn is_port_label(name: &str) -> bool {
    name.starts_with("__meta_kubernetes_pod_container_") && name != CONTAINER_ID
}

fn port_of(container: &Packed) -> Option<i64> {
    container.get(PORT_NUMBER)?.parse().ok()
}

/// The container port of this number: the first one of the last container that has it, as Prometheus finds it.
fn container_with(pod: &Group, port: i64) -> Option<&Packed> {
    let mut found: Option<&Packed> = None;
    for container in pod.targets.iter().filter(|container| port_of(container) == Some(port)) {
        if found.is_none_or(|found| found.get(CONTAINER_NAME) != container.get(CONTAINER_NAME)) {
            found = Some(container);
        }
    }
    found
}
