//! Two allocators and a small API server on a socket that keeps one Lease as the real one does.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::TcpListener;

use super::*;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/metrics/leases";

/// The Lease, its version, and the status with which requests are refused.
type Kept = (Option<Value>, u64, Option<StatusCode>);

/// The Lease, and whether requests are answered.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Kept>>);

impl Server {
    async fn start(&self) -> KubernetesAccess {
        type Answer = Result<Json<Value>, StatusCode>;
        let read = async |State(server): State<Self>| -> Answer {
            let kept = server.0.lock().unwrap();
            if let Some(status) = kept.2 {
                return Err(status);
            }
            kept.0.clone().map(Json).ok_or(StatusCode::NOT_FOUND)
        };
        let create = async |State(server): State<Self>, Json(lease): Json<Value>| -> Answer {
            server.write(lease, |kept| kept.is_none())
        };
        let update = async |State(server): State<Self>, Json(lease): Json<Value>| -> Answer {
            let version = lease["metadata"]["resourceVersion"].clone();
            server.write(lease, |kept| {
                kept.as_ref().is_some_and(|kept| kept["metadata"]["resourceVersion"] == version)
            })
        };
        let router = Router::new()
            .route(PATH, post(create))
            .route(&format!("{PATH}/promring"), get(read).put(update))
            .with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        KubernetesAccess::Server { url, http: Box::default() }
    }

    fn write(
        &self,
        mut lease: Value,
        may: impl Fn(&Option<Value>) -> bool,
    ) -> Result<Json<Value>, StatusCode> {
        let mut kept = self.0.lock().unwrap();
        if let Some(status) = kept.2 {
            return Err(status);
        }
        if !may(&kept.0) {
            return Err(StatusCode::CONFLICT);
        }
        kept.1 += 1;
        lease["metadata"]["resourceVersion"] = json!(kept.1.to_string());
        kept.0 = Some(lease.clone());
        Ok(Json(lease))
    }

    fn fails(&self, status: Option<StatusCode>) {
        self.0.lock().unwrap().2 = status;
    }

    fn lease(&self) -> Value {
        self.0.lock().unwrap().0.clone().unwrap()
    }

    /// Changes it as somebody with kubectl would.
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut lease = self.lease();
        change(&mut lease);
        let Json(_written) = self.write(lease, |_| true).unwrap();
    }
}

struct Candidate {
    lease: Lease,
    stopping: Shutdown,
    running: tokio::task::JoinHandle<()>,
}

fn candidate(name: &str, access: &KubernetesAccess) -> Candidate {
    let options = LeaseOptions {
        namespace: "metrics".to_owned(),
        name: "promring".to_owned(),
        candidate: name.to_owned(),
        address: format!("http://{name}:8080"),
        access: access.clone(),
    };
    let ms = Duration::from_millis;
    let times = ElectionOptions { duration: ms(2_000), renew_within: ms(1_000), every: ms(100) };
    let (lease, stopping) = (Lease::with_times(options, times), Shutdown::new());
    let running = {
        let (lease, stopping) = (lease.clone(), stopping.clone());
        tokio::spawn(async move { lease.run(stopping).await })
    };
    Candidate { lease, stopping, running }
}

impl Candidate {
    async fn comes_to(&self, wanted: Leadership) {
        self.comes_to_one(&format!("{wanted:?}"), |now| *now == wanted).await;
    }

    async fn leads_after(&self, before: u64) {
        let later = |now: &Leadership| matches!(now, Leadership::Ours(term) if *term > before);
        self.comes_to_one("a later term", later).await;
    }

    /// What was waited for is let go with this: while anybody holds it, the election cannot publish and stands still.
    async fn comes_to_one(&self, wanted: &str, is_wanted: impl FnMut(&Leadership) -> bool) {
        let mut changes = self.lease.changes();
        let reached = tokio::time::timeout(Duration::from_secs(60), changes.wait_for(is_wanted)).await;
        assert!(reached.is_ok(), "{wanted} never happened: {:?}", self.lease.leadership());
    }

    async fn stops(self) {
        self.stopping.trigger();
        self.running.await.unwrap();
    }
}

fn theirs(name: &str) -> Leadership {
    Leadership::Theirs(format!("http://{name}:8080"))
}

#[tokio::test]
async fn one_leads_the_other_knows_where_and_follows_at_once_when_it_stops() {
    let server = Server::default();
    let access = server.start().await;
    let first = candidate("a", &access);
    first.comes_to(Leadership::Ours(1)).await;
    let second = candidate("b", &access);
    second.comes_to(theirs("a")).await;
    let lease = server.lease();
    assert_eq!(lease["metadata"]["annotations"][ADDRESS], "http://a:8080");
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    assert!(holder.starts_with("a_") && holder.len() == 18, "{holder}");
    // Labels of others stay, and cost nobody the leadership.
    server.edit(|lease| lease["metadata"]["labels"] = json!({"team": "metrics"}));
    first.stops().await;
    second.comes_to(Leadership::Ours(2)).await;
    let lease = server.lease();
    assert_eq!(lease["metadata"]["labels"], json!({"team": "metrics"}));
    assert_eq!(lease["metadata"]["annotations"][TERM], "2");
    assert_eq!(lease["spec"]["leaseTransitions"], 2);
    second.stops().await;
    assert_eq!(
        (server.lease()["spec"]["holderIdentity"].clone(), record(&server.lease()).term),
        (json!(""), 2)
    );
}

#[tokio::test]
async fn while_the_api_server_is_away_the_leader_stops_and_then_somebody_leads_again() {
    let server = Server::default();
    let access = server.start().await;
    let first = candidate("a", &access);
    first.comes_to(Leadership::Ours(1)).await;
    let second = candidate("b", &access);
    second.comes_to(theirs("a")).await;
    server.fails(Some(StatusCode::INTERNAL_SERVER_ERROR));
    first.comes_to(Leadership::Nobody).await;
    second.comes_to(Leadership::Nobody).await;
    server.fails(None);
    tokio::select! {
        () = first.leads_after(1) => second.comes_to(theirs("a")).await,
        () = second.leads_after(1) => first.comes_to(theirs("b")).await,
    }
}

#[tokio::test]
async fn a_term_that_scrapers_have_seen_already_is_left_behind() {
    let server = Server::default();
    let access = server.start().await;
    let one = candidate("a", &access);
    one.comes_to(Leadership::Ours(1)).await;
    one.lease.heard(1_700_000_000_000);
    assert_ne!(one.lease.leadership(), Leadership::Ours(1));
    one.comes_to(Leadership::Ours(1_700_000_000_001)).await;
}

#[tokio::test]
async fn who_may_not_write_the_lease_never_leads() {
    let server = Server::default();
    let access = server.start().await;
    server.fails(Some(StatusCode::FORBIDDEN));
    let one = candidate("a", &access);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(one.lease.leadership(), Leadership::Nobody);
    one.stops().await;
    assert!(server.0.lock().unwrap().0.is_none());
}
