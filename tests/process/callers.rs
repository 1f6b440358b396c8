//! Allocator and scrapers that show each other who they are: certificates and tokens, good, wrong and changed.

use std::path::{Path, PathBuf};

use promring_model::config::{HttpClientConfig, SecretSource, TlsConfig};
use promring_net::client::HttpClient;
use promring_testkit::exporter::{Fleet, FleetOptions};
use reqwest::Client;
use serde_json::Value;

use crate::support::certificates::{Authority, put};
use crate::support::{Process, client as plain_client, eventually, free_port};

const REPORT: &str = r#"{"version":null,"address":"http://nowhere:1"}"#;

struct World {
    dir: tempfile::TempDir,
    _fleet: Fleet,
    config: PathBuf,
    listen: String,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fleet = Fleet::start(FleetOptions { targets: 2, ..FleetOptions::default() }).await.unwrap();
        std::fs::write(dir.path().join("targets.json"), fleet.file_sd_json()).unwrap();
        let config = dir.path().join("prometheus.yml");
        let text = "
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: sample, file_sd_configs: [{files: [targets.json]}]}]
allocator: {settle: 200ms}
scraper: {heartbeat: 200ms, flush_timeout: 0s}
";
        std::fs::write(&config, text).unwrap();
        Self { dir, _fleet: fleet, config, listen: format!("127.0.0.1:{}", free_port()) }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn allocator(&self, more: &[&str]) -> Process {
        let arguments = ["allocator", "--config", text(&self.config), "--listen", &self.listen];
        Process::promring("allocator", &[&arguments, more].concat(), self.path())
    }

    /// A scraper, and where it listens.
    fn scraper(&self, name: &str, scheme: &str, more: &[&str]) -> (Process, String) {
        let (listen, data) = (format!("127.0.0.1:{}", free_port()), self.path().join(name));
        let allocator = format!("{scheme}://{}", self.listen);
        let arguments =
            ["scraper", "--config", text(&self.config), "--name", name, "--allocator", &allocator];
        let further = ["--listen", &listen, "--data-dir", text(&data)];
        (Process::promring(name, &[&arguments, &further[..], more].concat(), self.path()), listen)
    }
}

/// A client of the servers, with this identity.
fn client(ca: &Path, identity: Option<(&Path, &Path)>) -> Client {
    let file = |path: &Path| Some(SecretSource::File(path.to_owned()));
    let tls = TlsConfig {
        ca: file(ca),
        cert: identity.and_then(|(cert, _)| file(cert)),
        key: identity.and_then(|(_, key)| file(key)),
        ..TlsConfig::default()
    };
    HttpClient::new(&HttpClientConfig { tls, ..HttpClientConfig::default() }).unwrap().connections()
}

/// The scrapers that the allocator knows, with how many targets they have.
async fn scrapers(client: &Client, allocator: &str) -> Option<Vec<(String, u64)>> {
    let answer = client.get(format!("{allocator}/api/v1/scrapers")).send().await.ok()?;
    let answer: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
    let one = |scraper: &Value| {
        (scraper["name"].as_str().unwrap().to_owned(), scraper["targets"].as_u64().unwrap())
    };
    Some(answer["data"]["scrapers"].as_array()?.iter().map(one).collect())
}

