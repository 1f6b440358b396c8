//! The auditing receiver: a server of remote write 1.0 and 2.0 that stores nothing but what the [`Audit`] needs.
//!
//! | path | what |
//! |---|---|
//! | `POST /api/v1/write` | remote write |
//! | `GET /` | a page that shows the audit live |
//! | `GET /api/v1/audit` | the same in JSON: [`Summary`] |
//! | `GET /api/v1/report?as_of=` | the audit's [`crate::audit::Report`] up to a time in Unix ms |
//! | `GET /api/v1/series?match=` | the last sample of every series of a metric name |
//! | `POST /api/v1/expect` | a list of [`crate::audit::ExpectedTarget`] to expect |
//! | `POST /api/v1/absence` | a planned absence: `{"target": {…}, "series": {…}, "absence": {…}}` |
//! | `POST /api/v1/window` | `{"from_ms": …, "to_ms": …}`: slots between need a sample |
//! | `POST /-/fault`, `GET`, `DELETE` | adds a [`FaultRule`], lists them, clears them |

mod api;
mod fault;
mod io;
mod payload;
mod stats;
mod write;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use fault::{FAULTS_MAX, Fault, FaultError, FaultRule};
pub use payload::{
    PAYLOAD_MAX, Payload, ReceivedExemplar, ReceivedHistogram, ReceivedMetadata, ReceivedStart,
};
pub use stats::{RATE_SECONDS, Received, Summary};
pub use write::{BODY_BYTES_MAX, DECOMPRESSED_BYTES_MAX};

use crate::audit::Audit;
use crate::clock::now_ms;
use fault::Faults;
use io::{BreakableListener, Breaker};
use stats::Rate;

/// Samples may be under way for this long before their slot counts as missing, unless told otherwise: a scrape,
/// the gathering of a request, and its way.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(5);
/// How long connections may take to end after a stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Why the receiver does not start.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// Somebody else listens there.
    #[error("cannot listen on {address}: the port is in use; choose another, or 0 for any free one")]
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
        source: std::io::Error,
    },
}

/// A running receiver. Dropping it closes its listener.
#[derive(Debug)]
pub struct Receiver {
    shared: Shared,
    address: SocketAddr,
    server: Option<JoinHandle<()>>,
}

/// What handle and requests share.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    audit: Mutex<Audit>,
    faults: Mutex<Faults>,
    stats: Mutex<Stats>,
    payload: Mutex<Payload>,
    /// True from a stop until the next start.
    stopped: watch::Sender<bool>,
}

#[derive(Debug)]
struct Stats {
    received: Received,
    rate: Rate,
    facts: BTreeMap<String, String>,
    grace: Duration,
}

impl Receiver {
    /// Starts a receiver on `listen`; port 0 takes a free one. It has to be called within a tokio runtime, on
    /// which it runs.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub async fn start(listen: SocketAddr) -> Result<Self, ReceiverError> {
        let stats = Stats {
            received: Received::default(),
            rate: Rate::default(),
            facts: BTreeMap::new(),
            grace: GRACE_DEFAULT,
        };
        let shared = Shared(Arc::new(Inner {
            audit: Mutex::default(),
            faults: Mutex::default(),
            stats: Mutex::new(stats),
            payload: Mutex::default(),
            stopped: watch::Sender::new(false),
        }));
        let mut receiver = Self { shared, address: listen, server: None };
        receiver.reopen().await?;
        Ok(receiver)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for `remote_write`.
    #[must_use]
    pub fn write_url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// The audit, locked: requests wait while it is held, so it must not be held across an await.
    pub fn audit(&self) -> MutexGuard<'_, Audit> {
        self.shared.audit()
    }

    /// What `GET /api/v1/audit` says.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.shared.summary()
    }

    /// What was received, without a look at the audit.
    #[must_use]
    pub fn received(&self) -> Received {
        self.shared.stats().received
    }

    /// What came beside floats: native histograms, exemplars, metadata, the times at which counting began.
    #[must_use]
    pub fn payload(&self) -> Payload {
        self.shared.payload().clone()
    }

    /// How long samples may be under way before the live audit counts their slot as missing.
    pub fn set_grace(&self, grace: Duration) {
        self.shared.stats().grace = grace;
    }

    /// What else the page and the summary show, by name: scrapers, the length of the queue, and so on.
    pub fn set_facts<N: Into<String>, V: Into<String>>(&self, facts: impl IntoIterator<Item = (N, V)>) {
        self.shared.stats().facts =
            facts.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    }

    /// Adds a fault.
    ///
    /// # Errors
    /// Where the rule makes no sense, or there are too many.
    pub fn add_fault(&self, rule: impl Into<FaultRule>) -> Result<(), FaultError> {
        self.shared.faults().add(rule.into())
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.shared.faults().clear();
    }

    /// Closes the listener and the connections: nobody is there until [`Self::reopen`]. What was received and
    /// what is expected stays.
    pub async fn close(&mut self) {
        self.shared.0.stopped.send_replace(true);
        let Some(mut server) = self.server.take() else { return };
        if tokio::time::timeout(STOP_PATIENCE, &mut server).await.is_err() {
            server.abort();
        }
    }

    /// Listens again at the same address after [`Self::close`].
    ///
    /// # Errors
    /// Where the port has been taken in the meantime.
    pub async fn reopen(&mut self) -> Result<(), ReceiverError> {
        self.close().await;
        let address = self.address;
        let fail = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => ReceiverError::PortBusy { address },
            _ => ReceiverError::Listen { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        self.address = listener.local_addr().map_err(fail)?;
        self.shared.0.stopped.send_replace(false);
        let app = api::router(self.shared.clone()).into_make_service_with_connect_info::<Breaker>();
        let shared = self.shared.clone();
        let stopped = async move { shared.stopped().await };
        self.server = Some(tokio::spawn(async move {
            let server = axum::serve(BreakableListener(listener), app).with_graceful_shutdown(stopped);
            if let Err(error) = server.await {
                tracing::error!(%error, "the receiver ends");
            }
        }));
        Ok(())
    }

    /// Ends the receiver, and returns when that is done.
    pub async fn stop(mut self) {
        self.close().await;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.0.stopped.send_replace(true);
    }
}

impl Shared {
    // A panic elsewhere leaves nothing in these that would be worse than a stopped test.
    fn audit(&self) -> MutexGuard<'_, Audit> {
        self.0.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.0.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn payload(&self) -> MutexGuard<'_, Payload> {
        self.0.payload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats(&self) -> MutexGuard<'_, Stats> {
        self.0.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the receiver is to end.
    async fn stopped(&self) {
        // The sender lives as long as we do, so this ends with a stop and in no other way.
        let _ = self.0.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Slots up to this time count now.
    fn as_of_ms(&self) -> i64 {
        let grace_ms = i64::try_from(self.stats().grace.as_millis()).unwrap_or(i64::MAX);
        now_ms().saturating_sub(grace_ms)
    }

    fn summary(&self) -> Summary {
        let as_of_ms = self.as_of_ms();
        let (report, totals) = {
            let audit = self.audit();
            (audit.report(as_of_ms), audit.totals())
        };
        let now_ms = now_ms();
        let mut stats = self.stats();
        let samples_per_second = stats.rate.per_second(now_ms);
        let summary = Summary {
            now_ms,
            samples: totals.samples,
            markers: totals.markers,
            late: totals.late,
            series: totals.series,
            samples_per_second,
            latest_ms: totals.latest_ms,
            received: stats.received,
            facts: stats.facts.clone(),
            ..Summary::default()
        };
        drop(stats);
        summary.with_report(report)
    }
}
