//! The product as its users run it: the chart installed on a cluster, pods discovered by their annotations, scraped at
//! their addresses, and remote-written to a receiver.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use promring_cluster::{Cluster, Request, run};
use promring_model::config::load;
use promring_net::clock::now_ms;
use promring_net::files::Disk;
use promring_testkit::audit::Report;
use serde_json::{Value, json};

use super::chart::{CHART, objects, template};
use super::pods::{address, expected, ready_pods};
use super::{ALLOCATOR, apply_file, callers, failover, helm, options};
use crate::support::{client, eventually, get_json, scaled};

const EXPORTERS: usize = 4;
const SCRAPERS: usize = 3;
const ALLOCATORS: usize = 2;
const PORT: u16 = 9100;

/// Sample exporters that ask to be scraped, one that does not, and a receiver.
fn demo() -> Vec<Value> {
    let deployment = |name: &str, replicas: usize, annotations: Value, arguments: Value, port: u16| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "demo"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}, "annotations": annotations},
                    "spec": {
                        "automountServiceAccountToken": false,
                        "terminationGracePeriodSeconds": 2,
                        "containers": [{
                            "name": "main", "image": "promring:dev", "args": arguments,
                            "ports": [{"containerPort": port}],
                            "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
                        }],
                    },
                },
            },
        })
    };
    let listen = format!("0.0.0.0:{PORT}");
    let exporter = json!(["demo", "exporters", "--targets", "1", "--listen", listen]);
    let wanted = json!({
        "prometheus.io/scrape": "true", "prometheus.io/port": PORT.to_string(), "prometheus.io/interval": "1s",
    });
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "receiver", "namespace": "demo"},
            "spec": {"selector": {"app": "receiver"}, "ports": [{"port": 9091}]}}),
        deployment("receiver", 1, json!({}), json!(["demo", "receiver", "--listen", "0.0.0.0:9091"]), 9091),
        deployment("exporter", EXPORTERS, wanted, exporter.clone(), PORT),
        deployment("shy", 1, json!({"prometheus.io/port": PORT.to_string()}), exporter, PORT),
    ]
}

/// Where the one pod with these labels serves.
async fn server(cluster: &Cluster, namespace: &str, selector: &str, port: u16) -> String {
    let pod =
        eventually(selector, async || ready_pods(cluster, namespace, selector).await.into_values().next());
    format!("http://{}:{port}", address(&pod.await))
}

async fn post(url: &str, body: &Value) {
    let answer = client().post(url).body(body.to_string()).send().await.unwrap();
    assert!(answer.status().is_success(), "{url}: {}", answer.text().await.unwrap());
}

/// The instances of the active targets that the allocator knows, with their scrapers and health.
pub(super) async fn targets(allocator: &str) -> Option<BTreeMap<String, (String, String)>> {
    targets_of(allocator, None).await
}

/// Those of one job.
async fn targets_of(allocator: &str, job: Option<&str>) -> Option<BTreeMap<String, (String, String)>> {
    let answer = get_json(&format!("{allocator}/api/v1/targets")).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |target: &Value| {
        (text(&target["labels"]["instance"]), (text(&target["scraper"]), text(&target["health"])))
    };
    let all = answer["data"]["activeTargets"].as_array()?.iter();
    Some(all.filter(|target| job.is_none_or(|job| target["scrapePool"] == job)).map(one).collect())
}

/// The chart's own configuration with another external label, and with a job that scrapes promring itself.
fn own_config() -> String {
    let file = std::fs::read_to_string(format!("{CHART}/files/prometheus.yml")).unwrap();
    let labels = "  external_labels: {cluster: upgraded}\n\nscrape_configs:\n";
    let file = file.replace("\nscrape_configs:\n", labels);
    assert!(file.contains(labels));
    file + "
  - job_name: self
    scrape_interval: 1s
    scrape_timeout: 1s
    kubernetes_sd_configs: [{role: pod, namespaces: {own_namespace: true}}]
    relabel_configs:
      - {source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_name], regex: promring, action: keep}
