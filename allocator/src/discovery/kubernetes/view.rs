//! What one `kubernetes_sd_configs` entry sees: the groups of its role's objects, built anew when an object changes or one
//! that was looked up for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use promring_model::config::{KubernetesDiscovery, KubernetesRole};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::endpoints::{self, EndpointsKind};
use super::endpointslice::{self, EndpointSlices};
use super::ingress::Ingresses;
use super::kind::{Attach, Jobs, Kind, Lookup, Namespaces, ReplicaSets};
use super::node::Nodes;
use super::pod::{self, Pods};
use super::service::{self, ServiceObject, Services};
use super::store::Subscriber;
use super::watches::{Watch, Watches, namespaces, scope};
use crate::discovery::{Found, Group, Reporter};
use crate::packed::Packed;

/// Groups told at once. Between two such parts others are served.
const PART_GROUPS: usize = 500;

/// How often it is told that a first list goes on coming in.
const ARRIVING_INTERVAL: Duration = Duration::from_secs(1);

/// A watch and what changed in it since this view looked.
struct Followed<K: Kind> {
    watch: Arc<Watch<K>>,
    changed: Arc<Subscriber>,
}

impl<K: Kind> Followed<K> {
    fn new(watch: Arc<Watch<K>>, wake: &Arc<Notify>) -> Self {
        let changed = watch.store.subscribe(wake);
        Self { watch, changed }
    }

    fn is_synced(&self) -> bool {
        self.watch.store.state().0
    }
}

/// The objects that the role is about.
enum Main {
    Pods(Vec<Followed<Pods>>),
    Services(Vec<Followed<Services>>),
    Endpoints(Vec<Followed<EndpointsKind>>),
    Slices(Vec<Followed<EndpointSlices>>),
    Nodes(Vec<Followed<Nodes>>),
    Ingresses(Vec<Followed<Ingresses>>),
}

/// Calls a closure-like expression for the watches of whatever kind.
macro_rules! with_main {
    ($main:expr, $followed:ident => $do:expr) => {
        match $main {
            Main::Pods($followed) => $do,
            Main::Services($followed) => $do,
            Main::Endpoints($followed) => $do,
            Main::Slices($followed) => $do,
            Main::Nodes($followed) => $do,
            Main::Ingresses($followed) => $do,
        }
    };
}

/// Objects that are looked up for groups.
#[derive(Default)]
struct Others {
    pods: Vec<Followed<Pods>>,
    services: Vec<Followed<Services>>,
    nodes: Vec<Followed<Nodes>>,
    namespaces: Vec<Followed<Namespaces>>,
    replica_sets: Vec<Followed<ReplicaSets>>,
    jobs: Vec<Followed<Jobs>>,
}

impl Others {
    /// Whether what is looked up for objects of a namespace, by its place in the list, has come in whole lists. So one
    /// namespace does not wait for another.
    fn are_synced(&self, namespace: usize) -> bool {
        fn one<K: Kind>(followed: &[Followed<K>], namespace: usize) -> bool {
            followed.get(namespace).is_none_or(Followed::is_synced)
        }
        one(&self.pods, namespace)
            && one(&self.services, namespace)
            && one(&self.replica_sets, namespace)
            && one(&self.jobs, namespace)
            && self.nodes.iter().all(Followed::is_synced)
            && self.namespaces.iter().all(Followed::is_synced)
    }
}

/// A kind of objects that are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Other {
    Pod,
    Service,
    Node,
    Namespace,
    ReplicaSet,
    Job,
}

/// An object that was looked up, by kind and key.
type Looked = (Other, Arc<str>);

/// One entry of `kubernetes_sd_configs`, or several equal ones, at work.
pub(crate) struct View {
    attach: Attach,
    main: Main,
    others: Others,
    wake: Arc<Notify>,
    /// What each group was built of, and the other way round.
    built_of: HashMap<Arc<str>, Box<[Looked]>>,
    used_by: HashMap<Looked, HashSet<Arc<str>>>,
    /// Keys whose groups are to be built.
    due: HashSet<Arc<str>>,
}

