//! Against allocators on sockets that answer, redirect, or do not lead.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response as Answer};
use promring_model::config::{Auth, HttpClientConfig, Secret, SecretSource};
use tokio::net::TcpListener;

use super::*;

/// What an allocator does with every request.
#[derive(Clone)]
enum Role {
    Leads,
    Redirects(String),
    Waits,
}

/// What a served allocator plays, and the paths and tokens that it saw.
type Shared = (Arc<Mutex<Role>>, Arc<Mutex<Vec<String>>>);

/// An allocator, and the paths and tokens that it saw.
struct Allocator {
    address: SocketAddr,
    role: Arc<Mutex<Role>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Allocator {
    async fn start(role: Role) -> Self {
        let (role, seen) = (Arc::new(Mutex::new(role)), Arc::new(Mutex::new(Vec::new())));
        let answer = async |State((role, seen)): State<Shared>, uri: Uri, headers: HeaderMap| -> Answer {
            let token = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
            seen.lock().unwrap().push(format!("{} {token}", uri.path()));
            let role = role.lock().unwrap().clone();
            match role {
                Role::Leads => json::to_string(&ReportAnswer { term: 7, ..ReportAnswer::default() })
                    .unwrap()
                    .into_response(),
                Role::Redirects(to) => {
                    (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, format!("{to}/elsewhere"))]).into_response()
                }
                Role::Waits => (StatusCode::SERVICE_UNAVAILABLE, "no leader").into_response(),
            }
        };
        let router = Router::new().fallback(answer).with_state((Arc::clone(&role), Arc::clone(&seen)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, role, seen }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn plays(&self, role: Role) {
        *self.role.lock().unwrap() = role;
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// A client of the first that knows the second as its peer.
fn client(first: &Allocator, peer: Option<&Allocator>) -> AllocatorClient {
    let token = SecretSource::Inline(Secret::new("secret".to_owned()));
    let auth = Auth::Authorization { scheme: "Bearer".to_owned(), credentials: Some(token) };
    let access = AllocatorAccess {
        url: first.url().parse().unwrap(),
        peers: peer.iter().map(|peer| format!("localhost:{}", peer.address.port())).collect(),
        http: HttpClientConfig { auth: Some(auth), ..HttpClientConfig::default() },
    };
    AllocatorClient::new(access, "scraper-0").unwrap()
}

const REPORT: &str = "/api/v1/scrapers/scraper-0/report Bearer secret";

#[tokio::test]
async fn a_redirect_to_a_peer_is_followed_with_the_token_and_remembered_until_the_peer_does_not_lead() {
    let leader = Allocator::start(Role::Leads).await;
    let follower = Allocator::start(Role::Redirects(leader.url())).await;
    let client = client(&follower, Some(&leader));
    for _ in 0..2 {
        assert_eq!(client.report(&Report::default()).await.unwrap().term, 7);
    }
    assert_eq!((follower.seen().len(), leader.seen()), (1, vec![REPORT.to_owned(); 2]));
    // They change places.
    follower.plays(Role::Leads);
    leader.plays(Role::Waits);
    assert!(
        matches!(client.poll(1, None, true).await.unwrap(), Poll::NotReady(reason) if reason == "no leader")
    );
    assert_eq!(leader.seen(), ["/api/v1/assignments/scraper-0 Bearer secret"]);
    assert_eq!(client.report(&Report::default()).await.unwrap().term, 7);
    assert_eq!((follower.seen(), leader.seen().len()), (vec![REPORT.to_owned()], 0));
}

#[tokio::test]
async fn a_redirect_elsewhere_is_not_followed_and_shows_nobody_the_token() {
    let stranger = Allocator::start(Role::Leads).await;
    let follower = Allocator::start(Role::Redirects(stranger.url())).await;
    let error = client(&follower, None).report(&Report::default()).await.unwrap_err();
    assert!(error.to_string().contains("is not followed"), "{error}");
    assert!(stranger.seen().is_empty());
}

#[tokio::test]
async fn allocators_that_redirect_to_each_other_are_asked_a_few_times_only() {
    let one = Allocator::start(Role::Waits).await;
    let other = Allocator::start(Role::Redirects(one.url())).await;
    one.plays(Role::Redirects(other.url()));
    let error = client(&one, Some(&other)).report(&Report::default()).await.unwrap_err();
    assert!(error.to_string().contains("redirect to each other"), "{error}");
    assert_eq!(one.seen().len() + other.seen().len(), REDIRECTS_MAX + 1);
}

#[tokio::test]
async fn a_leader_that_is_gone_is_forgotten() {
    let leader = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = leader.local_addr().unwrap();
    drop(leader);
    let follower = Allocator::start(Role::Redirects(format!("http://{address}"))).await;
    let access = AllocatorAccess {
        peers: vec![address.to_string()],
        ..AllocatorAccess::plain(follower.url().parse().unwrap())
    };
    let client = AllocatorClient::new(access, "scraper-0").unwrap();
    assert_eq!(client.heard_ms(), i64::MIN);
    assert!(client.report(&Report::default()).await.is_err());
    assert!(client.heard_ms() > i64::MIN, "the follower is there");
    follower.plays(Role::Leads);
    assert_eq!(client.report(&Report::default()).await.unwrap().term, 7);
}

#[tokio::test]
async fn while_the_first_allocator_does_not_answer_its_peer_is_asked_first() {
    let lost = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", lost.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while lost.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let leader = Allocator::start(Role::Leads).await;
    let access = AllocatorAccess {
        peers: vec![leader.address.to_string()],
        ..AllocatorAccess::plain(url.parse().unwrap())
    };
    let client = AllocatorClient::new(access, "scraper-0").unwrap();
    for _ in 0..3 {
        assert_eq!(client.report(&Report::default()).await.unwrap().term, 7);
    }
    assert_eq!((asked.load(Ordering::Relaxed), leader.seen().len()), (1, 3));
    leader.plays(Role::Waits);
    client.report(&Report::default()).await.unwrap_err();
    assert_eq!((asked.load(Ordering::Relaxed), leader.seen().len()), (1, 1));
    leader.plays(Role::Leads);
    assert_eq!(client.report(&Report::default()).await.unwrap().term, 7);
    assert_eq!((asked.load(Ordering::Relaxed), leader.seen().len()), (2, 1));
}

#[tokio::test]
async fn another_scraper_is_not_shown_the_token() {
    let (allocator, scraper) = (Allocator::start(Role::Leads).await, Allocator::start(Role::Leads).await);
    let client = client(&allocator, None);
    client.ask_giver(&scraper.url(), TargetKey(7), 1_000).await.unwrap();
    assert_eq!(scraper.seen(), ["/api/v1/handover/0000000000000007 "]);
}
