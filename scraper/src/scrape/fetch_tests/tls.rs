//! TLS against real servers, with certificates that are made here.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::*;

/// Who signs certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key.
pub(super) struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(super) fn new() -> Self {
        Self::named(&[])
    }

    /// One whose certificate could be these servers', too.
    pub(super) fn named(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Self::made(CertificateParams::new(names).unwrap(), |_| ())
    }

    /// One whose certificate differs from an ordinary one.
    pub(super) fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::made(CertificateParams::new(Vec::new()).unwrap(), change)
    }

    fn made(mut params: CertificateParams, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Its own certificate, which a server may show as well.
    pub(super) fn identity(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivateKeyDer::Pkcs8(self.issuer.key().serialize_der().into());
        (vec![self.certificate.der().clone()], key)
    }

    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(super) fn sign(&self, name: &str) -> Identity {
        self.sign_until(name, 4000)
    }

    /// Valid to the end of the year before `year`.
    fn sign_until(&self, name: &str, year: i32) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Identity { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }
}

impl Identity {
    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(super) fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![self.certificate.der().clone()], PrivateKeyDer::Pkcs8(self.key.serialize_der().into()))
    }
}

/// The files that a `tls_config` names.
pub(super) struct Files(tempfile::TempDir);

impl Files {
    pub(super) fn new(authority: &Authority) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.put("ca.pem", &authority.certificate.pem());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// As whoever rotates certificates does it: never a half-written file.
    pub(super) fn put(&self, name: &str, content: &str) {
        let new = self.path("new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(&new, self.path(name)).unwrap();
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(super) fn put_identity(&self, identity: &Identity) {
        self.put("cert.pem", &identity.certificate.pem());
        self.put("key.pem", &identity.key.serialize_pem());
    }

    pub(super) fn job(&self, more: &str) -> String {
        format!("tls_config: {{ca_file: {}{more}}}", self.path("ca.pem").display())
    }

    pub(super) fn mutual_job(&self) -> String {
        let shown = |path: &Path| path.display().to_string();
        let (cert, key) = (shown(&self.path("cert.pem")), shown(&self.path("key.pem")));
        self.job(&format!(", cert_file: {cert}, key_file: {key}"))
    }
}

/// What a server learnt of a connection's handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    asked_for: Option<String>,
    client: Option<CertificateDer<'static>>,
}

/// Answers on every connection twice.
pub(super) struct TlsServer {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl TlsServer {
    pub(super) async fn start(config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::clone(&seen);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let Ok(stream) = acceptor.accept(socket).await else { continue };
                let session = stream.get_ref().1;
                connections.lock().unwrap().push(Seen {
                    asked_for: session.server_name().map(str::to_owned),
                    client: session.peer_certificates().map(|chain| chain[0].clone().into_owned()),
                });
                tokio::spawn(server::serve(stream, vec![text("a 1\n"), text("b 2\n")], |_| ()));
            }
        });
        Self { port, seen, task }
    }

    pub(super) fn url(&self, host: &str) -> Url {
        format!("https://{host}:{}/metrics", self.port).parse().unwrap()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn server_config(identity: &Identity) -> ServerConfig {
    let (chain, key) = identity.der();
    builder().with_no_client_auth().with_single_cert(chain, key).unwrap()
}

/// The server wants a certificate signed by `clients`.
pub(super) fn mutual_config(identity: &Identity, clients: &Authority) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(clients.certificate.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let (chain, key) = identity.der();
    builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap()
}

pub(super) fn builder()
-> tokio_rustls::rustls::ConfigBuilder<ServerConfig, tokio_rustls::rustls::WantsVerifier> {
    let provider = Arc::new(ring::default_provider());
    ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap()
}

#[tokio::test]
async fn a_trusted_certificate_with_the_right_name_is_accepted_once_for_many_scrapes() {
    let authority = Authority::new();
    let server = TlsServer::start(server_config(&authority.sign("localhost"))).await;
    let files = Files::new(&authority);
    let mut client = Client::new(&files.job(""));
    assert_eq!(client.fetch(&server.url("localhost")).await, Ok("a 1\n".to_owned()));
    assert_eq!(client.fetch(&server.url("localhost")).await, Ok("b 2\n".to_owned()));
    // The server has closed by now.
    assert_eq!(client.fetch(&server.url("localhost")).await, Ok("a 1\n".to_owned()));
    let seen = Seen { asked_for: Some("localhost".to_owned()), client: None };
    assert_eq!(server.seen(), [seen.clone(), seen]);
}

#[tokio::test]
async fn a_certificate_for_an_address_is_accepted_for_it() {
    let authority = Authority::new();
    let server = TlsServer::start(server_config(&authority.sign("127.0.0.1"))).await;
    let files = Files::new(&authority);
    let mut client = Client::new(&files.job(""));
    assert_eq!(client.fetch(&server.url("127.0.0.1")).await, Ok("a 1\n".to_owned()));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let server = TlsServer::start(server_config(&Authority::new().sign("localhost"))).await;
    let files = Files::new(&Authority::new());
    let error = Client::new(&files.job("")).fetch(&server.url("localhost")).await.unwrap_err();
    assert!(error.starts_with("TLS handshake: ") && error.contains("invalid peer certificate"), "{error}");
    assert!(server.seen().is_empty());
    let mut client = Client::new(&files.job(", insecure_skip_verify: true"));
    assert_eq!(client.fetch(&server.url("localhost")).await, Ok("a 1\n".to_owned()));
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let server = TlsServer::start(server_config(&authority.sign_until("localhost", 2020))).await;
    let files = Files::new(&authority);
    let error = Client::new(&files.job("")).fetch(&server.url("localhost")).await.unwrap_err();
    assert!(error.contains("invalid peer certificate: certificate expired"), "{error}");
}

#[tokio::test]
async fn a_certificate_for_another_name_needs_server_name() {
    let authority = Authority::new();
    let server = TlsServer::start(server_config(&authority.sign("exporter.example"))).await;
    let files = Files::new(&authority);
    let error = Client::new(&files.job("")).fetch(&server.url("localhost")).await.unwrap_err();
    assert!(error.contains("not valid for name \"localhost\""), "{error}");
    let mut client = Client::new(&files.job(", server_name: exporter.example"));
    assert_eq!(client.fetch(&server.url("localhost")).await, Ok("a 1\n".to_owned()));
    assert_eq!(server.seen()[0].asked_for.as_deref(), Some("exporter.example"));
    let error = Client::new(&files.job(", server_name: other.example")).fetch(&server.url("localhost")).await;
    assert!(error.unwrap_err().contains("not valid for name \"other.example\""));
}

#[tokio::test]
async fn mutual_tls_shows_the_certificate_and_fails_without_one() {
    let authority = Authority::new();
    let server = TlsServer::start(mutual_config(&authority.sign("localhost"), &authority)).await;
    let files = Files::new(&authority);
    let error = Client::new(&files.job("")).fetch(&server.url("localhost")).await.unwrap_err();
    assert!(error.contains("CertificateRequired"), "{error}");
    let identity = authority.sign("promring");
    files.put_identity(&identity);
    let mut client = Client::new(&files.mutual_job());
    assert_eq!(client.fetch(&server.url("localhost")).await, Ok("a 1\n".to_owned()));
    assert_eq!(server.seen()[0].client.as_ref(), Some(identity.certificate.der()));
    files.put_identity(&Authority::new().sign("promring"));
    let error = Client::new(&files.mutual_job()).fetch(&server.url("localhost")).await.unwrap_err();
    assert!(error.contains("received fatal alert"), "{error}");
}

#[tokio::test]
async fn rotated_certificates_are_used_from_the_next_scrape_on() {
    let authority = Authority::new();
    let server = TlsServer::start(mutual_config(&authority.sign("localhost"), &authority)).await;
    let files = Files::new(&authority);
    let (first, second) = (authority.sign("promring"), authority.sign("promring"));
    files.put_identity(&first);
    let mut client = Client::new(&files.mutual_job());
    assert_eq!(client.fetch(&server.url("localhost")).await, Ok("a 1\n".to_owned()));
    files.put_identity(&second);
    // Not the second answer of the first connection: a new one.
    assert_eq!(client.fetch(&server.url("localhost")).await, Ok("a 1\n".to_owned()));
    let shown: Vec<_> = server.seen().into_iter().map(|seen| seen.client.unwrap()).collect();
    assert_eq!(shown, [first.certificate.der().clone(), second.certificate.der().clone()]);
    // Files that cannot be used change nothing: neither a certificate of another key nor what is none.
    files.put("cert.pem", &first.pem());
    assert_eq!(client.fetch(&server.url("localhost")).await, Ok("b 2\n".to_owned()));
    files.put("cert.pem", "half a certificate");
    assert_eq!(client.fetch(&server.url("localhost")).await, Ok("a 1\n".to_owned()));
    assert_eq!(server.seen()[2].client.as_ref(), Some(second.certificate.der()));
}

#[tokio::test]
async fn a_rotated_authority_is_trusted_from_the_next_scrape_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new(&old);
    let server = TlsServer::start(server_config(&new.sign("localhost"))).await;
    let mut client = Client::new(&files.job(""));
    assert!(client.fetch(&server.url("localhost")).await.is_err());
    files.put("ca.pem", &new.certificate.pem());
    assert_eq!(client.fetch(&server.url("localhost")).await, Ok("a 1\n".to_owned()));
}