impl View {
    /// Subscribes to the watches that the discovery needs, starting those that nobody has yet.
    ///
    /// # Errors
    /// Where the pod's own namespace is asked for and there is none.
    pub(crate) fn new(discovery: &KubernetesDiscovery, watches: &Watches) -> Result<Self, String> {
        let wake = Arc::new(Notify::new());
        let namespaces = namespaces(discovery)?;
        let access = &discovery.access;
        let own = |role| scope(discovery, Some(role));
        macro_rules! follow {
            ($kind:ty, $scope:expr) => {
                namespaces
                    .iter()
                    .map(|namespace| {
                        let scope = super::watch::Scope { namespace: namespace.clone(), ..$scope };
                        Followed::<$kind>::new(watches.get(access, scope), &wake)
                    })
                    .collect()
            };
        }
        // Nodes and namespaces are the cluster's, whatever the namespaces.
        let nodes = || vec![Followed::<Nodes>::new(watches.get(access, own(KubernetesRole::Node)), &wake)];
        let mut others = Others::default();
        let main = match discovery.role {
            KubernetesRole::Pod => Main::Pods(follow!(Pods, own(KubernetesRole::Pod))),
            KubernetesRole::Service => Main::Services(follow!(Services, own(KubernetesRole::Service))),
            KubernetesRole::Endpoints => {
                Main::Endpoints(follow!(EndpointsKind, own(KubernetesRole::Endpoints)))
            }
            KubernetesRole::EndpointSlice => {
                Main::Slices(follow!(EndpointSlices, own(KubernetesRole::EndpointSlice)))
            }
            KubernetesRole::Node => Main::Nodes(nodes()),
            KubernetesRole::Ingress => Main::Ingresses(follow!(Ingresses, own(KubernetesRole::Ingress))),
        };
        let of_endpoints =
            matches!(discovery.role, KubernetesRole::Endpoints | KubernetesRole::EndpointSlice);
        if of_endpoints {
            others.pods = follow!(Pods, own(KubernetesRole::Pod));
            others.services = follow!(Services, own(KubernetesRole::Service));
        }
        let attach = discovery.attach;
        let of_pods = of_endpoints || discovery.role == KubernetesRole::Pod;
        if attach.node && of_pods {
            others.nodes = nodes();
        }
        if attach.namespace && discovery.role != KubernetesRole::Node {
            others.namespaces =
                vec![Followed::new(watches.get(access, super::watch::Scope::default()), &wake)];
        }
        if attach.deployment && of_pods {
            others.replica_sets = follow!(ReplicaSets, scope(discovery, None));
        }
        // The Job's name stands in the pod already; only the CronJob's needs the Jobs.
        if attach.cronjob && of_pods {
            others.jobs = follow!(Jobs, scope(discovery, None));
        }
        Ok(Self {
            attach,
            main,
            others,
            wake,
            built_of: HashMap::new(),
            used_by: HashMap::new(),
            due: HashSet::new(),
        })
    }

    /// Tells the reporters of every group, and then of every change.
    pub(crate) async fn run(mut self, reporters: Vec<Reporter>) {
        let mut complete = false;
        let mut told: Option<String> = None;
        let (mut arrived, mut arriving_told) = (0, None::<Instant>);
        loop {
            let (synced, failure) = self.state();
            if !complete
                && failure == told
                && self.objects() > arrived
                && arriving_told.is_none_or(|at| at.elapsed() >= ARRIVING_INTERVAL)
            {
                (arrived, arriving_told) = (self.objects(), Some(Instant::now()));
                for reporter in &reporters {
                    reporter.send(Found::Arriving).await;
                }
            }
            if failure != told {
                let found = || match &failure {
                    Some(failure) => Some(Found::Failed(failure.clone())),
                    // An empty change says that all is well again; before the first whole list that would be early.
                    None if complete => {
                        Some(Found::Changes { upsert: Vec::new(), removed: Vec::new(), complete: false })
                    }
                    None => None,
                };
                for reporter in &reporters {
                    if let Some(found) = found() {
                        reporter.send(found).await;
                    }
                }
                told.clone_from(&failure);
            }
            let (upsert, removed) = self.part();
            let idle = self.is_idle();
            let completes = synced && idle && !complete;
            if !upsert.is_empty() || !removed.is_empty() || completes {
                complete |= completes;
                for reporter in &reporters {
                    let (upsert, removed) = (upsert.clone(), removed.clone());
                    reporter.send(Found::Changes { upsert, removed, complete: completes }).await;
                    // A change says that all is well, and it may be so in one namespace or of one kind only.
                    if let Some(failure) = &failure {
                        reporter.send(Found::Failed(failure.clone())).await;
                    }
                }
            }
            if !idle {
                continue;
            }
            self.wake.notified().await;
        }
    }

