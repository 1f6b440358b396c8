//! The scraper's own HTTP API: what it scrapes, with Prometheus's names, and what waits to be sent.

use axum::extract::{Query, State};
use axum::response::Html;
use axum::routing::get;
use axum::{Json, Router};
use promring_model::duration::format_duration;
use promring_model::labels::Labels;
use promring_net::clock::rfc3339;
use promring_net::hostname::global_url;
use promring_proto::api::{ActiveTarget, ApiResponse, QueueReport, TargetList, TargetQuery, TargetReport};

use crate::{Scraper, page};

pub(crate) fn routes(scraper: Scraper) -> Router {
    Router::new()
        .route("/api/v1/targets", get(targets))
        .route("/targets", get(targets_page))
        .with_state(scraper)
}

pub(crate) fn queue_routes(scraper: Scraper) -> Router {
    Router::new().route("/api/v1/queue", get(queues)).with_state(scraper)
}

async fn queues(State(scraper): State<Scraper>) -> Json<ApiResponse<Vec<QueueReport>>> {
    Json(ApiResponse::success(scraper.queues()))
}

async fn targets(
    State(scraper): State<Scraper>,
    Query(query): Query<TargetQuery>,
) -> Json<ApiResponse<TargetList>> {
    let mut list = TargetList::default();
    // What relabelling dropped is known to the allocator only.
    if query.wants_active() {
        list.active_targets = active(&scraper, &query);
    }
    Json(ApiResponse::success(list))
}

async fn targets_page(State(scraper): State<Scraper>, Query(query): Query<TargetQuery>) -> Html<String> {
    Html(page::targets(&scraper.shared.options.name, &active(&scraper, &query)))
}

/// The targets, sorted by pool and URL.
fn active(scraper: &Scraper, query: &TargetQuery) -> Vec<ActiveTarget> {
    let statuses = &scraper.shared.environment.statuses;
    let targets: Vec<_> = scraper.manager().targets().cloned().collect();
    let wanted = targets.iter().filter(|target| query.wants_pool(&target.job));
    let mut active: Vec<ActiveTarget> = wanted
        .map(|target| {
            let status = statuses.get(target.id).unwrap_or_else(|| TargetReport::unknown(target.id));
            let scrape_url = target.scrape_url();
            ActiveTarget {
                // Only the allocator knows what discovery said.
                discovered_labels: Labels::default(),
                labels: target.labels.public(),
                scrape_pool: target.job.to_string(),
                global_url: global_url(&scrape_url),
                scrape_url,
                scraper: scraper.shared.options.name.clone(),
                health: status.health,
                last_error: status.last_error,
                last_scrape: rfc3339_or_never(status.last_scrape_ms),
                last_scrape_duration: status.last_scrape_duration,
                samples: status.samples,
                scrape_interval: format_duration(target.interval),
                scrape_timeout: format_duration(target.timeout),
            }
        })
        .collect();
    active.sort_by(|a, b| (&a.scrape_pool, &a.scrape_url).cmp(&(&b.scrape_pool, &b.scrape_url)));
    active
}

fn rfc3339_or_never(time_ms: i64) -> String {
    if time_ms > 0 { rfc3339(time_ms) } else { promring_proto::api::NEVER.to_owned() }
}
