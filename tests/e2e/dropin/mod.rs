//! Clients that are not promring's scrapers, the real programs: each scrapes exactly its share of what the allocator gives
//! out, and again after a member came or went.

mod clients;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use promring_testkit::exporter::{Fleet, FleetOptions};
use promring_testkit::receiver::Receiver;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Process, eventually, free_port, get, get_json, metric_of};
use clients::{Client, Program};

const TARGETS: usize = 24;

/// A job whose name has to be escaped, one with settings, and one that collectors are not told of.
const JOBS: &str = "
- job_name: 'pods/web +1'
  scrape_interval: 1s
  scrape_timeout: 1s
  file_sd_configs: [{files: [targets.json]}]
- job_name: limited
  scrape_interval: 1s
  scrape_timeout: 1s
  sample_limit: 1000000
  file_sd_configs: [{files: [targets.json]}]
  relabel_configs: [{target_label: relabelled, replacement: here}]
  metric_relabel_configs: [{regex: team, action: labeldrop}]
";

/// An allocator with exporters to share out.
struct Pool {
    dir: TempDir,
    fleet: Fleet,
    receiver: Receiver,
    allocator: Process,
    listen: String,
    clients: Vec<Client>,
    starts: usize,
}

impl Pool {
    async fn start(members: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fleet = Fleet::start(FleetOptions { targets: TARGETS, ..FleetOptions::default() }).await.unwrap();
        std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
        let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        write_config(dir.path(), members, JOBS);
        let listen = format!("127.0.0.1:{}", free_port());
        let allocator = start_allocator(dir.path(), &listen, 0);
        Self { dir, fleet, receiver, allocator, listen, clients: Vec::new(), starts: 0 }
    }

    fn base(&self) -> String {
        format!("http://{}", self.listen)
    }

    fn join(&mut self, program: Program, name: &str) {
        let client = Client::start(program, name, &self.base(), &self.receiver.write_url(), self.dir.path());
        self.clients.push(client);
    }

    /// Stops a client and forgets it.
    fn leave(&mut self, name: &str) {
        let at = self.clients.iter().position(|client| client.name == name).unwrap();
        drop(self.clients.remove(at));
    }

    /// Changes who the members are. The file is looked at by the allocator itself.
    fn set_members(&self, members: &[&str]) {
        write_config(self.dir.path(), members, JOBS);
    }

    /// What the allocator gives a member of a job: instances.
    async fn given(&self, member: &str, job: &str) -> Option<BTreeMap<String, String>> {
        let list = get_json(&format!("{}/jobs/{job}/targets?collector_id={member}", self.base())).await?;
        let groups = list.as_array()?.iter();
        groups
            .map(|group| Some((text(&group["labels"]["instance"])?, text(&group["labels"]["job"])?)))
            .collect()
    }

    /// Waits until each has something and scrapes what it is given, and all of it together is every target once in each job.
    /// Gives the number of each.
    async fn settled(&self, what: &str) -> Vec<usize> {
        eventually(what, async || {
            let mut sizes = Vec::new();
            let mut all: BTreeMap<(String, String), usize> = BTreeMap::new();
            for client in &self.clients {
                let mut given = Vec::new();
                for job in ["pods%2Fweb+%2B1", "limited"] {
                    given.extend(self.given(&client.name, job).await?);
                }
                given.sort();
                let mut scraped = client.scrapes().await?;
                scraped.sort();
                if given != scraped || given.is_empty() {
                    return None;
                }
                sizes.push(scraped.len());
                for target in scraped {
                    *all.entry(target).or_default() += 1;
                }
            }
            let whole = all.len() == 2 * TARGETS && all.values().all(|&owners| owners == 1);
            whole.then_some(sizes)
        })
        .await
    }

    /// How often each exporter was asked so far.
    fn scrapes(&self) -> Vec<u64> {
        self.fleet.exporters().iter().map(|exporter| exporter.scrapes()).collect()
    }

