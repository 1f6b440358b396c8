//! Sources that never answer at a start: others do not wait for them, what scrapers have of them stays, and what they tell in
//! the end is taken.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::routing::get;
use axum::{Json, Router};
use promring_testkit::exporter::{Fleet, FleetOptions};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;

use crate::support::{Process, eventually, free_port, get_json, metric_of};

/// An http_sd server that can be told to keep its answers back.
#[derive(Clone, Default)]
struct Directory {
    targets: Arc<Mutex<Vec<String>>>,
    /// Requests that wait.
    waiting: Arc<AtomicUsize>,
    held: Arc<Mutex<Option<Arc<Notify>>>>,
}

impl Directory {
    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let directory = self.clone();
        let answer = get(move || {
            let directory = directory.clone();
            async move { directory.answer().await }
        });
        let routes = Router::new().route("/", answer);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    async fn answer(&self) -> Json<Value> {
        let held = self.held.lock().unwrap().clone();
        if let Some(held) = held {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            held.notified().await;
        }
        Json(json!([{ "targets": *self.targets.lock().unwrap() }]))
    }

    fn hold(&self) -> Arc<Notify> {
        Arc::clone(self.held.lock().unwrap().insert(Arc::default()))
    }
}

/// An address where packets are swallowed: nobody accepts, and so many wait for it that the system drops the next ones.
async fn black_hole() -> (SocketAddr, TcpListener, Vec<tokio::task::JoinHandle<std::io::Result<TcpStream>>>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting: Vec<_> = (0..8).map(|_| tokio::spawn(TcpStream::connect(address))).collect();
    eventually("some connections wait to be accepted, and the last ones for an answer", async || {
        let done = waiting.iter().filter(|task| task.is_finished()).count();
        (done >= 2 && done < waiting.len()).then_some(())
    })
    .await;
    (address, listener, waiting)
}

struct Parts {
    dir: PathBuf,
    config: PathBuf,
    allocator: String,
    scraper: String,
}

impl Parts {
    fn allocator(&self, name: &str) -> Process {
        let config = self.config.to_str().unwrap();
        Process::promring(name, &["allocator", "--config", config, "--listen", &self.allocator], &self.dir)
    }

    fn scraper(&self) -> Process {
        let (config, data) = (self.config.to_str().unwrap(), self.dir.join("data"));
        let allocator = format!("http://{}", self.allocator);
        let files =
            ["scraper", "--name", "scraper-0", "--config", config, "--data-dir", data.to_str().unwrap()];
        let places = ["--listen", &self.scraper, "--allocator", &allocator];
        Process::promring("scraper", &[&files[..], &places].concat(), &self.dir)
    }

    fn configure(&self, fixed: &[SocketAddr], called: SocketAddr, more: &str) {
        let fixed: Vec<String> = fixed.iter().map(SocketAddr::to_string).collect();
        let text = format!(
            "
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: fixed
  static_configs: [{{targets: {fixed:?}}}]
- job_name: called
  http_sd_configs: [{{url: 'http://{called}/', refresh_interval: 1h}}]
{more}
allocator: {{settle: 0s}}
"
        );
        std::fs::write(&self.config, text).unwrap();
    }

    /// The targets of a job that the scraper has up, with the time of their last scrape.
    async fn up(&self, job: &str) -> Option<Vec<(String, String)>> {
        let list = get_json(&format!("http://{}/api/v1/targets?scrapePool={job}", self.scraper)).await?;
        let active =
            list["data"]["activeTargets"].as_array()?.iter().filter(|target| target["health"] == "up");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Some(active.map(|target| (text(&target["scrapeUrl"]), text(&target["lastScrape"]))).collect())
    }

    async fn until_up(&self, job: &str, count: usize) -> Vec<(String, String)> {
        let what = format!("{count} targets of {job} are up");
        eventually(&what, async || self.up(job).await.filter(|up| up.len() == count)).await
    }
}

fn parts(dir: &Path) -> Parts {
    let address = || format!("127.0.0.1:{}", free_port());
    let (dir, config) = (dir.to_owned(), dir.join("prometheus.yml"));
    Parts { dir, config, allocator: address(), scraper: address() }
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_never_answer_keep_nobody_waiting_and_take_nothing_away() {
    let dir = tempfile::tempdir().unwrap();
    let parts = parts(dir.path());
    let fleet = Fleet::start(FleetOptions { targets: 4, ..FleetOptions::default() }).await.unwrap();
    let address: Vec<SocketAddr> = fleet.exporters().iter().map(|exporter| exporter.address()).collect();
    let directory = Directory::default();
    directory.targets.lock().unwrap().push(address[1].to_string());
    let called = directory.start().await;
    parts.configure(&address[..1], called, "");
    let mut allocator = parts.allocator("allocator");
    let mut scraper = parts.scraper();
    parts.until_up("fixed", 1).await;
    let before = parts.until_up("called", 1).await;

    // The allocator starts again. Now the server keeps its answer back, and there are an API server that accepts and says
    // nothing, and a URL that swallows packets.
    let answer = directory.hold();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (hole, _listener, _waiting) = black_hole().await;
    let more = format!(
        "
- job_name: cluster
  kubernetes_sd_configs: [{{role: pod, api_server: 'http://{}'}}]
- job_name: swallowed
  http_sd_configs: [{{url: 'http://{hole}/', refresh_interval: 1h}}]
",
        silent.local_addr().unwrap()
    );
    allocator.kill();
    parts.configure(&[address[0], address[2]], called, &more);
    let mut allocator = parts.allocator("allocator-again");
    parts.until_up("fixed", 2).await;
    let url = format!("http://{}", parts.allocator);
    let list = get_json(&format!("{url}/api/v1/targets")).await.unwrap();
    let sources = list["data"]["sources"].as_array().unwrap();
    for job in ["called", "cluster", "swallowed"] {
        let source = sources.iter().find(|source| source["scrapePool"] == job).unwrap();
        let error = source["lastError"].as_str().unwrap();
        // It counts as failing before anything else is given out.
        assert!(source["synced"] == false && error.contains("nothing has come"), "{source}");
        let failed = metric_of(&url, "promring_sd_failed", &format!("config=\"{job}\"")).await;
        assert_eq!(failed, Some(1.0), "{job}");
    }
    assert_eq!(directory.waiting.load(Ordering::Relaxed), 1, "it was asked");
    let after = parts.until_up("called", 1).await;
    assert_eq!(after[0].0, before[0].0);
    eventually("the scraper goes on with what it has of the silent source", async || {
        parts.up("called").await.filter(|up| up.len() == 1 && up[0].1 > after[0].1).map(drop)
    })
    .await;

    // It answers.
    directory.targets.lock().unwrap().push(address[3].to_string());
    answer.notify_one();
    let up = parts.until_up("called", 2).await;
    assert!(up.iter().any(|(url, _)| *url == before[0].0));
    let failed = async || metric_of(&url, "promring_sd_failed", "config=\"called\"").await;
    eventually("it no longer counts as failing", async || failed().await.filter(|failed| *failed == 0.0))
        .await;
    assert!(scraper.terminate().success(), "{}", scraper.log());
    assert!(allocator.terminate().success(), "{}", allocator.log());
}
