//! The process's own metrics.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Bounds of histograms in seconds.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Bounds of the durations of hand-overs in seconds: those of a fence at the end.
const HANDOVER_SECONDS: [f64; 10] = [5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 600.0];

/// Installs the recorder that the `metrics` macros write to. Must run before any handle is taken, since a handle
/// taken earlier goes nowhere. Later calls change nothing.
pub fn install_metrics() {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| {
            let handovers = Matcher::Full("promring_allocator_handover_duration_seconds".to_owned());
            builder.set_buckets_for_metric(handovers, &HANDOVER_SECONDS)
        })
        .map(PrometheusBuilder::build_recorder);
    let Ok(recorder) = recorder else { return };
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        let _ = RECORDER.set(handle);
        metrics::gauge!("promring_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    }
}

type Show = dyn Fn() + Send + Sync;

/// What sets metrics whenever somebody looks.
static COLLECTED: Mutex<Vec<Weak<Show>>> = Mutex::new(Vec::new());

/// Keeps what [`collect`] was given.
pub struct Collected(Arc<Show>);

impl std::fmt::Debug for Collected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Collected({})", Arc::strong_count(&self.0))
    }
}

/// Calls `show` whenever somebody looks at the metrics, until what this returns is dropped. What `show` sets is shown that
/// once: so a scraper that has gone takes its gauges along, as a recorder's own would stay for good.
#[must_use]
pub fn collect(show: impl Fn() + Send + Sync + 'static) -> Collected {
    let show: Arc<Show> = Arc::new(show);
    let mut collected = COLLECTED.lock().unwrap_or_else(PoisonError::into_inner);
    collected.retain(|other| other.strong_count() > 0);
    collected.push(Arc::downgrade(&show));
    Collected(show)
}

/// All metrics in the text format, or nothing where [`install_metrics`] has not run. A gauge that is not a number is not
/// shown: the recorder takes nothing back, so that is how one is set whose subject is gone, where [`collect`] would cost too
/// much.
#[must_use]
pub fn render_metrics() -> String {
    let Some(handle) = RECORDER.get() else { return String::new() };
    let mut text = without_nan(handle.render());
    let collected: Vec<Arc<Show>> = {
        let collected = COLLECTED.lock().unwrap_or_else(PoisonError::into_inner);
        collected.iter().filter_map(Weak::upgrade).collect()
    };
    if !collected.is_empty() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || collected.iter().for_each(|show| show()));
        text.push_str(&recorder.handle().render());
    }
    text
}

fn without_nan(text: String) -> String {
    const NAN: &str = " NaN\n";
    if !text.contains(NAN) {
        return text;
    }
    text.split_inclusive('\n').filter(|line| line.starts_with('#') || !line.ends_with(NAN)).collect()
}

/// Keeps histograms bounded: the exporter collects samples until it is told to sort them into buckets.
pub async fn upkeep() {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        if let Some(handle) = RECORDER.get() {
            handle.run_upkeep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_collected_is_shown_as_long_as_it_is_set_and_kept() {
        install_metrics();
        let there = Arc::new(Mutex::new(vec!["a", "b"]));
        let shown = Arc::clone(&there);
        let collected = collect(move || {
            for name in shown.lock().unwrap().iter() {
                metrics::gauge!("collected", "name" => *name).set(1.0);
            }
        });
        let has = |name: &str| render_metrics().contains(&format!("collected{{name=\"{name}\"}} 1"));
        assert_eq!((has("a"), has("b")), (true, true));
        there.lock().unwrap().pop();
        assert_eq!((has("a"), has("b")), (true, false));
        drop(collected);
        assert_eq!((has("a"), has("b")), (false, false));
    }

    #[test]
    fn a_gauge_that_is_not_a_number_is_not_shown() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics::gauge!("g", "of" => "NaN").set(1.5);
            let gone = metrics::gauge!("g", "of" => "gone");
            gone.set(2.0);
            assert!(without_nan(handle.render()).contains("g{of=\"gone\"} 2\n"));
            gone.set(f64::NAN);
        });
        let text = without_nan(handle.render());
        assert!(text.contains("g{of=\"NaN\"} 1.5\n") && !text.contains("gone"), "{text}");
    }
}
