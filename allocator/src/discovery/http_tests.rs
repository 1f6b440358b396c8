//! http_sd against a server on a socket.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use promring_model::config::{ConfigSource, Discovery, load};
use tokio::sync::mpsc;

use super::*;
use crate::discovery::{Group, Update};

struct Text(String);

impl ConfigSource for Text {
    fn read(&self, _path: &Path) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }

    fn glob(&self, _pattern: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _name: &str) -> Option<String> {
        None
    }
}

/// What the server answers, one after the other; the last one for ever.
#[derive(Clone)]
struct Answers(Arc<Mutex<(Vec<Answer>, Vec<HeaderMap>)>>);

#[derive(Clone)]
struct Answer {
    status: u16,
    content_type: &'static str,
    body: String,
}

fn json(body: &str) -> Answer {
    Answer { status: 200, content_type: "application/json; charset=utf-8", body: body.to_owned() }
}

async fn answer(State(answers): State<Answers>, headers: HeaderMap) -> impl IntoResponse {
    let mut answers = answers.0.lock().unwrap();
    answers.1.push(headers);
    let answer = if answers.0.len() > 1 { answers.0.remove(0) } else { answers.0[0].clone() };
    let status = axum::http::StatusCode::from_u16(answer.status).unwrap();
    (status, [("content-type", answer.content_type)], answer.body)
}

/// A source at work against a server with these answers.
async fn start(answers: Vec<Answer>) -> (mpsc::Receiver<Update>, Answers, String) {
    let answers = Answers(Arc::new(Mutex::new((answers, Vec::new()))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/targets", listener.local_addr().unwrap());
    let routes = Router::new().route("/targets", axum::routing::get(answer)).with_state(answers.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let text = format!(
        "scrape_configs: [{{job_name: j, http_sd_configs: [{{url: '{url}', refresh_interval: 30ms, basic_auth: {{username: u, password: p}}}}]}}]"
    );
    let loaded = load(Path::new("test.yml"), &Text(text));
    let config = loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    let Discovery::Http(config) = config.scrape_configs[0].discovery[0].clone() else { panic!("http") };
    let (updates, received) = mpsc::channel(1);
    tokio::spawn(run(*config, Reporter { generation: 0, job: Arc::from("j"), source: 0, updates }));
    (received, answers, url)
}

async fn groups(received: &mut mpsc::Receiver<Update>) -> Vec<Arc<Group>> {
    match received.recv().await.unwrap().found {
        Found::All(groups) => groups,
        other => panic!("{other:?}"),
    }
}

async fn failure(received: &mut mpsc::Receiver<Update>) -> String {
    match received.recv().await.unwrap().found {
        Found::Failed(failure) => failure.message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn groups_are_asked_for_again_and_again() {
    let first = r#"[{"targets": ["a:1", "b:2"], "labels": {"env": "x"}}, {"targets": []}]"#;
    let (mut received, answers, url) = start(vec![json(first), json("[]")]).await;
    let told = groups(&mut received).await;
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].labels.get("env"), Some("x"));
    assert_eq!(told[0].labels.get("__meta_url"), Some(url.as_str()));
    assert_eq!(told[0].targets[1].get("__address__"), Some("b:2"));
    assert_eq!(*told[1].source, *format!("{url}:1"));
    assert!(groups(&mut received).await.is_empty());
    let headers = answers.0.lock().unwrap().1[0].clone();
    assert_eq!(headers["x-prometheus-refresh-interval-seconds"], "0.03");
    assert_eq!(headers["accept"], "application/json");
    assert!(headers["authorization"].to_str().unwrap().starts_with("Basic "));
}

#[tokio::test]
async fn a_bad_answer_is_a_failure_that_says_what_is_bad() {
    let answers = [
        (Answer { status: 500, ..json("[]") }, "500"),
        (Answer { status: 204, ..json("") }, "204"),
        (Answer { content_type: "text/html", ..json("[]") }, "text/html"),
        (Answer { content_type: "application/json; charset=latin1", ..json("[]") }, "latin1"),
        (json("[{"), "line 1"),
        (json(r#"{"targets": []}"#), "line 1"),
        (json(r#"[{"targets": [1]}]"#), "line 1"),
        (json("[null]"), "null"),
    ];
    let (mut received, _, url) = start(answers.iter().map(|(answer, _)| answer.clone()).collect()).await;
    for (_, part) in &answers {
        let message = failure(&mut received).await;
        assert!(message.contains(part) && message.contains(&url), "{message}");
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
