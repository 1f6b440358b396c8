//! Relabelling with fast paths beside the regex engine alone, over rule sets as people have them.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use promring_model::config::NameValidation;
use promring_model::labels::{Labels, LabelsBuilder};
use promring_model::relabel::{Rule, RuleError, RuleSpec, Rules};

type Compile = fn(&RuleSpec, NameValidation) -> Result<Rule, RuleError>;

/// Sources (space-separated), target, regex, replacement, action. Empty: absent.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str);

fn compile(rows: &[Row], compile: Compile) -> Rules {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let rule = |&(sources, target, regex, replacement, action): &Row| {
        let spec = RuleSpec {
            source_labels: (!sources.is_empty()).then(|| sources.split(' ').map(str::to_owned).collect()),
            target_label: text(target),
            regex: text(regex),
            replacement: text(replacement),
            action: text(action),
            ..RuleSpec::default()
        };
        compile(&spec, NameValidation::Utf8).expect("a good rule")
    };
    Rules::new(rows.iter().map(rule).collect())
}

/// Pods annotated with `prometheus.io/…`.
const PODS: &[Row] = &[
    ("__meta_kubernetes_pod_annotation_prometheus_io_scrape", "", "true", "", "keep"),
    ("__meta_kubernetes_pod_phase", "", "Pending|Succeeded|Failed|Completed", "", "drop"),
    ("__meta_kubernetes_pod_annotation_prometheus_io_scheme", "__scheme__", "(https?)", "", ""),
    ("__meta_kubernetes_pod_annotation_prometheus_io_path", "__metrics_path__", "(.+)", "", ""),
    (
        "__address__ __meta_kubernetes_pod_annotation_prometheus_io_port",
        "__address__",
        r"([^:]+)(?::\d+)?;(\d+)",
        "$1:$2",
        "",
    ),
    ("__meta_kubernetes_pod_annotation_prometheus_io_interval", "__scrape_interval__", "(.+)", "", ""),
    ("", "", "__meta_kubernetes_pod_label_(.+)", "", "labelmap"),
    ("__meta_kubernetes_namespace", "namespace", "", "", ""),
    ("__meta_kubernetes_pod_name", "pod", "", "", ""),
    ("__meta_kubernetes_pod_node_name", "node", "", "", ""),
];

/// Metric relabelling with a list of what is wanted.
const ALLOWLIST: &[Row] = &[(
    "__name__",
    "",
    "up|node_cpu_seconds_total|node_memory_MemAvailable_bytes|node_memory_MemTotal_bytes|node_filesystem_avail_bytes|\
     node_filesystem_size_bytes|node_load1|node_load5|node_network_receive_bytes_total|node_network_transmit_bytes_total|\
     container_cpu_usage_seconds_total|container_memory_working_set_bytes|container_memory_rss|container_fs_usage_bytes|\
     container_network_receive_bytes_total|kube_pod_info|kube_pod_status_phase|kube_pod_container_resource_requests|\
     kube_deployment_status_replicas|kube_deployment_spec_replicas|kube_node_status_condition|http_requests_total|\
     http_request_duration_seconds_bucket|http_request_duration_seconds_count|http_request_duration_seconds_sum|\
     process_cpu_seconds_total|process_resident_memory_bytes|go_goroutines|go_memstats_alloc_bytes|grpc_server_handled_total",
    "",
    "keep",
)];

/// The same list, with families.
const FAMILIES: &[Row] = &[(
    "__name__",
    "",
    "up|node_(cpu|memory|filesystem|network)_.*|node_load(1|5|15)|container_(cpu|memory|fs|network)_.+|kube_.*|\
     http_requests_total|http_request_duration_seconds_(bucket|count|sum)|process_.*|grpc_.*_total|go_goroutines",
    "",
    "keep",
)];

const LABELDROP: &[Row] =
    &[("", "", "pod_ip|instance_id", "", "labeldrop"), ("", "", "label_.*|.*_hash", "", "labeldrop")];

const METRIC_RULES: &[Row] = &[
    ("__name__", "", "(go|process)_.*", "", "drop"),
    ("service", "svc", "(.+)", "", ""),
    ("", "", "service", "", "labeldrop"),
    (
        "__name__ le",
        "",
        "apiserver_request_duration_seconds_bucket;(0.15|0.2|0.3|0.35|0.4|0.45|0.6|0.7|0.8|0.9)",
        "",
        "drop",
    ),
    ("", "", "id|image_id|container_id", "", "labeldrop"),
];

