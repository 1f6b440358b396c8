//! The chart installed, with pods of many exporters, the auditing receiver, and a Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use k8s_openapi::jiff::Timestamp;
use promring_cluster::Cluster;
use promring_model::config::load;
use promring_net::clock::now_ms;
use promring_net::files::Disk;
use promring_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::super::chart::CHART;
use super::super::pods::{expected, ready_pods};
use super::super::{apply_file, helm};
use super::conditions::Receiving;
use super::watch::settled;
use crate::owners::audited;
use crate::servers::Store;
use crate::support::{eventually, get, scaled};

/// Scrapers at the start, and at the end of every change but a scale-out.
pub(super) const SCRAPERS: usize = 3;
/// The node of the exporters, so that what becomes of the others does not concern them.
pub(super) const EXPORTERS_NODE: &str = "exporters";
const EXPORTER_PODS: usize = 2;
/// Each port of a pod is a target: pods that name none in an annotation are scraped at all their ports.
const PORTS: u16 = 40;
const FIRST_PORT: u16 = 9100;
/// All targets, each scraped every second.
pub(super) const TARGETS: usize = EXPORTER_PODS * PORTS as usize;
/// Series that each exposes.
const SERIES: usize = 10;
/// Series of all targets, with the five that are written of each scrape.
pub(super) const SERIES_IN_ALL: usize = TARGETS * (SERIES + 5);
/// Samples may be under way for this long, in milliseconds: a receiver may have been away, or take a second for each request.
const UNDER_WAY_MS: i64 = 20_000;
/// Slots of each series that a change is audited over at least.
const SLOTS_MIN: u64 = 5;

/// What is installed, and what has been audited of it.
pub(super) struct Fleet<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) receiver: Receiver,
    pub(super) store: Store,
    /// How the receiver does.
    pub(super) receiving: Receiving,
    /// Audited so far, over all series.
    slots: u64,
    /// When the audit began, in Unix milliseconds.
    from_ms: i64,
}

/// A change that has begun: when.
pub(super) struct Begun(Timestamp);

impl Begun {
    /// Now.
    pub(super) fn now() -> Self {
        Self(Timestamp::now())
    }
}

