//! Watches the scrapers' StatefulSet and its pods, or pods alone, and tells who the scrapers are.

mod pods;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use promring_model::config::{Clients, Config, KubernetesAccess, Members, StatefulSetMembers};
use promring_model::roster::{Roster, StatefulSet};
use serde::Deserialize;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::discovery::Watches;
use crate::discovery::kubernetes::client::own_namespace;
use crate::discovery::kubernetes::kind::Kind;
use crate::discovery::kubernetes::labels::{Meta, or_default};
use crate::discovery::kubernetes::store::Subscriber;
use crate::discovery::kubernetes::watch::Scope;
use crate::discovery::kubernetes::watches::Watch;
use pods::MemberPods;

/// The label that StatefulSets put on their pods: with it other pods need not be watched.
const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";

/// How long until a start that failed is tried again.
const START_AGAIN: std::time::Duration = std::time::Duration::from_secs(10);

/// What is told of those that are to be members.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    /// Who they are.
    Roster(Roster),
    /// Why they cannot be watched; what was told stays. None: they can be again.
    Failing(Option<String>),
}

/// Tells every failure once, and its end.
#[derive(Default)]
struct Failures(Option<String>);

impl Failures {
    /// Whether anybody listens.
    async fn tell(&mut self, failure: Option<String>, members: &mpsc::Sender<Told>) -> bool {
        if self.0 == failure {
            return true;
        }
        self.0.clone_from(&failure);
        members.send(Told::Failing(failure)).await.is_ok()
    }
}

/// The watching of the StatefulSet or the pods that the configuration names, if it names any.
#[derive(Debug)]
pub(crate) struct Watching {
    members: Members,
    clients: Clients,
    task: Option<JoinHandle<()>>,
    /// Its own: what those have yet to say that were watched before is nobody's.
    told: mpsc::Receiver<Told>,
}

impl Watching {
    /// Starts it.
    pub(crate) fn start(config: &Config, watches: &Watches) -> Self {
        let members = config.allocator.members.clone();
        let (to, told) = mpsc::channel(1);
        let task = match &members {
            Members::StatefulSet(set) => Some(tokio::spawn(run(set.clone(), watches.clone(), to))),
            Members::Selector(selector) => {
                Some(tokio::spawn(pods::run(selector.clone(), watches.clone(), to)))
            }
            Members::Reporting | Members::Static(_) => None,
        };
        Self { members, clients: config.allocator.clients, task, told }
    }

