//! The allocator's HTTP API and its page. Handlers read the state and feed it reports; they hold no rules.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Query, State as Shared};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use promring_model::config::ScrapeConfig;
use promring_model::duration::{format_duration, parse_duration};
use promring_net::clock::{now_ms, rfc3339};
use promring_net::hostname::global_url;
use promring_proto::api::{
    ActiveTarget, ApiResponse, HandoverStatus, Health, NEVER, Report, ScraperList, ScraperState,
    ScraperStatus, TargetList, TargetQuery, Version,
};
use serde::Deserialize;

use crate::Allocator;
use crate::answers::encode;
use crate::callers::Scraper;
use crate::dropin::Board;
use crate::leadership::{from_leader, leader_only};
use crate::mirror;
use crate::state::Refusal;
use crate::targets::Discovered;

/// A poll waits this long unless it says otherwise, and at most twice as long.
const POLL_WAIT: Duration = Duration::from_secs(30);

/// How far a term may be ahead of the clock, in milliseconds: five centuries. Terms are small numbers, or, without a Lease, Unix times
/// in milliseconds. A leader takes a higher one than any that a scraper has seen, so that one which was made up would leave no
/// room for those to come.
const TERM_AHEAD_MAX: u64 = 1 << 44;

/// A report may have this many bytes. A scraper tells of its targets in pieces of a few MiB, but names all the keys that it has in one
/// report to a new leader: about 30 bytes each, so that this is enough for two million.
const REPORT_BYTES_MAX: usize = 64 << 20;

pub(crate) fn routes(allocator: Allocator) -> Router {
    let for_scrapers = Router::new().route("/api/v1/assignments/{scraper}", get(assignment)).route(
        "/api/v1/scrapers/{scraper}/report",
        post(report).layer(DefaultBodyLimit::max(REPORT_BYTES_MAX)),
    );
    let to_look_at = Router::new()
        .route("/api/v1/scrapers", get(scrapers))
        .route("/api/v1/targets", get(targets))
        .route("/api/v1/scaling", get(crate::scaling::handler));
    Router::new()
        .merge(for_scrapers.route_layer(from_fn_with_state(allocator.clone(), leader_only)))
        .merge(to_look_at.route_layer(from_fn_with_state(allocator.clone(), from_leader)))
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/api/v1/state", get(mirror::state))
        .with_state(allocator.clone())
        .merge(crate::dropin::routes(allocator))
}

/// What a long poll is asked with.
#[derive(Deserialize)]
pub(crate) struct PollQuery {
    wait: Option<String>,
    run: Option<u64>,
}

/// How long a poll waits.
#[expect(clippy::result_large_err, reason = "the error is the answer itself, made once a bad request")]
pub(crate) fn wait_of(query: &PollQuery) -> Result<Duration, Response> {
    match query.wait.as_deref().map(parse_duration) {
        None => Ok(POLL_WAIT),
        Some(Ok(wait)) => Ok(wait.min(POLL_WAIT * 2)),
        Some(Err(error)) => Err((StatusCode::BAD_REQUEST, format!("wait: {error}\n")).into_response()),
    }
}

/// Long poll: answers at once when something is newer than the version held, otherwise when it becomes so.
async fn assignment(
    Shared(allocator): Shared<Allocator>,
    Scraper(scraper): Scraper,
    Query(query): Query<PollQuery>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = check_clients(&allocator) {
        return refusal;
    }
    let Some(_open) = allocator.callers().open_poll(&scraper) else {
        return (StatusCode::TOO_MANY_REQUESTS, "too many polls of this scraper are open\n").into_response();
    };
    let wait = match wait_of(&query) {
        Ok(wait) => wait,
        Err(refusal) => return refusal,
    };
    metrics::counter!("promring_allocator_polls_total").increment(1);
    let held: Option<Version> =
        headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(held) = held {
        allocator.shared.answers.received(&scraper, held);
    }
    if let Some(run) = query.run {
        allocator.state().polled(&scraper, run);
    }
    let gzip = accepts_gzip(&headers);
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        // Subscribed before the look, so that no change falls between look and wait.
        let mut news = allocator.shared.polls.wait_for(&scraper);
        if !allocator.leads() {
            return not_ready("another allocator leads, or none does");
        }
        if let Some(answer) = answer(&allocator, &scraper, held, gzip).await {
            return answer;
        }
        tokio::select! {
            // An error is news as well: whoever is told of something is forgotten.
            _ = news.changed() => {}
            () = tokio::time::sleep_until(deadline) => break,
            () = allocator.shared.stopping.wait() => break,
        }
    }
    let assigns = allocator.state().assigns();
    match assigns {
        Ok(()) => StatusCode::NOT_MODIFIED.into_response(),
        Err(reason) => not_ready(&reason),
    }
}

