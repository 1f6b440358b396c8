//! Two allocators and a Lease: one leads, the other one stands ready, and failing over moves nothing. The Lease is kept by a
//! small API server here; the real one is in tests/e2e.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing;
use axum::{Json, Router};
use promring_testkit::exporter::{Fleet, FleetOptions};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Process, client, eventually, free_port, get, get_json, metric};

const TARGETS: usize = 12;

const MEMBERS: &str = "scraper-0, scraper-1";

/// A configuration with these scrapers, and further keys of the allocator.
fn text(members: &str, keys: &str) -> String {
    format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: sample, file_sd_configs: [{{files: [targets.json]}}]}}]
allocator: {{settle: 1s, lapse: 5s, members: static, scrapers: [{members}], scraper_capacity: 1000{keys}}}
scraper: {{heartbeat: 300ms, flush_timeout: 0s}}
"
    )
}

/// A Lease without a holder, as the chart makes it.
#[derive(Clone)]
struct Lease(Arc<Mutex<Value>>);

impl Lease {
    async fn start() -> (Self, String) {
        let empty = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "promring", "namespace": "metrics", "resourceVersion": "1"},
        });
        let lease = Self(Arc::new(Mutex::new(empty)));
        let read = async |State(lease): State<Self>| Json(lease.now());
        let update = async |State(lease): State<Self>, Json(mut wanted): Json<Value>| {
            let mut kept = lease.0.lock().unwrap();
            let version = kept["metadata"]["resourceVersion"].clone();
            if wanted["metadata"]["resourceVersion"] != version {
                return Err(StatusCode::CONFLICT);
            }
            let next = version.as_str().unwrap().parse::<u64>().unwrap() + 1;
            wanted["metadata"]["resourceVersion"] = json!(next.to_string());
            kept.clone_from(&wanted);
            Ok(Json(wanted))
        };
        let path = "/apis/coordination.k8s.io/v1/namespaces/metrics/leases/promring";
        let router = Router::new().route(path, routing::get(read).put(update)).with_state(lease.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (lease, url)
    }

    fn now(&self) -> Value {
        self.0.lock().unwrap().clone()
    }

    /// The leader's address and term.
    fn leader(&self) -> Option<(String, u64)> {
        let lease = self.now();
        let annotations = &lease["metadata"]["annotations"];
        let held = lease["spec"]["holderIdentity"].as_str().is_some_and(|holder| !holder.is_empty());
        let term = annotations["promring.io/term"].as_str()?.parse().ok()?;
        held.then(|| (annotations["promring.io/address"].as_str().unwrap_or_default().to_owned(), term))
    }
}

