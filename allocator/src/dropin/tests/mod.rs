//! The API as drop-in clients see it: through the router, over an allocator whose discovery the test plays.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use promring_model::config::{Config, ConfigSource, Discovery, load};
use promring_model::roster::{Presence, Roster, Seen};
use promring_net::clock::now_ms;
use promring_net::server::{Peer, PeerCertificate};
use promring_net::shutdown::Shutdown;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::routes::escape;
use crate::callers::Callers;
use crate::discovery::Found;
use crate::{Allocator, AllocatorOptions};

mod callers;
mod changes;
mod several;

struct Text(String);

impl ConfigSource for Text {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        if path.ends_with("test.yml") { Ok(self.0.clone().into_bytes()) } else { Err("not here".to_owned()) }
    }

    fn glob(&self, _pattern: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _name: &str) -> Option<String> {
        None
    }
}

const STATIC: &str = "allocator: {clients: drop-in, members: static, scrapers: [a, b, c]}\n";

fn config(text: &str) -> Arc<Config> {
    let loaded = load(Path::new("/etc/test.yml"), &Text(text.to_owned()));
    Arc::new(loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics)))
}

/// A job with the targets `NAME:1` to `NAME:n`, and further keys.
fn job(name: &str, targets: usize, keys: &str) -> String {
    let targets: Vec<String> = (1..=targets).map(|n| format!("'t{n}:80'")).collect();
    let static_configs = format!("static_configs: [{{targets: [{}]}}]", targets.join(", "));
    format!("- {{job_name: '{name}', {static_configs}{}{keys}}}\n", if keys.is_empty() { "" } else { ", " })
}

/// An allocator whose static sources have told their targets.
fn allocator(text: &str) -> Allocator {
    allocator_for(text, Callers::default())
}

/// The same for these callers.
fn allocator_for(text: &str, callers: Callers) -> Allocator {
    let allocator = discovered(text, callers);
    advance(&allocator);
    allocator
}

/// What [`Allocator::run`] does after every event.
fn advance(allocator: &Allocator) {
    let news = allocator.advance_state();
    let is_told = allocator.advance_pool();
    allocator.tell(&news, is_told);
}

/// The same before it has looked at what the sources have told.
fn discovered(text: &str, callers: Callers) -> Allocator {
    let config = config(text);
    let options = AllocatorOptions { callers, election: None };
    let allocator = Allocator::with_options(Arc::clone(&config), options, Shutdown::new()).unwrap();
    for job in &config.scrape_configs {
        for (source, discovery) in job.discovery.iter().enumerate() {
            if let Discovery::Static(groups) = discovery {
                allocator.state().discovered(&job.job_name, source, Found::all(groups));
            }
        }
    }
    allocator
}

