//! A kubelet whose containers are processes: registers nodes, runs the pods that are bound to them, and says how they
//! are.

mod claims;
mod container;
mod environment;
mod hosts;
mod node;
mod pod;
mod probe;
mod sandbox;
mod volumes;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Options;
use crate::network::{Network, PodNetwork};

/// How long a failed request to the API server waits before it is made again.
const RETRY: Duration = Duration::from_millis(500);
/// How long pods have to end when the test does, beyond which they are killed.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// The kubelets of all nodes. Dropping it kills all pods' processes.
#[derive(Debug)]
pub(crate) struct Kubelet {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What all pods use.
pub(crate) struct Shared {
    client: Client,
    network: Arc<Network>,
    dir: PathBuf,
    images: BTreeMap<String, PathBuf>,
    /// Bumped when any ConfigMap or Secret changes: pods look whether it was one of theirs.
    mounted: watch::Sender<u64>,
    pods: Mutex<HashMap<String, Known>>,
    log: Mutex<std::fs::File>,
}

/// What is known of a pod that was given to us.
struct Known {
    updates: watch::Sender<Option<Box<Pod>>>,
    task: JoinHandle<()>,
    network: Option<Arc<PodNetwork>>,
    kill: watch::Sender<u64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Kubelet {
    /// Registers the nodes and begins to run pods.
    pub(crate) async fn start(client: Client, network: Arc<Network>, dir: &Path, options: &Options) -> Self {
        let dir = dir.join("kubelet");
        std::fs::create_dir(&dir).unwrap();
        let log = std::fs::File::create(dir.join("kubelet.log")).unwrap();
        let shared = Arc::new(Shared {
            client: client.clone(),
            network,
            dir,
            images: options.images.clone(),
            mounted: watch::Sender::new(0),
            pods: Mutex::default(),
            log: Mutex::new(log),
        });
        let mut tasks = Vec::new();
        for name in &options.nodes {
            node::register(&shared, name).await;
            tasks.push(tokio::spawn(node::heartbeat(shared.clone(), name.clone())));
            tasks.push(tokio::spawn(run_pods(shared.clone(), name.clone())));
        }
        tasks.push(tokio::spawn(bump::<ConfigMap>(shared.clone())));
        tasks.push(tokio::spawn(bump::<Secret>(shared.clone())));
        tasks.push(tokio::spawn(hosts::run(shared.clone())));
        claims::create_class(&shared).await;
        tasks.push(tokio::spawn(claims::run(shared.clone())));
        Self { shared, tasks }
    }

    /// Kills all pods and waits for their ends, so that nothing is in the way of the next cluster.
    pub(crate) async fn stop(&self) {
        for task in &self.tasks {
            task.abort();
        }
        let pods = std::mem::take(&mut *self.shared.pods.lock().unwrap());
        for (_, mut pod) in pods {
            pod.updates.send_replace(None);
            let _ = tokio::time::timeout(STOP_PATIENCE, &mut pod.task).await;
        }
    }

    pub(crate) fn logs(&self, namespace: &str, pod: &str) -> String {
        let mut text = String::new();
        let dir = self.shared.dir.join("logs").join(namespace).join(pod);
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            text += &std::fs::read_to_string(entry.path()).unwrap_or_default();
        }
        text
    }

    pub(crate) fn connect(&self, namespace: &str, pod: &str, connected: bool) {
        let pods = self.shared.pods.lock().unwrap();
        let known = pods.get(&format!("{namespace}/{pod}")).expect("the pod is known");
        known.network.as_ref().expect("the pod has a network of its own").connect(connected);
    }