async fn report(client: &Client, allocator: &str, scraper: &str) -> u16 {
    let url = format!("{allocator}/api/v1/scrapers/{scraper}/report");
    let request = client.post(url).header("content-type", "application/json").body(REPORT);
    request.send().await.unwrap().status().as_u16()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn says(process: &Process, what: &str) {
    eventually(&format!("the log says {what}"), async || process.log().contains(what).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_mutual_tls_a_scraper_is_who_its_certificate_says() {
    let world = World::new().await;
    let dir = world.path();
    let (ours, other) = (Authority::new(), Authority::new());
    let ca = ours.write(dir, "ca");
    let other_ca = other.write(dir, "other-ca");
    let server = ours.sign(dir, "server", &["promring", "127.0.0.1"]);
    let tls = |cert: &Path, key: &Path| {
        ["--tls-cert-file", text(cert), "--tls-key-file", text(key), "--tls-client-ca-file", text(&ca)]
            .map(str::to_owned)
    };
    let server_flags = tls(&server.0, &server.1);
    let server_flags = server_flags.each_ref().map(String::as_str);
    let allocator = world.allocator(&[&server_flags[..], &["--disable-admin"]].concat());
    let access = |ca: &Path, (cert, key): &(PathBuf, PathBuf), name: &str| {
        let (flags, paths) = (["ca", "cert", "key"], [ca, cert.as_path(), key.as_path()]);
        let files = flags.iter().zip(paths);
        let mut all: Vec<String> = files
            .flat_map(|(flag, path)| [format!("--allocator-{flag}-file"), text(path).to_owned()])
            .collect();
        all.extend(["--allocator-server-name".to_owned(), name.to_owned()]);
        all
    };
    let start = |name: &str, access: Vec<String>, more: &[&str]| {
        let access: Vec<&str> = access.iter().map(String::as_str).collect();
        world.scraper(name, "https", &[&access[..], more].concat())
    };

    // Those that get nowhere, each for its reason.
    let good = ours.sign(dir, "scraper-0", &["scraper-0.scrapers.metrics.svc"]);
    let wrong = [
        ("foreign", access(&ca, &other.sign(dir, "foreign", &["foreign"]), "promring"), "no assignment"),
        (
            "expired",
            access(&ca, &ours.sign_until(dir, "expired", &["expired"], 2020), "promring"),
            "no assignment",
        ),
        ("borrowed", access(&ca, &good, "promring"), "403 Forbidden: the client certificate is for"),
        ("astray", access(&ca, &ours.sign(dir, "astray", &["astray"]), "elsewhere"), "not valid for name"),
        (
            "misled",
            access(&other_ca, &ours.sign(dir, "misled", &["misled"]), "promring"),
            "invalid peer certificate",
        ),
    ];
    for (name, access, reason) in wrong {
        let (scraper, _) = start(name, access, &[]);
        says(&scraper, reason).await;
    }
    says(&allocator, "a client's TLS handshake failed").await;

    let (mut scraper, own) = start("scraper-0", access(&ca, &good, "promring"), &server_flags);
    let base = format!("https://{}", world.listen);
    let own = format!("https://{own}");
    let me = client(&ca, Some((&good.0, &good.1)));
    eventually("the good one has both targets", async || {
        (scrapers(&me, &base).await? == [("scraper-0".to_owned(), 2)]).then_some(())
    })
    .await;

    // A forged report moves nothing.
    assert_eq!(report(&me, &base, "scraper-1").await, 403);
    assert_eq!(report(&me, &base, "scraper-0").await, 200);
    assert_eq!(scrapers(&me, &base).await.unwrap(), [("scraper-0".to_owned(), 2)]);
    // Without a certificate there is health alone, on both servers.
    let nobody = client(&ca, None);
    for server in [&base, &own] {
        for (path, status) in [("/readyz", 200), ("/metrics", 401), ("/api/v1/targets", 401)] {
            let answer = nobody.get(format!("{server}{path}")).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{server}{path}");
        }
        assert_eq!(me.get(format!("{server}/api/v1/targets")).send().await.unwrap().status().as_u16(), 200);
    }
    assert_eq!(report(&nobody, &base, "scraper-0").await, 401);
    // Admin paths are off on the one and on on the other.
    for (server, status) in [(&base, 403), (&own, 200)] {
        assert_eq!(me.post(format!("{server}/-/reload")).send().await.unwrap().status().as_u16(), status);
    }
    assert!(scraper.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_changed_under_running_processes() {
    let world = World::new().await;
    let dir = world.path();
    let (old, new) = (Authority::new(), Authority::new());
    let ca = old.write(dir, "ca");
    let server = old.sign(dir, "server", &["127.0.0.1"]);
    let own = old.sign(dir, "own", &["scraper-0"]);
    let flags = ["--tls-cert-file", text(&server.0), "--tls-key-file", text(&server.1)];
    let flags = [&flags[..], &["--tls-client-ca-file", text(&ca)]].concat();
    let mut allocator = world.allocator(&flags);
    let access = ["--allocator-ca-file", text(&ca), "--allocator-cert-file", text(&own.0)];
    let access = [&access[..], &["--allocator-key-file", text(&own.1)]].concat();
    let (_scraper, _) = world.scraper("scraper-0", "https", &access);
    let base = format!("https://{}", world.listen);
    let has_targets = async |client: &Client| {
        eventually("it has its targets", async || {
            (scrapers(client, &base).await? == [("scraper-0".to_owned(), 2)]).then_some(())
        })
        .await;
    };
    has_targets(&client(&ca, Some((&own.0, &own.1)))).await;

    // Everything is signed anew by somebody else; no process starts again for it.
    new.write(dir, "ca");
    new.sign(dir, "server", &["127.0.0.1"]);
    new.sign(dir, "own", &["scraper-0"]);
    let me = client(&ca, Some((&own.0, &own.1)));
    has_targets(&me).await;
    // The allocator's next process has the scraper come by a new connection.
    allocator.terminate();
    let _allocator = world.allocator(&flags);
    has_targets(&me).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_all_share_lets_scrapers_in_and_is_read_again() {
    let world = World::new().await;
    let dir = world.path();
    let (theirs, ours) = (put(dir, "tokens", "secret\n"), put(dir, "token", "wrong\n"));
    let _allocator = world.allocator(&["--token-file", text(&theirs)]);
    let (scraper, _) = world.scraper("scraper-0", "http", &["--allocator-token-file", text(&ours)]);
    says(&scraper, "401 Unauthorized: the token is not that of the scrapers").await;
    let (base, nobody) = (format!("http://{}", world.listen), plain_client());
    assert_eq!(report(&nobody, &base, "scraper-0").await, 401);
    assert_eq!(scrapers(&nobody, &base).await.unwrap(), []);
    put(dir, "token", "secret\n");
    eventually("it is let in", async || {
        (scrapers(&nobody, &base).await? == [("scraper-0".to_owned(), 2)]).then_some(())
    })
    .await;
}

/// A pool of others, with a job whose settings have a secret.
const POOL: &str = "
allocator: {clients: drop-in, serve_secrets: true, members: static, scrapers: [a, b]}
scrape_configs:
- {job_name: open, static_configs: [{targets: ['t:1', 't:2', 't:3', 't:4']}]}
- job_name: secret
  basic_auth: {username: user, password: hunter2}
  static_configs: [{targets: ['t:5']}]
";

/// Status and text; None where no connection comes about.
async fn ask(client: &Client, url: String) -> Option<(u16, String)> {
    let answer = client.get(url).send().await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}

/// The jobs that a collector is told of, and whether the secret is among what it is told.
async fn told(client: &Client, base: &str) -> (Vec<String>, bool) {
    let (status, text) = eventually("the allocator is ready", async || {
        ask(client, format!("{base}/scrape_configs")).await.filter(|(status, _)| *status != 503)
    })
    .await;
    assert_eq!(status, 200, "{text}");
    let jobs: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    (jobs.keys().cloned().collect(), text.contains("hunter2"))
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_in_clients_get_secrets_by_mutual_tls_alone_and_lists_under_their_own_names() {
    let world = World::new().await;
    std::fs::write(&world.config, POOL).unwrap();
    let dir = world.path();
    let (ours, other) = (Authority::new(), Authority::new());
    let ca = ours.write(dir, "ca");
    let server = ours.sign(dir, "server", &["127.0.0.1"]);
    let of = |(cert, key): &(PathBuf, PathBuf)| client(&ca, Some((cert, key)));
    let own = of(&ours.sign(dir, "own", &["a.pool.metrics.svc"]));
    let common = of(&ours.sign(dir, "common", &["collectors"]));
    let (foreign, nobody) = (of(&other.sign(dir, "foreign", &["a"])), client(&ca, None));
    let base = format!("https://{}", world.listen);
    let tls = ["--tls-cert-file", text(&server.0), "--tls-key-file", text(&server.1)];

    let mut allocator = world.allocator(&[&tls[..], &["--tls-client-ca-file", text(&ca)]].concat());
    for client in [&own, &common] {
        assert_eq!(told(client, &base).await, (vec!["open".to_owned(), "secret".to_owned()], true));
    }
    let (status, body) = ask(&nobody, format!("{base}/scrape_configs")).await.unwrap();
    assert_eq!((status, body.contains("hunter2")), (401, false), "{body}");
    assert_eq!(ask(&foreign, format!("{base}/scrape_configs")).await, None);
    for (client, name, status) in
        [(&own, "a", 200), (&own, "b", 403), (&common, "a", 200), (&common, "b", 200), (&nobody, "a", 401)]
    {
        for path in [format!("http_sd/{name}"), format!("jobs/open/targets?collector_id={name}")] {
            let (answered, text) = ask(client, format!("{base}/{path}")).await.unwrap();
            assert_eq!(answered, status, "{path}: {text}");
        }
    }
    assert!(allocator.terminate().success());

    // A certificate that nobody asks for proves nothing, and plain HTTP has none.
    let mut allocator = world.allocator(&tls);
    assert_eq!(told(&own, &base).await, (vec!["open".to_owned()], false));
    assert!(allocator.terminate().success());
    let _allocator = world.allocator(&[]);
    assert_eq!(told(&own, &format!("http://{}", world.listen)).await, (vec!["open".to_owned()], false));
}
