//! http_sd against a server on a socket.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use promring_model::config::Discovery;
use tokio::sync::mpsc;

use super::*;
use crate::discovery::Update;
use crate::testing::config_in;

/// What the server answers, and what it was asked with.
#[derive(Clone)]
struct Server(Arc<Mutex<(Answer, Vec<HeaderMap>)>>);

#[derive(Clone)]
struct Answer {
    status: u16,
    content_type: &'static str,
    body: String,
}

fn json(body: &str) -> Answer {
    Answer { status: 200, content_type: "application/json; charset=utf-8", body: body.to_owned() }
}

async fn answer(State(server): State<Server>, headers: HeaderMap) -> impl IntoResponse {
    let mut server = server.0.lock().unwrap();
    server.1.push(headers);
    let answer = server.0.clone();
    let status = axum::http::StatusCode::from_u16(answer.status).unwrap();
    (status, [("content-type", answer.content_type)], answer.body)
}

/// A server with this answer, and a discovery that asks it.
async fn serve(first: Answer, refresh_interval: &str) -> (Server, HttpDiscovery) {
    let server = Server(Arc::new(Mutex::new((first, Vec::new()))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/targets", listener.local_addr().unwrap());
    let routes = Router::new().route("/targets", axum::routing::get(answer)).with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let text = format!(
        "scrape_configs: [{{job_name: j, http_sd_configs: [{{url: '{url}', refresh_interval: {refresh_interval}, basic_auth: {{username: u, password: p}}}}]}}]"
    );
    let config = config_in(&text);
    let Discovery::Http(config) = config.scrape_configs[0].discovery[0].clone() else { panic!("http") };
    (server, *config)
}

#[tokio::test]
async fn groups_are_asked_for_again_and_again_and_a_failure_takes_nothing_away() {
    let first = r#"[{"targets": ["a:1", "b:2"], "labels": {"env": "x"}}, {"targets": []}]"#;
    let (server, config) = serve(json(first), "100ms").await;
    let url = config.url.to_string();
    let (updates, mut received) = mpsc::channel(1);
    tokio::spawn(run(config, Reporter { generation: 0, job: Arc::from("j"), source: 0, updates }));
    // On a busy machine an answer may be late; then the next one counts.
    let mut all = async |wanted: usize| loop {
        let Update { found, .. } = received.recv().await.unwrap();
        match found {
            Found::All(groups) if groups.len() == wanted => return groups,
            Found::Changes { .. } => panic!("http_sd tells everything"),
            Found::All(_) | Found::Failed(_) | Found::Arriving => {}
        }
    };
    let told = all(2).await;
    assert_eq!(told[0].labels.get("env"), Some("x"));
    assert_eq!(told[0].labels.get("__meta_url"), Some(url.as_str()));
    assert_eq!(told[0].targets[1].get("__address__"), Some("b:2"));
    assert_eq!(*told[1].source, *format!("{url}:1"));
    server.0.lock().unwrap().0 = json("[]");
    all(0).await;
    server.0.lock().unwrap().0 = Answer { status: 500, ..json("[]") };
    loop {
        if let Found::Failed(failure) = received.recv().await.unwrap().found
            && failure.contains("500")
        {
            assert!(failure.contains(&url));
            break;
        }
    }
    let headers = server.0.lock().unwrap().1[0].clone();
    assert_eq!(headers["x-prometheus-refresh-interval-seconds"], "0.1");
    assert_eq!(headers["accept"], "application/json");
    assert!(headers["authorization"].to_str().unwrap().starts_with("Basic "));
}

#[tokio::test]
async fn a_bad_answer_is_a_failure_that_says_what_is_bad() {
    let (server, config) = serve(json("[]"), "1m").await;
    let mut client = None;
    for (answer, part) in [
        (Answer { status: 500, ..json("[]") }, "500"),
        (Answer { status: 204, ..json("") }, "204"),
        (Answer { content_type: "text/html", ..json("[]") }, "text/html"),
        (Answer { content_type: "application/json; charset=latin1", ..json("[]") }, "latin1"),
        (json("[{"), "line 1"),
        (json(r#"{"targets": []}"#), "line 1"),
        (json(r#"[{"targets": [1]}]"#), "line 1"),
        (json("[null]"), "null"),
    ] {
        server.0.lock().unwrap().0 = answer;
        let message = fetch(&config, &mut client).await.unwrap_err();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn content_types_are_read_as_prometheus_reads_them() {
    for good in [
        "application/json",
        " APPLICATION/JSON ",
        "application/json;charset=UTF-8",
        "application/json; charset=\"utf-8\"",
    ] {
        assert!(is_json(good), "{good}");
    }
    for bad in ["", "application/json;", "application/jsonl", "text/json", "application/json; charset=x"] {
        assert!(!is_json(bad), "{bad}");
    }
}

#[test]
fn seconds_have_a_fraction_only_where_there_is_one() {
    assert_eq!(seconds(Duration::from_secs(60)), "60");
    assert_eq!(seconds(Duration::from_millis(1_500)), "1.5");
}
