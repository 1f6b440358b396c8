//! What a large cluster costs the allocator: memory a target, the way of a pod's change to the assignment, and serving
//! while everything is listed again.
//!
//! `cargo bench -p promring-allocator --bench kubernetes`. The API server is a process of its own (this program
//! again), which generates the pods; the allocator is the product's own, with the rules of `testdata/seed.yml`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark stops where it cannot go on, and prints what it measured"
)]

mod server;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use promring_allocator::Allocator;
use promring_model::config::{Config, ConfigSource, load};
use promring_net::shutdown::Shutdown;
use promring_proto::api::{MemberReport, Report};
use tower::ServiceExt;

/// Scrapers that the targets are spread over.
const SCRAPERS: [&str; 3] = ["scraper-0", "scraper-1", "scraper-2"];

/// Changes measured for the latency.
const CHANGES: usize = 100;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => server::serve(arguments[1].parse().unwrap(), arguments[2] == "long"),
        Some("measure") => measure(&arguments[1], arguments[2].parse().unwrap(), &arguments[3]),
        _ => {
            // Each in a process of its own: memory that one has used would count for the next.
            run("latency", 10_000, "short");
            run("memory", 100_000, "short");
            run("memory", 100_000, "long");
            run("relist", 100_000, "short");
        }
    }
}

fn run(what: &str, pods: usize, annotations: &str) {
    let me = std::env::current_exe().unwrap();
    let status = Command::new(me).args(["measure", what, &pods.to_string(), annotations]).status().unwrap();
    assert!(status.success());
}

fn measure(what: &str, pods: usize, annotations: &str) {
    // As the product runs: a thread for each core.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cluster = Cluster::start(pods, annotations);
        let before = rss();
        let began = Instant::now();
        let allocator = started(&cluster).await;
        println!(
            "{what}, {pods} pods, {annotations} annotations: assigned after {:.1} s",
            began.elapsed().as_secs_f64()
        );
        match what {
            "latency" => latency(&cluster, &allocator, pods).await,
            "memory" => {
                // The first answers are made, and what they took is free again.
                for scraper in SCRAPERS {
                    drop(poll(&allocator.routes(), scraper, None).await);
                }
                let after = rss();
                println!("  RSS before {} KiB, after {} KiB", before >> 10, after >> 10);
                println!("  {} bytes a target", (after - before) / pods as u64);
            }
            "relist" => relist(&cluster, &allocator).await,
            other => panic!("no measurement {other}"),
        }
    });
}

/// An allocator that has assigned every pod of the cluster.
async fn started(cluster: &Cluster) -> Allocator {
    let allocator = Allocator::new(Arc::new(config(&cluster.address)), Shutdown::new());
    let running = allocator.clone();
    tokio::spawn(async move { running.run().await });
    let reporting = allocator.clone();
    tokio::spawn(async move {
        for sequence in 1.. {
            for scraper in SCRAPERS {
                let promised = reporting.state().version().unwrap().term;
                let handover =
                    MemberReport { run: 1, sequence, promised, full: true, ..MemberReport::default() };
                let report = Report { full: true, handover, ..Report::default() };
                reporting.state().report(scraper, report, promring_net::clock::now_ms()).unwrap();
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    });
    let assigned = || SCRAPERS.iter().map(|scraper| allocator.state().assigned(scraper)).sum::<usize>();
    while assigned() < cluster.pods {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    allocator
}

/// From the change of the path in a pod's annotations to the assignment that has the target with the new one.
async fn latency(cluster: &Cluster, allocator: &Allocator, pods: usize) {
    let routes = allocator.routes();
    let mut times = Vec::new();
    for change in 0..CHANGES {
        let mut polls = tokio::task::JoinSet::new();
        for scraper in SCRAPERS {
            let version = poll(&routes, scraper, None).await.0;
            let routes = routes.clone();
            polls.spawn(async move { poll(&routes, scraper, Some(version)).await });
        }
        // Let the polls come to wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        cluster.control(&format!("touch?pod={}&value=v{change}", change * 97 % pods)).await;
        drop(polls.join_next().await.unwrap().unwrap());
        times.push(began.elapsed());
    }
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!(
        "  pod event to published assignment: median {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        at(50),
        at(99),
        at(100)
    );
}

/// How long others wait while the whole cluster is listed again.
async fn relist(cluster: &Cluster, allocator: &Allocator) {
    let routes = allocator.routes();
    let quiet = serve_for(&routes, Duration::from_secs(2)).await;
    let lists = cluster.control("lists").await;
    cluster.control("forget").await;
    let began = Instant::now();
    let mut busy = Vec::new();
    // Until the list has been sent, and a second more.
    while cluster.control("lists").await == lists {
        busy.extend(serve_for(&routes, Duration::from_millis(200)).await);
    }
    let listed = began.elapsed();
    busy.extend(serve_for(&routes, Duration::from_secs(1)).await);
    for (name, mut times) in [("without", quiet), ("during", busy)] {
        times.sort();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
        println!(
            "  {name} a list: {} requests, median {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            times.len(),
            at(50),
            at(99),
            at(100)
        );
    }
    println!("  the list took {:.1} s", listed.as_secs_f64());
}

/// Asks for what scrapers and people ask for, and says how long each answer took.
async fn serve_for(routes: &Router, time: Duration) -> Vec<Duration> {
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < time {
        let asked = Instant::now();
        let request = Request::get("/api/v1/scrapers").body(Body::empty()).unwrap();
        assert!(routes.clone().oneshot(request).await.unwrap().status().is_success());
        times.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    times
}

/// A poll's answer: its version, and how many bytes it has.
async fn poll(routes: &Router, scraper: &str, held: Option<String>) -> (String, usize) {
    let mut request = Request::get(format!("/api/v1/assignments/{scraper}?wait=30s"));
    if let Some(held) = held {
        request = request.header("if-none-match", held);
    }
    let answer = routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let version = answer.headers()["etag"].to_str().unwrap().trim_matches('"').to_owned();
    let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (version, bytes.len())
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
fn config(address: &str) -> Config {
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/seed.yml");
    let seed = std::fs::read_to_string(seed).unwrap();
    let role = "- role: pod";
    assert!(seed.contains(role));
    let seed = seed.replace(role, &format!("{role}\n        api_server: http://{address}"));
    let text = format!("allocator: {{settle: 1s, lapse: 1h}}\n{seed}");
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
