//! TLS of a server: its own certificate, and those that clients show. The files are read again when they change.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::peer::{Peer, PeerCertificate};
use crate::client::SECRET_FILE_BYTES_MAX;
use crate::files::read_bounded;
use crate::pem;
use crate::reload::Watched;

/// How long a client may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes at once; further connections wait.
const HANDSHAKES_MAX: usize = 1_024;

/// Connections that are ready and not yet served.
const READY_MAX: usize = 64;

/// A handshake that fails is told in the log at most this often; the metric counts all.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The files of a server's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and what it was signed with up to the authority, as PEM.
    pub cert: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
    /// The authorities that sign the clients' certificates, as PEM. With it every path but those of health wants a
    /// certificate; without it none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// A file that cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {path}: {reason}")]
pub struct TlsError {
    path: String,
    reason: String,
}

/// A server's TLS as its files are now.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    config: Arc<ServerConfig>,
    watched: Watched,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Where one cannot be read, or they do not go together.
    pub fn new(files: TlsFiles) -> Result<Self, TlsError> {
        let all = [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()];
        // Looked at before they are read: what changes in between is read twice rather than never.
        let watched = Watched::new(all.into_iter().flatten().cloned(), Vec::new());
        let config = Arc::new(build(&files)?);
        Ok(Self { files, held: Mutex::new(Held { config, watched }) })
    }

    /// Whether clients have to show a certificate.
    pub(super) fn wants_certificates(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// For the next connection. Files that changed are read again; where they cannot be used, the old ones stay, and log
    /// and metric say so.
    fn config(&self) -> Arc<ServerConfig> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // A look costs about a microsecond a file.
        if held.watched.changed() {
            match build(&self.files) {
                Ok(config) => {
                    held.config = Arc::new(config);
                    tracing::info!(cert = %self.files.cert.display(), "changed TLS files are in force");
                }
                Err(error) => {
                    metrics::counter!("promring_tls_reload_failures_total").increment(1);
                    tracing::error!(%error, "changed TLS files cannot be used; the old ones stay");
                }
            }
        }
        Arc::clone(&held.config)
    }
}

fn build(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let fail = |path: &Path, reason: String| TlsError { path: path.display().to_string(), reason };
    let read = |path: &Path| read_bounded(path, SECRET_FILE_BYTES_MAX).map_err(|reason| fail(path, reason));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = pem::certificates(&read(&files.cert)?).map_err(|reason| fail(&files.cert, reason))?;
    let key = pem::private_key(&read(&files.key)?).map_err(|reason| fail(&files.key, reason))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(&files.cert, error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = pem::authorities(&read(path)?).map_err(|reason| fail(path, reason))?;
            // Health is for everybody, so a client without a certificate gets as far as the paths.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| fail(path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| fail(&files.key, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Connections with TLS, once their handshakes are done: a slow one keeps nobody else waiting.
#[derive(Debug)]
pub(super) struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, Peer)>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl TlsListener {
    pub(super) fn new(listener: TcpListener, tls: Arc<Tls>) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        Ok(Self { ready, address, accepting: tokio::spawn(accept_always(listener, tls, sender)) })
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (TlsStream<TcpStream>, Peer) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The task accepts for as long as this listener lives.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Peer> {
        Ok(Peer { address: self.address, certificate: None })
    }
}

type Ready = mpsc::Sender<(TlsStream<TcpStream>, Peer)>;

async fn accept_always(mut listener: TcpListener, tls: Arc<Tls>, ready: Ready) {
    let mut handshakes = JoinSet::new();
    let mut told: Option<Instant> = None;
    loop {
        tokio::select! {
            (stream, address) = Listener::accept(&mut listener), if handshakes.len() < HANDSHAKES_MAX => {
                let acceptor = TlsAcceptor::from(tls.config());
                handshakes.spawn(handshake(acceptor, stream, address, ready.clone()));
            }
            Some(ended) = handshakes.join_next() => {
                let Ok(Some((address, reason))) = ended else { continue };
                metrics::counter!("promring_tls_handshake_failures_total").increment(1);
                if told.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
                    told = Some(Instant::now());
                    tracing::warn!(%address, reason, "a client's TLS handshake failed");
                }
            }
        }
    }
}

/// Gives whose handshake failed, and why.
async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    ready: Ready,
) -> Option<(SocketAddr, String)> {
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        // Who only looks whether the port is open says nothing.
        Ok(Err(error)) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
            return None;
        }
        Ok(Err(error)) => return Some((address, error.to_string())),
        Err(_) => return Some((address, format!("it took longer than {HANDSHAKE_TIMEOUT:?}"))),
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = shown.map(|der| Arc::new(PeerCertificate::read(der)));
    let _the_server_has_ended = ready.send((stream, Peer { address, certificate })).await;
    None
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
