//! The OpenTelemetry Target Allocator's API, and Prometheus's http_sd.
//!
//! What a client does with an answer decides what may be answered. One of http_sd keeps what it has at any status but 200.
//! The collector's receiver looks at no status for `/scrape_configs`: what parses replaces all jobs, and an empty body
//! parses. So whatever is no answer there begins with a character that no YAML begins with.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State as Shared};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use promring_model::target::ADDRESS;
use promring_net::server::Peer;
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Board;
use super::list::List;
use crate::targets::Discovered;
use crate::{Allocator, callers};

/// What makes a text that no YAML parser takes.
const NO_YAML: char = '@';

pub(crate) fn routes(allocator: Allocator) -> Router {
    Router::new()
        .route("/scrape_configs", get(scrape_configs))
        .route("/jobs", get(jobs))
        .route("/jobs/{job}/targets", get(targets))
        .route("/http_sd/{scraper}", get(http_sd))
        .with_state(allocator)
}

/// Why there is no answer.
#[derive(Debug)]
enum Refusal {
    /// The allocator has other clients.
    NotServed,
    /// Not yet, or not for now.
    NotReady(String),
    /// There is nothing of this name.
    Unknown(String),
    /// Whoever asks may not.
    Caller(callers::Refusal),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::NotServed => {
                (StatusCode::NOT_FOUND, "not served here: allocator.clients is not drop-in".to_owned())
            }
            Self::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}")),
            Self::Unknown(what) => (StatusCode::NOT_FOUND, format!("unknown: {what}")),
            Self::Caller(refusal) => return refusal.answer(&format!("{NO_YAML} ")),
        };
        (status, format!("{NO_YAML} {text}\n")).into_response()
    }
}

/// Counts the request, looks whether the caller may ask for `client` (None: for what is nobody's own), and gives what there
/// is to tell.
async fn board(
    allocator: &Allocator,
    path: &'static str,
    parts: &Parts,
    client: Option<&str>,
) -> Result<Arc<Board>, Refusal> {
    let board = allocator.board().ok_or(Refusal::NotServed)?;
    metrics::counter!("promring_dropin_requests_total", "path" => path).increment(1);
    let is_member = |name: &str| board.members.contains_key(name);
    let checked = allocator.callers().check_client(parts, client, is_member, board.jobs.len()).await;
    checked.map_err(Refusal::Caller)?;
    match &board.waiting {
        Some(reason) => Err(Refusal::NotReady(reason.clone())),
        None => Ok(board),
    }
}

async fn scrape_configs(Shared(allocator): Shared<Allocator>, parts: Parts) -> Result<Response, Refusal> {
    let board = board(&allocator, "scrape_configs", &parts, None).await?;
    let with_secrets = board.serve_secrets && Peer::is_certified(&parts.extensions);
    Ok(json_response(board.scrape_configs(with_secrets)))
}

async fn jobs(Shared(allocator): Shared<Allocator>, parts: Parts) -> Result<Response, Refusal> {
    let board = board(&allocator, "jobs", &parts, None).await?;
    let link = |job: &String| (job.clone(), json!({ "_link": format!("/jobs/{}/targets", escape(job)) }));
    let links: serde_json::Map<_, _> = board.jobs.keys().map(link).collect();
    Ok(json_response(serde_json::Value::Object(links).to_string()))
}

#[derive(Deserialize)]
struct TargetsQuery {
    collector_id: Option<String>,
}

async fn targets(
    Shared(allocator): Shared<Allocator>,
    Query(query): Query<TargetsQuery>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let board = board(&allocator, "targets", &parts, query.collector_id.as_deref()).await?;
    let name = job_of(&parts.uri, &board);
    if let Some(job) = board.jobs.get(&name)
        && !job.synced
    {
        return Err(Refusal::NotReady(format!("discovery has not synced for the job {name}")));
    }
    let body = in_background(move || match query.collector_id {
        Some(collector) => {
            serde_json::to_vec(&Groups(board.targets(&collector, &name).into_iter().collect()))
        }
        None => {
            let shown = |collector: &String| {
                let link = format!("/jobs/{}/targets?collector_id={}", escape(&name), escape(collector));
                let targets = Groups(board.targets(collector, &name).into_iter().collect());
                (collector.clone(), Collector { link, targets })
            };
            let all: BTreeMap<String, Collector<'_>> = board.members.keys().map(shown).collect();
            serde_json::to_vec(&all)
        }
    });
    body.await
}

