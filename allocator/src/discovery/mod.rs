//! Discovery: where target groups come from.
//!
//! Every source runs as a task of its own and tells its groups, and every change. A source decides nothing: which targets
//! are kept is relabelling's business. A source that fails says so; what it told stays.

mod dns;
mod file;
mod group;
mod http;
pub(crate) mod kubernetes;

use std::sync::Arc;

use promring_model::config::{Config, Discovery, KubernetesDiscovery, KubernetesRole};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use group::{Found, Group};
pub use kubernetes::Watches;

/// What a source found.
#[derive(Debug)]
pub struct Update {
    /// The configuration that the source was started for; an older one's late word is ignored.
    pub generation: u64,
    /// The job that the source belongs to.
    pub job: Arc<str>,
    /// Which of the job's sources: its index in `discovery`.
    pub source: usize,
    /// What it has to tell.
    pub found: Found,
}

/// Running sources. Dropping it stops them.
#[derive(Debug, Default)]
pub struct Sources {
    tasks: JoinSet<()>,
    count: usize,
}

impl Sources {
    /// Starts every source of every job. Watches that the sources before these have as well go on.
    #[must_use]
    pub fn start(
        config: &Config,
        generation: u64,
        updates: &mpsc::Sender<Update>,
        watches: &Watches,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let mut count = 0;
        let mut of_kubernetes: Vec<(&KubernetesDiscovery, Vec<Reporter>)> = Vec::new();
        for job in &config.scrape_configs {
            let name: Arc<str> = Arc::from(job.job_name.as_str());
            for (source, discovery) in job.discovery.iter().enumerate() {
                count += 1;
                let reporter =
                    Reporter { generation, job: Arc::clone(&name), source, updates: updates.clone() };
                match discovery {
                    Discovery::Static(groups) => {
                        let found = Found::all(groups);
                        tasks.spawn(async move { reporter.send(found).await });
                    }
                    Discovery::File(config) => drop(tasks.spawn(file::run(config.clone(), reporter))),
                    Discovery::Http(config) => {
                        drop(tasks.spawn(http::run(config.as_ref().clone(), reporter)));
                    }
                    Discovery::Dns(config) => drop(tasks.spawn(dns::run(config.clone(), reporter))),
                    Discovery::Kubernetes(config) => {
                        match of_kubernetes.iter_mut().find(|(known, _)| *known == &**config) {
                            Some((_, reporters)) => reporters.push(reporter),
                            None => of_kubernetes.push((&**config, vec![reporter])),
                        }
                    }
                }
            }
        }
        for (discovery, reporters) in of_kubernetes {
            kubernetes::start(discovery.clone(), watches, reporters, &mut tasks);
        }
        Self { tasks, count }
    }

    /// How many sources run or ran.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

/// The key of the configuration that a source stands under, for people.
#[must_use]
pub fn kind_of(discovery: &Discovery) -> &'static str {
    match discovery {
        Discovery::Static(_) => "static_configs",
        Discovery::File(_) => "file_sd_configs",
        Discovery::Http(_) => "http_sd_configs",
        Discovery::Dns(_) => "dns_sd_configs",
        Discovery::Kubernetes(config) => match config.role {
            KubernetesRole::Pod => "kubernetes_sd_configs (pod)",
            KubernetesRole::Service => "kubernetes_sd_configs (service)",
            KubernetesRole::Endpoints => "kubernetes_sd_configs (endpoints)",
            KubernetesRole::EndpointSlice => "kubernetes_sd_configs (endpointslice)",
            KubernetesRole::Node => "kubernetes_sd_configs (node)",
            KubernetesRole::Ingress => "kubernetes_sd_configs (ingress)",
        },
    }
}

/// Sends one source's findings.
#[derive(Clone, Debug)]
struct Reporter {
    generation: u64,
    job: Arc<str>,
    source: usize,
    updates: mpsc::Sender<Update>,
}

impl Reporter {
    async fn send(&self, found: Found) {
        let update =
            Update { generation: self.generation, job: Arc::clone(&self.job), source: self.source, found };
        // Nobody listens any more only when the allocator stops.
        let _ = self.updates.send(update).await;
    }
}
