use std::net::Ipv4Addr;

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use promring_model::config::{HttpClientConfig, SecretSource, TlsConfig};
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::client::{HttpClient, describe};
use crate::server::{Admin, common_routes, serve_tls};
use crate::shutdown::Shutdown;

#[path = "../../../tests/support/certificates.rs"]
#[allow(unreachable_pub, reason = "the tests of the binary share it")]
mod certificates;
use certificates::{Authority, put};

/// A server that says whom it takes a client for.
struct Server {
    address: SocketAddr,
    tls: Arc<Tls>,
    stop: Shutdown,
}

impl Server {
    async fn start(files: TlsFiles) -> Self {
        let who = async |request: Request| {
            let certificate = Peer::of(request.extensions()).unwrap().certificate.clone();
            certificate.map_or_else(|| "nobody".to_owned(), |certificate| certificate.dns_names.join(" "))
        };
        let router =
            Router::new().route("/who", get(who)).merge(common_routes(Arc::new(|| Ok(())), Admin::Off));
        let tls = Arc::new(Tls::new(files).unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Shutdown::new();
        tokio::spawn(serve_tls(listener, Arc::clone(&tls), router, stop.clone()));
        Self { address, tls, stop }
    }

    /// Status and text of an answer, by a connection of its own.
    async fn get(&self, path: &str, tls: TlsConfig) -> Result<(u16, String), String> {
        let config = HttpClientConfig { tls, enable_http2: true, ..HttpClientConfig::default() };
        let client = HttpClient::new(&config).unwrap().connections();
        let url = format!("https://{}{path}", self.address);
        let answer = client.get(url).send().await.map_err(|error| describe(&error))?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.map_err(|error| describe(&error))?))
    }

    /// The same where a connection comes about.
    async fn answer(&self, path: &str, tls: TlsConfig) -> (u16, String) {
        self.get(path, tls).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.trigger();
    }
}

fn file(path: PathBuf) -> Option<SecretSource> {
    Some(SecretSource::File(path))
}

/// A client that trusts this authority and expects a server `promring`.
fn trusting(ca: &Path) -> TlsConfig {
    TlsConfig { ca: file(ca.to_owned()), server_name: Some("promring".to_owned()), ..TlsConfig::default() }
}

fn with_certificate(tls: TlsConfig, (cert, key): (PathBuf, PathBuf)) -> TlsConfig {
    TlsConfig { cert: file(cert), key: file(key), ..tls }
}