    /// Waits for what it finds next; None where there is nothing to watch. Nothing is lost where the wait is given up.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        self.told.recv().await
    }

    /// Starts anew where the configuration names others than before, and returns whether it does. Also where the kind of
    /// clients is another: who has not been told of them yet is to hear of all.
    pub(crate) fn apply_config(&mut self, config: &Config, watches: &Watches) -> bool {
        let allocator = &config.allocator;
        let is_new = self.members != allocator.members || self.clients != allocator.clients;
        if is_new {
            *self = Self::start(config, watches);
        }
        is_new
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Tells every change of the roster, for as long as it is polled.
async fn run(members: StatefulSetMembers, watches: Watches, told: mpsc::Sender<Told>) {
    let mut failures = Failures::default();
    let namespace = namespace(members.namespace.as_deref(), &mut failures, &told).await;
    Following::new(&members, &namespace, &watches).run(failures, told).await;
}

/// The namespace that is configured, or the pod's own.
async fn namespace(configured: Option<&str>, failures: &mut Failures, told: &mpsc::Sender<Told>) -> String {
    loop {
        match configured.map(str::to_owned).map_or_else(own_namespace, Ok) {
            Ok(namespace) => return namespace,
            Err(message) => {
                tracing::error!(
                    %message,
                    "the scrapers' pods cannot be watched; meanwhile promring's scrapers are members when they report, others are not"
                );
                // Nobody listens any more only when the allocator stops.
                failures.tell(Some(message), told).await;
                tokio::time::sleep(START_AGAIN).await;
            }
        }
    }
}

/// How the API server is reached.
fn access(kubeconfig_file: Option<&Path>) -> KubernetesAccess {
    match kubeconfig_file {
        Some(path) => KubernetesAccess::Kubeconfig(path.to_owned()),
        None => KubernetesAccess::InCluster,
    }
}

struct Following {
    name: String,
    key: String,
    namespace: String,
    sets: Arc<Watch<StatefulSets>>,
    pods: Arc<Watch<MemberPods>>,
    sets_changed: Arc<Subscriber>,
    pods_changed: Arc<Subscriber>,
    wake: Arc<Notify>,
}

impl Following {
    fn new(members: &StatefulSetMembers, namespace: &str, watches: &Watches) -> Self {
        let access = access(members.kubeconfig_file.as_deref());
        let scope = |label: &str, field: String| Scope {
            namespace: Some(namespace.to_owned()),
            label: label.to_owned(),
            field,
        };
        let name = members.name.clone();
        let sets = watches.get(&access, scope("", format!("metadata.name={name}")));
        let pods = watches.get(&access, scope(POD_NAME_LABEL, String::new()));
        let wake = Arc::new(Notify::new());
        Self {
            key: format!("{namespace}/{name}"),
            namespace: namespace.to_owned(),
            sets_changed: sets.store.subscribe(&wake),
            pods_changed: pods.store.subscribe(&wake),
            name,
            sets,
            pods,
            wake,
        }
    }

    async fn run(self, mut failures: Failures, members: mpsc::Sender<Told>) {
        let mut set = StatefulSet::new(&self.name);
        let mut told = None;
        loop {
            let ((sets_synced, sets_failure), (pods_synced, pods_failure)) =
                (self.sets.store.state(), self.pods.store.state());
            if !failures.tell(sets_failure.or(pods_failure), &members).await {
                return;
            }
            // Until both lists are whole, a pod that is not known may be there all the same.
            if sets_synced && pods_synced {
                self.gather(&mut set);
                let roster = set.roster();
                if let Some(roster) = roster.filter(|roster| told.as_ref() != Some(roster)) {
                    told = Some(roster.clone());
                    if members.send(Told::Roster(roster)).await.is_err() {
                        return;
                    }
                }
            }
            self.wake.notified().await;
        }
    }

    fn gather(&self, set: &mut StatefulSet) {
        if !self.sets_changed.take(usize::MAX).is_empty() {
            set.sized(self.sets.store.get(&self.key).map(|size| (size.replicas, size.start)));
        }
        let changed: BTreeSet<Arc<str>> = self.pods_changed.take(usize::MAX).into_iter().collect();
        for key in changed {
            let seen = self.pods.store.get(&key);
            let name = key.strip_prefix(self.namespace.as_str()).and_then(|rest| rest.strip_prefix('/'));
            let name = name.unwrap_or(&key);
            set.pod(name, seen.as_ref().map(|seen| seen.presence));
            if let Some(node) = seen.as_ref().and_then(|seen| seen.node.as_ref()) {
                set.pod_node(name, node);
            }
        }
    }
}

/// StatefulSets, kept as their size.
#[derive(Debug)]
struct StatefulSets;

#[derive(Debug, PartialEq)]
struct Size {
    replicas: u32,
    start: u32,
}

impl Kind for StatefulSets {
    const RESOURCE: &'static str = "statefulsets";
    const API: &'static str = "/apis/apps/v1";
    type Raw = RawStatefulSet;
    type Stored = Size;

    fn meta(raw: &RawStatefulSet) -> &Meta {
        &raw.metadata
    }

    fn compact(raw: RawStatefulSet) -> Size {
        Size { replicas: raw.spec.replicas.unwrap_or(1), start: raw.spec.ordinals.start }
    }
}

#[derive(Debug, Deserialize)]
struct RawStatefulSet {
    metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    spec: RawSpec,
}

#[derive(Debug, Default, Deserialize)]
struct RawSpec {
    #[serde(default)]
    replicas: Option<u32>,
    #[serde(default, deserialize_with = "or_default")]
    ordinals: RawOrdinals,
}

#[derive(Debug, Default, Deserialize)]
struct RawOrdinals {
    #[serde(default)]
    start: u32,
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
