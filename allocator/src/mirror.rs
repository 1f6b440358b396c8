//! What a follower knows of the leader's state: who owns which key. It asks for it again whenever it changes, and goes on from
//! there when it leads itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use promring_model::target::TargetKey;
use promring_net::client::{HttpClient, describe};
use promring_proto::api::{StateView, Version};

use crate::Allocator;
use crate::api::{PollQuery, wait_of};
use crate::lease::Leadership;

/// How long the leader may hold a poll back while nothing is new.
const WAIT_SECONDS: u64 = 30;

/// How much longer than that an answer may take.
const GRACE: Duration = Duration::from_secs(10);

/// The least time between two answers: whoever has a million targets sends them no more often.
const PAUSE: Duration = Duration::from_secs(1);

/// After a poll that failed, how long until the next.
const RETRY: Duration = Duration::from_secs(2);

/// An answer may have this many bytes; a million keys take less.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// The leader's state as it was told last.
#[derive(Debug, Default)]
pub(crate) struct Mirror(Mutex<Option<Arc<StateView>>>);

impl Mirror {
    /// None where none was told yet.
    pub(crate) fn get(&self) -> Option<Arc<StateView>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, view: StateView) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(view));
    }
}

impl Allocator {
    /// Keeps the mirror as the leader's state is, as long as another one leads.
    pub(crate) async fn follow_leader(&self) {
        let Some(candidacy) = self.candidacy() else { return std::future::pending().await };
        let mut changes = candidacy.changes();
        loop {
            changes.mark_unchanged();
            let Leadership::Theirs(address) = self.leadership() else {
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let held = self.mirror().get().map(|view| view.version);
            let polled = tokio::select! {
                polled = poll(&candidacy.client, &address, held) => polled,
                _ = changes.changed() => continue,
            };
            let pause = match polled {
                Ok(Some(view)) => {
                    self.mirror().set(view);
                    PAUSE
                }
                Ok(None) => Duration::ZERO,
                Err(error) => {
                    tracing::warn!(address, error, "the leader's state cannot be followed");
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// The newest version of what followers are told; None where this allocator does not lead.
    fn newest(&self) -> Option<Version> {
        self.board().map_or_else(|| self.state().version(), |board| board.version)
    }

    fn view(&self) -> Option<StateView> {
        if let Some(pool) = &*self.pool() {
            return pool.view();
        }
        let state = self.state();
        let mut owners: BTreeMap<String, Vec<TargetKey>> = BTreeMap::new();
        for (key, owner) in state.owners() {
            owners.entry(owner.to_owned()).or_default().push(key);
        }
        Some(StateView { version: state.version()?, ready: state.readiness().is_ok(), owners })
    }
}

/// To name all keys takes its time, and who makes the next board may be at work.
async fn view_of(allocator: &Allocator) -> Option<StateView> {
    let allocator = allocator.clone();
    tokio::task::spawn_blocking(move || allocator.view()).await.ok()?
}

async fn poll(
    client: &HttpClient,
    address: &str,
    held: Option<Version>,
) -> Result<Option<StateView>, String> {
    let url = format!("{address}/api/v1/state?wait={WAIT_SECONDS}s");
    let timeout = Duration::from_secs(WAIT_SECONDS) + GRACE;
    let mut request = client.connections().get(url).timeout(timeout);
    if let Some(version) = held {
        request = request.header(header::IF_NONE_MATCH, format!("\"{version}\""));
    }
    let mut answer = request.send().await.map_err(|error| describe(&error))?;
    match answer.status() {
        StatusCode::NOT_MODIFIED => return Ok(None),
        StatusCode::OK => {}
        status => return Err(format!("it answered {status}")),
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| describe(&error))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("its answer is larger than {ANSWER_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map(Some).map_err(|error| format!("its answer cannot be read: {error}"))
}

/// `GET /api/v1/state`: long poll for the leader's state.
pub(crate) async fn state(
    State(allocator): State<Allocator>,
    Query(query): Query<PollQuery>,
    headers: HeaderMap,
) -> Response {
    let wait = match wait_of(&query) {
        Ok(wait) => wait,
        Err(refusal) => return refusal,
    };
    let held: Option<Version> =
        headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()?.parse().ok());
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        // Subscribed before the look, so that no change falls between look and wait.
        let mut news = allocator.wait_for_any();
        if !allocator.leads() {
            return (StatusCode::SERVICE_UNAVAILABLE, "not ready: another allocator leads, or none does\n")
                .into_response();
        }
        if allocator.newest() != held
            && let Some(view) = view_of(&allocator).await
        {
            let etag = [(header::ETAG, format!("\"{}\"", view.version))];
            return (etag, Json(view)).into_response();
        }
        tokio::select! {
            _ = news.changed() => {}
            () = tokio::time::sleep_until(deadline) => return StatusCode::NOT_MODIFIED.into_response(),
            () = allocator.stopping() => return StatusCode::NOT_MODIFIED.into_response(),
        }
    }
}
