//! What a large cluster costs the allocator: memory a target, the way of a pod's change to the assignment, and serving
//! (scrapers, and drop-in clients) while everything is listed again. Holds each against its goal, and ends with 1 when one is missed.
//!
//! `cargo bench -p promring-allocator --bench kubernetes`. The API server is a process of its own (this program
//! again), which generates the pods; the allocator is the product's own, with the rules of `testdata/seed.yml`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark stops where it cannot go on, and prints what it measured"
)]

mod probe;
mod server;

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use probe::Probe;
use promring_allocator::Allocator;
use promring_model::config::{Config, ConfigSource, load};
use promring_model::target::TargetId;
use promring_net::shutdown::Shutdown;
use promring_proto::api::{Assignment, MemberReport, Report, Version};
use serde_json::Value;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// Scrapers that the targets are spread over.
const SCRAPERS: [&str; 3] = ["scraper-0", "scraper-1", "scraper-2"];

/// Changes measured for the latency.
const CHANGES: usize = 100;

/// From a pod's event to the published assignment, 99 of 100.
const LATENCY_MAX: Duration = Duration::from_millis(100);
/// Resident memory of a target whose annotations are short.
const BYTES_MAX: u64 = 2 << 10;
/// How long one pod changes again and again.
const CHANGING: Duration = Duration::from_secs(5);
/// Whoever waits longer for an answer has noticed that something else goes on.
const STALL: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => {
            server::serve(arguments[1].parse().unwrap(), arguments[2] == "long");
            ExitCode::SUCCESS
        }
        Some("measure") => measure(&arguments[1], arguments[2].parse().unwrap(), &arguments[3]),
        // `cargo test --all-targets` runs benches too, in debug builds, where figures mean nothing.
        _ if !arguments.iter().any(|argument| argument == "--bench") => ExitCode::SUCCESS,
        _ => {
            // Each in a process of its own: memory that one has used would count for the next.
            let reached = [
                run("latency", 10_000, "short"),
                run("memory", 100_000, "short"),
                run("memory", 100_000, "long"),
                run("relist", 100_000, "short"),
                run("relist-drop-in", 100_000, "short"),
            ];
            if reached.contains(&false) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}

/// Whether the goal was reached.
fn run(what: &str, pods: usize, annotations: &str) -> bool {
    let me = std::env::current_exe().unwrap();
    let status = Command::new(me).args(["measure", what, &pods.to_string(), annotations]).status().unwrap();
    status.success()
}

fn measure(what: &str, pods: usize, annotations: &str) -> ExitCode {
    // As the product runs: a thread for each core.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let reached = runtime.block_on(async {
        let cluster = Cluster::start(pods, annotations);
        let before = rss();
        let began = Instant::now();
        let clients = if what == "relist-drop-in" { Clients::DropIn } else { Clients::Promring };
        let allocator = started(&cluster, clients).await;
        println!(
            "{what}, {pods} pods, {annotations} annotations: assigned after {:.1} s",
            began.elapsed().as_secs_f64()
        );
        match what {
            "latency" => latency(&cluster, &allocator, pods).await,
            "memory" => {
                println!("  {} bytes a target before anybody asks", (rss() - before) / pods as u64);
                // The first answers are made as scrapers ask for them, and what they took is free again once these poll on.
                let routes = allocator.routes();
                let mut polls = JoinSet::new();
                for scraper in SCRAPERS {
                    drop(answer(&routes, scraper, None, "gzip").await);
                    let (routes, held) = (routes.clone(), allocator.state().version_of(scraper));
                    polls.spawn(async move { answer(&routes, scraper, held, "gzip").await });
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                let after = rss();
                let bytes = (after - before) / pods as u64;
                println!("  RSS before {} KiB, after {} KiB", before >> 10, after >> 10);
                println!("  {bytes} bytes a target");
                annotations == "long" || goal(bytes <= BYTES_MAX, &format!("{BYTES_MAX} bytes a target"))
            }
            "relist" | "relist-drop-in" => relist(&cluster, &allocator, clients).await,
            other => panic!("no measurement {other}"),
        }
    });
    if reached { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn goal(reached: bool, what: &str) -> bool {
    println!("  goal: {what}: {}", if reached { "reached" } else { "missed" });
    reached
}

/// Who asks the allocator for targets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clients {
    /// Scrapers, which poll and report.
    Promring,
    /// Prometheus servers, which ask for whole lists.
    DropIn,
}