remote_write: [{url: 'http://receiver.demo.svc:9091/api/v1/write'}]
"
}

/// The members are the ordinals of the StatefulSet: a pod that crashes stays one, and scaling changes them.
async fn membership(cluster: &Cluster, allocator: &str) {
    let owners = async || {
        // Those in the namespace `demo`: promring's own pods come and go here.
        let found = targets_of(allocator, Some("pods")).await?;
        let up = found.values().all(|(_, health)| health == "up");
        let owners: BTreeMap<String, String> =
            found.into_iter().map(|(instance, (scraper, _))| (instance, scraper)).collect();
        up.then_some(owners)
    };
    let before = eventually("all is well", owners).await;
    cluster.kill("metrics", "promring-scraper-1");
    eventually("the killed scraper is ready again", async || {
        let pods = ready_pods(cluster, "metrics", "app.kubernetes.io/component=scraper").await;
        let status = pods.get("promring-scraper-1")?.status.as_ref()?.container_statuses.as_ref()?[0].clone();
        (status.restart_count == 1 && status.ready).then_some(())
    })
    .await;
    assert_eq!(eventually("all is well again", owners).await, before, "a restart moves nothing");

    let members = async |what: &str, patch: Value, ordinals: [u32; 2]| {
        let patch = json!({"spec": patch}).to_string();
        cluster.kubectl(&["-n", "metrics", "patch", "statefulset", "promring-scraper", "-p", &patch]).await;
        let wanted: BTreeSet<String> =
            ordinals.iter().map(|number| format!("promring-scraper-{number}")).collect();
        eventually(what, async || {
            let answer = get_json(&format!("{allocator}/api/v1/scrapers")).await?;
            let takes = |one: &&Value| one["state"] == "ready" && one["leaving"] == false;
            let name = |one: &Value| one["name"].as_str().unwrap_or_default().to_owned();
            let takers: BTreeSet<String> =
                answer["data"]["scrapers"].as_array()?.iter().filter(takes).map(name).collect();
            let owners: BTreeSet<String> = owners().await?.into_values().collect();
            (takers == wanted && owners == wanted).then_some(())
        })
        .await;
    };
    members("two scrapers share the targets", json!({"replicas": 2}), [0, 1]).await;
    members("the ordinals begin with one", json!({"ordinals": {"start": 1}}), [1, 2]).await;
}

