//! What befalls watches: no target is lost by it, everything catches up, and it costs the API server what it must and no more.
//!
//! Nothing changes here but by the test's hand: the pods have no controllers and their nodes no kubelet, and no service selects
//! them. So it is known at every moment what promring has to find, whatever the control plane is busy with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use promring_cluster::{Cluster, run};
use serde_json::Value;

use super::changes::{Found, apply_all, delete_all, found, of_job, prepare};
use super::load::{self, Counts};
use super::oracle::apply_roles;
use super::scenario::{VARIANTS, pod, services};
use super::tunnel::Tunnel;
use super::{ALLOCATOR, apply_one, options, text};
use crate::support::{Process, eventually, get_json};

const PODS: usize = 24;
const JOBS: usize = 8;
const ROLES: [&str; 6] = ["pod", "service", "endpoints", "endpointslice", "node", "ingress"];
/// What all roles together look at, with everything attached.
const KINDS: [&str; 9] = [
    "endpoints",
    "endpointslices",
    "ingresses",
    "jobs",
    "namespaces",
    "nodes",
    "pods",
    "replicasets",
    "services",
];
/// Objects of the scenario that controllers leave alone.
const STILL: [&str; 5] = ["byhand", "slice-by-hand", "slice-of-names", "web", "nohost"];
const ALLOCATOR_URL: &str = "http://127.0.0.1:8080";

/// An ordinary pod: controllers take notice of some of the others.
fn plain(number: usize, round: usize) -> Value {
    pod(number / 2 * VARIANTS + number % 2, round)
}

fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap().to_owned()
}

/// Pods by name, with the round that they were made or changed in.
type Rounds = BTreeMap<String, String>;

/// The pods that a job finds.
fn rounds(found: &Found, job: &str) -> Rounds {
    let of_job = found.iter().filter(|(of, _)| of == job);
    let one = |(_, target): &(String, String)| {
        let target: Value = serde_json::from_str(target).unwrap();
        let label = |name: &str| target[0][name].as_str().unwrap_or_default().to_owned();
        (label("__meta_kubernetes_pod_name"), label("__meta_kubernetes_pod_label_round"))
    };
    of_job.map(one).collect()
}

/// What promring finds, but for the API server's own service, which comes and goes with it.
async fn found_here() -> Option<Found> {
    let own = r#""__meta_kubernetes_namespace":"default""#;
    Some(found(ALLOCATOR_URL).await?.into_iter().filter(|(_, target)| !target.contains(own)).collect())
}

/// promring with the chart's ServiceAccount, through a tunnel, and what it has to find.
struct Watched<'a> {
    cluster: &'a Cluster,
    tunnel: Tunnel,
    allocator: Process,
    pods: Rounds,
    /// What is found beside pods, and never changes.
    rest: Found,
    next: usize,
}

impl<'a> Watched<'a> {
    async fn start(cluster: &'a Cluster, token: &str, pods: Rounds) -> Self {
        let tunnel = Tunnel::start(&cluster.api_url()).await;
        write_kubeconfig(cluster, &tunnel, token);
        write_config(cluster, 1);
        let config = cluster.dir().join("watched.yml");
        let arguments = ["allocator", "--config", text(&config), "--listen", "127.0.0.1:8080"];
        let allocator = Process::promring("watched", &arguments, cluster.dir());
        Self { cluster, tunnel, allocator, pods, rest: Found::new(), next: PODS }
    }

    /// Waits until every source of so many jobs of each role has told its targets, and none fails.
    async fn until_well(&self, jobs: usize) -> Found {
        eventually("every source is well", async || {
            let sources = sources().await?;
            let well = |source: &Value| source["synced"] == true && source["lastError"] == "";
            if sources.len() != jobs * ROLES.len() || !sources.iter().all(well) {
                return None;
            }
            found_here().await
        })
        .await
    }

    /// Waits until every job finds what it has to, and nothing else, and no source fails.
    async fn until_finds(&self) -> Found {
        eventually("every job finds what there is", async || {
            let found = self.until_well(JOBS).await;
            let same = (0..JOBS).all(|job| rounds(&found, &format!("pod-{job}")) == self.pods);
            (same && rest(&found) == self.rest).then_some(found)
        })
        .await
    }