    /// Waits until every exporter was asked once more, by each job.
    async fn scraped_on(&self) {
        let before = self.scrapes();
        eventually("every target is scraped further", async || {
            let now = self.scrapes();
            before.iter().zip(&now).all(|(before, now)| *now >= before + 2).then_some(())
        })
        .await;
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn write_config(dir: &Path, members: &[&str], jobs: &str) {
    // Renamed into place, so that nobody reads half of it.
    let new = dir.join("prometheus.yml.new");
    std::fs::write(&new, format!("{}\nscrape_configs:{jobs}", allocator(members))).unwrap();
    std::fs::rename(new, config(dir)).unwrap();
}

/// The section of an allocator with these drop-in clients.
fn allocator(members: &[&str]) -> String {
    format!("allocator: {{clients: drop-in, members: static, scrapers: [{}]}}", members.join(", "))
}

fn config(dir: &Path) -> PathBuf {
    dir.join("prometheus.yml")
}

fn start_allocator(dir: &Path, listen: &str, start: usize) -> Process {
    let config = config(dir);
    let arguments = ["allocator", "--config", config.to_str().unwrap(), "--listen", listen];
    Process::promring(&format!("allocator-{start}"), &arguments, dir)
}

/// Two members, then three, then two: exactly their shares each time, evenly.
async fn share_out(program: Program) -> Pool {
    let mut pool = Pool::start(&["member-0", "member-1"]).await;
    for name in ["member-0", "member-1"] {
        pool.join(program, name);
    }
    let sizes = pool.settled("two clients scrape exactly their shares").await;
    assert!(sizes.iter().all(|&size| size.abs_diff(TARGETS) <= 3), "{sizes:?}");
    pool.scraped_on().await;

    pool.set_members(&["member-0", "member-1", "member-2"]);
    pool.join(program, "member-2");
    let sizes = pool.settled("three clients scrape exactly their shares").await;
    assert!(sizes.iter().all(|&size| size.abs_diff(2 * TARGETS / 3) <= 3), "{sizes:?}");

    pool.set_members(&["member-0", "member-2"]);
    pool.leave("member-1");
    let sizes = pool.settled("the two that are left scrape exactly their shares").await;
    assert_eq!(sizes.iter().sum::<usize>(), 2 * TARGETS);
    pool.scraped_on().await;
    pool
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_in_prometheus_servers_scrape_exactly_their_shares_by_http_sd() {
    share_out(Program::Prometheus).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_in_vmagents_scrape_exactly_their_shares_by_http_sd() {
    share_out(Program::Vmagent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_in_collectors_scrape_exactly_their_shares_and_keep_them_while_the_allocator_knows_nothing() {
    let mut pool = share_out(Program::Collector).await;
    let before = pool.settled("the shares before the restart").await;

    // The allocator comes back and cannot tell yet: nobody answers where its targets come from.
    pool.allocator.kill();
    let members = ["member-0", "member-2"];
    let nobody = format!("http_sd_configs: [{{url: 'http://127.0.0.1:{}/'}}]", free_port());
    write_config(
        pool.dir.path(),
        &members,
        &JOBS.replace("file_sd_configs: [{files: [targets.json]}]", &nobody),
    );
    pool.starts += 1;
    pool.allocator = start_allocator(pool.dir.path(), &pool.listen, pool.starts);
    let base = pool.base();
    eventually("each collector has asked the allocator that knows nothing, twice", async || {
        let asked = metric_of(&base, "promring_dropin_requests_total", "path=\"scrape_configs\"").await?;
        assert!(get(&format!("{base}/readyz")).await.is_none(), "it is not ready");
        (asked >= 2.0 * pool.clients.len() as f64).then_some(())
    })
    .await;
    for client in &pool.clients {
        assert!(!client.scrapes().await.unwrap().is_empty(), "{} has lost its targets", client.name);
    }
    pool.set_members(&members);
    let after = pool.settled("the shares after the restart").await;
    assert_eq!(after.iter().sum::<usize>(), before.iter().sum::<usize>());
    pool.scraped_on().await;
}
