//! Sample exporters that look like real services and can misbehave on demand.
//!
//! Each [`Exporter`] has a listener of its own. What it exposes is laid out in advance ([`Exporter::series`]), and
//! its values are a function of the time, so the audit knows what to expect without a scrape. Its HTTP is written
//! by hand on a bare socket: that keeps a scrape of 1,000 series at tens of microseconds, and a server library
//! would not let us break its rules.
//!
//! | path | what |
//! |---|---|
//! | `GET /metrics`, and any path below it | the exposition, text format 0.0.4 |
//! | `POST /-/behaviour` | applies a [`Change`] in JSON |
//! | `GET /-/status` | scrapes so far, and the behaviour in force |
//! | `GET /-/series` | what is exposed, as a JSON list of [`Exposed`] |

mod behaviour;
mod expected;
mod fleet;
mod http;
mod kinds;
mod motion;
mod rich;
mod server;
mod template;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use promring_model::labels::Labels;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use crate::audit::Exposed;
pub use behaviour::{Behaviour, Change, Vanish};
pub use fleet::{Fleet, FleetError, FleetOptions, SERIES_MAX, TARGETS_MAX};
pub use kinds::Kind;
pub use rich::{EXPOSITIONS_MAX, RichExporter};

use crate::clock::now_ms;
use server::Buffers;
use template::{Identity, Template};

/// The body of `GET /-/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Requests for metrics since the start, whatever they were answered with.
    pub scrapes: u64,
    /// How the next one is answered.
    pub behaviour: Behaviour,
    /// Series exposed when healthy.
    pub series: usize,
}

/// One running exporter. Dropping it closes its listener and connections.
#[derive(Debug)]
pub struct Exporter {
    shared: Arc<Shared>,
    kind: Kind,
    target_labels: Labels,
    task: Option<JoinHandle<()>>,
}

/// What an exporter is made of.
struct Plan {
    kind: Kind,
    template: Arc<Template>,
    buffers: Arc<Buffers>,
    identity: Identity,
    /// Port 0 takes a free one.
    address: SocketAddr,
    target_labels: Labels,
    gzip: bool,
}

/// What handle, listener and connections share.
#[derive(Debug)]
struct Shared {
    template: Arc<Template>,
    buffers: Arc<Buffers>,
    identity: Identity,
    address: SocketAddr,
    scrapes: AtomicU64,
    state: Mutex<State>,
    /// When the listener closes, in Unix milliseconds.
    death: watch::Sender<Option<i64>>,
}

#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    /// After how many scrapes the exporter is healthy again.
    remaining: Option<u64>,
    gzip: bool,
    /// Numbers of series, sorted, with the time from which on each is not shown.
    vanished: Vec<(u32, i64)>,
}

impl Exporter {
    /// Where it listens, for as long as it lives.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// What kind of service it plays.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The labels of its target besides `__address__`: those of its target group.
    #[must_use]
    pub fn target_labels(&self) -> &Labels {
        &self.target_labels
    }

    /// Labels of every series that it exposes when healthy, `__name__` among them.
    #[must_use]
    pub fn series(&self) -> Vec<Labels> {
        self.exposed().into_iter().map(|series| series.labels).collect()
    }

    /// The same, with what else is known of each.
    #[must_use]
    pub fn exposed(&self) -> Vec<Exposed> {
        self.shared.template.exposed(&self.shared.identity)
    }

    /// What the series with this index in [`Self::exposed`] shows at a time in Unix milliseconds.
    #[must_use]
    pub fn value_at(&self, series: usize, time_ms: i64) -> Option<f64> {
        let number = u32::try_from(series).ok()?;
        self.shared.template.value(number, &self.shared.identity, time_ms)
    }

    /// How often its metrics were asked for, whatever the answer was.
    #[must_use]
    pub fn scrapes(&self) -> u64 {
        self.shared.scrapes.load(Ordering::Relaxed)
    }

    /// Answers scrapes like this until told otherwise.
    pub fn set(&self, behaviour: Behaviour) {
        self.apply(&Change { set: Some(behaviour), ..Change::default() });
    }

    /// Answers this many scrapes like this, and is healthy after that.
    pub fn set_for(&self, behaviour: Behaviour, requests: u64) {
        self.apply(&Change { set: Some(behaviour), requests: Some(requests), ..Change::default() });
    }

    /// Hides every series that has all labels of `matching`, from `at_ms` (Unix milliseconds) on.
    /// Returns how many there are.
    pub fn vanish(&self, matching: &Labels, at_ms: i64) -> usize {
        self.shared.vanish(matching, at_ms)
    }