    pub(crate) fn kill(&self, namespace: &str, pod: &str) {
        let pods = self.shared.pods.lock().unwrap();
        let known = pods.get(&format!("{namespace}/{pod}")).expect("the pod is known");
        known.kill.send_modify(|count| *count += 1);
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        // Where a test panics nothing is waited for: a pod's processes are killed with its task.
        for task in &self.tasks {
            task.abort();
        }
        for known in self.shared.pods.lock().unwrap_or_else(std::sync::PoisonError::into_inner).values() {
            known.task.abort();
        }
    }
}

impl Shared {
    /// Writes a line to kubelet.log.
    fn log(&self, message: impl std::fmt::Display) {
        if let Ok(mut log) = self.log.lock() {
            let _ = writeln!(log, "{} {message}", k8s_openapi::jiff::Timestamp::now());
        }
    }
}

/// Gives each pod of the node a task, and that task every change of the pod.
async fn run_pods(shared: Arc<Shared>, node: String) {
    let pods: Api<Pod> = Api::all(shared.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut events = std::pin::pin!(watch_events(shared.clone(), pods, config));
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                listed.push(key(&pod));
                apply(&shared, &node, pod);
            }
            Event::InitDone => forget_others(&shared, &node, &listed),
            Event::Apply(pod) => apply(&shared, &node, pod),
            Event::Delete(pod) => remove(&shared, &pod),
        }
    }
}

/// A pod's name within the cluster.
fn key(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

fn apply(shared: &Arc<Shared>, node: &str, pod: Pod) {
    let key = key(&pod);
    let mut pods = shared.pods.lock().unwrap();
    if let Some(known) = pods.get(&key) {
        let same = known.updates.borrow().as_ref().is_none_or(|old| old.uid() == pod.uid());
        if same && !known.task.is_finished() {
            // None stays None: the pod has been taken away, and its task is ending.
            known.updates.send_if_modified(|held| held.as_mut().map(|held| **held = pod).is_some());
            return;
        }
        known.updates.send_replace(None);
    }
    // Pods that have ended stay as they are, and those that a test has made for the API alone are left to it.
    let ended = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(ended, Some("Succeeded" | "Failed")) && pod.metadata.deletion_timestamp.is_none() {
        return;
    }
    let (updates, changes) = watch::channel(Some(Box::new(pod.clone())));
    let kill = watch::Sender::new(0);
    let task = tokio::spawn(pod::run(shared.clone(), node.to_owned(), pod, changes, kill.subscribe()));
    pods.insert(key, Known { updates, task, network: None, kill });
}

fn remove(shared: &Shared, pod: &Pod) {
    let key = key(pod);
    let mut pods = shared.pods.lock().unwrap();
    // Of a StatefulSet's pod that goes on at another node, that node's watch may have told already.
    let is_it = |known: &Known| known.updates.borrow().as_ref().is_none_or(|held| held.uid() == pod.uid());
    if pods.get(&key).is_some_and(is_it)
        && let Some(known) = pods.remove(&key)
    {
        known.updates.send_replace(None);
    }
}

/// After a new list: pods of this node that are not in it have gone unseen.
fn forget_others(shared: &Shared, node: &str, listed: &[String]) {
    let on_node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
    shared.pods.lock().unwrap().retain(|key, known| {
        let ours = known.updates.borrow().as_ref().is_none_or(|pod| on_node(pod));
        let stays = !ours || listed.contains(key);
        if !stays {
            known.updates.send_replace(None);
        }
        stays
    });
}

/// Says that a mounted object may have changed.
async fn bump<K>(shared: Arc<Shared>)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    let objects: Api<K> = Api::all(shared.client.clone());
    let mut events = std::pin::pin!(watch_events(shared.clone(), objects, watcher::Config::default()));
    while let Some(event) = events.next().await {
        if !matches!(event, Event::Init | Event::InitApply(_)) {
            shared.mounted.send_modify(|version| *version += 1);
        }
    }
}

/// The events of a watch that never ends: errors are logged, and it goes on.
fn watch_events<K>(
    shared: Arc<Shared>,
    objects: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = Event<K>>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    watcher(objects, config).filter_map(move |event| {
        let shared = shared.clone();
        async move {
            match event {
                Ok(event) => Some(event),
                Err(error) => {
                    shared.log(format_args!("watch: {error}"));
                    tokio::time::sleep(RETRY).await;
                    None
                }
            }
        }
    })
}
