//! The allocator's HTTP API and its page. Handlers read the state and feed it reports; they hold no rules.

use std::time::Duration;

use axum::extract::{Query, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use promring_model::config::ScrapeConfig;
use promring_model::duration::{format_duration, parse_duration};
use promring_net::clock::{now_ms, rfc3339};
use promring_proto::api::{
    ActiveTarget, ApiResponse, Health, NEVER, Report, ScraperList, ScraperState, ScraperStatus, TargetList,
    TargetQuery, Version,
};
use serde::Deserialize;

use crate::Allocator;
use crate::callers::Scraper;
use crate::targets::Discovered;

/// A poll waits this long unless it says otherwise, and at most twice as long.
const POLL_WAIT: Duration = Duration::from_secs(30);

pub(crate) fn routes(allocator: Allocator) -> Router {
    Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/api/v1/assignments/{scraper}", get(assignment))
        .route("/api/v1/scrapers/{scraper}/report", post(report))
        .route("/api/v1/scrapers", get(scrapers))
        .route("/api/v1/targets", get(targets))
        .with_state(allocator)
}

#[derive(Deserialize)]
struct PollQuery {
    wait: Option<String>,
}

/// Long poll: answers at once when something is newer than the version held, otherwise when it becomes so.
async fn assignment(
    Shared(allocator): Shared<Allocator>,
    Scraper(scraper): Scraper,
    Query(query): Query<PollQuery>,
    headers: HeaderMap,
) -> Response {
    let Some(_open) = allocator.callers().open_poll(&scraper) else {
        return (StatusCode::TOO_MANY_REQUESTS, "too many polls of this scraper are open\n").into_response();
    };
    let wait = match query.wait.as_deref().map(parse_duration) {
        None => POLL_WAIT,
        Some(Ok(wait)) => wait.min(POLL_WAIT * 2),
        Some(Err(error)) => return (StatusCode::BAD_REQUEST, format!("wait: {error}\n")).into_response(),
    };
    metrics::counter!("promring_allocator_polls_total").increment(1);
    let held: Option<Version> =
        headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()?.parse().ok());
    let deadline = tokio::time::Instant::now() + wait;
    // Subscribed before the first look, so that no change falls between look and wait.
    let mut changes = allocator.shared.changed.subscribe();
    loop {
        let answer = allocator.state().assignment(&scraper, held);
        if let Some(assignment) = answer {
            let etag = [(header::ETAG, format!("\"{}\"", assignment.version))];
            return (etag, Json(assignment)).into_response();
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { break },
            () = tokio::time::sleep_until(deadline) => break,
            () = allocator.shared.stopping.wait() => break,
        }
    }
    let readiness = allocator.state().readiness();
    match readiness {
        Ok(()) => StatusCode::NOT_MODIFIED.into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn report(
    Shared(allocator): Shared<Allocator>,
    Scraper(scraper): Scraper,
    Json(report): Json<Report>,
) -> Response {
    metrics::counter!("promring_allocator_reports_total").increment(1);
    let result = allocator.state().report(&scraper, report, now_ms());
    match result {
        Ok(answer) => Json(answer).into_response(),
        Err(reason) => (StatusCode::TOO_MANY_REQUESTS, format!("{reason}\n")).into_response(),
    }
}

async fn scrapers(Shared(allocator): Shared<Allocator>) -> Json<ApiResponse<ScraperList>> {
    let state = allocator.state();
    let now = now_ms();
    let scrapers = state
        .membership()
        .members()
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
                version: reported.report.version,
                last_report_seconds: (now - member.reported_ms) as f64 / 1_000.0,
                samples_per_second: if member.lost { 0.0 } else { reported.samples_per_second },
                queues: reported.report.queues,
                config_mismatch: reported.report.config_mismatch,
                leaving: state.is_leaving(name),
            }
        })
        .collect();
    let ready = state.readiness().is_ok();
    Json(ApiResponse::success(ScraperList { version: state.version(), ready, scrapers }))
}

async fn targets(
    Shared(allocator): Shared<Allocator>,
    Query(query): Query<TargetQuery>,
) -> Json<ApiResponse<TargetList>> {
    let state = allocator.state();
    let mut list = TargetList::default();
    for job in state.jobs().filter(|job| query.wants_pool(&job.config.job_name)) {
        list.sources.extend(job.sources());
        if query.wants_active() {
            let active = job.active().values().map(|target| active_target(&state, &job.config, target));
            list.active_targets.extend(active);
        }
        if query.wants_dropped() {
            let (dropped, count) = job.dropped();
            list.dropped_targets.extend(dropped);
            list.dropped_target_counts.insert(job.config.job_name.clone(), count);
        }
    }
    Json(ApiResponse::success(list))
}

fn active_target(state: &crate::State, config: &ScrapeConfig, discovered: &Discovered) -> ActiveTarget {
    let target = &discovered.target;
    let health = state.health(target.id);
    let scrape_url = target.unpack(config).map(|target| target.scrape_url()).unwrap_or_default();
    ActiveTarget {
        discovered_labels: discovered.discovered_labels(config),
        labels: target.labels.to_labels().public(),
        scrape_pool: target.job.to_string(),
        global_url: scrape_url.clone(),
        scrape_url,
        scraper: state.owner(target.key).unwrap_or_default().to_owned(),
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
