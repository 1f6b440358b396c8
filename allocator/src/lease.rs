//! Leadership by a Kubernetes Lease: what [`promring_model::election`] decides is read and written here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use promring_model::config::KubernetesAccess;
use promring_model::election::{Action, Election, ElectionOptions, Moment, Record, Written};
use promring_net::clock::{now_ms, rfc3339_micros};
use promring_net::shutdown::Shutdown;
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::kubernetes::{ApiError, ApiServer};

/// How long the API server may take: two questions fit in the time in which a Lease has to be renewed.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Where the holder writes its address.
const ADDRESS: &str = "promring.io/address";

/// Where the holder writes its term: `leaseTransitions` has 32 bits.
const TERM: &str = "promring.io/term";

/// Which Lease, and who stands for election.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// The Lease's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// This process's name: its pod's.
    pub candidate: String,
    /// Where other allocators and scrapers reach this process, as `http://host:port`.
    pub address: String,
    /// The API server.
    pub access: KubernetesAccess,
}

/// Who leads, as far as this process knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Leadership {
    /// This process, in this term.
    Ours(u64),
    /// The one at this address.
    Theirs(String),
    /// Nobody that is known.
    #[default]
    Nobody,
}

/// This process's part in the election. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    election: Mutex<Election>,
    clock: Clock,
    leadership: watch::Sender<Leadership>,
    /// There is something to do before the time.
    wake: Notify,
    path: String,
    collection: String,
    name: String,
    api_server: ApiServer,
}

impl Lease {
    pub(crate) fn new(options: LeaseOptions) -> Self {
        Self::with_times(options, ElectionOptions::default())
    }

