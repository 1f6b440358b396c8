//! The scraper's own HTTP API: what it scrapes, and what waits to be sent.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use promring_model::duration::format_duration;
use promring_model::labels::Labels;
use promring_net::clock::rfc3339;
use promring_proto::api::{ActiveTarget, ApiResponse, QueueReport, TargetList};

use crate::Scraper;

pub(crate) fn routes(scraper: Scraper) -> Router {
    Router::new().route("/api/v1/targets", get(targets)).with_state(scraper)
}

pub(crate) fn queue_routes(scraper: Scraper) -> Router {
    Router::new().route("/api/v1/queue", get(queues)).with_state(scraper)
}

async fn queues(State(scraper): State<Scraper>) -> Json<ApiResponse<Vec<QueueReport>>> {
    Json(ApiResponse::success(scraper.queues()))
}

async fn targets(State(scraper): State<Scraper>) -> Json<ApiResponse<TargetList>> {
    let statuses = &scraper.shared.environment.statuses;
    let manager = scraper.manager();
    let active = manager.targets().map(|target| {
        let status =
            statuses.get(target.id).unwrap_or_else(|| promring_proto::api::TargetReport::unknown(target.id));
        ActiveTarget {
            // Only the allocator knows what discovery said.
            discovered_labels: Labels::default(),
            labels: target.labels.public(),
            scrape_pool: target.job.to_string(),
            scrape_url: target.scrape_url(),
            scraper: scraper.shared.options.name.clone(),
            health: status.health,
            last_error: status.last_error,
            last_scrape: if status.last_scrape_ms > 0 {
                rfc3339(status.last_scrape_ms)
            } else {
                String::new()
            },
            last_scrape_duration: status.last_scrape_duration,
            samples: status.samples,
            scrape_interval: format_duration(target.interval),
            scrape_timeout: format_duration(target.timeout),
        }
    });
    let active_targets = active.collect();
    Json(ApiResponse::success(TargetList { active_targets, ..TargetList::default() }))
}
