//! Pods as members: how they are doing, and where they run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use promring_model::config::SelectorMembers;
use promring_model::roster::{Presence, Roster, Seen};
use serde::Deserialize;
use tokio::sync::{Notify, mpsc};

use super::{Failures, Told, access, namespace};
use crate::discovery::Watches;
use crate::discovery::kubernetes::kind::Kind;
use crate::discovery::kubernetes::labels::{Meta, or_default};
use crate::discovery::kubernetes::pod::PodStatus;
use crate::discovery::kubernetes::watch::Scope;

/// Tells the pods that a selector matches, and every change, for as long as it is polled.
pub(super) async fn run(members: SelectorMembers, watches: Watches, to: mpsc::Sender<Told>) {
    let mut failures = Failures::default();
    let namespace = namespace(members.namespace.as_deref(), &mut failures, &to).await;
    let scope = Scope { namespace: Some(namespace.clone()), label: members.selector, field: String::new() };
    let pods = watches.get::<MemberPods>(&access(members.kubeconfig_file.as_deref()), scope);
    let wake = Arc::new(Notify::new());
    let changed = pods.store.subscribe(&wake);
    let mut known: BTreeMap<String, Seen> = BTreeMap::new();
    let mut told = None;
    loop {
        let (is_synced, failure) = pods.store.state();
        if !failures.tell(failure, &to).await {
            return;
        }
        // Until the list is whole, a pod that is not known may be there all the same.
        if is_synced {
            let keys: BTreeSet<Arc<str>> = changed.take(usize::MAX).into_iter().collect();
            for key in keys {
                let name = key.strip_prefix(namespace.as_str()).and_then(|rest| rest.strip_prefix('/'));
                let name = name.unwrap_or(&key).to_owned();
                match pods.store.get(&key) {
                    Some(seen) => drop(known.insert(name, (*seen).clone())),
                    None => drop(known.remove(&name)),
                }
            }
            let roster = Roster::of_pods(known.iter().map(|(name, seen)| (name.clone(), seen.clone())));
            if told.as_ref() != Some(&roster) {
                told = Some(roster.clone());
                if to.send(Told::Roster(roster)).await.is_err() {
                    return;
                }
            }
        }
        wake.notified().await;
    }
}

/// Pods, kept as how they are doing and where.
#[derive(Debug)]
pub(super) struct MemberPods;

impl Kind for MemberPods {
    const RESOURCE: &'static str = "pods";
    const API: &'static str = "/api/v1";
    type Raw = RawPod;
    type Stored = Seen;

    fn meta(raw: &RawPod) -> &Meta {
        &raw.metadata
    }

    fn compact(raw: RawPod) -> Seen {
        // A node that fails takes no watch: Kubernetes says of its pods that they are not ready.
        let presence = if raw.metadata.deletion_timestamp.is_some() {
            Presence::Terminating
        } else if raw.status.ready() == "True" {
            Presence::Ready
        } else {
            Presence::NotReady
        };
        let node = Some(raw.spec.node_name).filter(|node| !node.is_empty());
        Seen { presence, node: node.map(Arc::from) }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct RawPod {
    metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    spec: RawPodSpec,
    #[serde(default, deserialize_with = "or_default")]
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPodSpec {
    #[serde(default, deserialize_with = "or_default")]
    node_name: String,
}
