//! Prometheus as the oracle: on the same API server with the same configuration it finds the same targets.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use promring_cluster::{Cluster, run};
use serde_json::{Value, json};

use super::changes::{Found, apply_all, delete_all, found, of_job, prepare};
use super::chart::{objects, template};
use super::scenario::{later_nodes, namespace, pod, services};
use super::{ALLOCATOR, granted, options, text, used};
use crate::servers::part;
use crate::support::{PATIENCE, Process, client, eventually, get_json, scaled};

/// Final labels that tell all targets of a job apart: equal ones are one target, and of which group the
/// discovered labels are that it shows is chance in Prometheus.
const JOBS: [(&str, &str, &str); 16] = [
    ("pods", "pod", ""),
    (
        "pods-attached",
        "pod",
        "attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}",
    ),
    (
        "pods-selected",
        "pod",
        "selectors: [{role: pod, label: 'app in (app-1,app-2)', field: status.phase=Running}]",
    ),
    ("pods-shop", "pod", "namespaces: {names: [shop]}"),
    (
        "pods-near",
        "pod",
        "attach_metadata: {node: true}\n    selectors: [{role: node, label: 'zone in (zone-0,zone-1)'}]",
    ),
    ("services", "service", "attach_metadata: {namespace: true}"),
    (BY_URL, "service", ""),
    ("endpoints", "endpoints", "attach_metadata: {node: true}"),
    (
        "endpoints-selected",
        "endpoints",
        "selectors: [{role: endpoints, field: metadata.name!=several}, {role: pod, label: app=app-1}]",
    ),
    ("endpointslices", "endpointslice", "attach_metadata: {node: true, namespace: true}"),
    ("slices-payment", "endpointslice", "namespaces: {names: [payment]}"),
    // Each namespace by itself: an address of the one may lead to a pod of the other.
    ("slices-of-two", "endpointslice", "namespaces: {names: [shop, payment]}"),
    (
        "endpoints-of-two",
        "endpoints",
        "namespaces: {names: [shop, payment]}\n    attach_metadata: {node: true, namespace: true, deployment: true, cronjob: true}",
    ),
    (
        "slices-selected",
        "endpointslice",
        "selectors: [{role: endpointslice, label: round}, {role: service, field: metadata.name!=plain}]",
    ),
    ("nodes", "node", ""),
    ("ingresses", "ingress", ""),
];

/// The job that finds the API server by its URL, with client settings.
const BY_URL: &str = "services-by-url";

/// The jobs, as both take them. `access` says how a job reaches the API server.
pub(super) fn scrape_configs(access: impl Fn(&str) -> String) -> String {
    let mut yaml = "global: {scrape_interval: 1h}\nscrape_configs:\n".to_owned();
    for (name, role, more) in JOBS {
        let keys = [access(name), more.to_owned()].into_iter().filter(|keys| !keys.is_empty());
        let keys: String = keys.map(|keys| format!("    {keys}\n")).collect();
        yaml += &format!(
            "- job_name: {name}
  kubernetes_sd_configs:
  - role: {role}
{keys}  relabel_configs:
  - {{source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], regex: 'TRUE', action: drop}}
  - {{source_labels: [__meta_kubernetes_pod_phase], regex: Succeeded|Failed, action: drop}}
  - {{regex: __meta_kubernetes_(.+), action: labelmap}}
"
        );
    }
    yaml
}

/// By a kubeconfig file, or, for one job, by URL, authority and token, with the same rights.
fn access(cluster: &Cluster, kubeconfig: &Path, token: &str) -> impl Fn(&str) -> String {
    let by_file = format!("kubeconfig_file: {}", kubeconfig.display());
    let file = kubeconfig.with_extension("token");
    std::fs::write(&file, token).unwrap();
    let by_url = format!(
        "api_server: {}\n    tls_config: {{ca_file: {}}}\n    authorization: {{credentials_file: {}}}",
        cluster.api_url(),
        cluster.ca().display(),
        file.display()
    );
    move |job| if job == BY_URL { by_url.clone() } else { by_file.clone() }
}

struct Both {
    oracle: Process,
    oracle_arguments: Vec<String>,
    prometheus: String,
    promring: String,
    _allocator: Process,
}