#[tokio::test]
async fn a_client_is_known_by_a_certificate_of_the_right_authority_and_by_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (ours, other) = (Authority::new(), Authority::new());
    let ca = ours.write(dir, "ca");
    let (cert, key) = ours.sign(dir, "server", &["promring"]);
    let server = Server::start(TlsFiles { cert, key, client_ca: Some(ca.clone()) }).await;

    let good = ours.sign(dir, "good", &["scraper-0.scrapers.svc", "scraper-0"]);
    let good = with_certificate(trusting(&ca), good);
    assert_eq!(
        server.answer("/who", good.clone()).await,
        (200, "scraper-0.scrapers.svc scraper-0".to_owned())
    );
    // Health is for everybody, the rest is not.
    assert_eq!(server.answer("/livez", trusting(&ca)).await.0, 200);
    for path in ["/who", "/metrics", "/-/reload", "/livez/", "//livez"] {
        assert_eq!(server.answer(path, trusting(&ca)).await.0, 401, "{path}");
    }
    assert_eq!(server.answer("/metrics", good).await.0, 200);
    // What is wrong with a certificate ends the handshake.
    for (name, identity) in [
        ("of another authority", other.sign(dir, "foreign", &["scraper-0"])),
        ("expired", ours.sign_until(dir, "expired", &["scraper-0"], 2020)),
    ] {
        let error = server.get("/livez", with_certificate(trusting(&ca), identity)).await;
        assert!(error.is_err(), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn a_client_refuses_a_server_of_another_authority_or_name_and_an_expired_one() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (ours, other) = (Authority::new(), Authority::new());
    let ca = ours.write(dir, "ca");
    let start = async |(cert, key)| Server::start(TlsFiles { cert, key, client_ca: None }).await;
    let good = start(ours.sign(dir, "good", &["promring"])).await;
    assert_eq!(good.answer("/who", trusting(&ca)).await, (200, "nobody".to_owned()));
    for (server, reason) in [
        (start(other.sign(dir, "foreign", &["promring"])).await, "BadSignature"),
        (start(ours.sign(dir, "another", &["someone"])).await, "not valid for"),
        (start(ours.sign_until(dir, "expired", &["promring"], 2020)).await, "expired"),
    ] {
        let error = server.get("/livez", trusting(&ca)).await.unwrap_err();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[tokio::test]
async fn files_that_change_are_in_force_for_the_next_connection_and_bad_ones_never() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (before, after) = (Authority::new(), Authority::new());
    let (old_ca, new_ca) = (before.write(dir, "old"), after.write(dir, "new"));
    let client_ca = before.write(dir, "clients");
    let (cert, key) = before.sign(dir, "server", &["promring"]);
    let server = Server::start(TlsFiles { cert, key, client_ca: Some(client_ca) }).await;
    let (old_client, new_client) =
        (before.sign(dir, "a", &["scraper-0"]), after.sign(dir, "b", &["scraper-0"]));
    let who = async |ca: &Path, identity: &(PathBuf, PathBuf)| {
        server.get("/who", with_certificate(trusting(ca), identity.clone())).await
    };
    assert_eq!(who(&old_ca, &old_client).await, Ok((200, "scraper-0".to_owned())));

    // A certificate without its key, then none at all: the old ones stay.
    let elsewhere = tempfile::tempdir().unwrap();
    let (new_cert, new_key) = after.sign(elsewhere.path(), "server", &["promring"]);
    let held = server.tls.config();
    put(dir, "server.pem", &std::fs::read_to_string(new_cert).unwrap());
    assert_eq!(who(&old_ca, &old_client).await, Ok((200, "scraper-0".to_owned())));
    put(dir, "clients.pem", "no certificate");
    assert_eq!(who(&old_ca, &old_client).await, Ok((200, "scraper-0".to_owned())));
    assert!(Arc::ptr_eq(&held, &server.tls.config()));

    // With the rest of the new files everything is new: what was trusted before is not.
    put(dir, "server.key", &std::fs::read_to_string(new_key).unwrap());
    after.write(dir, "clients");
    assert_eq!(who(&new_ca, &new_client).await, Ok((200, "scraper-0".to_owned())));
    assert!(who(&old_ca, &old_client).await.is_err());
    assert!(who(&new_ca, &old_client).await.is_err());
}

#[tokio::test]
async fn who_takes_its_time_for_the_handshake_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let ours = Authority::new();
    let ca = ours.write(dir, "ca");
    let (cert, key) = ours.sign(dir, "server", &["promring"]);
    let server = Server::start(TlsFiles { cert, key, client_ca: None }).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert_eq!(server.answer("/livez", trusting(&ca)).await.0, 200);
    // Without TLS nothing is said but that it is wanted.
    let mut text = Vec::new();
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"GET /livez HTTP/1.1\r\n\r\n").await.unwrap();
    let _ = plain.read_to_end(&mut text).await;
    assert!(!text.starts_with(b"HTTP"), "{text:?}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new();
    let (cert, key) = ours.sign(dir.path(), "server", &["promring"]);
    let (_, other_key) = ours.sign(dir.path(), "other", &["promring"]);
    let files = |cert: &Path, key: &Path, client_ca: Option<&Path>| TlsFiles {
        cert: cert.to_owned(),
        key: key.to_owned(),
        client_ca: client_ca.map(Path::to_owned),
    };
    let missing = dir.path().join("missing.pem");
    for (files, named) in [
        (files(&missing, &key, None), "missing.pem"),
        (files(&key, &key, None), "server.key: no certificate"),
        (files(&cert, &cert, None), "server.pem: the private key"),
        (files(&cert, &other_key, None), "other.key"),
        (files(&cert, &key, Some(&key)), "server.key: no certificate"),
    ] {
        let error = Tls::new(files).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}