#[tokio::test]
async fn a_server_without_tls_is_named_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        // Open until the client has read it.
        let _ = socket.read_to_end(&mut Vec::new()).await;
    });
    let error = Client::new("").fetch(&url).await.unwrap_err();
    assert_eq!(error, "TLS handshake: server gave HTTP response to HTTPS client");
}

#[tokio::test]
async fn a_body_may_end_with_the_connection_without_a_word_of_tls_only_where_http_says_so() {
    let authority = Authority::new();
    let acceptor = TlsAcceptor::from(Arc::new(server_config(&authority.sign("localhost"))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
    let coded = ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"];
    tokio::spawn(async move {
        for line in coded {
            let (socket, _) = listener.accept().await.unwrap();
            let mut stream: TlsStream<TcpStream> = acceptor.accept(socket).await.unwrap();
            server::request(&mut stream).await.unwrap();
            let body = if line.starts_with('T') { "4\r\na 1\n\r\n" } else { "a 1\n" };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{line}\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            // The socket closes without TLS's own word for it.
        }
    });
    let files = Files::new(&authority);
    for (at, line) in coded.into_iter().enumerate() {
        let fetched = Client::new(&files.job("")).fetch(&url).await;
        match at {
            0 => assert_eq!(fetched, Ok("a 1\n".to_owned())),
            _ => assert!(
                fetched.as_ref().is_err_and(|error| error.contains("unexpected EOF")),
                "{line} {fetched:?}"
            ),
        }
    }
}
