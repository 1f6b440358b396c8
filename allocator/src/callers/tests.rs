//! The allocator's own routes, asked by callers with tokens; the API server is a small one on a socket.

use std::collections::BTreeMap;
use std::sync::Mutex;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::routing::post;
use axum::{Json, Router};
use http_body_util::BodyExt as _;
use promring_model::config::Config;
use promring_net::shutdown::Shutdown;
use promring_proto::api::{MemberReport, Report};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::*;

/// What the API server says of each token, and what it was asked.
#[derive(Clone, Default)]
struct Judge(Arc<Mutex<Judged>>);

#[derive(Default)]
struct Judged {
    statuses: BTreeMap<String, Value>,
    asked: Vec<Value>,
    away: bool,
}

impl Judge {
    /// Serves, and gives the way to it.
    async fn start(&self) -> KubernetesAccess {
        let review = async |State(judge): State<Self>, Json(review): Json<Value>| {
            let mut judged = judge.0.lock().unwrap();
            judged.asked.push(review.clone());
            if judged.away {
                return Err(StatusCode::INTERNAL_SERVER_ERROR);
            }
            let token = review["spec"]["token"].as_str().unwrap();
            let status = judged.statuses.get(token).cloned();
            let mut review = review.clone();
            review["status"] = status.unwrap_or_else(|| json!({"user": {}, "error": "invalid bearer token"}));
            Ok(Json(review))
        };
        let router = Router::new()
            .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review))
            .with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        KubernetesAccess::Server { url, http: Box::default() }
    }

    /// A good token of the scrapers' ServiceAccount, but for what `change` changes.
    fn knows(&self, token: &str, pod: &str, change: impl FnOnce(&mut Value)) {
        let mut status = json!({
            "authenticated": true,
            "user": {
                "username": "system:serviceaccount:metrics:scraper",
                "uid": "1",
                "groups": ["system:serviceaccounts"],
                "extra": {"authentication.kubernetes.io/pod-name": [pod], "other": []},
            },
            "audiences": ["promring"],
        });
        change(&mut status);
        self.0.lock().unwrap().statuses.insert(token.to_owned(), status);
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().asked.len()
    }
}

async fn reviewing(judge: &Judge) -> Allocator {
    let reviewed = ReviewedTokens {
        accounts: vec![("metrics".to_owned(), "scraper".to_owned())],
        audience: "promring".to_owned(),
        access: judge.start().await,
    };
    allocator(Tokens::Reviewed(reviewed))
}

fn allocator(tokens: Tokens) -> Allocator {
    let callers = Callers::new(tokens).unwrap();
    let options = crate::AllocatorOptions { callers, election: None };
    Allocator::with_options(Arc::new(Config::default()), options, Shutdown::new()).unwrap()
}

/// A report; gives status and text of the answer.
async fn report(allocator: &Allocator, scraper: &str, token: Option<&str>) -> (u16, String) {
    let handover = MemberReport { run: 1, sequence: 1, ..MemberReport::default() };
    let body = serde_json::to_vec(&Report { handover, ..Report::default() }).unwrap();
    send(allocator, "POST", &format!("/api/v1/scrapers/{scraper}/report"), token, body).await
}

/// A poll that waits for nothing.
async fn poll(allocator: &Allocator, scraper: &str, token: Option<&str>) -> (u16, String) {
    send(allocator, "GET", &format!("/api/v1/assignments/{scraper}?wait=0s"), token, Vec::new()).await
}

async fn send(
    allocator: &Allocator,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Vec<u8>,
) -> (u16, String) {
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    let answer = allocator.routes().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&text).into_owned())
}

fn known(allocator: &Allocator) -> Vec<String> {
    let state = allocator.state();
    state.membership().unwrap().members().map(|(name, _)| name.to_owned()).collect()
}

#[tokio::test]
async fn a_report_and_a_poll_are_taken_for_the_pod_that_the_token_is_bound_to() {
    let judge = Judge::default();
    let allocator = reviewing(&judge).await;
    judge.knows("zero", "scraper-0", |_| ());
    assert_eq!(report(&allocator, "scraper-0", Some("Bearer zero")).await.0, 200);
    assert_eq!(poll(&allocator, "scraper-0", Some("bearer zero")).await.0, 503, "nothing is given out yet");
    // One question, for both and for what is forged.
    let (status, text) = report(&allocator, "scraper-1", Some("Bearer zero")).await;
    assert_eq!((status, text.contains("of the pod scraper-0, not of scraper-1")), (403, true), "{text}");
    assert_eq!(poll(&allocator, "scraper-1", Some("Bearer zero")).await.0, 403);
    assert_eq!(judge.asked(), 1);
    let asked = judge.0.lock().unwrap().asked[0].clone();
    assert_eq!(asked["spec"], json!({"token": "zero", "audiences": ["promring"]}));
    assert_eq!(known(&allocator), ["scraper-0"], "a forged report makes nobody known");
    // Others may look on without a token.
    assert_eq!(send(&allocator, "GET", "/api/v1/scrapers", None, Vec::new()).await.0, 200);
}