    /// A new pod becomes a target, and one that goes is none.
    async fn assert_follows(&mut self) {
        let (new, old) = (plain(self.next, 0), plain(self.next - 1, 0));
        self.next += 1;
        apply_one(self.cluster, &new).await;
        self.pods.insert(name(&new), "0".to_owned());
        self.pods.remove(&name(&old));
        delete_all(self.cluster, vec![old]).await;
        self.until_finds().await;
    }

    /// Waits until the API server has taken so many requests of each kind since `before`, and no other ones.
    async fn until_asked(&self, before: &Counts, times: u64) {
        let wanted = requests(times);
        eventually(&format!("the API server has taken {wanted:?}"), async || {
            let now = load::since(before, load::counts(self.cluster).await?);
            let more = now.iter().any(|(kind, count)| wanted.get(kind).is_none_or(|most| count > most));
            assert!(!more, "{now:?}");
            (now == wanted).then_some(())
        })
        .await;
    }

    /// How often everything of each kind and scope was asked for, with success.
    fn lists(&self) -> BTreeMap<(String, String), usize> {
        let mut lists = BTreeMap::new();
        let requests = self.cluster.requests(ALLOCATOR);
        for one in requests.into_iter().filter(|one| one.lists && one.code == 200) {
            *lists.entry((one.resource, one.namespace)).or_default() += 1;
        }
        lists
    }

    /// Waits until everything of each kind and scope was asked for so many times, and no more.
    async fn until_listed(&self, times: usize) {
        eventually(&format!("all is listed {times} times"), async || {
            let lists = self.lists();
            assert!(lists.values().all(|count| *count <= times), "{times} times: {lists:?}");
            // Of each kind for discovery; the scrapers' StatefulSet and its pods.
            let all = lists.len() == KINDS.len() + 2 && lists.values().all(|count| *count == times);
            all.then_some(())
        })
        .await;
    }
}

/// So many requests for each kind and scope: of pods there are two scopes, the whole cluster and where the scrapers are.
fn requests(times: u64) -> Counts {
    let two_scopes = |kind: &str| if kind == "pods" { 2 } else { 1 };
    let kinds = KINDS.into_iter().chain(["statefulsets"]);
    load::watches(&kinds.map(|kind| (kind, two_scopes(kind) * times)).collect::<Vec<_>>())
}

fn rest(found: &Found) -> Found {
    found.iter().filter(|(job, _)| !job.starts_with("pod-")).cloned().collect()
}

async fn sources() -> Option<Vec<Value>> {
    let answer = get_json(&format!("{ALLOCATOR_URL}/api/v1/targets?state=active")).await?;
    answer["data"]["sources"].as_array().cloned()
}

/// Waits until every source says that it fails, with this in its words.
async fn until_failing(why: &str) {
    eventually(&format!("every source fails: {why}"), async || {
        let fails = |source: &Value| source["lastError"].as_str().is_some_and(|error| error.contains(why));
        sources().await?.iter().all(fails).then_some(())
    })
    .await;
}

fn write_kubeconfig(cluster: &Cluster, tunnel: &Tunnel, token: &str) {
    let direct = std::fs::read_to_string(cluster.kubeconfig_with("direct", token)).unwrap();
    publish(cluster, "tunnelled.kubeconfig", &direct.replace(&cluster.api_url(), &tunnel.url()));
}

/// So many jobs of each role, with everything attached.
fn write_config(cluster: &Cluster, jobs: usize) {
    let kubeconfig = cluster.dir().join("tunnelled.kubeconfig");
    let kubeconfig = kubeconfig.display();
    let mut yaml = format!(
        "allocator: {{members: statefulset, statefulset: metrics/promring-scraper, kubeconfig_file: {kubeconfig}}}\nscrape_configs:\n"
    );
    for (role, number) in ROLES.iter().flat_map(|role| (0..jobs).map(move |number| (role, number))) {
        let _ = writeln!(
            yaml,
            "- job_name: {role}-{number}
  kubernetes_sd_configs:
  - role: {role}
    kubeconfig_file: {kubeconfig}
    attach_metadata: {{node: true, namespace: true, deployment: true, job: true, cronjob: true}}"
        );
    }
    publish(cluster, "watched.yml", &yaml);
}

