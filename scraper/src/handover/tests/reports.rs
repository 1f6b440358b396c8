//! How much a report tells of targets, to an allocator that takes requests up to a size.

use std::sync::{Arc, Mutex};

use axum::extract::{DefaultBodyLimit, Path};
use axum::routing::post;
use axum::{Json, Router};
use promring_model::target::TargetId;
use promring_net::server::{bind, serve};
use promring_net::shutdown::Shutdown;
use promring_proto::api::{Report, ReportAnswer, TargetReport};

use super::node::until;
use crate::assignment::AllocatorAccess;
use crate::testing::config_in;
use crate::{Scraper, ScraperOptions};

/// The reports that an allocator took.
type Reports = Arc<Mutex<Vec<Report>>>;

/// An allocator, and its URL.
async fn allocator(bytes_max: usize) -> (String, Reports) {
    let reports = Reports::default();
    let taken = Arc::clone(&reports);
    let take = move |Path(_): Path<String>, Json(report): Json<Report>| {
        let sequence = report.handover.sequence;
        taken.lock().unwrap().push(report);
        std::future::ready(Json(ReportAnswer { sequence, ..ReportAnswer::default() }))
    };
    let take = post(take).layer(DefaultBodyLimit::max(bytes_max));
    let router = Router::new().route("/api/v1/scrapers/{scraper}/report", take);
    let listener = bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, router, Shutdown::new()));
    (url, reports)
}

/// A scraper that reports so often to an allocator at `url`.
fn scraper(url: &str, heartbeat: &str, dir: &tempfile::TempDir) -> Scraper {
    let options = ScraperOptions {
        node: String::new(),
        name: "a".to_owned(),
        allocator: AllocatorAccess::plain(url.parse().unwrap()),
        data_dir: dir.path().to_owned(),
        advertise: "http://127.0.0.1:1".to_owned(),
    };
    let config = config_in(&format!("{{allocator: {{lapse: 1d}}, scraper: {{heartbeat: {heartbeat}}}}}"));
    Scraper::new(Arc::new(config), options, Shutdown::new()).unwrap()
}

/// Has a scraper report of `targets` targets whose errors have so many bytes, until the allocator was told of all of them.
async fn told(heartbeat: &str, bytes_max: usize, targets: u128, error_bytes: usize) -> Vec<Report> {
    let (url, reports) = allocator(bytes_max).await;
    let dir = tempfile::tempdir().unwrap();
    let scraper = scraper(&url, heartbeat, &dir);
    for id in (0..targets).map(TargetId) {
        let last_error = "e".repeat(error_bytes);
        scraper.shared.environment.statuses.set(TargetReport { last_error, ..TargetReport::unknown(id) });
    }
    let reporting = tokio::spawn(async move { scraper.report_always().await });
    let is_told = || {
        let reports = reports.lock().unwrap();
        reports.iter().map(|report| report.targets.len()).sum::<usize>() as u128 >= targets
    };
    until("all targets are told of", is_told).await;
    reporting.abort();
    let _aborted = reporting.await;
    let reports = std::mem::take(&mut *reports.lock().unwrap());
    let mut ids: Vec<TargetId> =
        reports.iter().flat_map(|report| &report.targets).map(|target| target.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..targets).map(TargetId).collect::<Vec<_>>(), "each is told of once");
    reports
}

#[tokio::test]
async fn what_a_report_does_not_hold_of_targets_follows_at_once() {
    // The next heartbeat is not seen by this test.
    let reports = told("1h", 4 << 20, 60, 100_000).await;
    assert!(reports.len() >= 3, "{}", reports.len());
    let (first, others) = reports.split_first().unwrap();
    assert!(first.full && first.handover.full, "the hand-over part is whole in the first one");
    assert!(others.iter().all(|report| !report.full && !report.handover.full));
}

#[tokio::test]
async fn a_scraper_whose_reports_are_too_large_stays_alive_and_makes_them_smaller() {
    let reports = told("20ms", 200_000, 60, 10_000).await;
    let (first, others) = reports.split_first().unwrap();
    assert!(first.targets.is_empty() && first.handover.sequence > 0, "the rest of the report is taken");
    let begin = others.iter().find(|report| !report.targets.is_empty());
    assert!(begin.is_some_and(|report| report.full), "all targets are told of once there is a way");
}

#[tokio::test]
async fn that_there_is_nothing_for_it_is_told_on_until_a_leader_says_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let scraper = scraper("http://127.0.0.1:1", "1h", &dir);
    for (spare, told) in [(None, false), (Some(true), true), (None, true), (Some(false), false)] {
        let report = scraper.without_targets().unwrap();
        scraper.replied(&report, &ReportAnswer { spare, ..ReportAnswer::default() });
        assert_eq!(scraper.without_targets().unwrap().spare, told, "{spare:?}");
    }
}