#[test]
fn the_chart_scrapes_annotated_pods_and_every_sample_arrives_once() {
    run(&options(), async |cluster| {
        apply_file(cluster, "demo", &demo()).await;
        // The strictest of Kubernetes's own rules for pods holds where the chart is installed.
        apply_file(
            cluster,
            "namespace",
            &[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "metrics", "labels": {
                "pod-security.kubernetes.io/enforce": "restricted"}}})],
        )
        .await;
        let values = [
            "--set",
            "image.tag=dev",
            "--set",
            "remoteWrite[0].url=http://receiver.demo.svc:9091/api/v1/write",
            "--set",
            "discovery.resources={pods}",
            "--set",
            "externalLabels.cluster=test",
        ];
        let install: Vec<&str> = ["install", "promring", CHART, "-n", "metrics", "--wait", "--timeout", "3m"]
            .into_iter()
            .chain(values)
            .collect();
        let notes = helm(cluster, &install).await;
        assert!(notes.contains("port-forward service/promring-allocator 8080"), "{notes}");
        assert!(notes.contains("ServiceMonitor, PodMonitor"), "{notes}");

        // Every exporter that asks for it is a target of one of the scrapers, and nothing else is.
        let (_, allocator, _) =
            eventually("an allocator leads", async || failover::leader(cluster).await).await;
        let exporters = eventually("the exporters are ready", async || {
            let pods = ready_pods(cluster, "demo", "app=exporter").await;
            (pods.len() == EXPORTERS).then_some(pods)
        })
        .await;
        let instances: BTreeSet<String> =
            exporters.values().map(|pod| format!("{}:{PORT}", address(pod))).collect();
        let found = eventually("every exporter is scraped", async || {
            let found = targets(&allocator).await?;
            let all = found.keys().cloned().collect::<BTreeSet<_>>() == instances;
            (all && found.values().all(|(_, health)| health == "up")).then_some(found)
        })
        .await;
        let members: BTreeSet<String> =
            (0..SCRAPERS).map(|number| format!("promring-scraper-{number}")).collect();
        assert!(found.values().all(|(scraper, _)| members.contains(scraper)), "{found:?}");
        let answer = get_json(&format!("{allocator}/api/v1/scrapers")).await.unwrap();
        let named = answer["data"]["scrapers"].as_array().unwrap().iter();
        let named: BTreeSet<_> = named.map(|scraper| scraper["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(named, members);

        callers::are_who_they_are(cluster, &allocator).await;

        // What arrives is one sample a slot of every series.
        let rendered: Vec<&str> =
            ["--show-only", "templates/config.yaml"].into_iter().chain(values).collect();
        let config = objects(&template(cluster.dir(), &rendered).unwrap()).remove(0);
        let path = cluster.dir().join("prometheus.yml");
        std::fs::write(&path, config["data"]["prometheus.yml"].as_str().unwrap()).unwrap();
        let config = load(&path, &Disk).config.unwrap();
        let receiver = server(cluster, "demo", "app=receiver", 9091).await;
        let mut expectations = Vec::new();
        for pod in exporters.values() {
            expectations.push(expected(&config, pod, PORT).await);
        }
        post(&format!("{receiver}/api/v1/expect"), &json!(expectations)).await;
        let from_ms = now_ms();
        let allocator = failover::moves_nothing(cluster).await;
        post(&format!("{receiver}/api/v1/window"), &json!({"from_ms": from_ms})).await;
        let slots = scaled(5, 60);
        let until_ms = from_ms + slots * 1_000;
        eventually("some slots to audit", async || (now_ms() > until_ms + 3_000).then_some(())).await;
        let report = get_json(&format!("{receiver}/api/v1/report?as_of={until_ms}")).await.unwrap();
        let report: Report = serde_json::from_value(report).unwrap();
        assert!(report.counts.is_clean(), "{report:#?}");
        assert_eq!(report.targets, EXPORTERS as u64);
        assert!(report.slots >= report.series * (slots as u64 - 1), "{} slots", report.slots);

        // A pod that goes is no target any more, and its successor is one.
        let (gone, pod) = exporters.first_key_value().unwrap();
        let lost = format!("{}:{PORT}", address(pod));
        cluster.kubectl(&["-n", "demo", "delete", "pod", gone, "--wait=false"]).await;
        eventually("the new pod has taken the old one's place", async || {
            let found = targets(&allocator).await?;
            let up = found.values().filter(|(_, health)| health == "up").count();
            (!found.contains_key(&lost) && found.len() == EXPORTERS && up == EXPORTERS).then_some(())
        })
        .await;

        // The README's first target.
        let image = "--image=promring:dev";
        let command = ["--", "/promring", "demo", "exporters", "--targets", "1", "--listen", "0.0.0.0:9100"];
        let create = ["-n", "demo", "create", "deployment", "sample", image].into_iter().chain(command);
        cluster.kubectl(&create.collect::<Vec<_>>()).await;
        let annotations = json!({"prometheus.io/scrape": "true", "prometheus.io/port": "9100"});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        cluster
            .kubectl(&["-n", "demo", "patch", "deployment", "sample", "--patch", &patch.to_string()])
            .await;
        eventually("the sample is a target", async || {
            let sample = ready_pods(cluster, "demo", "app=sample").await.into_values().next()?;
            targets(&allocator).await?.contains_key(&format!("{}:{PORT}", address(&sample))).then_some(())
        })
        .await;

        // An upgrade that changes nothing but the configuration restarts nothing, and takes effect.
        let file = cluster.dir().join("own.yml");
        std::fs::write(&file, own_config()).unwrap();
        let own = format!("config={}", file.display());
        let upgrade =
            ["upgrade", "promring", CHART, "-n", "metrics", "--set", "image.tag=dev", "--set-file", &own];
        helm(cluster, &upgrade).await;
        eventually("series have the new external label", async || {
            let series = get_json(&format!("{receiver}/api/v1/series?match=up")).await?;
            series.to_string().contains(r#""cluster":"upgraded""#).then_some(())
        })
        .await;
        let pods = ready_pods(cluster, "metrics", "app.kubernetes.io/name=promring").await;
        assert_eq!(pods.len(), SCRAPERS + ALLOCATORS);
        for (name, pod) in &pods {
            let statuses = pod.status.as_ref().unwrap().container_statuses.clone().unwrap();
            assert_eq!(statuses[0].restart_count, 0, "{name}:\n{}", cluster.logs("metrics", name));
        }

        // The job that the new configuration has beside the old one finds promring's own pods, in the namespace of its own.
        eventually("promring scrapes itself", async || {
            let found = targets_of(&allocator, Some("self")).await?;
            let hosts = found.keys().map(|instance| instance.split(':').next().unwrap().to_owned());
            let all = hosts.collect::<BTreeSet<_>>() == pods.values().map(address).collect();
            (all && found.values().all(|(_, health)| health == "up")).then_some(())
        })
        .await;

        membership(cluster, &allocator).await;

        // Each allocator, and the one that took the deleted one's place, has one watch for discovery and two for the scrapers'
        // StatefulSet and its pods; whoever leads asks a question or two about each token. Nothing is refused, and nobody else
        // asks Kubernetes for anything.
        let requests = cluster.requests(ALLOCATOR);
        let good = |request: &&Request| request.code == 200 || request.code == 201;
        let (leases, requests): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|request| request.resource == "leases");
        let verbs: BTreeSet<_> = leases.iter().map(|request| request.verb.as_str()).collect();
        assert_eq!(verbs, BTreeSet::from(["get", "update"]));
        // Of two that want it at once one is late.
        assert!(leases.iter().all(|request| request.code == 200 || request.code == 409), "{leases:?}");
        assert!(requests.iter().all(|request| good(&request)), "{requests:?}");
        let (reviews, requests): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|request| request.resource == "tokenreviews");
        let most = ALLOCATORS * 2 * SCRAPERS + callers::TOKENS;
        assert!((SCRAPERS..=most).contains(&reviews.len()), "{reviews:?}");
        let mut watches: Vec<_> = requests
            .iter()
            .map(|request| (request.verb.as_str(), request.resource.as_str(), request.namespace.as_str()))
            .collect();
        watches.sort_unstable();
        let each =
            [("watch", "pods", ""), ("watch", "pods", "metrics"), ("watch", "statefulsets", "metrics")];
        let mut wanted: Vec<_> = each.into_iter().flat_map(|watch| [watch; ALLOCATORS + 1]).collect();
        // The job that came with the upgrade has a scope of its own, which those watch that were there then.
        wanted.extend([("watch", "pods", "metrics"); ALLOCATORS]);
        wanted.sort_unstable();
        assert_eq!(watches, wanted);
        assert_eq!(cluster.requests("system:serviceaccount:metrics:promring-scraper"), []);

        // Everything ends in order.
        helm(cluster, &["uninstall", "promring", "-n", "metrics"]).await;
        eventually("all pods have gone", async || {
            let pods: Api<Pod> = Api::namespaced(cluster.client(), "metrics");
            pods.list(&ListParams::default()).await.ok()?.items.is_empty().then_some(())
        })
        .await;
        for name in pods.keys() {
            let log = cluster.logs("metrics", name);
            assert!(log.lines().last().unwrap().contains("stopped"), "{name}:\n{log}");
        }
    });
}