    /// Whether every watch has had a whole list, and what is wrong with one of them.
    fn state(&self) -> (bool, Option<String>) {
        let mut all: (bool, Option<String>) = (true, None);
        let mut add = |(synced, failure): (bool, Option<String>)| {
            all.0 &= synced;
            all.1 = all.1.take().or(failure);
        };
        with_main!(&self.main, followed => followed.iter().for_each(|f| add(f.watch.store.state())));
        let others = &self.others;
        others.pods.iter().for_each(|f| add(f.watch.store.state()));
        others.services.iter().for_each(|f| add(f.watch.store.state()));
        others.nodes.iter().for_each(|f| add(f.watch.store.state()));
        others.namespaces.iter().for_each(|f| add(f.watch.store.state()));
        others.replica_sets.iter().for_each(|f| add(f.watch.store.state()));
        others.jobs.iter().for_each(|f| add(f.watch.store.state()));
        all
    }

    /// How many objects are known.
    fn objects(&self) -> usize {
        fn of<K: Kind>(followed: &[Followed<K>]) -> usize {
            followed.iter().map(|followed| followed.watch.store.len()).sum()
        }
        let others = &self.others;
        with_main!(&self.main, followed => of(followed))
            + of(&others.pods)
            + of(&others.services)
            + of(&others.nodes)
            + of(&others.namespaces)
            + of(&others.replica_sets)
            + of(&others.jobs)
    }

    /// Builds the groups of some of the objects that changed: the groups that there are, and the names of those that are
    /// gone.
    fn part(&mut self) -> (Vec<Arc<Group>>, Vec<Arc<str>>) {
        self.gather_users();
        let mut keys: Vec<Arc<str>> = self.due.iter().take(PART_GROUPS).cloned().collect();
        for key in &keys {
            self.due.remove(key);
        }
        with_main!(&self.main, followed => for (namespace, f) in followed.iter().enumerate() {
            if self.others.are_synced(namespace) && f.is_synced() {
                keys.extend(f.changed.take(PART_GROUPS.saturating_sub(keys.len())));
            }
        });
        let (mut upsert, mut removed) = (Vec::new(), Vec::new());
        for key in keys {
            match self.build(&key) {
                Some(group) => upsert.push(group),
                None => removed.push(key),
            }
        }
        (upsert, removed)
    }

    /// Makes groups due whose looked-up objects changed.
    fn gather_users(&mut self) {
        let others = &self.others;
        let mut changed: Vec<Looked> = Vec::new();
        let mut add = |kind: Other, subscriber: &Subscriber| {
            changed.extend(subscriber.take(usize::MAX).into_iter().map(|key| (kind, key)));
        };
        others.pods.iter().for_each(|f| add(Other::Pod, &f.changed));
        others.services.iter().for_each(|f| add(Other::Service, &f.changed));
        others.nodes.iter().for_each(|f| add(Other::Node, &f.changed));
        others.namespaces.iter().for_each(|f| add(Other::Namespace, &f.changed));
        others.replica_sets.iter().for_each(|f| add(Other::ReplicaSet, &f.changed));
        others.jobs.iter().for_each(|f| add(Other::Job, &f.changed));
        for looked in changed {
            if let Some(users) = self.used_by.get(&looked) {
                self.due.extend(users.iter().cloned());
            }
        }
    }

    /// Whether there is nothing to build. What has no whole list yet has to wait.
    fn is_idle(&self) -> bool {
        let others = &self.others;
        let told = with_main!(&self.main, followed => followed.iter().enumerate().all(|(namespace, f)| {
            f.changed.is_empty() || !f.is_synced() || !others.are_synced(namespace)
        }));
        self.due.is_empty()
            && told
            && others.pods.iter().all(|f| f.changed.is_empty())
            && others.services.iter().all(|f| f.changed.is_empty())
            && others.nodes.iter().all(|f| f.changed.is_empty())
            && others.namespaces.iter().all(|f| f.changed.is_empty())
            && others.replica_sets.iter().all(|f| f.changed.is_empty())
            && others.jobs.iter().all(|f| f.changed.is_empty())
    }

