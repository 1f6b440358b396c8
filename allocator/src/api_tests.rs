//! The API as a scraper meets it: the routes with a running allocator behind them, no socket.

use std::io::Read;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use promring_model::config::Config;
use promring_net::shutdown::Shutdown;
use promring_proto::api::{Assignment, MemberReport, ReportAnswer};
use tower::ServiceExt;

use super::*;

const CONFIG: &str = "allocator: {settle: 0s, members: static, scrapers: [a, b]}\n\
    scrape_configs: [{job_name: web, static_configs: [{targets: ['t:1', 't:2', 't:3']}]}]";

fn config() -> Arc<Config> {
    Arc::new(crate::testing::config_in(CONFIG))
}

/// An allocator that runs, and its routes.
fn running() -> (Allocator, Router) {
    let allocator = Allocator::new(config(), Shutdown::new());
    let runner = allocator.clone();
    tokio::spawn(async move { runner.run().await });
    let routes = allocator.routes();
    (allocator, routes)
}

async fn ask(routes: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = routes.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

fn poll(scraper: &str, held: Option<Version>, wait: &str) -> Request<Body> {
    let mut request = Request::get(format!("/api/v1/assignments/{scraper}?wait={wait}"));
    if let Some(held) = held {
        request = request.header(header::IF_NONE_MATCH, format!("\"{held}\""));
    }
    request.body(Body::empty()).unwrap()
}

fn reporting(scraper: &str, handover: MemberReport) -> Request<Body> {
    let report = Report { full: true, handover, ..Report::default() };
    let request = Request::post(format!("/api/v1/scrapers/{scraper}/report"))
        .header(header::CONTENT_TYPE, "application/json");
    request.body(Body::from(serde_json::to_vec(&report).unwrap())).unwrap()
}

/// A member's first words: a report, and, as the answer names the leader's term, another one with everything.
async fn join(routes: &Router, scraper: &str) -> ReportAnswer {
    let mut report = MemberReport { run: 1, sequence: 1, full: true, ..MemberReport::default() };
    let (_, _, body) = ask(routes, reporting(scraper, report.clone())).await;
    let answer: ReportAnswer = serde_json::from_slice(&body).unwrap();
    (report.sequence, report.promised) = (2, answer.term);
    let (status, _, body) = ask(routes, reporting(scraper, report)).await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_slice(&body).unwrap()
}

/// Until everything is given out.
async fn joined() -> (Allocator, Router) {
    let (allocator, routes) = running();
    assert_eq!(join(&routes, "a").await.sequence, 2);
    join(&routes, "b").await;
    for scraper in ["a", "b"] {
        ask(&routes, poll(scraper, None, "30s")).await;
    }
    (allocator, routes)
}

async fn whole(routes: &Router, scraper: &str) -> Assignment {
    let (status, _, body) = ask(routes, poll(scraper, None, "30s")).await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn a_poll_waits_until_everyone_has_told_and_is_then_answered() {
    let (_, routes) = running();
    join(&routes, "a").await;
    let (status, _, body) = ask(&routes, poll("a", None, "0s")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8_lossy(&body).contains("not ready"));
    let waiting = {
        let routes = routes.clone();
        tokio::spawn(async move { ask(&routes, poll("a", None, "30s")).await })
    };
    join(&routes, "b").await;
    let (status, headers, body) = waiting.await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let answer: Assignment = serde_json::from_slice(&body).unwrap();
    assert_eq!(headers[header::ETAG], format!("\"{}\"", answer.version));
    let both = [answer, whole(&routes, "b").await];
    let targets = both.iter().flat_map(|answer| answer.upsert.values()).map(|job| job.targets.len());
    assert_eq!(targets.sum::<usize>(), 3);
}

#[tokio::test]
async fn the_newest_version_is_answered_with_not_modified() {
    let (_, routes) = joined().await;
    let held = whole(&routes, "a").await.version;
    let (status, _, body) = ask(&routes, poll("a", Some(held), "0s")).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
}

#[tokio::test]
async fn an_answer_is_compressed_for_who_takes_that_and_says_the_same() {
    let (_, routes) = joined().await;
    let plain = whole(&routes, "a").await;
    for _ in 0..2 {
        let mut request = poll("a", None, "30s");
        request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, br"));
        let (_, headers, body) = ask(&routes, request).await;
        assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
        let mut text = Vec::new();
        flate2::read::MultiGzDecoder::new(&body[..]).read_to_end(&mut text).unwrap();
        assert_eq!(serde_json::from_slice::<Assignment>(&text).unwrap(), plain);
    }
}

#[tokio::test]
async fn an_answer_is_compressed_for_nobody_else() {
    let (_, routes) = joined().await;
    for (accepted, compressed) in [
        ("gzip;q=0", false),
        ("gzip; Q=0", false),
        ("gzip;q=1;foo=0", true),
        ("gzip;q=0, *", false),
        ("br", false),
        ("br, *;q=0.1", true),
        ("GZIP; q=0.5", true),
    ] {
        let mut request = poll("a", None, "30s");
        request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted));
        let (_, headers, _) = ask(&routes, request).await;
        assert_eq!(headers.contains_key(header::CONTENT_ENCODING), compressed, "{accepted}");
    }
}

