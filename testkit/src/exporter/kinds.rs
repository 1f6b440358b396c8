//! What the sample services expose. Each kind has a natural list of some seventy to a hundred series; asked for
//! more it grows by further handlers, tables, queues or keyspaces, as a real service would.

use super::motion::Motion;
use super::template::{Family, LabelText, Own, Series, Template};

/// A kind of sample service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An HTTP API.
    Api,
    /// A database server.
    Database,
    /// A worker that takes jobs from queues.
    Worker,
    /// A cache.
    Cache,
}

/// Upper bounds of latency buckets in seconds, written as Prometheus normalises them, and which part of the
/// events lies below each.
const LATENCY_BUCKETS: [(&str, f64); 12] = [
    ("0.001", 0.02),
    ("0.0025", 0.08),
    ("0.005", 0.21),
    ("0.01", 0.42),
    ("0.025", 0.66),
    ("0.05", 0.81),
    ("0.1", 0.9),
    ("0.25", 0.955),
    ("0.5", 0.982),
    ("1.0", 0.994),
    ("5.0", 0.9991),
    ("+Inf", 1.0),
];
/// The mean that goes with [`LATENCY_BUCKETS`], in seconds.
const LATENCY_MEAN: f64 = 0.043;

type Pairs = Vec<(&'static str, LabelText)>;

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Api, Self::Database, Self::Worker, Self::Cache];

    /// The services of this kind, by name.
    #[must_use]
    pub fn services(self) -> &'static [&'static str] {
        match self {
            Self::Api => &["checkout", "catalog", "accounts", "search"],
            Self::Database => &["orders-db", "users-db"],
            Self::Worker => &["mailer", "invoicer"],
            Self::Cache => &["session-cache", "page-cache"],
        }
    }

    /// The team that it belongs to, for a label of the target.
    #[must_use]
    pub fn team(self) -> &'static str {
        match self {
            Self::Api => "storefront",
            Self::Database | Self::Cache => "storage",
            Self::Worker => "backoffice",
        }
    }

    /// The exposition of a service of this kind, with exactly `series` series where a number is given.
    pub(super) fn template(self, series: Option<usize>) -> Template {
        let natural = count(&self.families(0, 0));
        let Some(wanted) = series else { return Template::new(self.families(0, 0)) };
        if wanted <= natural {
            return Template::new(first(self.families(0, 0), wanted));
        }
        let unit = count(&self.families(1, 0)) - natural;
        let extra = (wanted - natural) / unit;
        Template::new(self.families(extra, (wanted - natural) % unit))
    }

    /// Its families with `extra` further handlers (tables, queues, keyspaces) and `flags` feature flags.
    fn families(self, extra: usize, flags: usize) -> Vec<Family> {
        let mut families = match self {
            Self::Api => api(extra),
            Self::Database => database(extra),
            Self::Worker => worker(extra),
            Self::Cache => cache(extra),
        };
        families.extend(runtime());
        if flags > 0 {
            let flag = |number: usize| gauge(vec![("flag", format!("flag-{number:03}").into())], 0.0, 1.0, 0);
            families.push(family(
                "feature_flag_enabled",
                "Whether a feature is on.",
                "gauge",
                (0..flags).map(flag),
            ));
        }
        families
    }
}

fn count(families: &[Family]) -> usize {
    families.iter().map(|family| family.series.len()).sum()
}

/// The first `wanted` series.
fn first(mut families: Vec<Family>, mut wanted: usize) -> Vec<Family> {
    for family in &mut families {
        family.series.truncate(wanted);
        wanted -= family.series.len();
    }
    families.retain(|family| !family.series.is_empty());
    families
}

fn family(
    name: &'static str,
    help: &'static str,
    metric_type: &'static str,
    series: impl IntoIterator<Item = Series>,
) -> Family {
    Family { name, help, metric_type, series: series.into_iter().collect() }
}

fn counter(labels: Pairs, per_second: f64) -> Series {
    Series { suffix: "", labels, motion: Motion::Counter { per_second } }
}

