//! `http_sd_configs`: a URL that answers with target groups in JSON.

use std::time::Duration;

use promring_model::config::{HttpDiscovery, target_groups_json};
use promring_model::labels::Labels;
use promring_model::target::TargetGroup;
use promring_net::client::{HttpClient, describe};
use tokio::time::{MissedTickBehavior, timeout};

use super::{Found, Reporter};

/// An answer may have this many bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Tells the server how often it will be asked.
const REFRESH_HEADER: &str = "X-Prometheus-Refresh-Interval-Seconds";

/// The URL that a group came from, as Prometheus attaches it.
const URL_LABEL: &str = "__meta_url";

/// Asks the URL now and then once an interval. What it told last stays while it fails.
pub(super) async fn run(config: HttpDiscovery, reporter: Reporter) {
    let mut tick = tokio::time::interval(config.refresh_interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut client = None;
    loop {
        tick.tick().await;
        let found = match fetch(&config, &mut client).await {
            Ok(groups) => Found::all(&groups),
            Err(message) => {
                metrics::counter!("prometheus_sd_http_failures_total").increment(1);
                tracing::error!(job = %reporter.job, url = %config.url, error = message, "http_sd failed; its last good targets stay");
                Found::Failed(format!("{}: {message}", config.url))
            }
        };
        reporter.send(found).await;
    }
}

async fn fetch(config: &HttpDiscovery, client: &mut Option<HttpClient>) -> Result<Vec<TargetGroup>, String> {
    let client = match client {
        Some(client) => client,
        // Certificates may come later than we do.
        None => client.insert(HttpClient::new(&config.http).map_err(|error| error.to_string())?),
    };
    let wait = config.refresh_interval;
    timeout(wait, ask(config, client)).await.unwrap_or_else(|_| Err(format!("no answer in {wait:?}")))
}

async fn ask(config: &HttpDiscovery, client: &HttpClient) -> Result<Vec<TargetGroup>, String> {
    let request = client
        .connections()
        .get(reqwest::Url::clone(&config.url))
        .header(http::header::ACCEPT, "application/json")
        .header(REFRESH_HEADER, seconds(config.refresh_interval))
        .headers(client.headers().await.map_err(|error| error.to_string())?);
    let mut answer = request.send().await.map_err(|error| describe(&error))?;
    if answer.status() != http::StatusCode::OK {
        return Err(format!("the server answered {}", answer.status()));
    }
    let content_type = answer.headers().get(http::header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !is_json(content_type) {
        return Err(format!("the content type is {content_type:?}, which is not application/json"));
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| describe(&error))? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err(format!("the answer is larger than {} MiB", ANSWER_BYTES_MAX >> 20));
        }
        body.extend_from_slice(&piece);
    }
    let mut groups = target_groups_json(config.url.as_str(), &body)?;
    for group in &mut groups {
        let url = [(URL_LABEL, config.url.as_str())];
        group.labels = Labels::from_pairs(group.labels.iter().chain(url));
    }
    Ok(groups)
}

/// `application/json`, with `charset=utf-8` or without.
fn is_json(content_type: &str) -> bool {
    let content_type = content_type.trim().to_ascii_lowercase();
    match content_type.split_once(';') {
        None => content_type == "application/json",
        Some((kind, charset)) => {
            kind == "application/json"
                && matches!(charset.trim_start(), "charset=utf-8" | "charset=\"utf-8\"")
        }
    }
}

/// Seconds as Go prints them: without a fraction where there is none.
fn seconds(interval: Duration) -> String {
    interval.as_secs_f64().to_string()
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