    /// Shows all series again.
    pub fn reappear(&self) {
        self.shared.state().vanished.clear();
    }

    /// Applies a change; what `POST /-/behaviour` does.
    pub fn apply(&self, change: &Change) {
        self.shared.apply(change);
    }

    /// Closes the listener and all connections, and returns when that is done. Nothing answers at the address
    /// until [`Self::revive`].
    pub async fn die(&mut self) {
        self.shared.death.send_replace(Some(0));
        if let Some(task) = self.task.take() {
            // The task neither panics nor gets cancelled elsewhere; its end is all that counts here.
            let _ = task.await;
        }
    }

    /// Closes the listener at `at_ms`, in Unix milliseconds.
    pub fn die_at(&self, at_ms: i64) {
        self.shared.death.send_replace(Some(at_ms));
    }

    /// Listens again at the same address after [`Self::die`] or [`Self::die_at`].
    ///
    /// # Errors
    /// Where the port has been taken in the meantime.
    pub async fn revive(&mut self) -> Result<(), FleetError> {
        self.die().await;
        let listener = listen(self.address()).await?;
        self.shared.death.send_replace(None);
        self.task = Some(tokio::spawn(server::serve(listener, self.shared.clone())));
        Ok(())
    }

    /// Starts an exporter.
    async fn start(plan: Plan) -> Result<Self, FleetError> {
        let Plan { kind, template, buffers, identity, address, target_labels, gzip } = plan;
        let listener = listen(address).await?;
        let address = listener.local_addr().map_err(|source| FleetError::Listen { address, source })?;
        let shared = Arc::new(Shared {
            template,
            buffers,
            identity,
            address,
            scrapes: AtomicU64::new(0),
            state: Mutex::new(State { gzip, ..State::default() }),
            death: watch::Sender::new(None),
        });
        let task = Some(tokio::spawn(server::serve(listener, shared.clone())));
        Ok(Self { shared, kind, target_labels, task })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done in these plain fields.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a scrape and says how to answer it, and whether bodies may be compressed.
    fn next(&self) -> (Behaviour, bool) {
        self.scrapes.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        let behaviour = state.behaviour;
        if let Some(remaining) = &mut state.remaining {
            *remaining = remaining.saturating_sub(1);
            if *remaining == 0 {
                state.remaining = None;
                state.behaviour = Behaviour::Healthy;
            }
        }
        (behaviour, state.gzip)
    }

    fn apply(&self, change: &Change) {
        let mut state = self.state();
        if let Some(behaviour) = change.set {
            let healthy_at_once = change.requests == Some(0);
            state.behaviour = if healthy_at_once { Behaviour::Healthy } else { behaviour };
            state.remaining = change.requests.filter(|&requests| requests > 0);
        }
        if let Some(gzip) = change.gzip {
            state.gzip = gzip;
        }
        if change.reappear {
            state.vanished.clear();
        }
        drop(state);
        if let Some(vanish) = &change.vanish {
            self.vanish(&vanish.matching, vanish.at_ms);
        }
        if change.die_at_ms.is_some() {
            self.death.send_replace(change.die_at_ms);
        }
    }

    fn vanish(&self, matching: &Labels, at_ms: i64) -> usize {
        let matches = |labels: &Labels| matching.iter().all(|(name, value)| labels.get(name) == Some(value));
        let exposed = self.template.exposed(&self.identity);
        let numbers: Vec<u32> = (0..)
            .zip(&exposed)
            .filter(|(_, series)| matches(&series.labels))
            .map(|(number, _)| number)
            .collect();
        let mut state = self.state();
        for &number in &numbers {
            match state.vanished.binary_search_by_key(&number, |(number, _)| *number) {
                Ok(at) => state.vanished[at].1 = at_ms,
                Err(at) => state.vanished.insert(at, (number, at_ms)),
            }
        }
        numbers.len()
    }

    fn status(&self) -> Status {
        Status {
            scrapes: self.scrapes.load(Ordering::Relaxed),
            behaviour: self.state().behaviour,
            series: self.template.len(),
        }
    }

    /// Appends the exposition as it stands now.
    fn render(&self, out: &mut Vec<u8>) {
        let now_ms = now_ms();
        let hidden: Vec<u32> = self
            .state()
            .vanished
            .iter()
            .filter(|(_, at_ms)| *at_ms <= now_ms)
            .map(|(number, _)| *number)
            .collect();
        self.template.render(&self.identity, now_ms, &hidden, out);
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, FleetError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => FleetError::PortBusy { address },
        _ => FleetError::Listen { address, source },
    })
}
