//! What it means for requests whether this allocator leads. Without an election it always does; otherwise the Lease says so
//! at each moment.
//!
//! Polls and reports belong to the leader: others redirect there. What is only looked at, whoever is asked gets from the leader
//! as well, so that all allocators show the same; a leader that does not answer leaves what this one knows itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use promring_net::client::{HttpClient, describe};
use promring_net::clock::now_ms;
use promring_net::shutdown::Shutdown;
use tokio::sync::watch;

use crate::Allocator;
use crate::lease::{Leadership, Lease};

/// What the leader answers is passed on; a request with this header is not passed on again.
const PASSED_ON: &str = "x-promring-passed-on";

/// How long the leader may take to begin an answer.
const PASS_ON_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a leader that is to end may take for what has to be told first: longer than a hand-over's time lies ahead.
const RETIRE_MAX: Duration = Duration::from_secs(10);

/// How often it is looked whether that is so.
const RETIRE_TICK: Duration = Duration::from_millis(50);

/// How long it may take to give the Lease back.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// This allocator's part in an election.
#[derive(Debug)]
pub(crate) struct Candidacy {
    lease: Lease,
    pub(crate) client: HttpClient,
    /// It leads no more, and never again.
    retired: AtomicBool,
    /// Gives the Lease back.
    release: Shutdown,
    released: watch::Sender<bool>,
}

impl Candidacy {
    /// `client` reaches other allocators.
    pub(crate) fn new(lease: Lease, client: HttpClient) -> Self {
        let (retired, release) = (AtomicBool::new(false), Shutdown::new());
        Self { lease, client, retired, release, released: watch::Sender::new(false) }
    }

    fn leadership(&self) -> Leadership {
        match self.lease.leadership() {
            Leadership::Ours(_) if self.retired.load(Ordering::Relaxed) => Leadership::Nobody,
            leadership => leadership,
        }
    }

    pub(crate) fn changes(&self) -> watch::Receiver<Leadership> {
        self.lease.changes()
    }

    /// Takes part, until the Lease is given back.
    pub(crate) async fn run(&self) {
        self.lease.run(self.release.clone()).await;
        self.released.send_replace(true);
    }
}

impl Allocator {
    /// Who leads at this moment; without an election this allocator, in a term of its own.
    pub(crate) fn leadership(&self) -> Leadership {
        self.candidacy().map_or(Leadership::Ours(0), Candidacy::leadership)
    }

    /// Whether what this allocator gives out now is the leader's word.
    pub(crate) fn leads(&self) -> bool {
        matches!(self.leadership(), Leadership::Ours(_)) && self.state().leads()
    }

    /// Brings the state in step with the Lease.
    pub(crate) fn follow_lease(&self) {
        let Some(candidacy) = self.candidacy() else { return };
        let leadership = candidacy.leadership();
        let changed = {
            let mut state = self.state();
            let led = state.version().map(|version| version.term);
            match leadership {
                Leadership::Ours(term) if led == Some(term) => false,
                Leadership::Ours(term) => {
                    state.step_down();
                    state.lead(term, false, now_ms());
                    true
                }
                Leadership::Theirs(_) | Leadership::Nobody => {
                    state.step_down();
                    led.is_some()
                }
            }
        };
        if changed {
            self.wake_all_polls();
        }
    }

    /// A scraper has seen this term. One that is higher than ours belongs to a Lease that is gone, or to a time without one.
    pub(crate) fn heard(&self, term: u64) {
        let Some(candidacy) = self.candidacy() else { return };
        if matches!(candidacy.leadership(), Leadership::Ours(ours) if ours < term) {
            tracing::warn!(term, "a scraper has seen a higher term than ours; a higher one begins");
            candidacy.lease.heard(term);
            self.follow_lease();
        }
    }

    /// Ends leading in order, before the stop: nothing new is begun, who waits for the time of a hand-over is told it, polls
    /// end, and the Lease is given back.
    pub async fn retire(&self) {
        let Some(candidacy) = self.candidacy() else { return };
        if self.leads() {
            self.state().retire();
            let told = async {
                while !self.state().has_told_times(now_ms()) {
                    tokio::time::sleep(RETIRE_TICK).await;
                }
            };
            if tokio::time::timeout(RETIRE_MAX, told).await.is_err() {
                tracing::warn!("a scraper has not heard the time of its hand-over; it asks the other one");
            }
        }
        candidacy.retired.store(true, Ordering::Relaxed);
        self.follow_lease();
        candidacy.release.trigger();
        let mut released = candidacy.released.subscribe();
        let released = released.wait_for(|released| *released);
        if tokio::time::timeout(RELEASE_MAX, released).await.is_err() {
            tracing::warn!("the Lease could not be given back; it runs out by itself");
        }
    }
}

/// Lets requests to the leader alone through, and redirects others to it.
pub(crate) async fn leader_only(
    State(allocator): State<Allocator>,
    request: Request,
    next: Next,
) -> Response {
    match allocator.leadership() {
        Leadership::Ours(_) => next.run(request).await,
        Leadership::Theirs(address) => {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            match HeaderValue::from_str(&format!("{address}{path}")) {
                Ok(location) => {
                    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
                }
                Err(_) => nobody(),
            }
        }
        Leadership::Nobody => nobody(),
    }
}

fn nobody() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "not ready: no allocator leads that is known here\n").into_response()
}

/// Has the leader answer what is only looked at.
pub(crate) async fn from_leader(
    State(allocator): State<Allocator>,
    request: Request,
    next: Next,
) -> Response {
    if let (Leadership::Theirs(address), Some(candidacy)) = (allocator.leadership(), allocator.candidacy())
        && !request.headers().contains_key(PASSED_ON)
    {
        let asked = Asked::of(&request, &address);
        match asked.pass_on(&candidacy.client).await {
            Ok(response) => return response,
            Err(error) => {
                tracing::warn!(address, error, "the leader does not answer; what is known here is shown");
            }
        }
    }
    next.run(request).await
}

/// What is asked of the leader; without the request's body, which cannot be shared.
struct Asked {
    url: String,
    headers: HeaderMap,
}

impl Asked {
    fn of(request: &Request, address: &str) -> Self {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let kept = [header::ACCEPT, header::ACCEPT_ENCODING, header::IF_NONE_MATCH];
        Self { url: format!("{address}{path}"), headers: passed(request.headers(), &kept) }
    }

    async fn pass_on(self, client: &HttpClient) -> Result<Response, String> {
        let asked = client.connections().get(self.url).headers(self.headers).header(PASSED_ON, "1");
        let answer = tokio::time::timeout(PASS_ON_TIMEOUT, asked.send()).await;
        let answer = answer
            .map_err(|_| format!("no answer within {PASS_ON_TIMEOUT:?}"))?
            .map_err(|error| describe(&error))?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        let kept = [
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::ETAG,
            header::VARY,
            header::LOCATION,
            header::RETRY_AFTER,
        ];
        response.headers_mut().extend(passed(answer.headers(), &kept));
        *response.body_mut() = Body::from_stream(answer.bytes_stream());
        Ok(response)
    }
}

fn passed(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let pairs = headers.iter().filter(|(name, _)| names.contains(name));
    pairs.map(|(name, value)| (name.clone(), value.clone())).collect()
}
