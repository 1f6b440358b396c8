//! Bodies for benchmarks: the same metrics in each format. A third of the samples are a node's (short labels), a third
//! are containers' (long ones), a third belong to histograms.

use std::fmt::Write as _;

use promring_proto::exposition::{
    Bucket, Exemplar, Histogram, LabelPair, Metric, MetricFamily, MetricType, Timestamp, Value,
};

/// Samples a body has, about.
const SAMPLES: usize = 10_000;

fn labels(pairs: &[(&str, String)]) -> Vec<LabelPair> {
    pairs.iter().map(|(name, value)| LabelPair { name: (*name).into(), value: value.clone() }).collect()
}

/// Values as they are met: many whole, some with many digits, some zero.
fn value(at: usize) -> f64 {
    match at % 5 {
        0 => 0.0,
        1 => at as f64,
        2 => at as f64 * 4_096.0 * 1_237.0,
        3 => at as f64 * 1.37,
        _ => (at as f64).sqrt() * 1e-3,
    }
}

fn family(name: String, help: &str, kind: MetricType, metric: Vec<Metric>) -> MetricFamily {
    MetricFamily { name, help: help.into(), r#type: kind as i32, metric, unit: String::new() }
}

fn gauge(label: Vec<LabelPair>, at: usize) -> Metric {
    Metric { label, gauge: Some(Value { value: value(at) }), ..Metric::default() }
}

fn node(samples: usize) -> impl Iterator<Item = MetricFamily> {
    let modes = ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"];
    (0..samples).step_by(64).map(move |at| {
        let cpu = |nth: usize| labels(&[("cpu", (nth / 8).to_string()), ("mode", modes[nth % 8].into())]);
        let metrics = (0..64).map(|nth| gauge(cpu(nth), at + nth)).collect();
        let help = "Seconds the CPUs spent in each mode.";
        family(format!("node_cpu_seconds_{at}"), help, MetricType::Gauge, metrics)
    })
}

fn containers(samples: usize) -> impl Iterator<Item = MetricFamily> {
    (0..samples).step_by(100).map(|at| {
        let container = |nth: usize| {
            labels(&[
                ("container", format!("app-{}", nth % 7)),
                ("image", format!("registry.example.com/team/application-{}:v1.{}.0", nth % 7, nth % 3)),
                ("namespace", format!("namespace-{}", nth % 11)),
                ("pod", format!("application-{}-5d8f7c9b4{}-x{nth:04}", nth % 7, nth % 10)),
            ])
        };
        let metrics = (0..100).map(|nth| gauge(container(nth), at + nth)).collect();
        let help = "Current working set of the container.";
        family(format!("container_memory_working_set_bytes_{at}"), help, MetricType::Gauge, metrics)
    })
}

fn histogram(samples: usize, exemplars: bool) -> MetricFamily {
    let bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    let metric = |at: usize| {
        let exemplar = |bound: f64| Exemplar {
            label: labels(&[("trace_id", format!("{:032x}", at as u128 * 0x9e37_79b9_7f4a_7c15))]),
            value: bound,
            timestamp: Some(Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 }),
        };
        let bucket = |(nth, bound): (usize, &f64)| Bucket {
            upper_bound: *bound,
            cumulative_count: (at * 17 + nth * 31) as u64,
            exemplar: exemplars.then(|| exemplar(*bound)),
            ..Bucket::default()
        };
        let histogram = Histogram {
            sample_count: at as u64 * 17 + 400,
            sample_sum: value(at),
            bucket: bounds.iter().enumerate().map(bucket).collect(),
            ..Histogram::default()
        };
        let label = labels(&[
            ("method", ["GET", "POST", "PUT"][at % 3].into()),
            ("path", format!("/api/v1/resources/{}", at / 15)),
            ("status", (200 + at % 5).to_string()),
        ]);
        Metric { label, histogram: Some(histogram), ..Metric::default() }
    };
    let metrics = (0..samples / (bounds.len() + 3)).map(metric).collect();
    family("http_request_duration_seconds".into(), "Duration.", MetricType::Histogram, metrics)
}

pub(crate) fn families(exemplars: bool) -> Vec<MetricFamily> {
    let third = SAMPLES / 3;
    node(third).chain(containers(third)).chain([histogram(third, exemplars)]).collect()
}

fn series(name: &str, label: &[LabelPair], extra: Option<f64>) -> String {
    let mut text = name.to_owned();
    for (nth, LabelPair { name, value }) in label.iter().enumerate() {
        let _ = write!(text, "{}{name}=\"{value}\"", if nth == 0 { '{' } else { ',' });
    }
    if let Some(bound) = extra {
        let bound = if bound.is_infinite() { "+Inf".to_owned() } else { format!("{bound:?}") };
        let _ = write!(text, ",le=\"{bound}\"");
    }
    text + "}"
}

/// The same in text; as OpenMetrics with exemplars and the end.
pub(crate) fn print(families: &[MetricFamily], openmetrics: bool) -> String {
    let mut text = String::new();
    for family in families {
        let name = &family.name;
        let kind = if family.r#type() == MetricType::Histogram { "histogram" } else { "gauge" };
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
        for metric in &family.metric {
            let Some(histogram) = &metric.histogram else {
                let value = metric.gauge.unwrap_or_default().value;
                let _ = writeln!(text, "{} {value}", series(name, &metric.label, None));
                continue;
            };
            for bucket in &histogram.bucket {
                let series = series(&format!("{name}_bucket"), &metric.label, Some(bucket.upper_bound));
                let _ = write!(text, "{series} {}", bucket.cumulative_count);
                if let Some(exemplar) = bucket.exemplar.as_ref().filter(|_| openmetrics) {
                    let id = &exemplar.label[0].value;
                    let _ = write!(text, " # {{trace_id=\"{id}\"}} {} 1700000000.123", exemplar.value);
                }
                text.push('\n');
            }
            let infinite = series(&format!("{name}_bucket"), &metric.label, Some(f64::INFINITY));
            let sum = series(&format!("{name}_sum"), &metric.label, None);
            let count = series(&format!("{name}_count"), &metric.label, None);
            let (all, value) = (histogram.sample_count, histogram.sample_sum);
            let _ = writeln!(text, "{infinite} {all}\n{sum} {value}\n{count} {all}");
        }
    }
    if openmetrics { text + "# EOF\n" } else { text }
}