fn gauge(labels: Pairs, low: f64, high: f64, decimals: u8) -> Series {
    Series { suffix: "", labels, motion: Motion::Gauge { low, high, decimals } }
}

fn constant(labels: Pairs, value: u64) -> Series {
    Series { suffix: "", labels, motion: Motion::Constant(value) }
}

/// The series of one latency histogram with these labels.
fn latencies(labels: &Pairs, per_second: f64, out: &mut Vec<Series>) {
    for (bound, share) in LATENCY_BUCKETS {
        let mut labels = labels.clone();
        labels.push(("le", bound.into()));
        out.push(Series { suffix: "_bucket", labels, motion: Motion::Bucket { per_second, share } });
    }
    let sum = Motion::Sum { per_second, mean: LATENCY_MEAN };
    out.push(Series { suffix: "_sum", labels: labels.clone(), motion: sum });
    let all = Motion::Bucket { per_second, share: 1.0 };
    out.push(Series { suffix: "_count", labels: labels.clone(), motion: all });
}

/// Names of a dimension: the usual ones, and further numbered ones.
fn names(usual: &[&str], numbered: &str, extra: usize) -> Vec<String> {
    let further = (1..=extra).map(|number| format!("{numbered}{number}"));
    usual.iter().map(|&name| name.to_owned()).chain(further).collect()
}

fn api(extra: usize) -> Vec<Family> {
    const ANSWERS: [(&str, &str, f64); 5] = [
        ("GET", "200", 60.0),
        ("GET", "404", 1.5),
        ("POST", "201", 12.0),
        ("POST", "400", 0.8),
        ("POST", "500", 0.05),
    ];
    let handlers = names(&["/", "/api/v1/items", "/api/v1/orders"], "/api/v2/resource/", extra);
    let (mut requests, mut durations, mut in_flight) = (Vec::new(), Vec::new(), Vec::new());
    for (at, handler) in handlers.iter().enumerate() {
        let weight = 1.0 / (1.0 + at as f64 / 4.0);
        for (method, code, per_second) in ANSWERS {
            let labels = vec![
                ("method", method.into()),
                ("code", code.into()),
                ("handler", handler.clone().into()),
                ("service", LabelText::Own(Own::Service)),
                ("pod_ip", LabelText::Own(Own::PodIp)),
            ];
            requests.push(counter(labels, per_second * weight));
        }
        let labels =
            vec![("handler", handler.clone().into()), ("instance_id", LabelText::Own(Own::InstanceId))];
        latencies(&labels, 74.0 * weight, &mut durations);
        in_flight.push(gauge(vec![("handler", handler.clone().into())], 0.0, 40.0, 0));
    }
    vec![
        family("http_requests_total", "Requests answered.", "counter", requests),
        family("http_request_duration_seconds", "Time from request to answer.", "histogram", durations),
        family("http_requests_in_flight", "Requests being answered.", "gauge", in_flight),
    ]
}

