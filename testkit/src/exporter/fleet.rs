//! Many exporters at once, and the target groups that describe them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use promring_model::labels::Labels;
use promring_model::target::{ADDRESS, TargetGroup};
use serde::Serialize;

use super::motion::mix;
use super::server::Buffers;
use super::template::{Identity, Template};
use super::{Exporter, Kind, Plan};
use crate::clock::now_ms;

/// Most exporters of a fleet.
pub const TARGETS_MAX: usize = 20_000;
/// Most series of an exporter.
pub const SERIES_MAX: usize = 1_000_000;
/// Exporters claim to have run for up to this long before the fleet started, in milliseconds.
const UPTIME_MS_MAX: u64 = 20 * 24 * 3_600_000;

/// What a fleet consists of.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// How many exporters, at most [`TARGETS_MAX`].
    pub targets: usize,
    /// Series of each, at most [`SERIES_MAX`]; unset: what a service of its kind naturally has, 60 to 120.
    pub series: Option<usize>,
    /// The address that all of them listen on.
    pub host: IpAddr,
    /// The port of the first; each further one takes the next. 0: every exporter takes a free port.
    pub base_port: u16,
    /// Whether bodies are compressed for who asks for that.
    pub gzip: bool,
    /// Which kinds of services, in turn.
    pub kinds: Vec<Kind>,
    /// Two fleets of one seed that start at the same time show the same values.
    pub seed: u64,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            targets: 20,
            series: None,
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            base_port: 0,
            gzip: false,
            kinds: Kind::ALL.to_vec(),
            seed: 1,
        }
    }
}

/// Why a fleet or an exporter does not start.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Somebody else listens there.
    #[error(
        "cannot listen on {address}: the port is in use; choose another base port, or 0 for any free ones"
    )]
    PortBusy {
        /// Where.
        address: SocketAddr,
    },
    /// The system refuses to listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Its word.
        source: io::Error,
    },
    /// The options ask for what cannot be.
    #[error("{0}")]
    Options(String),
}

/// Running exporters. Dropping it closes them all.
#[derive(Debug)]
pub struct Fleet {
    exporters: Vec<Exporter>,
}

/// One entry of a file for `file_sd_configs`.
#[derive(Serialize)]
struct FileGroup {
    targets: Vec<String>,
    labels: Labels,
}

impl Fleet {
    /// Starts the exporters; it has to be called within a tokio runtime, on which they run.
    ///
    /// # Errors
    /// Where a port cannot be had or the options are out of bounds. Nothing is left running then.
    pub async fn start(options: FleetOptions) -> Result<Self, FleetError> {
        options.check()?;
        raise_file_limit(options.targets);
        let templates: BTreeMap<Kind, Arc<Template>> =
            options.kinds.iter().map(|&kind| (kind, Arc::new(kind.template(options.series)))).collect();
        let buffers = Arc::new(Buffers::default());
        let started_ms = now_ms();
        let mut exporters = Vec::with_capacity(options.targets);
        for number in 0..options.targets {
            let kind = options.kinds[number % options.kinds.len()];
            let round = number / options.kinds.len();
            let service = kind.services()[round % kind.services().len()];
            let identity = options.identity(number, service, started_ms);
            let port = if options.base_port == 0 { 0 } else { options.base_port + number as u16 };
            let address = SocketAddr::new(options.host, port);
            let env = if round % 3 == 2 { "staging" } else { "production" };
            let plan = Plan {
                kind,
                template: templates[&kind].clone(),
                buffers: buffers.clone(),
                identity,
                address,
                target_labels: Labels::from_pairs([
                    ("service", service),
                    ("env", env),
                    ("team", kind.team()),
                ]),
                gzip: options.gzip,
            };
            exporters.push(Exporter::start(plan).await?);
        }
        Ok(Self { exporters })
    }

    /// The exporters, in the order of their numbers.
    #[must_use]
    pub fn exporters(&self) -> &[Exporter] {
        &self.exporters
    }

