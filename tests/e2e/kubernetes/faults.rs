//! What befalls watches: no target is lost by it, and it costs the API server no more requests than it must.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use promring_cluster::{Cluster, run};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::changes::{Found, apply_all, delete_all, found, of_job, prepare};
use super::oracle::apply_roles;
use super::scenario::{pod, services};
use super::{ALLOCATOR, apply_one, options, text};
use crate::servers::part;
use crate::support::{Process, eventually, get_json};

const PODS: usize = 40;
/// Number of the first pod that the test makes to see whether promring still follows.
const LATER: usize = 1_010;
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

/// Verb, resource and namespace.
type Request = (String, String, String);

/// A way to the API server that can be cut.
struct Tunnel {
    address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy)]
struct State {
    /// How often everything was cut.
    cuts: usize,
    closed: bool,
}

impl Tunnel {
    async fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State { cuts: 0, closed: false });
        let (to, states) = (to.trim_start_matches("https://").to_owned(), state.subscribe());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (to, mut states) = (to.clone(), states.clone());
                let begun = *states.borrow_and_update();
                if begun.closed {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(&to).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = states.wait_for(|now| now.cuts > begun.cuts) => {}
                    }
                });
            }
        });
        Self { address, state }
    }

    /// Cuts all connections; new ones come about.
    fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Cuts all connections, and lets new ones in or not.
    fn set_closed(&self, closed: bool) {
        self.state.send_modify(|state| *state = State { cuts: state.cuts + 1, closed });
    }
}

/// What has not changed for this long is still.
const STILL: Duration = Duration::from_secs(2);

/// promring with the chart's ServiceAccount, through a tunnel.
struct Watched<'a> {
    cluster: &'a Cluster,
    tunnel: Tunnel,
    allocator: Process,
    base: &'static str,
    later: usize,
}

impl<'a> Watched<'a> {
    async fn start(cluster: &'a Cluster, token: &str) -> Self {
        let tunnel = Tunnel::start(&cluster.api_url()).await;
        write_kubeconfig(cluster, &tunnel, token);
        write_config(cluster, 1);
        let config = cluster.dir().join("watched.yml");
        let arguments = ["allocator", "--config", text(&config), "--listen", "127.0.0.1:8080"];
        let allocator = Process::promring("watched", &arguments, cluster.dir());
        Self { cluster, tunnel, allocator, base: "http://127.0.0.1:8080", later: LATER }
    }

    /// Waits until every source of so many jobs of each role has told its targets, and none fails.
    async fn until_well(&self, jobs: usize) -> Found {
        eventually("every source is well", async || {
            let sources = self.sources().await?;
            let well = |source: &&Value| source["synced"] == true && source["lastError"] == "";
            let all =
                sources.len() == jobs * ROLES.len() && sources.iter().filter(well).count() == sources.len();
            if !all {
                return None;
            }
            // And nothing is under way: the control plane's own controllers follow each change with changes of theirs.
            let targets = found(self.base).await?;
            tokio::time::sleep(STILL).await;
            (found(self.base).await? == targets).then_some(targets)
        })
        .await
    }

    async fn sources(&self) -> Option<Vec<Value>> {
        let answer = get_json(&format!("{}/api/v1/targets?state=active", self.base)).await?;
        answer["data"]["sources"].as_array().cloned()
    }

    /// Waits until every source says that it fails, with this in its words.
    async fn until_failing(&self, why: &str) {
        eventually(&format!("every source fails: {why}"), async || {
            let sources = self.sources().await?;
            let fails =
                |source: &Value| source["lastError"].as_str().is_some_and(|error| error.contains(why));
            sources.iter().all(fails).then_some(())
        })
        .await;
    }

    /// A new pod becomes a target, and one that goes is none.
    async fn assert_follows(&mut self) {
        let (new, old) = (self.later, self.later - 1);
        self.later += 1;
        apply_one(self.cluster, &pod(new, 0)).await;
        delete_all(self.cluster, vec![pod(old, 0)]).await;
        eventually("promring follows", async || {
            let found = found(self.base).await?;
            let has = |number: usize| {
                let name = format!("\"pod-{number}\"");
                found.iter().any(|(job, target)| job == "pod-0" && target.contains(&name))
            };
            (has(new) && !has(old)).then_some(())
        })
        .await;
    }

    /// How often promring has begun each kind of request so far, by verb, resource and namespace.
    fn requests(&self) -> BTreeMap<Request, usize> {
        let mut requests = BTreeMap::new();
        for one in self.cluster.requests(ALLOCATOR) {
            *requests.entry((one.verb, one.resource, one.namespace)).or_default() += 1;
        }
        requests
    }