fn database(extra: usize) -> Vec<Family> {
    let tables = names(&["orders", "customers", "items"], "partition_", extra);
    let (mut rows, mut sizes, mut queries) = (Vec::new(), Vec::new(), Vec::new());
    for table in &tables {
        let own = |pairs: &[(&'static str, &str)]| -> Pairs {
            let given = pairs.iter().map(|&(name, value)| (name, value.into()));
            std::iter::once(("table", table.clone().into())).chain(given).collect()
        };
        for (operation, per_second) in
            [("select", 800.0), ("insert", 45.0), ("update", 30.0), ("delete", 2.0)]
        {
            rows.push(counter(own(&[("operation", operation)]), per_second));
        }
        sizes.push(gauge(own(&[]), 4e8, 5e8, 0));
        let mut labels = own(&[]);
        labels.push(("instance_id", LabelText::Own(Own::InstanceId)));
        latencies(&labels, 310.0, &mut queries);
    }
    let connections = [("active", 40.0), ("idle", 60.0)]
        .map(|(state, high)| gauge(vec![("state", state.into())], 1.0, high, 0));
    let up = vec![("service", LabelText::Own(Own::Service)), ("pod_ip", LabelText::Own(Own::PodIp))];
    vec![
        family("db_rows_total", "Rows read and written.", "counter", rows),
        family("db_table_size_bytes", "Size of a table with its indexes.", "gauge", sizes),
        family("db_query_duration_seconds", "Time that queries took.", "histogram", queries),
        family("db_connections", "Connections by state.", "gauge", connections),
        family("db_up", "Whether the database answers.", "gauge", [constant(up, 1)]),
        family(
            "db_transactions_total",
            "Transactions by outcome.",
            "counter",
            [
                counter(vec![("outcome", "commit".into())], 210.0),
                counter(vec![("outcome", "rollback".into())], 0.9),
            ],
        ),
    ]
}

fn worker(extra: usize) -> Vec<Family> {
    let queues = names(&["default", "priority", "retry"], "tenant-", extra);
    let (mut jobs, mut depths, mut durations) = (Vec::new(), Vec::new(), Vec::new());
    for queue in &queues {
        for (outcome, per_second) in [("ok", 14.0), ("failed", 0.12), ("retried", 0.4)] {
            let labels = vec![
                ("queue", queue.clone().into()),
                ("outcome", outcome.into()),
                ("service", LabelText::Own(Own::Service)),
                ("pod_ip", LabelText::Own(Own::PodIp)),
            ];
            jobs.push(counter(labels, per_second));
        }
        depths.push(gauge(vec![("queue", queue.clone().into())], 0.0, 900.0, 0));
        let labels = vec![("queue", queue.clone().into()), ("instance_id", LabelText::Own(Own::InstanceId))];
        latencies(&labels, 14.5, &mut durations);
    }
    vec![
        family("worker_jobs_total", "Jobs finished, by outcome.", "counter", jobs),
        family("worker_queue_depth", "Jobs that wait.", "gauge", depths),
        family("worker_job_duration_seconds", "Time that jobs took.", "histogram", durations),
        family(
            "worker_busy_ratio",
            "Part of the workers that have a job.",
            "gauge",
            [gauge(Vec::new(), 0.1, 0.95, 3)],
        ),
    ]
}

fn cache(extra: usize) -> Vec<Family> {
    const COMMANDS: [(&str, f64); 6] =
        [("get", 900.0), ("set", 130.0), ("del", 9.0), ("expire", 60.0), ("incr", 25.0), ("scan", 0.1)];
    let keyspaces = names(&["sessions", "pages", "counters", "locks"], "db", extra);
    let (mut hits, mut keys, mut evicted) = (Vec::new(), Vec::new(), Vec::new());
    for keyspace in &keyspaces {
        for (outcome, per_second) in [("hit", 800.0), ("miss", 95.0)] {
            let labels = vec![
                ("keyspace", keyspace.clone().into()),
                ("outcome", outcome.into()),
                ("service", LabelText::Own(Own::Service)),
                ("instance_id", LabelText::Own(Own::InstanceId)),
            ];
            hits.push(counter(labels, per_second));
        }
        keys.push(gauge(vec![("keyspace", keyspace.clone().into())], 1e4, 3e4, 0));
        evicted.push(counter(vec![("keyspace", keyspace.clone().into())], 0.7));
    }
    let (mut commands, mut durations) = (Vec::new(), Vec::new());
    for (command, per_second) in COMMANDS {
        let labels = vec![("command", command.into()), ("pod_ip", LabelText::Own(Own::PodIp))];
        commands.push(counter(labels, per_second));
    }
    for command in ["get", "set"] {
        latencies(&vec![("command", command.into())], 500.0, &mut durations);
    }
    vec![
        family("cache_lookups_total", "Lookups by outcome.", "counter", hits),
        family("cache_keys", "Keys held.", "gauge", keys),
        family("cache_evicted_keys_total", "Keys that gave way to others.", "counter", evicted),
        family("cache_commands_total", "Commands by name.", "counter", commands),
        family("cache_command_duration_seconds", "Time that commands took.", "histogram", durations),
        family("cache_clients", "Connected clients.", "gauge", [gauge(Vec::new(), 20.0, 180.0, 0)]),
        family(
            "cache_memory_used_bytes",
            "Memory that the data take.",
            "gauge",
            [gauge(Vec::new(), 6e8, 7e8, 0)],
        ),
        family(
            "cache_memory_max_bytes",
            "Memory that the data may take.",
            "gauge",
            [constant(Vec::new(), 1 << 30)],
        ),
    ]
}

/// What every process shows of itself.
fn runtime() -> Vec<Family> {
    let build = vec![
        ("version", "2.7.1".into()),
        ("revision", "f3a91c0".into()),
        ("instance_id", LabelText::Own(Own::InstanceId)),
    ];
    let start = Series { suffix: "", labels: Vec::new(), motion: Motion::StartTime };
    let one = |name, help, metric_type, series| family(name, help, metric_type, [series]);
    vec![
        one("build_info", "What runs here.", "gauge", constant(build, 1)),
        one(
            "process_cpu_seconds_total",
            "CPU time used.",
            "counter",
            Series { suffix: "", labels: Vec::new(), motion: Motion::Sum { per_second: 50.0, mean: 0.006 } },
        ),
        one("process_resident_memory_bytes", "Resident memory.", "gauge", gauge(Vec::new(), 9e7, 1.6e8, 0)),
        one("process_virtual_memory_bytes", "Virtual memory.", "gauge", gauge(Vec::new(), 1.2e9, 1.3e9, 0)),
        one("process_open_fds", "Open file descriptors.", "gauge", gauge(Vec::new(), 30.0, 140.0, 0)),
        one("process_max_fds", "Most file descriptors.", "gauge", constant(Vec::new(), 65_536)),
        one("process_start_time_seconds", "Start since the Unix epoch.", "gauge", start),
        one("go_goroutines", "Goroutines that exist.", "gauge", gauge(Vec::new(), 24.0, 310.0, 0)),
        one("go_threads", "System threads.", "gauge", gauge(Vec::new(), 9.0, 18.0, 0)),
        one("go_memstats_heap_alloc_bytes", "Heap in use.", "gauge", gauge(Vec::new(), 2e7, 7e7, 0)),
        one("go_memstats_alloc_bytes_total", "Heap ever allocated.", "counter", counter(Vec::new(), 2.1e6)),
        one("go_gc_cycles_total", "Garbage collections.", "counter", counter(Vec::new(), 0.35)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::template::Identity;
    use super::*;

    fn identity() -> Identity {
        Identity {
            pod_ip: "10.0.0.7".into(),
            instance_id: "i-1".into(),
            service: "shop".into(),
            start_ms: 1_000,
            seed: 512,
        }
    }

    #[test]
    fn a_natural_service_has_60_to_120_series() {
        for kind in Kind::ALL {
            let series = kind.template(None).len();
            assert!((60..=120).contains(&series), "{kind:?} has {series}");
        }
    }

    #[test]
    fn a_service_has_exactly_as_many_series_as_asked_for_and_all_differ() {
        for kind in Kind::ALL {
            for wanted in [1, 7, 60, 99, 137, 1_000, 4_321] {
                let exposed = kind.template(Some(wanted)).exposed(&identity());
                assert_eq!(exposed.len(), wanted, "{kind:?}");
                let unique: BTreeSet<_> = exposed.iter().map(|series| &series.labels).collect();
                assert_eq!(unique.len(), wanted, "{kind:?}");
            }
        }
    }

    #[test]
    fn every_kind_has_the_labels_that_relabelling_removes_or_renames() {
        for kind in Kind::ALL {
            let exposed = kind.template(None).exposed(&identity());
            for label in ["pod_ip", "instance_id", "service"] {
                assert!(
                    exposed.iter().any(|series| series.labels.get(label).is_some()),
                    "{kind:?} lacks {label}"
                );
            }
        }
    }
}
