//! Real receivers at once: what each has stored is what was scraped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use promring_model::labels::Labels;

use crate::differential::script::{Case, Script, Step};
use crate::servers::Store;
use crate::support::{Process, eventually, metric, scaled};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// In which steps `rx_vanishes` is not there.
fn is_gone(step: usize) -> bool {
    (3..6).contains(&(step % 10))
}

/// What the target shows in a step: text, and series with their values.
fn shown(step: usize) -> (String, BTreeMap<Labels, f64>) {
    let value = step as f64;
    let mut lines = vec![
        ("rx_requests_total", "code", "200", 10.0 * value),
        ("rx_requests_total", "code", "5 \u{e9} \\\"quoted\\\"", value),
        ("rx_constant", "a", "b", 0.1),
        ("rx_negative", "a", "b", -value - 0.5),
        ("rx_large", "a", "b", 1.797e308),
        ("rx_infinite", "a", "b", f64::INFINITY),
    ];
    if !is_gone(step) {
        lines.push(("rx_vanishes", "a", "b", value));
    }
    let mut text = "# HELP rx_requests Requests.\n# TYPE rx_requests counter\n".to_owned();
    let mut series = BTreeMap::new();
    for (name, label, escaped, value) in lines {
        text.push_str(&format!("{name}{{{label}=\"{escaped}\"}} {}\n", shown_value(value)));
        let plain = escaped.replace("\\\"", "\"");
        let labels: [(&str, &str); 4] =
            [("__name__", name), (label, &plain), ("job", "rx"), ("place", "here")];
        series.insert(Labels::from_pairs(labels), value);
    }
    (text + "# EOF\n", series)
}

fn shown_value(value: f64) -> String {
    if value.is_infinite() { "+Inf".to_owned() } else { value.to_string() }
}

/// A receiver under test.
struct Receiver {
    name: &'static str,
    store: Store,
    /// By how much of itself a value may differ: VictoriaMetrics rounds to decimals.
    tolerance: f64,
}

async fn start_all(dir: &Path) -> Vec<Receiver> {
    vec![
        Receiver { name: "v1", store: Store::prometheus_3(dir, 1).await, tolerance: 0.0 },
        Receiver { name: "v2", store: Store::prometheus_3(dir, 2).await, tolerance: 0.0 },
        Receiver { name: "debian", store: Store::prometheus(dir).await, tolerance: 0.0 },
        Receiver { name: "victoria", store: Store::victoria_metrics(dir).await, tolerance: 1e-12 },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn four_real_receivers_at_once_store_exactly_what_was_scraped() {
    let dir = tempfile::tempdir().unwrap();
    let mut receivers = start_all(dir.path()).await;
    let count = scaled(12, 120);
    let steps: Vec<Step> =
        (0..count).map(|step| Step::new(&step.to_string(), OPENMETRICS, shown(step).0)).collect();
    let case = Case { family: "rx".into(), job: "rx".into(), settings: String::new(), steps };
    let script = Script::start(&[case]).await;
    let mut config = format!(
        "global: {{scrape_interval: 1s, external_labels: {{place: here}}}}\nscrape_configs:\n- job_name: rx\n  metrics_path: /rx\n  static_configs: [{{targets: ['{}']}}]\n  metric_relabel_configs: [{{regex: instance, action: labeldrop}}]\nremote_write:\n",
        script.address
    );
    for receiver in &receivers {
        let message =
            if receiver.name == "v2" { "io.prometheus.write.v2.Request" } else { "prometheus.WriteRequest" };
        config.push_str(&format!(
            "- {{name: {}, url: '{}', protobuf_message: {message}}}\n",
            receiver.name,
            receiver.store.write_url()
        ));
    }
    let path = dir.path().join("promring.yml");
    std::fs::write(&path, config).unwrap();
    let (mut promring, base) = Process::standalone("promring", &path, dir.path());

    // One scrape more than there are steps: what came before has been stored then, as samples come in order.
    for receiver in &receivers {
        eventually(&format!("{} has all scrapes", receiver.name), async || {
            let scrapes = receiver.store.value("count_over_time(up[1h])").await;
            (scrapes >= Some(count as f64 + 1.0)).then_some(())
        })
        .await;
    }
    for name in
        ["prometheus_remote_storage_samples_failed_total", "promring_remote_write_refused_samples_total"]
    {
        assert_eq!(metric(&base, name).await, Some(0.0), "{name}");
    }
    assert!(promring.terminate().success(), "{}", promring.log());

    let mut expected: BTreeMap<Labels, Vec<(usize, f64)>> = BTreeMap::new();
    for step in 0..count {
        for (labels, value) in shown(step).1 {
            expected.entry(labels).or_default().push((step, value));
        }
    }
    let mut slots: BTreeSet<Vec<i64>> = BTreeSet::new();
    for receiver in &mut receivers {
        let name = receiver.name;
        assert!(receiver.store.runs());
        let ups = receiver.store.samples("up").await;
        let times: Vec<i64> = ups.into_values().next().unwrap().into_iter().map(|(time, _)| time).collect();
        let times = times[..count].to_vec();
        let stored = receiver.store.samples("{__name__=~\"rx_.*\"}").await;
        assert_eq!(
            stored.keys().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>(),
            "series that {name} has stored"
        );
        for (labels, samples) in &expected {
            // What was scraped after the last step is that step again.
            let found: Vec<(i64, f64)> = stored[labels]
                .iter()
                .copied()
                // VictoriaMetrics shows markers.
                .filter(|(time, value)| times.contains(time) && !value.is_nan())
                .collect();
            let wanted: Vec<(i64, f64)> =
                samples.iter().map(|(step, value)| (times[*step], *value)).collect();
            let near = |(found, wanted): (&(i64, f64), &(i64, f64))| {
                let apart = (found.1 - wanted.1).abs();
                found.0 == wanted.0 && (found.1 == wanted.1 || apart <= receiver.tolerance * wanted.1.abs())
            };
            assert!(
                found.len() == wanted.len() && found.iter().zip(&wanted).all(near),
                "{name} has stored of {labels}\n{found:?}, and shown was\n{wanted:?}"
            );
        }
        // A series that is gone has no value between, though it had one a second ago.
        let query = |step: usize| {
            [("query", "rx_vanishes"), ("nocache", "1"), ("time", "")].map(|(name, value)| {
                let time = format!("{:.3}", times[step] as f64 / 1_000.0 + 0.5);
                (name, if name == "time" { time } else { value.to_owned() })
            })
        };
        for (step, there) in [(2, 1), (3, 0), (5, 0), (6, 1)] {
            let parameters = query(step);
            let parameters = parameters.each_ref().map(|(name, value)| (*name, &**value));
            let answer = receiver.store.ask("query", &parameters).await;
            let series = answer["result"].as_array().unwrap().len();
            assert_eq!(series, there, "rx_vanishes at {name} in step {step}");
        }
        slots.insert(times);
    }
    assert_eq!(slots.len(), 1, "every receiver has the same times");
}