    /// Waits until every watch was asked for again, at least so many times since `before`; and no list was, nor any watch more
    /// than `most` times.
    async fn until_asked(&self, before: &BTreeMap<Request, usize>, least: usize, most: usize) {
        eventually("every watch is asked for", async || {
            let now = self.requests();
            let more = |request: &Request| now[request] - before.get(request).copied().unwrap_or_default();
            (now.len() >= KINDS.len() + 2 && now.keys().all(|request| more(request) >= least)).then_some(())
        })
        .await;
        let now = self.requests();
        assert_eq!(now.keys().filter(|(verb, _, _)| verb != "watch").count(), 0, "{now:?}");
        assert_eq!(now.len(), KINDS.len() + 2, "{now:?}");
        for (request, count) in &now {
            let more = count - before.get(request).copied().unwrap_or_default();
            assert!(more <= most, "{request:?}: {more} times");
        }
    }
}

fn write_kubeconfig(cluster: &Cluster, tunnel: &Tunnel, token: &str) {
    let path = cluster.kubeconfig_with("tunnelled", token);
    let direct = std::fs::read_to_string(&path).unwrap();
    let through = format!("https://{}", tunnel.address);
    std::fs::write(&path, direct.replace(&cluster.api_url(), &through)).unwrap();
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
    let path = cluster.dir().join("watched.yml");
    // Renamed into place: half of it is never read.
    std::fs::write(path.with_extension("new"), yaml).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

/// Watches that are open, and lists that were answered, by resource and scope.
type Load = BTreeMap<(String, String, String), i64>;

/// What the API server says of its load.
async fn load(cluster: &Cluster) -> Load {
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]).await;
    let mut load = Load::new();
    for line in metrics.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Some((name, labels)) = series.split_once('{') else { continue };
        let label = |name: &str| {
            let value = labels.split_once(&format!("{name}=\""))?.1;
            Some(value.split_once('"')?.0.to_owned())
        };
        let verb = label("verb").unwrap_or_default();
        let what = match (name, &*verb) {
            ("apiserver_longrunning_requests", "WATCH" | "WATCHLIST") => "watch",
            ("apiserver_request_total", "LIST") => "list",
            _ => continue,
        };
        let key =
            (what.to_owned(), label("resource").unwrap_or_default(), label("scope").unwrap_or_default());
        *load.entry(key).or_default() += value.parse::<f64>().unwrap() as i64;
    }
    load
}

/// What has come since.
fn more(now: Load, before: &Load) -> Load {
    let changes = now.into_iter().map(|(key, value)| {
        let less = before.get(&key).copied().unwrap_or_default();
        (key, value - less)
    });
    changes.filter(|(_, change)| *change != 0).collect()
}

/// The same once nobody's watches come and go any more: controllers begin theirs for a while.
async fn settled_load(cluster: &Cluster) -> Load {
    let mut last = load(cluster).await;
    eventually("nobody begins watches", async || {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = std::mem::replace(&mut last, load(cluster).await);
        (before == last).then(|| last.clone())
    })
    .await
}

async fn bound_token(cluster: &Cluster, holder: &str) -> String {
    cluster.kubectl(&["create", "secret", "generic", holder, "-n", "metrics"]).await;
    let bound = ["--bound-object-kind", "Secret", "--bound-object-name", holder];
    let create = ["create", "token", "promring-allocator", "-n", "metrics"];
    let token = cluster.kubectl(&[&create[..], &bound[..]].concat()).await;
    token.trim().to_owned()
}