#[tokio::test]
async fn a_waiting_poll_is_woken_by_what_concerns_it() {
    let (allocator, routes) = joined().await;
    let held = whole(&routes, "a").await.version;
    let waiting = {
        let routes = routes.clone();
        tokio::spawn(async move { ask(&routes, poll("a", Some(held), "1m")).await })
    };
    let drain =
        MemberReport { run: 1, sequence: 9, promised: held.term, draining: true, ..MemberReport::default() };
    ask(&routes, reporting("b", drain)).await;
    let (status, _, body) = waiting.await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let delta: Assignment = serde_json::from_slice(&body).unwrap();
    assert_eq!(delta.base, Some(held));
    let incoming = delta.upsert["web"].targets.iter().filter(|target| target.grant.incoming.is_some());
    assert!(incoming.count() > 0 && delta.moves.len() == 1);
    let (_, _, body) = ask(&routes, Request::get("/api/v1/scrapers").body(Body::empty()).unwrap()).await;
    let list: ApiResponse<ScraperList> = serde_json::from_slice(&body).unwrap();
    let [status] = &list.data.moves[..] else { panic!("{:?}", list.data.moves) };
    assert_eq!((&*status.from, &*status.to, &*status.step), ("b", "a", "prepare"));
    assert!(allocator.state().moves().count() == 1);
}

#[tokio::test]
async fn whoever_is_none_of_the_scrapers_is_refused_and_a_flood_is_held_up() {
    let (_, routes) = joined().await;
    let (status, _, body) = ask(&routes, reporting("c", MemberReport::default())).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{}", String::from_utf8_lossy(&body));
    let (status, _, _) = ask(&routes, reporting("a%20b", MemberReport::default())).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let mut refused = None;
    for _ in 0..10_000 {
        let (status, headers, _) = ask(&routes, reporting("a", MemberReport::default())).await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(headers);
            break;
        }
    }
    assert_eq!(refused.unwrap()[header::RETRY_AFTER], "1");
}

#[tokio::test]
async fn a_term_that_nobody_can_have_had_is_refused_and_raises_nothing() {
    let (allocator, routes) = running();
    let term = || allocator.state().version().unwrap().term;
    let before = term();
    let made_up = now_ms().unsigned_abs() + 2 * TERM_AHEAD_MAX;
    for promised in [made_up, u64::MAX] {
        let report = MemberReport { run: 1, sequence: 1, full: true, promised, ..MemberReport::default() };
        let (status, _, body) = ask(&routes, reporting("a", report)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(String::from_utf8_lossy(&body).contains("handover.promised"));
        assert_eq!(term(), before);
    }
    // A clock that was ahead of this one is another matter.
    let promised = before + 1_000_000;
    let report = MemberReport { run: 1, sequence: 1, full: true, promised, ..MemberReport::default() };
    let (status, _, _) = ask(&routes, reporting("a", report)).await;
    assert_eq!((status, term()), (StatusCode::OK, promised + 1));
}

#[tokio::test]
async fn who_does_not_lead_answers_neither_polls_nor_reports() {
    let (allocator, routes) = joined().await;
    let held = whole(&routes, "a").await.version;
    allocator.state().step_down();
    let (status, _, _) = ask(&routes, poll("a", Some(held), "30s")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let (status, _, _) = ask(&routes, reporting("a", MemberReport::default())).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let (status, _, _) = ask(&routes, Request::get("/api/v1/targets").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "what was discovered is there all the same");
}

#[tokio::test]
async fn a_pool_that_is_asked_for_leaves_the_counts_of_all_and_an_unknown_state_has_no_targets() {
    let (_, routes) = joined().await;
    for (query, active, counted) in
        [("", 3, 1), ("scrapePool=other", 0, 1), ("state=active", 3, 0), ("state=x", 0, 0)]
    {
        let request = Request::get(format!("/api/v1/targets?{query}")).body(Body::empty()).unwrap();
        let (_, _, body) = ask(&routes, request).await;
        let list: ApiResponse<TargetList> = serde_json::from_slice(&body).unwrap();
        let list = list.data;
        assert_eq!(
            (list.active_targets.len(), list.dropped_target_counts.len()),
            (active, counted),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_report_may_be_larger_than_other_requests_up_to_a_limit() {
    use promring_net::server::BODY_BYTES_MAX;
    let (_, routes) = running();
    // As the server does.
    let routes = routes.layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    for (bytes, status) in [
        (BODY_BYTES_MAX + 1, StatusCode::OK),
        (REPORT_BYTES_MAX, StatusCode::OK),
        (REPORT_BYTES_MAX + 1, StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let mut body = serde_json::to_vec(&Report::default()).unwrap();
        body.resize(bytes, b' ');
        let request =
            Request::post("/api/v1/scrapers/a/report").header(header::CONTENT_TYPE, "application/json");
        assert_eq!(ask(&routes, request.body(Body::from(body)).unwrap()).await.0, status, "{bytes}");
    }
}
