//! Discovery: where target groups come from.
//!
//! Every source runs as a task of its own and sends its whole list of groups whenever it changed. A source decides
//! nothing: which targets are kept is relabelling's business.

mod file;

use std::sync::Arc;

use promring_model::config::{Config, Discovery};
use promring_model::target::TargetGroup;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What a source found.
#[derive(Debug)]
pub struct Update {
    /// The configuration that the source was started for; an older one's late word is ignored.
    pub generation: u64,
    /// The job that the source belongs to.
    pub job: Arc<str>,
    /// Which of the job's sources: its index in `discovery`.
    pub source: usize,
    /// All groups of the source, or why it has none to tell.
    pub groups: Result<Vec<TargetGroup>, Failure>,
}

/// Why a source has nothing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In words.
    pub message: String,
    /// It never will: nobody needs to wait for it.
    pub for_good: bool,
}

/// Running sources. Dropping it stops them.
#[derive(Debug, Default)]
pub struct Sources {
    tasks: JoinSet<()>,
}

impl Sources {
    /// Starts every source of every job.
    #[must_use]
    pub fn start(config: &Config, generation: u64, updates: &mpsc::Sender<Update>) -> Self {
        let mut tasks = JoinSet::new();
        for job in &config.scrape_configs {
            let name: Arc<str> = Arc::from(job.job_name.as_str());
            for (source, discovery) in job.discovery.iter().enumerate() {
                let reporter =
                    Reporter { generation, job: Arc::clone(&name), source, updates: updates.clone() };
                match discovery.clone() {
                    Discovery::Static(groups) => {
                        tasks.spawn(async move { reporter.send(Ok(groups)).await });
                    }
                    Discovery::File(config) => {
                        tasks.spawn(file::run(config, reporter));
                    }
                    // Honest about what is not there yet: the job gets an error that the page and the log show.
                    Discovery::Http(_) => reporter.unsupported(&mut tasks, "http_sd_configs"),
                    Discovery::Dns(_) => reporter.unsupported(&mut tasks, "dns_sd_configs"),
                    Discovery::Kubernetes(_) => reporter.unsupported(&mut tasks, "kubernetes_sd_configs"),
                }
            }
        }
        Self { tasks }
    }

    /// How many sources run or ran.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
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
    async fn send(&self, groups: Result<Vec<TargetGroup>, Failure>) {
        let update =
            Update { generation: self.generation, job: Arc::clone(&self.job), source: self.source, groups };
        // Nobody listens any more only when the allocator stops.
        let _ = self.updates.send(update).await;
    }

    fn unsupported(self, tasks: &mut JoinSet<()>, key: &'static str) {
        tasks.spawn(async move {
            // Whoever loaded the configuration has said so in the log.
            let message = format!("{key} is not supported yet; use static_configs or file_sd_configs");
            self.send(Err(Failure { message, for_good: true })).await;
        });
    }
}