#[test]
fn watches_that_are_cut_forgotten_or_refused_cost_no_target_and_few_requests() {
    run(&options(), async |cluster| {
        prepare(cluster).await;
        apply_all(cluster, services(0)).await;
        apply_all(cluster, (0..PODS).chain([LATER - 1]).map(|number| pod(number, 0)).collect()).await;
        cluster.kubectl(&["create", "namespace", "metrics"]).await;
        apply_roles(cluster, &["--set", &format!("discovery.resources={{{}}}", KINDS.join(","))]).await;
        let token = bound_token(cluster, "first").await;
        let before = settled_load(cluster).await;

        // One watch for each kind and scope, which begins with the list, whatever the number of jobs: the API server says
        // so itself.
        let mut watched = Watched::start(cluster, &token).await;
        let targets = watched.until_well(1).await;
        assert!(of_job(&targets, "pod-0") >= PODS);
        watched.until_asked(&BTreeMap::new(), 1, 1).await;
        let one = |resource: &str, scope: &str| ("watch".to_owned(), resource.to_owned(), scope.to_owned());
        let mut wanted: Load = KINDS.iter().map(|kind| (one(kind, "cluster"), 1)).collect();
        wanted.extend([(one("pods", "namespace"), 1), (one("statefulsets", "resource"), 1)]);
        assert_eq!(more(load(cluster).await, &before), wanted);
        write_config(cluster, 8);
        let targets = watched.until_well(8).await;
        assert_eq!(of_job(&targets, "pod-7"), of_job(&targets, "pod-0"));
        assert_eq!(more(load(cluster).await, &before), wanted);
        watched.until_asked(&BTreeMap::new(), 1, 1).await;

        // Connections are cut: each watch goes on where it was.
        let (targets, asked) = (watched.until_well(8).await, watched.requests());
        watched.tunnel.cut();
        watched.until_asked(&asked, 1, 1).await;
        assert_eq!(more(load(cluster).await, &before), wanted);
        assert_eq!(watched.until_well(8).await, targets);
        watched.assert_follows().await;
        watched.until_asked(&asked, 1, 1).await;

        // The token is revoked: nothing goes. Another one is there: it goes on.
        let targets = watched.until_well(8).await;
        cluster.kubectl(&["delete", "secret", "first", "-n", "metrics"]).await;
        let program = part("KUBERNETES");
        eventually("the token is good no more", async || {
            let question = ["kubectl", "auth", "whoami", "--token", &token];
            cluster.tool(Path::new(&program), &question).await.is_err().then_some(())
        })
        .await;
        watched.tunnel.cut();
        watched.until_failing("Unauthorized").await;
        assert_eq!(found(watched.base).await.unwrap(), targets);
        let token = bound_token(cluster, "second").await;
        write_kubeconfig(cluster, &watched.tunnel, &token);
        assert_eq!(watched.until_well(8).await, targets);
        watched.assert_follows().await;

        // promring is cut off; much changes, etcd forgets it, all of the control plane restarts: 410 for every watch. The
        // list that follows takes away what has gone, and nothing else.
        let targets = watched.until_well(8).await;
        watched.tunnel.set_closed(true);
        watched.until_failing(": ").await;
        let last = (0..PODS).step_by(4).map(|number| pod(number, 0)).collect::<Vec<_>>();
        delete_all(cluster, last.clone()).await;
        apply_all(cluster, (1..PODS).step_by(4).map(|number| pod(number, 1)).collect()).await;
        cluster.compact().await;
        cluster.stop_api_server().await;
        cluster.restart_etcd().await;
        cluster.start_api_server().await;
        assert_eq!(found(watched.base).await.unwrap(), targets, "nothing goes while promring is cut off");
        let asked = watched.requests();
        watched.tunnel.set_closed(false);
        let after = watched.until_well(8).await;
        eventually("the pods that were deleted meanwhile are gone", async || {
            let found = found(watched.base).await?;
            let names = last.iter().map(|pod| format!("\"{}\"", pod["metadata"]["name"].as_str().unwrap()));
            let there =
                |name: String| found.iter().any(|(job, target)| job == "pod-0" && target.contains(&name));
            (!names.into_iter().any(there)).then_some(())
        })
        .await;
        assert_ne!(after, targets);
        watched.assert_follows().await;
        // The old version is refused, the list begins; once more where the new server was not ready for it.
        watched.until_asked(&asked, 2, 4).await;
        let log = watched.allocator.log();
        let forgotten = log.lines().filter(|line| line.contains("has forgotten our version")).count();
        assert!(forgotten >= KINDS.len(), "{forgotten} of the watches were told 410");
        assert_fresh_start_agrees(cluster, &watched).await;
    });
}

/// A second allocator that starts now finds the same.
async fn assert_fresh_start_agrees(cluster: &Cluster, watched: &Watched<'_>) {
    let config: &Path = &cluster.dir().join("watched.yml");
    let arguments = ["allocator", "--config", text(config), "--listen", "127.0.0.1:8081"];
    let _fresh = Process::promring("fresh", &arguments, cluster.dir());
    eventually("a fresh start finds the same", async || {
        let (ours, fresh) = (found(watched.base).await?, found("http://127.0.0.1:8081").await?);
        (ours == fresh).then_some(())
    })
    .await;
}