#[derive(Deserialize)]
struct HttpSdQuery {
    job: Option<String>,
}

async fn http_sd(
    Shared(allocator): Shared<Allocator>,
    Path(scraper): Path<String>,
    Query(query): Query<HttpSdQuery>,
    parts: Parts,
) -> Result<Response, Refusal> {
    let board = board(&allocator, "http_sd", &parts, Some(&scraper)).await?;
    if !board.members.contains_key(&scraper) {
        return Err(Refusal::Unknown(format!("there is no client {scraper:?} (allocator.members)")));
    }
    let names: Vec<String> = match query.job {
        Some(name) if !board.jobs.contains_key(&name) => {
            return Err(Refusal::Unknown(format!("there is no job {name:?}")));
        }
        Some(name) => vec![name],
        None => board.plain_jobs().map(|(name, _)| name.to_owned()).collect(),
    };
    // A list without a job that has not synced would take its targets away.
    let unsynced = names.iter().find(|name| board.jobs.get(*name).is_some_and(|job| !job.synced));
    if let Some(name) = unsynced {
        return Err(Refusal::NotReady(format!("discovery has not synced for the job {name}")));
    }
    in_background(move || {
        let lists = names.iter().filter_map(|name| board.targets(&scraper, name));
        serde_json::to_vec(&Groups(lists.collect()))
    })
    .await
}

/// A whole cluster's targets take longer to write than a thread that serves sockets should be away.
async fn in_background(
    body: impl FnOnce() -> serde_json::Result<Vec<u8>> + Send + 'static,
) -> Result<Response, Refusal> {
    match tokio::task::spawn_blocking(body).await {
        Ok(Ok(body)) => Ok(json_response(body)),
        Ok(Err(error)) => Err(Refusal::NotReady(error.to_string())),
        // A task that was stopped in its middle is the process's end.
        Err(_) => Err(Refusal::NotReady("stopping".to_owned())),
    }
}

fn json_response(body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

#[derive(Serialize)]
struct Collector<'a> {
    #[serde(rename = "_link")]
    link: String,
    targets: Groups<'a>,
}

/// Targets as http_sd has them: a group each, as each has labels of its own.
struct Groups<'a>(Vec<&'a List>);

impl Serialize for Groups<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut groups = serializer.serialize_seq(Some(self.0.iter().map(|list| list.len()).sum()))?;
        for target in self.0.iter().flat_map(|list| list.iter()) {
            let address = target.target.labels.get(ADDRESS).unwrap_or_default();
            groups.serialize_element(&Group { targets: [address], labels: FinalLabels(target) })?;
        }
        groups.end()
    }
}

#[derive(Serialize)]
struct Group<'a> {
    targets: [&'a str; 1],
    labels: FinalLabels<'a>,
}

struct FinalLabels<'a>(&'a Discovered);

impl Serialize for FinalLabels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.target.labels.iter().filter(|(name, _)| *name != ADDRESS))
    }
}

/// The job that a path names. Collectors escape it as in a query, where a plus is a space; others as in a path, where it
/// is a plus.
fn job_of(uri: &Uri, board: &Board) -> String {
    let raw =
        uri.path().strip_prefix("/jobs/").and_then(|rest| rest.strip_suffix("/targets")).unwrap_or_default();
    let as_query = unescape(&raw.replace('+', " "));
    let as_path = unescape(raw);
    if !board.jobs.contains_key(&as_query) && board.jobs.contains_key(&as_path) { as_path } else { as_query }
}

/// The text without its percent signs; what is no UTF-8 names nothing.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// As a query has it: what collectors make of a job's name.
pub(super) fn escape(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
