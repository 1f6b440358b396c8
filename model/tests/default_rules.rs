//! The rules that the chart comes with, and those of the seed configuration: where a pod is scraped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may fail")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use promring_model::config::{ConfigSource, ScrapeConfig, check};
use promring_model::duration::parse_duration;
use promring_model::labels::Labels;
use promring_model::target::{ADDRESS, Assembled, DiscoveredLabels};

struct Files;

impl ConfigSource for Files {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        std::fs::read(path).map_err(|error| error.to_string())
    }

    fn glob(&self, _pattern: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, name: &str) -> Option<String> {
        (name == "CLUSTER").then(|| "eu-1".to_owned())
    }
}

/// The one job of each of the files, which load without a finding worth an error.
fn jobs() -> Vec<Arc<ScrapeConfig>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let files = ["helm/promring/files/prometheus.yml", "testdata/seed.yml"];
    let job = |file: &str| {
        let loaded = check(&root.join(file), &Files);
        let Some(config) = loaded.config else { panic!("{file}: {:?}", loaded.diagnostics) };
        assert_eq!(config.scrape_configs.len(), 1, "{file}");
        Arc::clone(&config.scrape_configs[0])
    };
    files.iter().copied().map(job).collect()
}

const ANNOTATION: &str = "__meta_kubernetes_pod_annotation_prometheus_io_";

/// What becomes of a running pod's target with this address and these annotations.
fn assembled(job: &ScrapeConfig, address: &str, annotations: &[(&str, &str)]) -> Assembled {
    let annotations = annotations.iter().map(|(name, value)| (format!("{ANNOTATION}{name}"), *value));
    let annotations: Vec<(String, &str)> = annotations.collect();
    let own = [(ADDRESS, address), ("__meta_kubernetes_pod_phase", "Running")];
    let own = own.into_iter().chain(annotations.iter().map(|(name, value)| (name.as_str(), *value)));
    DiscoveredLabels::new(job, &Labels::default(), &Labels::from_pairs(own)).assemble()
}

#[test]
fn a_pod_is_scraped_at_the_port_of_its_annotation_or_at_those_that_it_declares_by_either_version_of_ip() {
    // Discovery's address: with the declared port, or the bare address of a pod that declares none. Then where it is scraped
    // with the annotation `prometheus.io/port: "9100"`, and without it.
    let forms = [
        ("10.0.0.5:8080", "10.0.0.5:9100", "10.0.0.5:8080"),
        ("10.0.0.5", "10.0.0.5:9100", "10.0.0.5"),
        ("[fd00::5]:8080", "[fd00::5]:9100", "[fd00::5]:8080"),
        ("fd00::5", "[fd00::5]:9100", "[fd00::5]"),
        ("fd00::", "[fd00::]:9100", "[fd00::]"),
        ("fd00:1:2:3:4:5:6:7", "[fd00:1:2:3:4:5:6:7]:9100", "[fd00:1:2:3:4:5:6:7]"),
    ];
    for job in jobs() {
        for (address, annotated, declared) in forms {
            for (port, wanted) in [(Some("9100"), annotated), (None, declared)] {
                let annotations = [("scrape", "true")].into_iter().chain(port.map(|port| ("port", port)));
                let annotations: Vec<(&str, &str)> = annotations.collect();
                let Assembled::Target(target) = assembled(&job, address, &annotations) else {
                    panic!("{address} {port:?} is no target");
                };
                assert_eq!(target.labels.get(ADDRESS), Some(wanted), "{address} {port:?}");
                assert_eq!(target.labels.get("instance"), Some(wanted), "{address} {port:?}");
                let host = wanted.strip_suffix(":9100").or(wanted.strip_suffix(":8080")).unwrap_or(wanted);
                let url = target.url.unwrap_or_else(|error| panic!("{address} {port:?}: {error}"));
                assert_eq!(url.to_string(), format!("http://{wanted}/metrics"));
                // The system's own parser agrees that this is an address.
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                assert!(bare.parse::<std::net::IpAddr>().is_ok(), "{host}");
            }
        }
    }
}

#[test]
fn a_pod_that_does_not_ask_for_it_is_not_scraped() {
    for job in jobs() {
        for annotations in [&[][..], &[("scrape", "false")], &[("port", "9100")]] {
            let dropped = assembled(&job, "fd00::5", annotations);
            assert!(matches!(dropped, Assembled::Dropped { .. }), "{annotations:?}");
        }
    }
}

#[test]
fn path_scheme_and_interval_are_as_the_annotations_want_them() {
    let annotations =
        [("scrape", "true"), ("port", "9100"), ("path", "/stats"), ("scheme", "https"), ("interval", "3s")];
    for job in jobs() {
        let Assembled::Target(target) = assembled(&job, "fd00::5", &annotations) else { panic!("a target") };
        assert_eq!(target.url.unwrap().to_string(), "https://[fd00::5]:9100/stats");
        assert_eq!((target.interval.as_secs(), target.timeout.as_secs()), (3, 3));
    }
}

/// Prometheus refuses a target whose timeout is longer than its interval; otherwise an annotation of the interval leaves the
/// timeout as it is.
#[test]
fn the_timeout_follows_an_interval_that_is_shorter_and_no_other() {
    for job in jobs() {
        for interval in [
            "1ms",
            "999ms",
            "4s999ms",
            "04s",
            "0m3s",
            "0h0m0s4000ms",
            "4999ms",
            "5s",
            "5000ms",
            "9s",
            "9999ms",
            "0m9s",
            "9s999ms",
            "10s",
            "010s",
            "10000ms",
            "9s20s",
            "15s",
            "19s",
            "1m",
            "1m5s",
            "1m5000ms",
            "90s",
            "1h",
            "1d2h",
        ] {
            let annotations = [("scrape", "true"), ("interval", interval)];
            let wanted = match parse_duration(interval) {
                Ok(interval) => Some((interval, job.scrape_timeout.min(interval))),
                Err(_) => None,
            };
            let found = match assembled(&job, "10.0.0.5:8080", &annotations) {
                Assembled::Target(target) => Some((target.interval, target.timeout)),
                Assembled::Invalid(_) => None,
                Assembled::Dropped { .. } => panic!("{interval}: dropped by a rule"),
            };
            assert_eq!(found, wanted, "{interval}, and a timeout of {:?}", job.scrape_timeout);
        }
    }
}