struct World {
    dir: tempfile::TempDir,
    _fleet: Fleet,
    lease: Lease,
    config: PathBuf,
    kubeconfig: PathBuf,
    listens: [String; 2],
    scrapers: Vec<Process>,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fleet = Fleet::start(FleetOptions { targets: TARGETS, ..FleetOptions::default() }).await.unwrap();
        std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
        let config = dir.path().join("prometheus.yml");
        std::fs::write(&config, text(MEMBERS, "")).unwrap();
        let (lease, url) = Lease::start().await;
        let kubeconfig = dir.path().join("kubeconfig");
        let file = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "user", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
        });
        std::fs::write(&kubeconfig, file.to_string()).unwrap();
        let listens = [(), ()].map(|()| format!("127.0.0.1:{}", free_port()));
        Self { dir, _fleet: fleet, lease, config, kubeconfig, listens, scrapers: Vec::new() }
    }

    fn allocator(&self, number: usize, log: &str) -> Process {
        let (config, kubeconfig) = (self.config.to_str().unwrap(), self.kubeconfig.to_str().unwrap());
        let name = format!("allocator-{number}");
        let arguments = ["allocator", "--config", config, "--listen", &self.listens[number], "--name", &name];
        let election = ["--lease", "metrics/promring", "--kubeconfig", kubeconfig];
        Process::promring(log, &[&arguments[..], &election].concat(), self.dir.path())
    }

    /// Writes another configuration, which the allocators take by themselves.
    fn reconfigure(&self, text: &str) {
        let new = self.config.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &self.config).unwrap();
    }

    /// What each of these drop-in clients is told by an allocator, once it tells all of them so many targets together.
    async fn lists(&self, number: usize, clients: &[&str]) -> BTreeMap<String, String> {
        eventually("every client has a list", async || {
            let mut lists = BTreeMap::new();
            let mut count = 0;
            for client in clients {
                let list = get(&format!("{}/http_sd/{client}?job=sample", self.url(number))).await?;
                count += serde_json::from_str::<Vec<Value>>(&list).ok()?.len();
                lists.insert((*client).to_owned(), list);
            }
            (count == TARGETS && lists.values().all(|list| list != "[]")).then_some(lists)
        })
        .await
    }

    fn url(&self, number: usize) -> String {
        format!("http://{}", self.listens[number])
    }

    /// Starts both scrapers; each is told of another allocator first.
    fn start_scrapers(&mut self) {
        for number in 0..2 {
            let (name, listen) = (format!("scraper-{number}"), format!("127.0.0.1:{}", free_port()));
            let data = self.dir.path().join(&name);
            let (config, data) = (self.config.to_str().unwrap(), data.to_str().unwrap());
            let (url, peer) = (self.url(number), &self.listens[1 - number]);
            let arguments = ["scraper", "--config", config, "--name", &name, "--allocator", &url];
            let more = ["--allocator-peers", peer, "--listen", &listen, "--data-dir", data];
            let process = Process::promring(&name, &[&arguments[..], &more].concat(), self.dir.path());
            self.scrapers.push(process);
        }
    }

    /// Who leads, once that is somebody with at least this term.
    async fn leader(&self, term_min: u64) -> (usize, u64) {
        eventually("an allocator leads", async || {
            let (address, term) = self.lease.leader()?;
            let number = (0..2).find(|number| self.url(*number) == address)?;
            (term >= term_min).then_some((number, term))
        })
        .await
    }

    /// Each target's scraper, once all are scraped, as this allocator tells.
    async fn owners(&self, number: usize) -> BTreeMap<String, String> {
        eventually("every target is scraped", async || {
            let answer = get_json(&format!("{}/api/v1/targets", self.url(number))).await?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let targets = answer["data"]["activeTargets"].as_array()?;
            let up = targets.iter().filter(|target| target["health"] == "up").count();
            let owner = |target: &Value| (text(&target["scrapeUrl"]), text(&target["scraper"]));
            let owners: BTreeMap<String, String> = targets.iter().map(owner).collect();
            (up == TARGETS && owners.values().all(|owner| !owner.is_empty())).then_some(owners)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_over_moves_nothing_whether_the_leader_stops_or_dies() {
    let mut world = World::new().await;
    let mut allocators = [world.allocator(0, "allocator-0"), world.allocator(1, "allocator-1")];
    world.start_scrapers();
    let (leader, term) = world.leader(1).await;
    let owners = world.owners(leader).await;
    let scrapers: std::collections::BTreeSet<_> = owners.values().collect();
    assert_eq!(scrapers.len(), 2, "{owners:?}");

    // The follower is ready, shows what the leader shows, and redirects those who are the leader's.
    let follower = 1 - leader;
    eventually("the follower is ready", async || {
        let url = format!("{}/readyz", world.url(follower));
        client().get(url).send().await.ok()?.status().is_success().then_some(())
    })
    .await;
    assert_eq!(world.owners(follower).await, owners);
    let version = async |number: usize| {
        let answer = get_json(&format!("{}/api/v1/scrapers", world.url(number))).await.unwrap();
        answer["data"]["version"].clone()
    };
    assert_eq!(version(follower).await, version(leader).await);
    let no_redirects =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let path = "/api/v1/assignments/scraper-0?wait=0s";
    let answer = no_redirects.get(format!("{}{path}", world.url(follower))).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 307);
    assert_eq!(answer.headers()["location"].to_str().unwrap(), format!("{}{path}", world.url(leader)));
    for (number, leads) in [(leader, 1.0), (follower, 0.0)] {
        let url = world.url(number);
        eventually("the metric says who leads", async || {
            (metric(&url, "promring_allocator_leader").await? == leads).then_some(())
        })
        .await;
    }

    // What only the leader knows is shown by the leader alone.
    eventually("the leader says how many scrapers are wanted", async || {
        metric(&world.url(leader), "promring_allocator_scrapers_wanted").await
    })
    .await;
    let metrics = get(&format!("{}/metrics", world.url(follower))).await.unwrap();
    for name in ["scrapers_wanted", "weight{", "targets{", "scraper_behind_seconds", "imbalance_ratio"] {
        assert!(
            !metrics.contains(&format!("\npromring_allocator_{name}")),
            "{name} of a follower: {metrics}"
        );
    }

    // It stops in order: the Lease is free at once, and the other one goes on where it was.
    assert!(allocators[leader].terminate().success(), "{}", allocators[leader].log());
    let (second, second_term) = world.leader(term + 1).await;
    assert_eq!(second, follower);
    assert_eq!(world.owners(second).await, owners);

    // It dies: its Lease runs out.
    allocators[leader] = world.allocator(leader, "allocator-again");
    eventually("the first one follows", async || {
        let url = format!("{}/readyz", world.url(leader));
        client().get(url).send().await.ok()?.status().is_success().then_some(())
    })
    .await;
    allocators[second].signal(Signal::KILL);
    let (third, _) = world.leader(second_term + 1).await;
    assert_eq!(third, leader);
    assert_eq!(world.owners(third).await, owners);
    for scraper in &world.scrapers {
        assert!(!scraper.log().contains("panicked"), "{}", scraper.log());
    }
    let metrics = get(&format!("{}/metrics", world.url(third))).await.unwrap();
    let moves = metrics.lines().filter(|line| line.starts_with("promring_allocator_moves_total"));
    assert_eq!(moves.filter(|line| !line.ends_with(" 0")).collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_in_clients_are_told_the_same_by_both_allocators_and_by_whichever_leads_next() {
    const DROP_IN: &str = ", clients: drop-in";
    let world = World::new().await;
    let clients = ["a", "b", "c"];
    world.reconfigure(&text("a, b", DROP_IN));
    let mut allocators = [world.allocator(0, "allocator-0"), world.allocator(1, "allocator-1")];
    let (leader, term) = world.leader(1).await;
    world.lists(leader, &clients[..2]).await;
    // A third client leaves owners that no fresh placement would give.
    world.reconfigure(&text("a, b, c", DROP_IN));
    let three = world.lists(leader, &clients).await;
    let follower = 1 - leader;
    eventually("the follower tells what the leader does", async || {
        (world.lists(follower, &clients).await == three).then_some(())
    })
    .await;
    let ready = client().get(format!("{}/readyz", world.url(follower))).send().await.unwrap();
    assert_eq!(ready.status().as_u16(), 200);

    allocators[leader].signal(Signal::KILL);
    let (second, second_term) = world.leader(term + 1).await;
    assert_eq!((second, world.lists(second, &clients).await), (follower, three.clone()));
    // One that starts anew while another one leads knows it from there.
    allocators[leader] = world.allocator(leader, "allocator-again");
    eventually("the new one tells what the leader does", async || {
        let list = get(&format!("{}/http_sd/a?job=sample", world.url(leader))).await?;
        (list == three["a"]).then_some(())
    })
    .await;
    assert!(allocators[second].terminate().success(), "{}", allocators[second].log());
    let (third, _) = world.leader(second_term + 1).await;
    assert_eq!((third, world.lists(third, &clients).await), (leader, three));
    // It places as it should when something really changes.
    world.reconfigure(&text("a, b", DROP_IN));
    world.lists(third, &clients[..2]).await;
}