/// What brings a scraper from the version `held` to the newest; None where it has that. Made outside the state's lock,
/// and once for all who ask the same.
async fn answer(allocator: &Allocator, scraper: &str, held: Option<Version>, gzip: bool) -> Option<Response> {
    let version = allocator.state().version_of(scraper).filter(|version| held != Some(*version))?;
    let kept = allocator.shared.answers.get(scraper, held, version).filter(|_| gzip);
    let (version, body) = match kept {
        Some(body) => (version, body),
        None => {
            let answer = allocator.state().answer(scraper, held)?;
            let version = answer.version;
            let encoding = tokio::task::spawn_blocking(move || encode(&answer, gzip));
            // A task that was stopped in its middle is the process's end.
            let Ok(Ok(body)) = encoding.await else {
                return Some(StatusCode::INTERNAL_SERVER_ERROR.into_response());
            };
            if gzip {
                allocator.shared.answers.keep(scraper, held, version, body.clone());
            }
            (version, body)
        }
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        headers.insert(header::ETAG, etag);
    }
    Some(response)
}

/// Whether it names gzip, or everything, without a weight of 0 (RFC 9110, 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let weight_of = |wanted: &str| {
        let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let mut weights = values.flat_map(|value| value.split(',')).filter_map(|coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let mut parameters = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
            let weight = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
            let weight = weight.map_or(1.0, |(_, weight)| weight.trim().parse().unwrap_or(0.0));
            name.trim().eq_ignore_ascii_case(wanted).then_some(weight)
        });
        weights.next()
    };
    weight_of("gzip").or_else(|| weight_of("*")).is_some_and(|weight: f32| weight > 0.0)
}

fn not_ready(reason: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response()
}

