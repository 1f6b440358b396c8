//! What a giver answers to the taker: when it stops, and the series of its last scrape.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use promring_model::target::TargetKey;
use serde::Deserialize;

use crate::Scraper;

/// Who asks.
#[derive(Deserialize)]
struct Asker {
    by: String,
}

pub(crate) fn routes(scraper: Scraper) -> Router {
    Router::new().route("/api/v1/handover/{key}", get(handover)).with_state(scraper)
}

/// Only the one that the key is for is told anything, and only what is final: who hears of T may begin at it.
async fn handover(
    State(scraper): State<Scraper>,
    Path(key): Path<String>,
    Query(Asker { by }): Query<Asker>,
) -> Response {
    let Ok(key) = key.parse::<TargetKey>() else {
        return (StatusCode::BAD_REQUEST, "a key has 16 hexadecimal digits\n").into_response();
    };
    let gate = std::sync::Arc::clone(&scraper.shared.environment.gate);
    let word = gate.with(|member| {
        let (id, _) = member.gives(key)?;
        Some((id, member.asked(id, &by)?))
    });
    let Some((id, until)) = word else {
        return (StatusCode::NOT_FOUND, "that key is not given to that scraper, or not for sure\n")
            .into_response();
    };
    // One after the other: a target may have a million series.
    let _turn = scraper.shared.tending.telling.lock().await;
    let told = tokio::task::spawn_blocking(move || gate.given.answer(key, id, until)).await;
    match told.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(answer) => ([(header::CONTENT_TYPE, "application/octet-stream")], answer).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