fn pods() -> Vec<Labels> {
    let meta = |n: usize| {
        let annotated = !n.is_multiple_of(4);
        let pairs = [
            ("__address__", format!("10.0.{}.{}:8080", n / 250, n % 250)),
            ("__meta_kubernetes_namespace", format!("team-{}", n % 7)),
            (
                "__meta_kubernetes_pod_annotation_prometheus_io_port",
                if annotated { "9102".into() } else { String::new() },
            ),
            (
                "__meta_kubernetes_pod_annotation_prometheus_io_scrape",
                if annotated { "true".into() } else { String::new() },
            ),
            (
                "__meta_kubernetes_pod_annotation_kubectl_kubernetes_io_restartedAt",
                "2026-08-01T12:00:00Z".into(),
            ),
            ("__meta_kubernetes_pod_container_name", "app".into()),
            ("__meta_kubernetes_pod_ip", format!("10.0.{}.{}", n / 250, n % 250)),
            ("__meta_kubernetes_pod_label_app_kubernetes_io_name", format!("service-{}", n % 40)),
            ("__meta_kubernetes_pod_label_app_kubernetes_io_version", "1.4.2".into()),
            ("__meta_kubernetes_pod_label_pod_template_hash", format!("{:010x}", n * 7919)),
            ("__meta_kubernetes_pod_labelpresent_app_kubernetes_io_name", "true".into()),
            ("__meta_kubernetes_pod_name", format!("service-{}-{:010x}-abcde", n % 40, n * 7919)),
            ("__meta_kubernetes_pod_node_name", format!("node-{}", n % 20)),
            (
                "__meta_kubernetes_pod_phase",
                if n.is_multiple_of(10) { "Succeeded".into() } else { "Running".into() },
            ),
            ("__meta_kubernetes_pod_uid", format!("{n:032x}")),
            ("__metrics_path__", "/metrics".into()),
            ("__scheme__", "http".into()),
            ("__scrape_interval__", "30s".into()),
            ("job", "pods".into()),
        ];
        Labels::from_pairs(pairs)
    };
    (0..1000).map(meta).collect()
}

fn series() -> Vec<Labels> {
    let names = [
        "node_cpu_seconds_total",
        "node_disk_io_time_seconds_total",
        "container_memory_working_set_bytes",
        "container_memory_cache",
        "http_request_duration_seconds_bucket",
        "http_request_size_bytes_bucket",
        "go_gc_duration_seconds",
        "kube_pod_labels",
        "apiserver_request_duration_seconds_bucket",
        "process_open_fds",
        "etcd_disk_wal_fsync_duration_seconds_bucket",
        "up",
    ];
    let one = |n: usize| {
        Labels::from_pairs([
            ("__name__", names[n % names.len()].to_owned()),
            ("instance", format!("10.0.0.{}:9100", n % 250)),
            ("job", "pods".into()),
            ("le", ["0.05", "0.1", "0.2", "1", "+Inf"][n % 5].into()),
            ("method", "GET".into()),
            ("namespace", format!("team-{}", n % 7)),
            ("pod", format!("service-{}-{:010x}-abcde", n % 40, n * 7919)),
            ("pod_ip", format!("10.0.0.{}", n % 250)),
            ("service", format!("service-{}", n % 40)),
        ])
    };
    (0..1200).map(one).collect()
}

fn benches(criterion: &mut Criterion) {
    let cases: [(&str, &[Row], Vec<Labels>); 5] = [
        ("pod_targets", PODS, pods()),
        ("metric_allowlist", ALLOWLIST, series()),
        ("metric_families", FAMILIES, series()),
        ("labeldrop", LABELDROP, series()),
        ("metric_rules", METRIC_RULES, series()),
    ];
    for (name, rows, sets) in cases {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(sets.len() as u64));
        let paths: [(&str, Compile); 2] =
            [("fast", Rule::compile), ("engine_only", Rule::compile_engine_only)];
        for (path, how) in paths {
            let rules = compile(rows, how);
            group.bench_with_input(BenchmarkId::from_parameter(path), &sets, |bench, sets| {
                bench.iter(|| {
                    for set in sets {
                        let mut builder = LabelsBuilder::from_labels(set);
                        black_box(rules.apply(&mut builder));
                    }
                });
            });
        }
        // What the labels cost without a rule.
        group.bench_with_input(BenchmarkId::from_parameter("no_rules"), &sets, |bench, sets| {
            bench.iter(|| {
                for set in sets {
                    black_box(LabelsBuilder::from_labels(set));
                }
            });
        });
        group.finish();
    }
}

criterion_group!(relabel, benches);
criterion_main!(relabel);