/// Renamed into place: half of it is never read.
fn publish(cluster: &Cluster, name: &str, text: &str) {
    let new = cluster.dir().join("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, cluster.dir().join(name)).unwrap();
}

/// A token of the allocator's that goes with a Secret.
async fn bound_token(cluster: &Cluster, holder: &str) -> String {
    cluster.kubectl(&["create", "secret", "generic", holder, "-n", "metrics"]).await;
    let bound = ["--bound-object-kind", "Secret", "--bound-object-name", holder];
    let create = ["create", "token", "promring-allocator", "-n", "metrics"];
    let token = cluster.kubectl(&[&create[..], &bound[..]].concat()).await;
    token.trim().to_owned()
}

/// Revokes it, and waits until the API server refuses it: it remembers for a while what it has found good.
async fn revoke(cluster: &Cluster, holder: &str, token: &str) {
    cluster.kubectl(&["delete", "secret", holder, "-n", "metrics"]).await;
    let reviews: Api<TokenReview> = Api::all(cluster.client());
    let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
    let question = TokenReview { spec, ..TokenReview::default() };
    eventually("the token is good no more", async || {
        let answer = reviews.create(&PostParams::default(), &question).await.ok()?;
        (answer.status?.authenticated != Some(true)).then_some(())
    })
    .await;
}

/// Makes everything that is found at first. Gives the pods.
async fn populate(cluster: &Cluster) -> Rounds {
    prepare(cluster).await;
    let still = services(0).into_iter().filter(|object| STILL.contains(&&*name(object)));
    apply_all(cluster, still.collect()).await;
    let pods: Vec<Value> = (0..PODS).map(|number| plain(number, 0)).collect();
    let rounds = pods.iter().map(|pod| (name(pod), "0".to_owned())).collect();
    apply_all(cluster, pods).await;
    // What controllers have to do: they annotate nodes, and mirror the Endpoints that were made by hand.
    let nodes: Api<Node> = Api::all(cluster.client());
    eventually("the nodes have what controllers give them", async || {
        let nodes = nodes.list(&ListParams::default()).await.ok()?;
        nodes.iter().all(|node| node.annotations().contains_key("node.alpha.kubernetes.io/ttl")).then_some(())
    })
    .await;
    let slices: Api<EndpointSlice> = Api::namespaced(cluster.client(), "shop");
    let of_service = ListParams::default().labels("kubernetes.io/service-name=byhand");
    eventually("the Endpoints have their slices", async || {
        let slices = slices.list(&of_service).await.ok()?;
        let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints);
        let addresses: BTreeSet<String> = endpoints.flat_map(|endpoint| endpoint.addresses).collect();
        (addresses.len() == 5).then_some(())
    })
    .await;
    rounds
}

/// Looks all the time which of the pods that stay are found, until it is dropped.
struct Lookout {
    task: tokio::task::JoinHandle<()>,
    /// How often it looked, and what it did not see.
    seen: Arc<Mutex<(usize, BTreeSet<String>)>>,
}