impl Both {
    /// Starts both; promring with the ServiceAccount of the chart.
    async fn start(cluster: &Cluster) -> Self {
        let dir = cluster.dir();
        cluster.kubectl(&["create", "namespace", "metrics"]).await;
        apply_roles(cluster, &DISCOVERY_ALONE).await;
        let token = cluster.kubectl(&["create", "token", "promring-allocator", "-n", "metrics"]).await;
        let own = cluster.kubeconfig_with("promring", token.trim());

        let prometheus = dir.join("oracle.yml");
        let admin = scrape_configs(access(cluster, cluster.kubeconfig(), "admin"));
        std::fs::write(&prometheus, admin).unwrap();
        let promring = dir.join("promring.yml");
        let members = format!(
            "allocator: {{members: statefulset, statefulset: metrics/promring-scraper, kubeconfig_file: {}}}\n",
            own.display()
        );
        let configs = scrape_configs(access(cluster, &own, token.trim()));
        std::fs::write(&promring, configs + &members).unwrap();
        let storage = format!("--storage.agent.path={}", dir.join("oracle").display());
        let file = format!("--config.file={}", prometheus.display());
        let listen = "--web.listen-address=127.0.0.1:9090".to_owned();
        let oracle_arguments = vec![file, "--agent".to_owned(), storage, listen];
        let arguments = ["allocator", "--config", text(&promring), "--listen", "127.0.0.1:8080"];
        Self {
            oracle: start_oracle(&oracle_arguments, dir),
            oracle_arguments,
            prometheus: "http://127.0.0.1:9090".to_owned(),
            promring: "http://127.0.0.1:8080".to_owned(),
            _allocator: Process::promring("allocator", &arguments, dir),
        }
    }

    /// Starts Prometheus anew. After a change it shows pods behind endpoints as they were, until their phase or the
    /// endpoints change (the divergence is listed in docs/configuration.md); a new one has to look.
    fn ask_anew(&mut self, cluster: &Cluster) {
        self.oracle.kill();
        self.oracle = start_oracle(&self.oracle_arguments, cluster.dir());
    }