/// An allocator that has assigned every pod of the cluster.
async fn started(cluster: &Cluster, clients: Clients) -> Allocator {
    let allocator = Allocator::new(Arc::new(config(&cluster.address, clients)), Shutdown::new());
    let running = allocator.clone();
    tokio::spawn(async move { running.run().await });
    if clients == Clients::Promring {
        tokio::spawn(report_on(allocator.clone()));
    }
    let routes = allocator.routes();
    while assigned(&routes).await < cluster.pods {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    allocator
}

/// What the scrapers have to say.
async fn report_on(allocator: Allocator) {
    for sequence in 1.. {
        for scraper in SCRAPERS {
            let promised = allocator.state().version().unwrap().term;
            let handover = MemberReport { run: 1, sequence, promised, full: true, ..MemberReport::default() };
            let report = Report { full: true, handover, ..Report::default() };
            allocator.state().report(scraper, report, promring_net::clock::now_ms()).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// How many targets the scrapers or clients have.
async fn assigned(routes: &Router) -> usize {
    let list: Value = serde_json::from_slice(&get(routes, "/api/v1/scrapers").await).unwrap();
    let counts = list["data"]["scrapers"].as_array().unwrap().iter();
    counts.map(|scraper| usize::try_from(scraper["targets"].as_u64().unwrap()).unwrap()).sum()
}

/// From the change of the path in a pod's annotations to the assignment that has the target with the new one.
async fn latency(cluster: &Cluster, allocator: &Allocator, pods: usize) -> bool {
    let routes = allocator.routes();
    let mut times = Vec::new();
    for change in 0..CHANGES {
        let path = format!("/v{change}");
        let mut polls = JoinSet::new();
        for scraper in SCRAPERS {
            let held = poll(&routes, scraper, None).await.unwrap().version;
            polls.spawn(until_told(routes.clone(), scraper, held, path.clone()));
        }
        // Let the polls come to wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        cluster.control(&format!("touch?pod={}&value=v{change}", change * 97 % pods)).await;
        polls.join_next().await.unwrap().unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!(
        "  pod event to published assignment: median {:.1?}, p99 {:.1?}, max {:.1?}",
        at(50),
        at(99),
        at(100)
    );
    goal(at(99) < LATENCY_MAX, &format!("p99 < {LATENCY_MAX:?}"))
}

/// Polls until the scraper is told of a target with this path.
async fn until_told(routes: Router, scraper: &'static str, mut held: Version, path: String) {
    loop {
        let Some(assignment) = poll(&routes, scraper, Some(held)).await else { continue };
        if with_path(&assignment, &path).next().is_some() {
            return;
        }
        held = assignment.version;
    }
}

/// The targets that are told with this path.
fn with_path<'a>(assignment: &'a Assignment, path: &'a str) -> impl Iterator<Item = TargetId> + 'a {
    let targets = assignment.upsert.values().flat_map(|job| &job.targets);
    let told = targets.filter(move |target| target.labels.get("__metrics_path__") == Some(path));
    told.map(|target| target.id)
}

/// How long others wait while the whole cluster is listed again: as it was, with a hundredth of it changed, and with a tenth.
async fn relist(cluster: &Cluster, allocator: &Allocator, clients: Clients) -> bool {
    let routes = allocator.routes();
    let mut asking = Asking::new(routes.clone(), clients).await;
    for _ in 0..20 {
        asking.ask_for(Duration::from_millis(200)).await;
    }
    let quiet = asking.print_times("without a list");
    let mut reached = true;
    if clients == Clients::DropIn {
        let began = Instant::now();
        for change in 0.. {
            if began.elapsed() >= CHANGING {
                break;
            }
            cluster.control(&format!("touch?pod=77&value=changed-{change}")).await;
            asking.ask_for(Duration::from_millis(250)).await;
        }
        let longest = asking.print_times("while a pod changes four times a second");
        reached &= longest.iter().all(|(what, longest)| *longest < quiet[what] + STALL);
    }
    for changed in [0, cluster.pods / 100, cluster.pods / 10] {
        let path = format!("/relisted-{changed}");
        // The scrapers poll on meanwhile, and hear of every change.
        let told = Arc::new(Mutex::new(HashSet::new()));
        let mut followers = JoinSet::new();
        if clients == Clients::Promring {
            for scraper in SCRAPERS {
                let held = poll(&routes, scraper, None).await.unwrap().version;
                followers.spawn(follow(routes.clone(), scraper, held, path.clone(), Arc::clone(&told)));
            }
        }
        let lists = cluster.control("lists").await;
        cluster.control(&format!("forget?changed={changed}&value=relisted-{changed}")).await;
        let began = Instant::now();
        while cluster.control("lists").await == lists {
            asking.ask_for(Duration::from_millis(200)).await;
        }
        println!("  the list took {:.1} s", began.elapsed().as_secs_f64());
        let published = |asking: &Asking| match clients {
            Clients::Promring => told.lock().unwrap().len(),
            Clients::DropIn => asking.listed(&path),
        };
        while published(&asking) < changed {
            asking.ask_for(Duration::from_millis(200)).await;
        }
        println!("  all changes were published after {:.1} s", began.elapsed().as_secs_f64());
        asking.ask_for(Duration::from_secs(2)).await;
        let longest = asking.print_times(&format!("during a list with {changed} changed pods"));
        // A whole list of targets takes its time in any case.
        reached &= longest.iter().all(|(what, longest)| *longest < quiet[what] + STALL);
    }
    goal(reached, &format!("no answer takes {STALL:?} longer than the longest without a list"))
}

/// Polls as a scraper does, and notes the targets that it is told of with this path.
async fn follow(
    routes: Router,
    scraper: &'static str,
    mut held: Version,
    path: String,
    told: Arc<Mutex<HashSet<TargetId>>>,
) {
    loop {
        if let Some(assignment) = poll(&routes, scraper, Some(held)).await {
            told.lock().unwrap().extend(with_path(&assignment, &path));
            held = assignment.version;
        }
    }
}

/// Somebody who asks one thing after the other, and how long each answer took.
struct Asking {
    routes: Router,
    clients: Clients,
    /// The version that the last assignment had.
    held: Option<Version>,
    /// The last list of each client's targets.
    lists: [Bytes; SCRAPERS.len()],
    next: usize,
    times: BTreeMap<&'static str, Vec<Duration>>,
    /// Somebody else, who sees when a thread that serves sockets is away.
    probe: Probe,
}

impl Asking {
    async fn new(routes: Router, clients: Clients) -> Self {
        let held = match clients {
            Clients::Promring => Some(poll(&routes, SCRAPERS[0], None).await.unwrap().version),
            Clients::DropIn => None,
        };
        let probe = Probe::start(routes.clone()).await;
        Self { routes, clients, held, lists: Default::default(), next: 0, times: BTreeMap::new(), probe }
    }

    /// Asks for what people and scripts look at, and for what scrapers or clients do.
    async fn ask_for(&mut self, time: Duration) {
        let began = Instant::now();
        if self.clients == Clients::DropIn {
            // Not as often as the rest: it is a third of all targets, and clients ask twice a minute.
            let path = format!("/http_sd/{}?job=pods", SCRAPERS[self.next]);
            self.lists[self.next] = self.timed("a whole list of http_sd", &path).await;
            self.next = (self.next + 1) % SCRAPERS.len();
        }
        for round in 0.. {
            if began.elapsed() >= time {
                return;
            }
            self.timed("the scrapers", "/api/v1/scrapers").await;
            // One that asks more often is turned away.
            if self.clients == Clients::Promring && round % 8 == 0 {
                let asked = Instant::now();
                let answer = answer_in(&self.routes, SCRAPERS[0], self.held, "identity", "0s").await;
                self.took("what is new for a scraper", asked);
                if let Some(answer) = answer {
                    self.held = Some(serde_json::from_slice::<Assignment>(&answer).unwrap().version);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn timed(&mut self, what: &'static str, path: &str) -> Bytes {
        let asked = Instant::now();
        let answer = get(&self.routes, path).await;
        self.took(what, asked);
        answer
    }

    fn took(&mut self, what: &'static str, asked: Instant) {
        self.times.entry(what).or_default().push(asked.elapsed());
    }

    /// How many targets have this path in the last lists of all clients.
    fn listed(&self, path: &str) -> usize {
        let label = format!("\"__metrics_path__\":\"{path}\"");
        self.lists.iter().map(|list| str::from_utf8(list).unwrap().matches(&label).count()).sum()
    }

    /// Prints them, forgets them, and returns the longest of each.
    fn print_times(&mut self, when: &str) -> BTreeMap<&'static str, Duration> {
        self.times.insert("health, over a socket", self.probe.times());
        let all = std::mem::take(&mut self.times).into_iter();
        let longest = all.map(|(what, mut times)| {
            times.sort();
            let at = |share: usize| times[(times.len() - 1) * share / 100];
            let (median, late, longest) = (at(50), at(99), at(100));
            println!(
                "  {when}, {what}: {} requests, median {median:.2?}, p99 {late:.2?}, max {longest:.2?}",
                times.len()
            );
            (what, longest)
        });
        longest.collect()
    }
}

/// The body of a GET that is answered well.
async fn get(routes: &Router, path: &str) -> Bytes {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = routes.clone().oneshot(request).await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap()
}

/// A poll's answer, read; None where nothing is new for a while.
async fn poll(routes: &Router, scraper: &str, held: Option<Version>) -> Option<Assignment> {
    Some(serde_json::from_slice(&answer(routes, scraper, held, "identity").await?).unwrap())
}

/// A poll's answer; None where nothing is new for a while.
async fn answer(routes: &Router, scraper: &str, held: Option<Version>, encoding: &str) -> Option<Bytes> {
    answer_in(routes, scraper, held, encoding, "30s").await
}

/// The same, where nothing is new for so long.
async fn answer_in(
    routes: &Router,
    scraper: &str,
    held: Option<Version>,
    encoding: &str,
    wait: &str,
) -> Option<Bytes> {
    let request = Request::get(format!("/api/v1/assignments/{scraper}?wait={wait}"));
    let mut request = request.header("accept-encoding", encoding);
    if let Some(held) = held {
        request = request.header("if-none-match", format!("\"{held}\""));
    }
    let answer = routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    if answer.status() == StatusCode::NOT_MODIFIED {
        return None;
    }
    Some(axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap())
}

/// The API server's process.
struct Cluster {
    process: Child,
    address: String,
    pods: usize,
}

impl Cluster {
    fn start(pods: usize, annotations: &str) -> Self {
        let me = std::env::current_exe().unwrap();
        let mut process = Command::new(me)
            .args(["serve", &pods.to_string(), annotations])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { process, address: address.trim().to_owned(), pods }
    }

    /// Tells the server to do something.
    async fn control(&self, what: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(format!("GET /control/{what} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The seed configuration, over this API server.
fn config(address: &str, clients: Clients) -> Config {
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/seed.yml");
    let seed = std::fs::read_to_string(seed).unwrap();
    let role = "- role: pod";
    assert!(seed.contains(role));
    let seed = seed.replace(role, &format!("{role}\n        api_server: http://{address}"));
    let clients = match clients {
        Clients::Promring => String::new(),
        Clients::DropIn => {
            format!(", clients: drop-in, members: static, scrapers: [{}]", SCRAPERS.join(", "))
        }
    };
    let text = format!("allocator: {{settle: 1s, lapse: 1h{clients}}}\n{seed}");
    let loaded = load(Path::new("bench.yml"), &Text(text));
    loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}

struct Text(String);

impl ConfigSource for Text {
    fn read(&self, _path: &Path) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }

    fn glob(&self, _pattern: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _name: &str) -> Option<String> {
        None
    }
}

/// Resident memory of this process, in bytes.
fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}