#[tokio::test]
async fn a_token_that_is_not_good_is_refused_with_the_reason_and_asked_about_once() {
    let judge = Judge::default();
    let allocator = reviewing(&judge).await;
    judge.knows("unbound", "scraper-0", |status| status["user"]["extra"] = json!({}));
    judge.knows("foreign", "scraper-0", |status| {
        status["user"]["username"] = json!("system:serviceaccount:other:scraper");
    });
    judge.knows("elsewhere", "scraper-0", |status| status["audiences"] = json!(["https://kubernetes"]));
    judge.knows("unlooked", "scraper-0", |status| status["audiences"] = Value::Null);
    for (token, reason) in [
        ("Bearer unbound", "bound to no pod"),
        ("Bearer foreign", "that of system:serviceaccount:other:scraper"),
        ("Bearer elsewhere", "not for the audience promring"),
        ("Bearer made-up", "invalid bearer token"),
        ("Basic emVybzo=", "bearer token is wanted"),
        ("Bearer ", "bearer token is wanted"),
        ("Bearer", "bearer token is wanted"),
    ] {
        for _ in 0..2 {
            let (status, text) = report(&allocator, "scraper-0", Some(token)).await;
            assert_eq!((status, text.contains(reason)), (401, true), "{token}: {text}");
        }
    }
    // A field that is null, where the API server writes none, is an answer that cannot be read.
    assert_eq!(report(&allocator, "scraper-0", Some("Bearer unlooked")).await.0, 503);
    assert_eq!(report(&allocator, "scraper-0", None).await.0, 401);
    let long = format!("Bearer {}", "x".repeat(20 << 10));
    assert_eq!(report(&allocator, "scraper-0", Some(&long)).await.0, 401);
    assert_eq!(judge.asked(), 5, "the refused are remembered");
    assert!(known(&allocator).is_empty());
}

#[tokio::test]
async fn while_the_api_server_is_away_known_scrapers_go_on_and_new_ones_wait() {
    let judge = Judge::default();
    let allocator = reviewing(&judge).await;
    judge.knows("zero", "scraper-0", |_| ());
    judge.knows("one", "scraper-1", |_| ());
    assert_eq!(report(&allocator, "scraper-0", Some("Bearer zero")).await.0, 200);
    judge.0.lock().unwrap().away = true;
    assert_eq!(report(&allocator, "scraper-0", Some("Bearer zero")).await.0, 200);
    assert_eq!(report(&allocator, "scraper-1", Some("Bearer one")).await.0, 503);
    judge.0.lock().unwrap().away = false;
    assert_eq!(report(&allocator, "scraper-1", Some("Bearer one")).await.0, 200);
}

#[tokio::test]
async fn many_requests_with_one_new_token_are_one_question() {
    let judge = Judge::default();
    let allocator = reviewing(&judge).await;
    judge.knows("zero", "scraper-0", |_| ());
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let allocator = allocator.clone();
        requests.spawn(async move { report(&allocator, "scraper-0", Some("Bearer zero")).await.0 });
    }
    assert!(requests.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(judge.asked(), 1);
}

#[tokio::test]
async fn a_shared_token_proves_membership_and_names_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "secret\n").unwrap();
    let allocator = allocator(Tokens::Shared(path));
    for scraper in ["a", "b"] {
        assert_eq!(report(&allocator, scraper, Some("Bearer secret")).await.0, 200);
        assert_eq!(report(&allocator, scraper, Some("Bearer secre")).await.0, 401);
        assert_eq!(poll(&allocator, scraper, None).await.0, 401);
    }
}

#[tokio::test]
async fn without_settings_anyone_may_call_under_a_name_that_can_be_one_but_not_for_ever() {
    let allocator = allocator(Tokens::Unasked);
    assert_eq!(report(&allocator, "a", None).await.0, 200);
    let (status, text) = report(&allocator, "a%2Fb", None).await;
    assert_eq!((status, text.contains("no scraper name")), (400, true), "{text}");
    let mut statuses = BTreeMap::<u16, usize>::new();
    for _ in 0..1_000 {
        *statuses.entry(report(&allocator, "a", None).await.0).or_default() += 1;
    }
    assert!(statuses[&200] >= 200 && statuses[&429] > 1, "{statuses:?}");
    assert_eq!(report(&allocator, "b", None).await.0, 200, "that is nobody else's loss");
}