impl<'a> Fleet<'a> {
    /// Installs everything, and returns when every target has its scraper and the audit has begun.
    pub(super) async fn install(cluster: &'a Cluster) -> Self {
        let receiver = Receiver::start(SocketAddr::from((cluster.address(), 0))).await.unwrap();
        let store = Store::prometheus_3_at(cluster.dir(), cluster.address(), 2).await;
        apply_file(cluster, "exporters", &exporters()).await;
        let pods = eventually("the exporters are ready", async || {
            let pods = ready_pods(cluster, "demo", "app=exporter").await;
            (pods.len() == EXPORTER_PODS).then_some(pods)
        })
        .await;
        // Nothing else runs there.
        cluster.kubectl(&["cordon", EXPORTERS_NODE]).await;

        let path = cluster.dir().join("handover.yml");
        std::fs::write(&path, config(&receiver, &store)).unwrap();
        let config = load(&path, &Disk).config.unwrap();
        for pod in pods.values() {
            for port in FIRST_PORT..FIRST_PORT + PORTS {
                let target = expected(&config, pod, port).await;
                receiver.audit().expect(target).unwrap();
            }
        }
        let file = format!("config={}", path.display());
        // As shipped where there is time for that.
        let settings = scaled(r#"{"settle":"3s","handover_settle":"2s"}"#, "{}");
        let settings = format!("allocator.settings={settings}");
        let install = ["install", "promring", CHART, "-n", "metrics", "--wait", "--timeout", "3m"];
        let values = ["--set", "image.tag=dev", "--set-file", &file, "--set-json", &settings];
        helm(cluster, &[&install[..], &values[..]].concat()).await;
        settled(cluster, SCRAPERS).await;

        let from_ms = now_ms();
        receiver.audit().window(from_ms, i64::MAX);
        Self { cluster, receiver, store, receiving: Receiving::Well, slots: 0, from_ms }
    }

    /// A change is over, in which so many targets moved: every series has had exactly one sample in each slot up to now, and
    /// Prometheus has refused nothing.
    pub(super) async fn audit(&mut self, change: &str, begun: &Begun, moved: usize) {
        let change = format!("{change}{}", self.receiving);
        let seconds = begun.0.duration_until(Timestamp::now()).as_secs();
        let report = audited(&self.receiver, UNDER_WAY_MS).await;
        assert!(report.counts.is_clean(), "{change}: {report:#?}");
        assert_eq!((report.targets, report.series), (TARGETS as u64, SERIES_IN_ALL as u64), "{change}");
        let slots = report.slots - self.slots;
        self.slots = report.slots;
        eprintln!("{change}: {moved} of {TARGETS} targets moved, {slots} slots audited, {seconds} s");
        assert!(slots >= report.series * SLOTS_MIN, "{change}: only {slots} slots");
        assert_eq!(self.store.refused().await, 0.0, "{change}: Prometheus refused samples");
        assert_eq!(self.refused_requests().await, Vec::<String>::new(), "{change}");
    }

    /// Requests of remote write that Prometheus has refused, as its metrics have them.
    async fn refused_requests(&self) -> Vec<String> {
        let text = get(&format!("{}/metrics", self.store.base())).await.unwrap();
        let writes = |line: &&str| {
            line.starts_with("prometheus_http_requests_total{") && line.contains(r#"handler="/api/v1/write""#)
        };
        let writes: Vec<&str> = text.lines().filter(writes).collect();
        assert!(!writes.is_empty(), "Prometheus does not say what it answered:\n{text}");
        let bad = |line: &&str| !line.contains(r#"code="2"#) && !line.ends_with(" 0");
        writes.into_iter().filter(bad).map(str::to_owned).collect()
    }

    /// Asserts that Prometheus has stored each target's `up` once in each slot from the audit's beginning on.
    pub(super) async fn assert_stored(&self) {
        let until_ms = now_ms();
        let stored = eventually("Prometheus has everything", async || {
            let stored = self.store.samples("up").await;
            let late = |samples: &Vec<(i64, f64)>| samples.last().is_none_or(|(at, _)| *at < until_ms);
            (stored.len() == TARGETS && !stored.values().any(late)).then_some(stored)
        })
        .await;
        for (labels, samples) in &stored {
            let times: Vec<i64> = samples
                .iter()
                .map(|(at, _)| *at)
                .filter(|at| *at > self.from_ms && *at <= until_ms)
                .collect();
            // A scrape that begins late has its own time, within its slot: most have that of the slot.
            let mut offsets: BTreeMap<i64, usize> = BTreeMap::new();
            times.iter().for_each(|at| *offsets.entry(at % 1_000).or_default() += 1);
            let offset = offsets.into_iter().max_by_key(|(_, count)| *count).unwrap().0;
            let slot = |at: i64| (at - offset).div_euclid(1_000);
            let odd = times.windows(2).find(|pair| slot(pair[1]) - slot(pair[0]) != 1);
            assert_eq!(odd, None, "{labels}: two samples that are not of slots one after the other");
            let seconds = (until_ms - self.from_ms) / 1_000;
            assert!(times.len() as i64 >= seconds, "{labels}: {} samples in {seconds} s", times.len());
        }
    }

    /// When a pod has written lines of the log that begin so, since a change began.
    pub(super) fn said(&self, pod: &str, begun: &Begun, begins: &str) -> Vec<Timestamp> {
        let log = self.cluster.logs("metrics", pod);
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let meant =
            lines.filter(|line| line["message"].as_str().is_some_and(|text| text.starts_with(begins)));
        let times = meant.filter_map(|line| line["timestamp"].as_str()?.parse().ok());
        times.filter(|at: &Timestamp| *at >= begun.0).collect()
    }

    /// Asserts that a scraper's process was told to end once since a change began, and ended by itself once others had its
    /// targets. Gives the two times.
    pub(super) fn ended(&self, pod: &str, begun: &Begun) -> (Timestamp, Timestamp) {
        let log = || self.cluster.logs("metrics", pod);
        let once = |begins: &str| match self.said(pod, begun, begins)[..] {
            [at] => at,
            ref times => panic!("{pod} has said {begins:?} {} times:\n{}", times.len(), log()),
        };
        let (told, given, ended) =
            (once("stopping"), once("other scrapers have the targets of this one"), once("stopped"));
        assert!(told <= given && given <= ended, "{pod}:\n{}", log());
        (told, ended)
    }
}

/// The names of the first so many scrapers.
pub(super) fn names(scrapers: usize) -> BTreeSet<String> {
    (0..scrapers).map(name).collect()
}

/// A scraper's name by its ordinal.
pub(super) fn name(number: usize) -> String {
    format!("promring-scraper-{number}")
}

/// Namespaces, and pods of many exporters that ask to be scraped every second.
fn exporters() -> Vec<Value> {
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let ports: Vec<Value> =
        (FIRST_PORT..FIRST_PORT + PORTS).map(|port| json!({"containerPort": port})).collect();
    let (targets, series) = (PORTS.to_string(), SERIES.to_string());
    let listen = format!("0.0.0.0:{FIRST_PORT}");
    let arguments =
        json!(["demo", "exporters", "--targets", targets, "--series", series, "--listen", listen]);
    let exporter = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "exporter", "namespace": "demo"},
        "spec": {
            "replicas": EXPORTER_PODS,
            "selector": {"matchLabels": {"app": "exporter"}},
            "template": {
                "metadata": {
                    "labels": {"app": "exporter"},
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/interval": "1s"},
                },
                "spec": {
                    "automountServiceAccountToken": false,
                    "nodeSelector": {"kubernetes.io/hostname": EXPORTERS_NODE},
                    "terminationGracePeriodSeconds": 2,
                    "containers": [{
                        "name": "main", "image": "promring:dev", "args": arguments, "ports": ports,
                        // The last one to listen.
                        "readinessProbe": {"tcpSocket": {"port": FIRST_PORT + PORTS - 1}, "periodSeconds": 1},
                    }],
                },
            },
        },
    });
    vec![namespace("demo"), namespace("metrics"), exporter]
}

/// The chart's own configuration, with the two receivers.
fn config(receiver: &Receiver, store: &Store) -> String {
    let file = std::fs::read_to_string(format!("{CHART}/files/prometheus.yml")).unwrap();
    let (audit, prometheus) = (receiver.write_url(), store.write_url());
    format!(
        "{file}
remote_write:
- {{url: '{audit}', name: audit, queue_config: {{max_backoff: 500ms}}}}
- {{url: '{prometheus}', name: prometheus, protobuf_message: io.prometheus.write.v2.Request}}
scraper: {{heartbeat: {}}}
",
        scaled("500ms", "2s")
    )
}
