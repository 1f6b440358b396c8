//! Who may act as a scraper, judged by a real API server: the chart is installed, and others than its scrapers call.

use promring_cluster::Cluster;
use serde_json::Value;

use crate::support::{client, get_json};

/// How many tokens the API server is asked about here.
pub(super) const TOKENS: usize = 5;

/// Status and text of an answer.
async fn send(method: &str, url: &str, token: &str) -> (u16, String) {
    let request = client().request(method.parse().unwrap(), url).header("content-type", "application/json");
    let request = request.bearer_auth(token).body(r#"{"version":null,"address":"http://forged:1"}"#);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Polls and reports in the names of the scrapers with tokens of all kinds.
pub(super) async fn are_who_they_are(cluster: &Cluster, allocator: &str) {
    let scrapers = async || {
        let answer = get_json(&format!("{allocator}/api/v1/scrapers")).await.unwrap();
        let mut scrapers = answer["data"]["scrapers"].as_array().unwrap().clone();
        // What changes with every report.
        for scraper in &mut scrapers {
            for key in ["last_report_seconds", "samples_per_second", "queues", "version"] {
                scraper[key] = Value::Null;
            }
        }
        scrapers
    };
    let before = scrapers().await;
    let token = async |account: &str, audience: &str, pod: Option<&str>| {
        let audience = format!("--audience={audience}");
        let mut arguments = vec!["create", "token", account, "-n", "metrics", &audience];
        if let Some(pod) = pod {
            arguments.extend(["--bound-object-kind=Pod", "--bound-object-name", pod]);
        }
        cluster.kubectl(&arguments).await.trim().to_owned()
    };
    let zero = "promring-scraper-0";
    let good = token("promring-scraper", "promring", Some(zero)).await;
    let poll = |scraper: &str| format!("{allocator}/api/v1/assignments/{scraper}?wait=0s");
    let report = |scraper: &str| format!("{allocator}/api/v1/scrapers/{scraper}/report");
    assert_eq!(send("GET", &poll(zero), &good).await.0, 200);
    let one = "promring-scraper-1";
    for (method, url) in [("GET", poll(one)), ("POST", report(one)), ("POST", report("promring-scraper-9"))] {
        let (status, text) = send(method, &url, &good).await;
        assert_eq!((status, text.contains("not of promring-scraper-")), (403, true), "{url}: {text}");
    }
    for (bad, reason) in [
        (token("promring-scraper", "promring", None).await, "bound to no pod"),
        (token("promring-scraper", "https://kubernetes.default.svc", Some(zero)).await, ""),
        (token("default", "promring", None).await, "system:serviceaccount:metrics:default"),
        ("made-up".to_owned(), ""),
    ] {
        let (status, text) = send("POST", &report(zero), &bad).await;
        assert_eq!((status, text.contains(reason)), (401, true), "{text}");
    }
    assert_eq!(scrapers().await, before, "a forged report moves nothing");
}