async fn report(
    Shared(allocator): Shared<Allocator>,
    Scraper(scraper): Scraper,
    Json(report): Json<Report>,
) -> Response {
    if let Err(refusal) = check_clients(&allocator) {
        return refusal;
    }
    metrics::counter!("promring_allocator_reports_total").increment(1);
    let promised = report.handover.promised;
    if promised > now_ms().max(0).unsigned_abs() + TERM_AHEAD_MAX {
        let text = format!("handover.promised: no allocator can have led in the term {promised}\n");
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    allocator.heard(promised);
    // One that was paused may find out here that it leads no more.
    let result = if allocator.leads() {
        allocator.state().report(&scraper, report, now_ms())
    } else {
        Err(Refusal::NotLeading)
    };
    match result {
        Ok(answer) => Json(answer).into_response(),
        Err(Refusal::NotLeading) => not_ready("another allocator leads, or none does"),
        Err(Refusal::Unknown(reason)) => (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response(),
        Err(Refusal::TooMany(reason)) => {
            let later = [(header::RETRY_AFTER, "1")];
            (StatusCode::TOO_MANY_REQUESTS, later, format!("{reason}\n")).into_response()
        }
    }
}

/// One allocator serves one pool: beside drop-in clients a scraper that hands over would have nobody to hand over to.
#[expect(clippy::result_large_err, reason = "the error is the answer itself")]
fn check_clients(allocator: &Allocator) -> Result<(), Response> {
    if allocator.board().is_none() {
        return Ok(());
    }
    let text = "this allocator's clients are others than promring's scrapers (allocator.clients: drop-in)\n";
    Err((StatusCode::CONFLICT, text).into_response())
}

async fn scrapers(Shared(allocator): Shared<Allocator>) -> Json<ApiResponse<ScraperList>> {
    if let Some(list) = allocator.dropin_scrapers() {
        return Json(ApiResponse::success(list));
    }
    let error = allocator.members_error();
    let state = allocator.state();
    let now = now_ms();
    let members = state.membership().into_iter().flat_map(|members| members.members());
    let scrapers = members
        .map(|(name, member)| {
            let reported = state.reported(name).cloned().unwrap_or_default();
            ScraperStatus {
                name: name.to_owned(),
                address: reported.report.address,
                state: match (member.lost, member.draining) {
                    (true, _) => ScraperState::Lost,
                    (false, true) => ScraperState::Draining,
                    (false, false) => ScraperState::Ready,
                },
                targets: state.assigned(name),
                version: reported.report.handover.version,
                last_report_seconds: (now - member.reported_ms) as f64 / 1_000.0,
                samples_per_second: if member.lost { 0.0 } else { reported.samples_per_second },
                queues: reported.report.queues,
                config_mismatch: reported.report.config_mismatch,
                unknown_jobs: reported.report.unknown_jobs,
                external_labels_differ: state.external_labels_differ(name),
                leaving: state.is_leaving(name),
            }
        })
        .collect();
    let ready = state.readiness().is_ok();
    let moves = state.moves().map(|status| HandoverStatus {
        id: status.id,
        from: status.old.to_string(),
        to: status.new.to_string(),
        targets: status.keys,
        step: status.step.name().to_owned(),
        since_seconds: (now - status.since_ms) as f64 / 1_000.0,
    });
    let moves = moves.collect();
    let version = state.version().unwrap_or(Version { term: 0, counter: 0 });
    Json(ApiResponse::success(ScraperList { version, ready, error, scrapers, moves }))
}

async fn targets(
    Shared(allocator): Shared<Allocator>,
    Query(query): Query<TargetQuery>,
) -> Json<ApiResponse<TargetList>> {
    let board = allocator.board();
    let owners = board.as_deref().filter(|_| query.wants_active()).map(Board::owners);
    let state = allocator.state();
    let owner = |key| owners.as_ref().map_or_else(|| state.owner(key), |owners| owners.get(&key).copied());
    let mut list = TargetList::default();
    for job in state.jobs() {
        if query.wants_dropped() {
            // Of all jobs, as in Prometheus.
            list.dropped_target_counts.insert(job.config.job_name.clone(), job.dropped_count());
        }
        if !query.wants_pool(&job.config.job_name) {
            continue;
        }
        list.sources.extend(job.sources());
        if query.wants_active() {
            let active = job
                .active()
                .values()
                .map(|target| active_target(&state, &job.config, target, owner(target.target.key)));
            list.active_targets.extend(active);
        }
        if query.wants_dropped() {
            list.dropped_targets.extend(job.dropped());
        }
    }
    Json(ApiResponse::success(list))
}

fn active_target(
    state: &crate::State,
    config: &ScrapeConfig,
    discovered: &Discovered,
    owner: Option<&str>,
) -> ActiveTarget {
    let target = &discovered.target;
    let health = state.health(target.id);
    let scrape_url = target.unpack(config).map(|target| target.scrape_url()).unwrap_or_default();
    ActiveTarget {
        discovered_labels: discovered.discovered_labels(config),
        labels: target.labels.to_labels().public(),
        scrape_pool: target.job.to_string(),
        global_url: global_url(&scrape_url),
        scrape_url,
        scraper: owner.unwrap_or_default().to_owned(),
        health: health.map_or(Health::Unknown, |health| health.health),
        last_error: health.map(|health| health.last_error.clone()).unwrap_or_default(),
        last_scrape: health
            .filter(|health| health.last_scrape_ms > 0)
            .map_or_else(|| NEVER.to_owned(), |health| rfc3339(health.last_scrape_ms)),
        last_scrape_duration: health.map_or(0.0, |health| health.last_scrape_duration),
        samples: health.map_or(0, |health| health.samples),
        scrape_interval: format_duration(target.interval),
        scrape_timeout: format_duration(target.timeout),
    }
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