/// Asks with a certificate for these names, and without one where there are none.
async fn ask_with(allocator: &Allocator, path: &str, names: &[&str]) -> (StatusCode, String) {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    let dns_names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
    let certificate = (!names.is_empty()).then(|| Arc::new(PeerCertificate { dns_names }));
    let peer = Peer { address: "127.0.0.1:1".parse().unwrap(), certificate };
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = allocator.routes().oneshot(request).await.unwrap();
    let status = response.status();
    if status == StatusCode::OK && !path.starts_with("/api") {
        assert_eq!(response.headers()["content-type"], "application/json", "{path}");
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn ask(allocator: &Allocator, path: &str) -> (StatusCode, String) {
    ask_with(allocator, path, &[]).await
}

async fn json(allocator: &Allocator, path: &str) -> Value {
    let (status, body) = ask(allocator, path).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// The addresses of a list as http_sd has it.
fn addresses(list: &Value) -> BTreeSet<String> {
    let groups = list.as_array().unwrap();
    let of = |group: &Value| group["targets"][0].as_str().unwrap().to_owned();
    let all: BTreeSet<String> = groups.iter().map(of).collect();
    assert_eq!(all.len(), groups.len(), "a target twice");
    all
}

#[tokio::test]
async fn members_share_the_targets_by_either_api() {
    let allocator = allocator(&format!("{STATIC}scrape_configs:\n{}", job("web", 60, "")));
    let mut all = BTreeSet::new();
    for member in ["a", "b", "c"] {
        let list = json(&allocator, &format!("/jobs/web/targets?collector_id={member}")).await;
        let share = addresses(&list);
        assert!((19..=21).contains(&share.len()), "{member} has {}", share.len());
        assert_eq!(list, json(&allocator, &format!("/http_sd/{member}?job=web")).await);
        assert_eq!(list, json(&allocator, &format!("/http_sd/{member}")).await);
        assert!(share.iter().all(|address| all.insert(address.clone())), "two have one target");
    }
    assert_eq!(all.len(), 60);
    let everyone = json(&allocator, "/jobs/web/targets").await;
    let of_all: usize =
        everyone.as_object().unwrap().values().map(|of| addresses(&of["targets"]).len()).sum();
    assert_eq!((of_all, everyone.as_object().unwrap().len()), (60, 3));
    assert_eq!(everyone["b"]["_link"], "/jobs/web/targets?collector_id=b");
    let list = json(&allocator, "/api/v1/scrapers").await;
    let names: Vec<&str> =
        list["data"]["scrapers"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!((names, &list["data"]["ready"]), (vec!["a", "b", "c"], &json!(true)));
    let targets = json(&allocator, "/api/v1/targets").await;
    assert!(targets["data"]["activeTargets"].as_array().unwrap().iter().all(|t| t["scraper"] != ""));
}

#[tokio::test]
async fn a_target_is_told_with_its_final_labels_and_its_job_without_rules() {
    let keys = "scheme: https, metrics_path: /m, params: {x: [1]}, scrape_interval: 7s, scrape_timeout: 3s, \
                relabel_configs: [{target_label: zone, replacement: z}, {source_labels: [__address__], target_label: __tmp}]";
    let allocator = allocator(&format!("{STATIC}scrape_configs:\n{}", job("web", 1, keys)));
    let lists = [
        json(&allocator, "/http_sd/a").await,
        json(&allocator, "/http_sd/b").await,
        json(&allocator, "/http_sd/c").await,
    ];
    let mut groups = lists.iter().flat_map(|list| list.as_array().unwrap());
    let group = groups.next().unwrap();
    assert!(groups.next().is_none());
    let labels = group["labels"].as_object().unwrap();
    let pairs: BTreeMap<&str, &str> =
        labels.iter().map(|(name, value)| (&**name, value.as_str().unwrap())).collect();
    for (name, value) in [
        ("job", "web"),
        ("instance", "t1:80"),
        ("zone", "z"),
        ("__scheme__", "https"),
        ("__metrics_path__", "/m"),
        ("__param_x", "1"),
        ("__scrape_interval__", "7s"),
        ("__scrape_timeout__", "3s"),
    ] {
        assert_eq!(pairs.get(name), Some(&value), "{name}");
    }
    assert!(!pairs.contains_key("__address__"));
    let jobs = json(&allocator, "/scrape_configs").await;
    assert!(jobs["web"].get("relabel_configs").is_none() && jobs["web"].get("static_configs").is_none());
}

#[tokio::test]
async fn names_that_have_to_be_escaped_are_found() {
    let names = ["a/b", "a+b", "a b", "100%", "ü&=?", "serviceMonitor/ns/x/0"];
    let jobs: String = names.iter().map(|name| job(name, 3, "")).collect();
    let allocator = allocator(&format!("{STATIC}scrape_configs:\n{jobs}"));
    let links = json(&allocator, "/jobs").await;
    assert_eq!(links["a/b"]["_link"], "/jobs/a%2Fb/targets");
    for name in names {
        let mut found = BTreeSet::new();
        for member in ["a", "b", "c"] {
            let link = links[name]["_link"].as_str().unwrap();
            let list = json(&allocator, &format!("{link}?collector_id={member}")).await;
            assert!(list.as_array().unwrap().iter().all(|group| group["labels"]["job"] == name));
            let query = escape(name);
            assert_eq!(list, json(&allocator, &format!("/http_sd/{member}?job={query}")).await);
            found.extend(addresses(&list));
        }
        assert_eq!(found.len(), 3, "{name}");
    }
    // As in a path a plus is itself, and a space has its number.
    let by_path = json(&allocator, "/jobs/a%20b/targets").await;
    assert_eq!(by_path, json(&allocator, "/jobs/a+b/targets").await, "as in a query it is a space");
}

#[tokio::test]
async fn unknown_names_get_what_clients_expect() {
    let allocator = allocator(&format!("{STATIC}scrape_configs:\n{}", job("web", 5, "")));
    assert_eq!(json(&allocator, "/jobs/web/targets?collector_id=z").await, json!([]));
    assert_eq!(json(&allocator, "/jobs/none/targets?collector_id=a").await, json!([]));
    assert_eq!(ask(&allocator, "/http_sd/z").await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&allocator, "/http_sd/a?job=none").await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&allocator, "/api/v1/assignments/a?wait=1s").await.0, StatusCode::CONFLICT);
}

/// That no parser of YAML takes it, which is all that keeps a collector's targets.
fn is_no_yaml(body: &str) -> bool {
    serde_saphyr::from_str::<Value>(body).is_err()
}

#[tokio::test]
async fn while_nothing_is_known_every_answer_makes_clients_keep_what_they_have() {
    let text = format!("{STATIC}scrape_configs:\n{}", job("web", 5, ""));
    let not_ready = Allocator::new(config(&text), Shutdown::new());
    advance(&not_ready);
    for path in ["/jobs", "/jobs/web/targets?collector_id=a", "/http_sd/a", "/scrape_configs"] {
        let (status, body) = ask(&not_ready, path).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(is_no_yaml(&body), "{path}: {body}");
    }
    assert!(not_ready.readiness()().is_err());
    let other = allocator(&format!("scrape_configs:\n{}", job("web", 5, "")));
    let (status, body) = ask(&other, "/scrape_configs").await;
    assert_eq!((status, is_no_yaml(&body)), (StatusCode::NOT_FOUND, true));
    assert_eq!(ask(&other, "/http_sd/a").await.0, StatusCode::NOT_FOUND);
    let ready = allocator(&text);
    assert!(!is_no_yaml(&ask(&ready, "/scrape_configs").await.1) && ready.readiness()().is_ok());
}

#[tokio::test]
async fn a_job_that_has_not_synced_is_not_told_and_takes_nothing_from_the_others() {
    let jobs = job("web", 5, "") + "- {job_name: files, file_sd_configs: [{files: [x.json]}]}\n";
    let allocator = allocator(&format!("{STATIC}scrape_configs:\n{jobs}"));
    assert!(allocator.readiness()().is_err(), "the files may still come");
    assert_eq!(ask(&allocator, "/http_sd/a?job=web").await.0, StatusCode::SERVICE_UNAVAILABLE);
    // They fail: nobody waits for them any more.
    allocator.state().discovered("files", 0, Found::Failed("not to be read".to_owned()));
    advance(&allocator);
    assert!(
        allocator.readiness()().unwrap_err().contains("files"),
        "not ready before they have failed for long"
    );
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(ask(&allocator, "/jobs/files/targets?collector_id=a").await.0, unavailable);
    assert_eq!(ask(&allocator, "/http_sd/a?job=files").await.0, unavailable);
    assert_eq!(
        ask(&allocator, "/http_sd/a").await.0,
        unavailable,
        "a list without it would take its targets away"
    );
    assert_eq!(ask(&allocator, "/http_sd/a?job=web").await.0, StatusCode::OK);
    assert!(json(&allocator, "/scrape_configs").await.get("files").is_some());
    allocator.state().advance(now_ms() + 31_000);
    assert!(allocator.readiness()().is_ok());
}

#[tokio::test]
async fn a_job_over_its_target_limit_has_no_targets_for_anyone() {
    let jobs = job("web", 5, "target_limit: 4") + &job("db", 5, "target_limit: 5");
    let allocator = allocator(&format!("{STATIC}scrape_configs:\n{jobs}"));
    let mut counts = [0, 0];
    for member in ["a", "b", "c"] {
        for (count, job) in counts.iter_mut().zip(["web", "db"]) {
            let list = json(&allocator, &format!("/jobs/{job}/targets?collector_id={member}")).await;
            *count += list.as_array().unwrap().len();
        }
    }
    assert_eq!(counts, [0, 5]);
}

/// Jobs with about every setting.
const RICH: &str = include_str!("../../../../testdata/drop-in/jobs.yml");

#[tokio::test]
async fn what_collectors_are_told_of_a_job_means_what_the_file_means() {
    let text = format!("{STATIC}global: {{sample_limit: 9, scrape_interval: 30s}}\n{RICH}");
    let given = config(&text);
    let told = json(&allocator(&text), "/scrape_configs").await;
    assert_eq!(told["rich"]["basic_auth"]["password_file"], "secrets/password", "as it is written");
    assert_eq!(
        told["plain"],
        json!({
            "job_name": "plain", "scrape_interval": "30s", "scrape_timeout": "10s",
            "metrics_path": "/metrics", "scheme": "http", "sample_limit": 9,
        })
    );
    // Read as a file of its own, without the global section, it comes to the same settings for scrapers.
    let jobs: Vec<&Value> = told.as_object().unwrap().values().collect();
    let read = config(&json!({ "scrape_configs": jobs }).to_string());
    assert_eq!(read.scrape_configs.len(), given.scrape_configs.len() - 1, "all but the one with a secret");
    for job in &read.scrape_configs {
        let original = given.scrape_configs.iter().find(|given| given.job_name == job.job_name).unwrap();
        assert_eq!(job.scraper_hash, original.scraper_hash, "{}", job.job_name);
        assert_eq!(
            (job.scrape_interval, job.scrape_timeout),
            (original.scrape_interval, original.scrape_timeout)
        );
        assert_eq!((&job.metrics_path, job.scheme), (&original.metrics_path, original.scheme));
        assert_eq!((job.relabel.len(), job.limits.targets), (0, None), "these are the allocator's");
    }
}

#[tokio::test]
async fn a_job_with_a_secret_is_told_over_mutual_tls_only_and_only_if_that_is_wanted() {
    let secrets = [
        "basic_auth: {username: u, password: hunter2}",
        "authorization: {credentials: hunter2}",
        "bearer_token: hunter2",
        "oauth2: {client_id: c, client_secret: hunter2, token_url: 'https://t/'}",
        "tls_config: {cert: c, key: hunter2}",
        "http_headers: {X: {secrets: [hunter2]}}",
        "proxy_url: 'http://u:hunter2@proxy'",
        "proxy_url: 'http://proxy', proxy_connect_header: {A: [hunter2]}",
    ];
    let open =
        ["basic_auth: {username: hunter2, password_file: p}", "http_headers: {X: {values: [hunter2]}}"];
    let all = secrets.iter().chain(&open).enumerate();
    let jobs: String = all.map(|(n, keys)| job(&format!("j{n}"), 1, keys)).collect();
    let text = format!("{STATIC}scrape_configs:\n{jobs}");
    let with_them = text.replace("clients: drop-in", "clients: drop-in, serve_secrets: true");
    let (nobody, somebody): (&[&str], &[&str]) = (&[], &["collector"]);
    for (text, names, told) in [
        (&text, nobody, false),
        (&text, somebody, false),
        (&with_them, nobody, false),
        (&with_them, somebody, true),
    ] {
        let allocator = allocator(text);
        let (status, body) = ask_with(&allocator, "/scrape_configs", names).await;
        assert_eq!(status, StatusCode::OK);
        let jobs: Value = serde_json::from_str(&body).unwrap();
        let count = jobs.as_object().unwrap().len();
        assert_eq!(count, if told { secrets.len() + open.len() } else { open.len() }, "{body}");
        assert_eq!(body.matches("hunter2").count(), count, "{body}");
        assert!(!body.contains("<secret>"), "{body}");
        if told {
            let read = config(
                &json!({ "scrape_configs": jobs.as_object().unwrap().values().collect::<Vec<_>>() })
                    .to_string(),
            );
            assert_eq!(read.scrape_configs.len(), count);
        }
    }
}

#[tokio::test]
async fn a_list_of_all_jobs_has_only_those_that_need_no_settings() {
    let jobs = job(
        "plain",
        9,
        "scheme: https, params: {a: [x]}, metrics_path: /m, scrape_interval: 1s, scrape_timeout: 1s",
    ) + &job("limited", 9, "sample_limit: 5")
        + &job("rules", 9, "metric_relabel_configs: [{regex: a, action: labeldrop}]")
        + &job("auth", 9, "basic_auth: {username: u, password_file: p}")
        + &job("params", 9, "params: {a: [x, y]}");
    let allocator = allocator(&format!("{STATIC}scrape_configs:\n{jobs}"));
    let mut found = Vec::new();
    for member in ["a", "b", "c"] {
        for group in json(&allocator, &format!("/http_sd/{member}")).await.as_array().unwrap() {
            found.push(group["labels"]["job"].as_str().unwrap().to_owned());
        }
        let limited = json(&allocator, &format!("/http_sd/{member}?job=limited")).await;
        assert!(!limited.as_array().unwrap().is_empty(), "who names a job has settings for it");
    }
    assert_eq!(found, ["plain"; 9]);
}

fn pods(pods: &[(&str, Presence, Option<&str>)]) -> Roster {
    let seen = |&(name, presence, node): &(&str, Presence, Option<&str>)| {
        (name.to_owned(), Seen { presence, node: node.map(Arc::from) })
    };
    Roster::of_pods(pods.iter().map(seen))
}

async fn share(allocator: &Allocator, member: &str) -> BTreeSet<String> {
    addresses(&json(allocator, &format!("/jobs/web/targets?collector_id={member}")).await)
}

const SELECTED: &str = "allocator: {clients: drop-in, members: selector, selector: app=x, namespace: n}\n";

#[tokio::test]
async fn the_readiness_of_pods_alone_decides_and_targets_change_owner_at_once() {
    use Presence::{NotReady, Ready, Terminating};
    let allocator = allocator(&format!("{SELECTED}scrape_configs:\n{}", job("web", 40, "")));
    assert!(allocator.readiness()().unwrap_err().contains("nobody has told"));
    allocator.set_members_failure(Some("pods: forbidden".to_owned()));
    advance(&allocator);
    let (status, body) = ask(&allocator, "/http_sd/a").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("who the clients are (allocator.members): pods: forbidden"), "{body}");
    assert_eq!(json(&allocator, "/api/v1/scrapers").await["data"]["error"], "pods: forbidden");
    allocator.set_members_failure(None);
    advance(&allocator);
    assert!(!ask(&allocator, "/http_sd/a").await.1.contains("forbidden"));
    let tell = |pods: Roster| {
        allocator.set_roster(pods);
        advance(&allocator);
    };
    tell(pods(&[("a", NotReady, None)]));
    assert!(allocator.readiness()().unwrap_err().contains("no client is ready"));
    tell(pods(&[("a", Ready, None), ("b", NotReady, None)]));
    assert_eq!((share(&allocator, "a").await.len(), share(&allocator, "b").await.len()), (40, 0));
    assert_eq!(json(&allocator, "/http_sd/b").await, json!([]), "known, and without targets");
    tell(pods(&[("a", Ready, None), ("b", Ready, None)]));
    let (a, b) = (share(&allocator, "a").await, share(&allocator, "b").await);
    assert!((19..=21).contains(&a.len()) && a.len() + b.len() == 40 && a.is_disjoint(&b));
    tell(pods(&[("a", Terminating, None), ("b", Ready, None)]));
    assert_eq!((share(&allocator, "a").await.len(), share(&allocator, "b").await.len()), (0, 40));
    tell(pods(&[("b", NotReady, None)]));
    assert_eq!(share(&allocator, "b").await.len(), 40, "whoever is alive goes on with it");
    assert!(allocator.readiness()().is_ok());
    assert_eq!(ask(&allocator, "/http_sd/a").await.0, StatusCode::NOT_FOUND, "its pod is gone");
}

#[tokio::test]
async fn by_node_a_client_has_the_targets_of_its_node_and_a_part_of_what_nobody_is_near_to() {
    use Presence::Ready;
    let on = |node: &str, label: &str, first: usize, n: usize| {
        let targets: Vec<String> = (first..first + n).map(|n| format!("'t{n}:80'")).collect();
        format!("{{targets: [{}], labels: {{{label}: {node}}}}}", targets.join(", "))
    };
    let pod = "__meta_kubernetes_pod_node_name";
    let groups = [
        on("north", pod, 0, 10),
        on("south", "__meta_kubernetes_endpoint_node_name", 10, 5),
        on("west", "__meta_kubernetes_endpointslice_endpoint_node_name", 15, 4),
        on("south", "__meta_kubernetes_node_name", 19, 1),
    ];
    let by_node = SELECTED.replace("namespace: n", "namespace: n, strategy: per-node");
    let jobs = format!("- {{job_name: web, static_configs: [{}]}}", groups.join(", "));
    let allocator = allocator(&format!("{by_node}scrape_configs:\n{jobs}"));
    allocator.set_roster(pods(&[("a", Ready, Some("north")), ("b", Ready, Some("south"))]));
    advance(&allocator);
    let numbers = |share: BTreeSet<String>| -> BTreeSet<usize> {
        share.iter().map(|address| address[1..].strip_suffix(":80").unwrap().parse().unwrap()).collect()
    };
    let (a, b) = (numbers(share(&allocator, "a").await), numbers(share(&allocator, "b").await));
    assert!((0..10).all(|n| a.contains(&n)) && (10..15).all(|n| b.contains(&n)) && b.contains(&19));
    let fallback = (15..19).filter(|n| a.contains(n)).count();
    assert!((1..=3).contains(&fallback) && a.len() + b.len() == 20, "{a:?} {b:?}");
    let west = [("a", Ready, Some("north")), ("b", Ready, Some("south")), ("c", Ready, Some("west"))];
    allocator.set_roster(pods(&west));
    advance(&allocator);
    assert_eq!(numbers(share(&allocator, "c").await), (15..19).collect());
}

#[tokio::test]
async fn a_reload_changes_members_strategy_and_the_kind_of_clients() {
    let text = format!("{STATIC}scrape_configs:\n{}", job("web", 30, ""));
    let allocator = allocator(&text);
    let owners = async || -> Vec<usize> {
        let mut sizes = Vec::new();
        for member in ["a", "b", "c", "d"] {
            sizes.push(share(&allocator, member).await.len());
        }
        sizes
    };
    let three = owners().await;
    assert!(three[..3].iter().all(|size| (9..=11).contains(size)) && three[3] == 0, "{three:?}");
    allocator.take_config(&config(&text.replace("[a, b, c]", "[a, b, c, d]")));
    advance(&allocator);
    let four = owners().await;
    assert!(four.iter().all(|size| (6..=9).contains(size)), "{four:?}");
    assert_eq!(four.iter().sum::<usize>(), 30);
    allocator.take_config(&config(&format!("scrape_configs:\n{}", job("web", 30, ""))));
    advance(&allocator);
    assert_eq!(ask(&allocator, "/jobs/web/targets?collector_id=a").await.0, StatusCode::NOT_FOUND);
    assert!(allocator.state().assigns().is_err(), "promring's scrapers have to report");
    assert!(
        allocator.readiness()().is_ok(),
        "whoever waits for it before it makes scrapers would wait for ever"
    );
}

#[tokio::test]
async fn a_scaler_gets_a_number_where_the_capacity_is_configured_and_no_answer_otherwise() {
    let text = format!("{STATIC}scrape_configs:\n{}", job("web", 30, ""));
    assert_eq!(ask(&allocator(&text), "/api/v1/scaling").await.0, StatusCode::NOT_FOUND);
    let text = text.replace("clients: drop-in", "clients: drop-in, scraper_capacity: 1000");
    let answer = json(&allocator(&text), "/api/v1/scaling").await;
    let expected = json!({"wanted": 3, "samplesPerSecond": 3000.0, "capacity": 1000, "targets": 30, "targetsUnknown": 30});
    assert_eq!(answer["data"], expected);
    let not_ready = Allocator::new(config(&text), Shutdown::new());
    advance(&not_ready);
    assert_eq!(ask(&not_ready, "/api/v1/scaling").await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_does_not_wait_while_the_pool_is_at_work_on_the_next_board() {
    let allocator = allocator(&format!("{STATIC}scrape_configs:\n{}", job("web", 9, "")));
    let paths = [
        "/http_sd/a",
        "/jobs/web/targets?collector_id=b",
        "/scrape_configs",
        "/api/v1/scrapers",
        "/api/v1/targets",
    ];
    let (answers, received) = std::sync::mpsc::channel();
    let at_work = allocator.pool();
    let asking = allocator.clone();
    tokio::spawn(async move {
        for path in paths {
            let _ = answers.send(ask(&asking, path).await.0);
        }
    });
    for path in paths {
        assert_eq!(received.recv_timeout(std::time::Duration::from_secs(60)), Ok(StatusCode::OK), "{path}");
    }
    drop(at_work);
}
