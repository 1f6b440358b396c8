//! Follows what sources tell, as the allocator does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use promring_model::config::Config;
use tokio::sync::mpsc;

use super::super::watch::Timing;
use super::super::watches::Watches;
use super::api_server::ApiServer;
use crate::discovery::{Found, Group, Sources, Update};

/// What one job was told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) groups: BTreeMap<String, Arc<Group>>,
    pub(crate) complete: bool,
    pub(crate) failure: Option<String>,
    /// How often it was told that a list comes in.
    pub(crate) arriving: usize,
}

impl Told {
    /// The addresses of all targets.
    pub(crate) fn addresses(&self) -> Vec<&str> {
        let targets = self.groups.values().flat_map(|group| &group.targets);
        targets.filter_map(|target| target.get("__address__")).collect()
    }
}

/// Sources at work.
pub(crate) struct Following {
    pub(crate) watches: Watches,
    pub(crate) jobs: BTreeMap<String, Told>,
    sources: Sources,
    sender: mpsc::Sender<Update>,
    updates: mpsc::Receiver<Update>,
    generation: u64,
}

/// The configuration with these scrape configs; `API` stands for the server.
pub(crate) fn config(server: &ApiServer, jobs: &str) -> Config {
    let jobs = jobs.replace("API", &format!("api_server: 'http://{}'", server.address));
    crate::testing::config_in(&format!("scrape_configs:\n{jobs}\n"))
}

/// Pauses that are short, so that tests need not wait for them, and patience enough for a busy machine.
pub(crate) const TIMING: Timing = Timing {
    head: Duration::from_secs(8),
    idle: Duration::from_secs(8),
    list: Duration::from_secs(8),
    watch: Duration::from_secs(300),
    backoff_min: Duration::from_millis(10),
    backoff_max: Duration::from_millis(50),
};

/// For tests of the patience itself.
pub(crate) const IMPATIENT: Timing = Timing {
    head: Duration::from_millis(400),
    idle: Duration::from_millis(400),
    list: Duration::from_millis(600),
    ..TIMING
};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(20);

impl Following {
    /// Starts the sources of these jobs.
    pub(crate) fn start(server: &ApiServer, jobs: &str) -> Self {
        Self::start_config(&config(server, jobs))
    }

    pub(crate) fn start_config(config: &Config) -> Self {
        Self::start_timed(config, TIMING)
    }

    pub(crate) fn start_timed(config: &Config, timing: Timing) -> Self {
        let (sender, updates) = mpsc::channel(16);
        let watches = Watches::with_timing(timing);
        let sources = Sources::start(config, 0, &sender, &watches);
        Self { watches, jobs: BTreeMap::new(), sources, sender, updates, generation: 0 }
    }

    /// Takes a new configuration, as a reload does.
    pub(crate) fn reload(&mut self, config: &Config) {
        self.generation += 1;
        self.sources = Sources::start(config, self.generation, &self.sender, &self.watches);
        self.jobs.clear();
    }

    /// Waits until `reached` of what the jobs were told.
    pub(crate) async fn until(&mut self, what: &str, reached: impl Fn(&BTreeMap<String, Told>) -> bool) {
        let wait = async {
            while !reached(&self.jobs) {
                let update = self.updates.recv().await.unwrap();
                if update.generation == self.generation {
                    self.take(update);
                }
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let told: Vec<_> = self
                .jobs
                .iter()
                .map(|(job, told)| (job, told.addresses(), told.complete, &told.failure))
                .collect();
            panic!("{what} did not come; the jobs were told {told:?}");
        }
    }

    /// Waits until the job has exactly these addresses, and has been told of all.
    pub(crate) async fn until_addresses(&mut self, job: &str, expected: &[&str]) {
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        self.until(&format!("{job}: {expected:?}"), |jobs| {
            jobs.get(job).is_some_and(|told| {
                told.complete && told.addresses().into_iter().collect::<BTreeSet<_>>() == expected
            })
        })
        .await;
    }

    /// Waits until the job has this failure.
    pub(crate) async fn until_failure(&mut self, job: &str, part: &str) {
        self.until(part, |jobs| {
            let failure = jobs.get(job).and_then(|told| told.failure.as_ref());
            failure.is_some_and(|failure| failure.contains(part))
        })
        .await;
    }

    pub(crate) fn addresses(&self, job: &str) -> Vec<&str> {
        self.jobs[job].addresses()
    }

    fn take(&mut self, update: Update) {
        let told = self.jobs.entry(update.job.to_string()).or_default();
        match update.found {
            Found::All(_) => panic!("Kubernetes tells changes"),
            Found::Changes { upsert, removed, complete } => {
                for group in upsert {
                    told.groups.insert(group.source.to_string(), group);
                }
                for name in removed {
                    told.groups.remove(&*name);
                }
                told.complete |= complete;
                told.failure = None;
            }
            Found::Arriving => told.arriving += 1,
            Found::Failed(failure) => told.failure = Some(failure),
        }
    }
}