    fn with_times(options: LeaseOptions, times: ElectionOptions) -> Self {
        let identity = format!("{}_{:016x}", options.candidate, rand::rng().random::<u64>());
        let collection = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", options.namespace);
        tracing::info!(lease = options.name, identity, address = options.address, "standing for election");
        let shared = Shared {
            election: Mutex::new(Election::new(identity, options.address, times)),
            clock: Clock::default(),
            leadership: watch::Sender::new(Leadership::Nobody),
            wake: Notify::new(),
            path: format!("{collection}/{}", options.name),
            collection,
            name: options.name,
            api_server: ApiServer::new(options.access, TIMEOUT),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Who leads at this moment.
    pub(crate) fn leadership(&self) -> Leadership {
        let now = self.shared.clock.now();
        let election = self.election();
        match (election.term(now), election.leader(now)) {
            (Some(term), _) => Leadership::Ours(term),
            (None, Some(record)) => Leadership::Theirs(record.address.clone()),
            (None, None) => Leadership::Nobody,
        }
    }

    /// Tells when that changes. Who acts on it asks [`Self::leadership`] all the same: this is late after a pause.
    pub(crate) fn changes(&self) -> watch::Receiver<Leadership> {
        self.shared.leadership.subscribe()
    }

    /// A scraper has seen this term.
    pub(crate) fn heard(&self, term: u64) {
        self.election().heard(term);
        self.publish();
        self.shared.wake.notify_one();
    }

    /// Takes part in the election until `stopping` begins, then gives the Lease back.
    pub(crate) async fn run(&self, stopping: Shutdown) {
        let mut raw = None;
        let mut released = false;
        loop {
            let action = {
                let now = self.shared.clock.now();
                self.election().next(now)
            };
            self.publish();
            match action {
                Action::Wait(ms) => {
                    // Candidates do not all come at once.
                    let jitter = rand::rng().random_range(0.8..=1.0);
                    let pause = Duration::from_millis(ms.unsigned_abs()).mul_f64(jitter);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.shared.wake.notified() => {}
                        () = stopping.wait(), if !released => {
                            released = true;
                            self.election().release();
                        }
                    }
                }
                Action::Read => self.read(&mut raw).await,
                Action::Write(record) => self.write(record, &mut raw).await,
                Action::End => return,
            }
        }
    }

    async fn read(&self, raw: &mut Option<Value>) {
        let found = self.shared.api_server.request(Method::GET, &self.shared.path, None).await;
        let now = self.shared.clock.now();
        match found {
            Ok(lease) => {
                self.election().read(Some(record(&lease)), now);
                *raw = Some(lease);
            }
            Err(ApiError::Status(StatusCode::NOT_FOUND, _)) => {
                self.election().read(None, now);
                *raw = None;
            }
            Err(error) => {
                tracing::warn!(lease = self.shared.name, %error, "the Lease cannot be read");
                self.election().unread(now);
            }
        }
    }

    async fn write(&self, wanted: Record, raw: &mut Option<Value>) {
        let lease = lease(raw.as_ref(), &self.shared.name, &wanted);
        let (method, path) = match raw {
            Some(_) => (Method::PUT, &self.shared.path),
            None => (Method::POST, &self.shared.collection),
        };
        let sent = self.shared.clock.now();
        let written: Result<Value, ApiError> =
            self.shared.api_server.request(method, path, Some(&lease)).await;
        let how = match written {
            Ok(lease) => {
                let version = record(&lease).version;
                *raw = Some(lease);
                Written::Done(version)
            }
            Err(ApiError::Status(StatusCode::CONFLICT, _)) => Written::Conflict,
            Err(error) => {
                tracing::warn!(lease = self.shared.name, %error, "the Lease cannot be written");
                Written::Unknown
            }
        };
        let refused = how == Written::Unknown;
        let now = self.shared.clock.now();
        self.election().written(wanted, how, sent, now);
        if refused {
            // What cannot be written now can hardly be in the next moment.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Tells what has changed.
    fn publish(&self) {
        let now = self.leadership();
        self.shared.leadership.send_if_modified(|known| {
            let changed = *known != now;
            if changed {
                tracing::info!(lease = self.shared.name, before = ?known, ?now, "leadership");
                known.clone_from(&now);
            }
            changed
        });
    }

    fn election(&self) -> MutexGuard<'_, Election> {
        self.shared.election.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a Lease's JSON says.
fn record(lease: &Value) -> Record {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let annotation = |name: &str| text(&lease["metadata"]["annotations"][name]);
    // A Lease that somebody else has written counts for as long as is usual.
    let seconds = lease["spec"]["leaseDurationSeconds"].as_u64().unwrap_or(15);
    Record {
        holder: text(&lease["spec"]["holderIdentity"]),
        address: annotation(ADDRESS),
        term: annotation(TERM).parse().unwrap_or(0),
        duration: Duration::from_secs(seconds),
        version: text(&lease["metadata"]["resourceVersion"]),
    }
}

/// The JSON that says this, with what else stands in the Lease as it was read. The API server takes it only as long as
/// nobody has written since.
fn lease(before: Option<&Value>, name: &str, wanted: &Record) -> Value {
    let mut lease = before.cloned().unwrap_or_else(
        || json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}),
    );
    let now = rfc3339_micros(now_ms());
    let other = lease["spec"]["holderIdentity"].as_str().unwrap_or_default() != wanted.holder;
    let taken = other && !wanted.holder.is_empty();
    let transitions = lease["spec"]["leaseTransitions"].as_i64().unwrap_or(0);
    if !lease["metadata"]["annotations"].is_object() {
        lease["metadata"]["annotations"] = json!({});
    }
    lease["metadata"]["annotations"][ADDRESS] = json!(wanted.address);
    lease["metadata"]["annotations"][TERM] = json!(wanted.term.to_string());
    if !lease["spec"].is_object() {
        lease["spec"] = json!({});
    }
    let spec = &mut lease["spec"];
    spec["holderIdentity"] = json!(wanted.holder);
    // A duration of zero is none that the API server takes.
    spec["leaseDurationSeconds"] = json!(wanted.duration.as_secs().max(1));
    spec["renewTime"] = json!(now);
    if taken {
        spec["acquireTime"] = json!(now);
        spec["leaseTransitions"] = json!(transitions.saturating_add(1).min(i64::from(i32::MAX)));
    }
    lease
}

/// The time by the clocks of this process.
#[derive(Debug)]
struct Clock {
    start: rustix::time::Timespec,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: boot_time() }
    }
}

impl Clock {
    fn now(&self) -> Moment {
        let now = boot_time();
        let steady_ms =
            (now.tv_sec - self.start.tv_sec) * 1_000 + (now.tv_nsec - self.start.tv_nsec) / 1_000_000;
        Moment { steady_ms, wall_ms: now_ms() }
    }
}

/// The clock that nobody sets and that, where there is such a one, goes on in a machine's sleep.
fn boot_time() -> rustix::time::Timespec {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    rustix::time::clock_gettime(clock)
}

#[cfg(test)]
mod tests;