    /// Waits until both find the same twice in a row, and something that `enough` accepts. Where they do not for long,
    /// Prometheus is asked anew: a pod that becomes ready may be enough for it to stay behind.
    async fn agree(&mut self, cluster: &Cluster, what: &str, enough: impl Fn(&Found) -> bool) -> Found {
        let since = Instant::now();
        let mut agreed = None;
        let mut asked_anew = false;
        loop {
            let ours = found(&self.promring).await.unwrap_or_default();
            let theirs = found(&self.prometheus).await.unwrap_or_default();
            if agreed.as_ref() == Some(&ours) && ours == theirs && enough(&ours) {
                return ours;
            }
            if since.elapsed() > PATIENCE {
                for (who, found, other) in [("promring", &ours, &theirs), ("Prometheus", &theirs, &ours)] {
                    for (job, target) in found.difference(other).take(2) {
                        eprintln!("only {who}, job {job}: {target}");
                    }
                }
                let counts = JOBS.map(|(job, _, _)| (job, of_job(&ours, job), of_job(&theirs, job)));
                panic!("{what}: promring and Prometheus find {counts:?}");
            }
            if !asked_anew && since.elapsed() > PATIENCE / 3 {
                eprintln!("{what}: Prometheus is asked anew");
                self.ask_anew(cluster);
                asked_anew = true;
            }
            agreed = Some(ours);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

/// Values without which the allocator asks for nothing but what it discovers, and its members.
pub(super) const DISCOVERY_ALONE: [&str; 2] = ["--set", "security.tokens=false,allocator.replicas=1"];

/// What the chart makes of these jobs, in its own cluster, and nothing but the roles of it.
fn roles(cluster: &Cluster, arguments: &[&str]) -> String {
    let config = cluster.dir().join("in-cluster.yml");
    let elsewhere = |job: &str| if job == BY_URL { "api_server: https://elsewhere" } else { "" };
    std::fs::write(&config, scrape_configs(|job| elsewhere(job).to_owned())).unwrap();
    let config = format!("config={}", config.display());
    let only = ["--show-only", "templates/rbac.yaml", "--set-file", &config];
    let arguments: Vec<&str> = only.into_iter().chain(arguments.iter().copied()).collect();
    template(cluster.dir(), &arguments).unwrap()
}

/// Gives the chart's ServiceAccount its rights.
pub(super) async fn apply_roles(cluster: &Cluster, arguments: &[&str]) {
    let path = cluster.dir().join("rbac.yaml");
    std::fs::write(&path, roles(cluster, arguments)).unwrap();
    cluster.kubectl(&["apply", "-f", text(&path)]).await;
}

fn start_oracle(arguments: &[String], dir: &Path) -> Process {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Process::start("oracle", part("PROMETHEUS_3"), &arguments, dir)
}

#[test]
fn promring_finds_what_prometheus_finds_in_every_role_and_after_every_change() {
    // Without streaming lists, so that both verbs of the roles are needed.
    let options = promring_cluster::Options { streaming_lists: false, ..options() };
    run(&options, async |cluster| {
        let pods = scaled(210, 1_400);
        prepare(cluster).await;
        apply_all(cluster, services(0)).await;
        // Half of them before both start, half under their eyes.
        apply_all(cluster, (0..pods / 2).map(|number| pod(number, 0)).collect()).await;
        let mut both = Both::start(cluster).await;
        let many = |minimum: usize| {
            move |found: &Found| {
                of_job(found, "pods") > minimum && JOBS.iter().all(|(job, _, _)| of_job(found, job) > 0)
            }
        };
        both.agree(cluster, "what was there at the start", many(pods / 2)).await;
        apply_all(cluster, (pods / 2..pods).map(|number| pod(number, 0)).collect()).await;
        both.agree(cluster, "pods that came later", many(pods)).await;

        // Labels, annotations, ports, hosts, addresses and endpoints change; pods change their state, and go.
        apply_all(cluster, services(1)).await;
        apply_all(cluster, later_nodes()).await;
        apply_all(cluster, vec![namespace("shop", "two")]).await;
        apply_all(cluster, (0..pods).step_by(5).map(|number| pod(number, 1)).collect()).await;
        let flipped = (1..pods).step_by(7).map(|number| {
            let mut pod = pod(number, 0);
            pod["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
            pod
        });
        apply_all(cluster, flipped.collect()).await;
        delete_all(cluster, (0..pods).step_by(6).map(|number| pod(number, 0)).collect()).await;
        delete_all(cluster, services(1).into_iter().step_by(4).collect()).await;
        both.ask_anew(cluster);
        let before = both.agree(cluster, "after changes to all kinds", many(pods / 2)).await;

        // The roles of the chart are exactly enough: with one verb less a request is refused, or one is granted in vain.
        let requests = cluster.requests(ALLOCATOR);
        let refused: Vec<_> = requests.iter().filter(|request| request.code == 403).collect();
        assert!(refused.is_empty(), "{refused:?}");
        assert_eq!(used(&requests), granted(&objects(&roles(cluster, &DISCOVERY_ALONE))));

        // The API server goes: everything stays. It comes back, without the versions that the watches held.
        cluster.stop_api_server().await;
        eventually("promring says that its sources fail", async || {
            let answer = get_json(&format!("{}/api/v1/targets", both.promring)).await?;
            let sources = answer["data"]["sources"].as_array()?.clone();
            sources.iter().all(|source| source["lastError"] != "").then_some(())
        })
        .await;
        assert_eq!(found(&both.promring).await.unwrap(), before, "nothing goes while the API server is away");
        cluster.start_api_server().await;
        apply_all(cluster, (0..pods).step_by(9).map(|number| pod(number, 2)).collect()).await;
        both.ask_anew(cluster);
        let after = both.agree(cluster, "after a restart of the API server", many(pods / 2)).await;
        assert_ne!(before, after);

        // With one right less only the jobs that need it fail, and say so; nobody waits for them.
        let all = "pods,endpoints,endpointslices,ingresses,nodes,namespaces,replicasets,jobs";
        let less = format!("discovery.resources={{{all}}}");
        apply_roles(cluster, &["--set", &less]).await;
        let kubectl = Path::new(&part("KUBERNETES")).to_owned();
        eventually("services are forbidden", async || {
            let question = ["kubectl", "auth", "can-i", "list", "services", "--as", ALLOCATOR];
            cluster.tool(&kubectl, &question).await.is_err().then_some(())
        })
        .await;
        let config = cluster.dir().join("promring.yml");
        let arguments = ["allocator", "--config", text(&config), "--listen", "127.0.0.1:8081"];
        let _second = Process::promring("second", &arguments, cluster.dir());
        let second = "http://127.0.0.1:8081";
        eventually("only the jobs that need services fail", async || {
            let answer = get_json(&format!("{second}/api/v1/targets")).await?;
            let jobs = |holds: &dyn Fn(&Value) -> bool| -> BTreeSet<String> {
                let sources = answer["data"]["sources"].as_array().into_iter().flatten();
                let sources = sources.filter(|source| holds(source));
                sources.map(|source| source["scrapePool"].as_str().unwrap().to_owned()).collect()
            };
            let failing = jobs(&|source| source["lastError"].as_str().unwrap().contains("forbidden"));
            let synced = jobs(&|source| source["synced"] == true && source["lastError"] == "");
            let needs =
                |job: &str| job.contains("service") || job.contains("endpoint") || job.contains("slice");
            let all = JOBS.iter().map(|(job, _, _)| (*job).to_owned());
            let (wanted, others): (BTreeSet<_>, BTreeSet<_>) = all.partition(|job| needs(job));
            (failing == wanted && synced == others).then_some(())
        })
        .await;
        let pods = |found: Found| found.into_iter().filter(|(job, _)| job == "pods").collect::<Found>();
        assert_eq!(pods(found(second).await.unwrap()), pods(after));
    });
}

/// Bursts of pods that come, change and go; what is left is assigned as after a fresh start.
#[test]
fn after_bursts_of_changes_the_assignment_is_that_of_a_fresh_start() {
    run(&options(), async |cluster| {
        let pods = 2_000;
        prepare(cluster).await;
        let config = cluster.dir().join("bursts.yml");
        let names = SCRAPERS.join(", ");
        let members = format!("allocator: {{members: static, scrapers: [{names}], lapse: 1h}}\n");
        let configs = scrape_configs(access(cluster, cluster.kubeconfig(), "admin"));
        std::fs::write(&config, configs + &members).unwrap();
        let start = async |name: &str, port: u16| {
            let listen = format!("127.0.0.1:{port}");
            let arguments = ["allocator", "--config", text(&config), "--listen", &listen];
            let process = Process::promring(name, &arguments, cluster.dir());
            let base = format!("http://{listen}");
            for scraper in SCRAPERS {
                let url = format!("{base}/api/v1/scrapers/{scraper}/report");
                let said = async |sequence: u64, term: u64| {
                    let handover = json!({"run": 1, "sequence": sequence, "promised": term, "full": true});
                    let report = json!({"version": null, "address": "", "full": true, "handover": handover});
                    let request = client().post(&url).header("content-type", "application/json");
                    let answer = request.body(report.to_string()).send().await.ok()?.text().await.ok()?;
                    serde_json::from_str::<Value>(&answer).ok()?["term"].as_u64()
                };
                let term = eventually("the allocator takes reports", async || said(1, 0).await).await;
                assert_eq!(said(2, term).await, Some(term), "it has promised this term and holds nothing");
            }
            (process, base)
        };
        let (_old, old) = start("old", 8080).await;
        // The scrapers are there from the first pod on.
        eventually("it gives out assignments", async || assigned(&old).await).await;
        apply_all(cluster, (0..pods).map(|number| pod(number, 0)).collect()).await;
        apply_all(cluster, (0..pods).step_by(2).map(|number| pod(number, 1)).collect()).await;
        delete_all(cluster, (0..pods).step_by(3).map(|number| pod(number, 0)).collect()).await;
        let (_fresh, fresh) = start("fresh", 8081).await;
        eventually("both find and assign the same", async || {
            let (found_old, found_fresh) = (found(&old).await?, found(&fresh).await?);
            let same = found_old == found_fresh && of_job(&found_old, "pods") >= pods / 2;
            let (old, fresh) = (assigned(&old).await?, assigned(&fresh).await?);
            (same && old == fresh && old.len() >= pods / 2).then_some(())
        })
        .await;
    });
}

const SCRAPERS: [&str; 3] = ["scraper-0", "scraper-1", "scraper-2"];

/// Everything that the scrapers are told: the job of each target, and the target; None while one is told to two of them.
async fn assigned(base: &str) -> Option<BTreeSet<(String, String)>> {
    let mut assigned = BTreeSet::new();
    for scraper in SCRAPERS {
        let answer = get_json(&format!("{base}/api/v1/assignments/{scraper}?wait=1s")).await?;
        for (job, part) in answer["upsert"].as_object()? {
            for target in part["targets"].as_array()? {
                if !assigned.insert((job.clone(), target.to_string())) {
                    return None;
                }
            }
        }
    }
    Some(assigned)
}