    /// The group of the object `key`; None where there is no object, or it has no targets.
    fn build(&mut self, key: &Arc<str>) -> Option<Arc<Group>> {
        let mut lookup = Recorder { others: &self.others, namespace: 0, looked: Vec::new() };
        let attach = self.attach;
        let group = match &self.main {
            Main::Pods(followed) => {
                lookup.begin(followed, key).and_then(|pod| pod::group(&pod, &mut lookup, attach))
            }
            Main::Services(followed) => {
                lookup.begin(followed, key).map(|service| service::group(&service, &mut lookup, attach))
            }
            Main::Endpoints(followed) => lookup
                .begin(followed, key)
                .map(|endpoints| Arc::new(endpoints::group(&endpoints, &mut lookup, attach))),
            Main::Slices(followed) => lookup
                .begin(followed, key)
                .map(|slice| Arc::new(endpointslice::group(&slice, &mut lookup, attach))),
            Main::Nodes(followed) => lookup.begin(followed, key),
            Main::Ingresses(followed) => lookup
                .begin(followed, key)
                .map(|ingress| service::with_namespace(&ingress, &mut lookup, attach)),
        };
        let looked = lookup.looked;
        self.remember(key, looked);
        group.filter(|group| !group.targets.is_empty())
    }

    fn remember(&mut self, key: &Arc<str>, mut looked: Vec<Looked>) {
        looked.sort_unstable_by(|a, b| (a.0 as u8, &a.1).cmp(&(b.0 as u8, &b.1)));
        looked.dedup();
        let before = self.built_of.remove(key).unwrap_or_default();
        if *before == *looked {
            if !before.is_empty() {
                self.built_of.insert(Arc::clone(key), before);
            }
            return;
        }
        for gone in before.iter().filter(|looked_before| !looked.contains(looked_before)) {
            if let Some(users) = self.used_by.get_mut(gone) {
                users.remove(key);
                if users.is_empty() {
                    self.used_by.remove(gone);
                }
            }
        }
        for new in &looked {
            self.used_by.entry(new.clone()).or_default().insert(Arc::clone(key));
        }
        if !looked.is_empty() {
            self.built_of.insert(Arc::clone(key), looked.into_boxed_slice());
        }
    }
}

/// Looks objects up and keeps a list of them.
struct Recorder<'a> {
    others: &'a Others,
    /// Where the configuration names namespaces, the place in the list of the one that the group is of. Others are looked up in
    /// it alone: a pod that a `targetRef` names elsewhere is none, as in Prometheus, which looks at each namespace by itself.
    namespace: usize,
    looked: Vec<Looked>,
}

impl Recorder<'_> {
    /// The object that the group is about.
    fn begin<K: Kind>(&mut self, followed: &[Followed<K>], key: &str) -> Option<Arc<K::Stored>> {
        let mut stores = followed.iter().map(|followed| &followed.watch.store).enumerate();
        let (namespace, object) = stores.find_map(|(at, store)| Some((at, store.get(key)?)))?;
        self.namespace = namespace;
        Some(object)
    }

    /// An object of the group's namespace.
    fn beside<K: Kind>(
        &mut self,
        kind: Other,
        followed: &[Followed<K>],
        key: &str,
    ) -> Option<Arc<K::Stored>> {
        self.look(kind, followed, self.namespace, key)
    }

    /// An object of the cluster.
    fn of_cluster<K: Kind>(
        &mut self,
        kind: Other,
        followed: &[Followed<K>],
        key: &str,
    ) -> Option<Arc<K::Stored>> {
        self.look(kind, followed, 0, key)
    }

    fn look<K: Kind>(
        &mut self,
        kind: Other,
        followed: &[Followed<K>],
        at: usize,
        key: &str,
    ) -> Option<Arc<K::Stored>> {
        self.looked.push((kind, Arc::from(key)));
        followed.get(at)?.watch.store.get(key)
    }
}

impl Lookup for Recorder<'_> {
    fn pod(&mut self, key: &str) -> Option<Arc<Group>> {
        self.beside(Other::Pod, &self.others.pods, key)
    }

    fn service(&mut self, key: &str) -> Option<Arc<ServiceObject>> {
        self.beside(Other::Service, &self.others.services, key)
    }

    fn node(&mut self, name: &str) -> Option<Arc<Group>> {
        self.of_cluster(Other::Node, &self.others.nodes, name)
    }

    fn namespace(&mut self, name: &str) -> Option<Arc<Packed>> {
        self.of_cluster(Other::Namespace, &self.others.namespaces, name)
    }

    fn deployment_of(&mut self, key: &str) -> Option<Arc<str>> {
        self.beside(Other::ReplicaSet, &self.others.replica_sets, key)?.as_ref().clone()
    }

    fn cronjob_of(&mut self, key: &str) -> Option<Arc<str>> {
        self.beside(Other::Job, &self.others.jobs, key)?.as_ref().clone()
    }
}