    /// The same, to let them die and live again.
    pub fn exporters_mut(&mut self) -> &mut [Exporter] {
        &mut self.exporters
    }

    /// The exporter that listens on this address, written as in `__address__`.
    #[must_use]
    pub fn by_address(&self, address: &str) -> Option<&Exporter> {
        self.exporters.iter().find(|exporter| exporter.address().to_string() == address)
    }

    /// What discovery should find: a group for each set of labels, in order of their first exporter.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetGroup> {
        let mut groups: Vec<TargetGroup> = Vec::new();
        let mut at: BTreeMap<&Labels, usize> = BTreeMap::new();
        for exporter in &self.exporters {
            let labels = exporter.target_labels();
            let index = *at.entry(labels).or_insert_with(|| {
                let source = format!("fleet/{}", groups.len());
                groups.push(TargetGroup { source, labels: labels.clone(), targets: Vec::new() });
                groups.len() - 1
            });
            groups[index].targets.push(Labels::from_pairs([(ADDRESS, exporter.address().to_string())]));
        }
        groups
    }

    /// The same as a file for `file_sd_configs`.
    #[must_use]
    pub fn file_sd_json(&self) -> String {
        let group = |group: TargetGroup| FileGroup {
            targets: group.targets.iter().filter_map(|own| own.get(ADDRESS).map(str::to_owned)).collect(),
            labels: group.labels,
        };
        let groups: Vec<FileGroup> = self.targets().into_iter().map(group).collect();
        // Labels and strings always are JSON.
        serde_json::to_string_pretty(&groups).unwrap_or_default()
    }

    /// Scrapes that all exporters together were asked for.
    #[must_use]
    pub fn scrapes(&self) -> u64 {
        self.exporters.iter().map(Exporter::scrapes).sum()
    }

    /// Closes all listeners and connections, and returns when that is done.
    pub async fn stop(mut self) {
        for exporter in &mut self.exporters {
            exporter.die().await;
        }
    }
}

/// File descriptors of an exporter: its listener, a connection for its scraper, and one for somebody else.
const FILES_OF_AN_EXPORTER: u64 = 3;
/// File descriptors of the rest of the process.
const FILES_BESIDES: u64 = 256;

/// Lets the process open as many files as the exporters need, as far as the system allows it: a login's usual limit
/// of 1,024 would end at some 300 exporters. Where that is not enough, listening fails and says why.
fn raise_file_limit(targets: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = targets as u64 * FILES_OF_AN_EXPORTER + FILES_BESIDES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let current = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit }) {
        tracing::warn!(%error, needed, "cannot raise the limit of open files");
    }
}

impl FleetOptions {
    fn check(&self) -> Result<(), FleetError> {
        let fail = |message: String| Err(FleetError::Options(message));
        if self.kinds.is_empty() {
            return fail("a fleet needs at least one kind of service".to_owned());
        }
        if self.targets > TARGETS_MAX {
            return fail(format!("{} exporters are more than the {TARGETS_MAX} of a fleet", self.targets));
        }
        if self.series.is_some_and(|series| series == 0 || series > SERIES_MAX) {
            return fail(format!("the series of an exporter must be 1 to {SERIES_MAX}"));
        }
        let last = usize::from(self.base_port) + self.targets.saturating_sub(1);
        if self.base_port != 0 && last > usize::from(u16::MAX) {
            return fail(format!("{} ports from {} on go beyond 65535", self.targets, self.base_port));
        }
        Ok(())
    }

    fn identity(&self, number: usize, service: &str, started_ms: i64) -> Identity {
        let seed = mix(mix(self.seed).wrapping_add(number as u64 + 1));
        Identity {
            pod_ip: format!("10.244.{}.{}", number / 250 % 256, number % 250 + 2),
            instance_id: format!("i-{:08x}", seed as u32),
            service: service.to_owned(),
            // As if it had run for a while, so that counters have grown.
            start_ms: started_ms - (seed % UPTIME_MS_MAX) as i64,
            seed,
        }
    }
}
