//! Everything but `POST /api/v1/write`: what the audit says, what it is told to expect, and faults.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use promring_model::labels::Labels;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Shared;
use super::fault::FaultRule;
use super::write::{BODY_BYTES_MAX, write};
use crate::audit::{Absence, ExpectedTarget};

/// The page: no external resources, so that it shows without a network.
const PAGE: &str = include_str!("page.html");

pub(super) fn router(shared: Shared) -> axum::Router {
    axum::Router::new()
        .route("/", get(async || Html(PAGE)))
        .route("/api/v1/write", post(write))
        .route("/api/v1/audit", get(summary))
        .route("/api/v1/report", get(report))
        .route("/api/v1/series", get(series))
        .route("/api/v1/expect", post(expect))
        .route("/api/v1/absence", post(absence))
        .route("/api/v1/window", post(window))
        .route("/-/fault", get(faults).post(add_fault).delete(clear_faults))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared)
}

async fn summary(State(shared): State<Shared>) -> Response {
    Json(shared.summary()).into_response()
}

#[derive(Deserialize)]
struct ReportQuery {
    /// Unix milliseconds; unset: now, less the grace.
    as_of: Option<i64>,
}

async fn report(State(shared): State<Shared>, Query(query): Query<ReportQuery>) -> Response {
    let as_of_ms = query.as_of.unwrap_or_else(|| shared.as_of_ms());
    let report = shared.audit().report(as_of_ms);
    Json(report).into_response()
}

#[derive(Deserialize)]
struct SeriesQuery {
    /// A metric name.
    r#match: String,
}

async fn series(State(shared): State<Shared>, Query(query): Query<SeriesQuery>) -> Response {
    let found = shared.audit().last_samples(&query.r#match);
    Json(found).into_response()
}

/// A request that is not followed, with the reason.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, format!("{}\n", self.1)).into_response()
    }
}

/// Targets, as a JSON list, are expected from now on.
async fn expect(State(shared): State<Shared>, body: Bytes) -> Result<StatusCode, Refused> {
    let targets: Vec<ExpectedTarget> = parse(&body)?;
    let mut audit = shared.audit();
    for target in targets {
        audit.expect(target).map_err(|error| Refused(StatusCode::CONFLICT, error.to_string()))?;
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlannedAbsence {
    /// Labels of the target; the first that has them all is meant.
    target: Labels,
    /// Labels of the series; unset: the whole target.
    series: Option<Labels>,
    absence: Absence,
}

async fn absence(State(shared): State<Shared>, body: Bytes) -> Result<StatusCode, Refused> {
    let PlannedAbsence { target, series, absence } = parse(&body)?;
    let unknown = |what: &str, labels: &Labels| {
        Err(Refused(StatusCode::NOT_FOUND, format!("no {what} with {labels} is expected")))
    };
    let mut audit = shared.audit();
    let Some(number) = audit.find_target(&target) else { return unknown("target", &target) };
    match series {
        None => audit.expect_absence(number, absence),
        Some(series) if audit.expect_series_absence(number, &series, absence) == 0 => {
            return unknown("series", &series);
        }
        Some(_) => {}
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    /// Unix milliseconds.
    from_ms: i64,
    /// Unset: open.
    to_ms: Option<i64>,
}

async fn window(State(shared): State<Shared>, body: Bytes) -> Result<StatusCode, Refused> {
    let Window { from_ms, to_ms } = parse(&body)?;
    shared.audit().window(from_ms, to_ms.unwrap_or(i64::MAX));
    Ok(StatusCode::NO_CONTENT)
}

async fn faults(State(shared): State<Shared>) -> Response {
    let rules = shared.faults().rules();
    Json(rules).into_response()
}

async fn add_fault(State(shared): State<Shared>, body: Bytes) -> Result<StatusCode, Refused> {
    let rule: FaultRule = parse(&body)?;
    shared.faults().add(rule).map_err(|error| Refused(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_faults(State(shared): State<Shared>) -> StatusCode {
    shared.faults().clear();
    StatusCode::NO_CONTENT
}

/// Reads JSON whatever the Content-Type says, as these paths are used by hand too.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body)
        .map_err(|error| Refused(StatusCode::BAD_REQUEST, format!("cannot read the body: {error}")))
}