impl Lookout {
    fn start(stay: BTreeSet<String>) -> Self {
        let seen = Arc::new(Mutex::new((0, BTreeSet::new())));
        let noted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                if let Some(found) = found(ALLOCATOR_URL).await {
                    let rounds = rounds(&found, "pod-0");
                    let mut noted = noted.lock().unwrap();
                    noted.0 += 1;
                    noted.1.extend(stay.iter().filter(|name| !rounds.contains_key(*name)).cloned());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { task, seen }
    }

    fn assert_nothing_missed(&self) {
        let (looks, missing) = self.seen.lock().unwrap().clone();
        assert!(looks > 10 && missing.is_empty(), "{missing:?} were missing in some of {looks} looks");
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[test]
fn watches_that_are_cut_forgotten_or_refused_cost_no_target_and_few_requests() {
    run(&options(), async |cluster| {
        let pods = populate(cluster).await;
        cluster.kubectl(&["create", "namespace", "metrics"]).await;
        apply_roles(cluster, &["--set", &format!("discovery.resources={{{}}}", KINDS.join(","))]).await;
        let before = load::count_by_kind(cluster, &[&KINDS[..], &["statefulsets"]].concat()).await;
        let token = bound_token(cluster, "first").await;

        // One watch for each kind and scope, which begins with the list, whatever the number of jobs.
        let mut watched = Watched::start(cluster, &token, pods).await;
        let found = watched.until_well(1).await;
        assert_eq!(rounds(&found, "pod-0"), watched.pods);
        watched.until_asked(&before, 1).await;
        write_config(cluster, JOBS);
        let all = watched.until_well(JOBS).await;
        for role in ROLES {
            let one = of_job(&found, &format!("{role}-0"));
            let each: Vec<usize> =
                (0..JOBS).map(|number| of_job(&all, &format!("{role}-{number}"))).collect();
            assert!(one > 0 && each == [one; JOBS], "{role}: {one} targets of one job, {each:?} of several");
        }
        watched.rest = rest(&all);
        watched.until_finds().await;
        watched.until_asked(&before, 1).await;
        watched.until_listed(1).await;
        let goes = |number: &usize| number % 4 == 2 || number + 1 == PODS;
        let stay = (0..PODS).filter(|number| !goes(number)).map(|number| name(&plain(number, 0))).collect();
        let lookout = Lookout::start(stay);

        // Connections are cut: each watch goes on where it was.
        watched.tunnel.cut();
        watched.until_asked(&before, 2).await;
        watched.until_finds().await;
        watched.assert_follows().await;
        watched.until_listed(1).await;

        // The token is revoked: nothing goes. Another one is there: each watch goes on where it was.
        let targets = watched.until_finds().await;
        revoke(cluster, "first", &token).await;
        watched.tunnel.cut();
        until_failing("Unauthorized").await;
        assert_eq!(found_here().await.unwrap(), targets);
        let token = bound_token(cluster, "second").await;
        write_kubeconfig(cluster, &watched.tunnel, &token);
        watched.until_finds().await;
        watched.assert_follows().await;
        watched.until_asked(&before, 3).await;
        watched.until_listed(1).await;

        // promring is cut off; much changes, etcd forgets it, etcd and the API server restart: 410 for every watch. The list
        // that follows takes away what has gone, and nothing else.
        let targets = watched.until_finds().await;
        watched.tunnel.set_closed(true);
        until_failing(": ").await;
        let gone: Vec<Value> = (2..PODS).step_by(4).map(|number| plain(number, 0)).collect();
        gone.iter().for_each(|pod| drop(watched.pods.remove(&name(pod))));
        delete_all(cluster, gone).await;
        let changed: Vec<Value> = (1..PODS - 1).step_by(4).map(|number| plain(number, 1)).collect();
        watched.pods.extend(changed.iter().map(|pod| (name(pod), "1".to_owned())));
        apply_all(cluster, changed).await;
        cluster.compact().await;
        cluster.stop_api_server().await;
        cluster.restart_etcd().await;
        cluster.start_api_server().await;
        assert_eq!(found_here().await.unwrap(), targets, "nothing goes while promring is cut off");
        watched.tunnel.set_closed(false);
        watched.until_finds().await;
        watched.assert_follows().await;
        // The version of before is refused, the list begins. A server that has just started may put some of that off.
        watched.until_listed(2).await;
        let (least, most) = (requests(2), requests(4));
        let asked = load::counts(cluster).await.unwrap();
        let fair = asked.iter().all(|(kind, count)| most.get(kind).is_some_and(|most| count <= most));
        assert!(fair && least.iter().all(|(kind, least)| asked.get(kind) >= Some(least)), "{asked:?}");
        let log = watched.allocator.log();
        let forgotten = log.lines().filter(|line| line.contains("has forgotten our version")).count();
        assert!(forgotten >= KINDS.len(), "{forgotten} of the watches were told 410");
        lookout.assert_nothing_missed();
    });
}
