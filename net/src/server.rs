//! The HTTP server that every role has: bind, TLS, health, metrics, reload, graceful stop.

mod peer;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use tokio::net::TcpListener;

use crate::observe;
use crate::reload::Reloader;
use crate::shutdown::Shutdown;
use peer::Plain;
pub use peer::{Peer, PeerCertificate};
use tls::TlsListener;
pub use tls::{Tls, TlsError, TlsFiles};

/// A request's body may have this many bytes, unless a route says otherwise.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// How long requests in flight may take to end after the stop began.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{hint}")]
pub struct BindError {
    address: String,
    source: std::io::Error,
    hint: &'static str,
}

/// Listens on `address` (`host:port`; port 0: any free one).
///
/// # Errors
/// Where the address is taken, not ours, or not readable; the message says what to do.
pub async fn bind(address: &str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        let hint = match source.kind() {
            std::io::ErrorKind::AddrInUse => {
                "; another process has this port: stop it, or choose another address with --listen"
            }
            std::io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges: choose a higher one",
            std::io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
            _ => "",
        };
        BindError { address: address.to_owned(), source, hint }
    })
}

/// Says whether the process is ready, and why not.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What becomes of a request to read the configuration again: the admin path.
#[derive(Clone, Debug)]
pub enum Admin {
    /// It is done.
    Reload(Reloader),
    /// There is no configuration file to read.
    NoFile,
    /// Admin paths are switched off.
    Off,
}

/// What needs no certificate where others do: a kubelet's probes come without.
const HEALTH: [&str; 4] = ["/livez", "/readyz", "/-/healthy", "/-/ready"];

/// The routes that every role has: `/livez`, `/readyz` (and Prometheus's `/-/healthy`, `/-/ready`), `/metrics`,
/// `POST /-/reload` (or PUT).
pub fn common_routes(ready: Readiness, admin: Admin) -> Router {
    let readiness = {
        move || {
            let state = ready();
            async move {
                match state {
                    Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
                    Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
                }
            }
        }
    };
    let reload = move || {
        let admin = admin.clone();
        async move {
            match admin {
                Admin::NoFile => {
                    (StatusCode::NOT_IMPLEMENTED, "this process has no configuration file\n".to_owned())
                }
                Admin::Off => {
                    (StatusCode::FORBIDDEN, "admin paths are switched off (--disable-admin)\n".to_owned())
                }
                Admin::Reload(reloader) => match reloader.reload().await {
                    Ok(()) => (StatusCode::OK, "reloaded\n".to_owned()),
                    Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
                },
            }
        }
    };
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/-/healthy", get(async || "ok\n"))
        .route("/readyz", get(readiness.clone()))
        .route("/-/ready", get(readiness))
        .route("/metrics", get(serve_metrics))
        .route("/-/reload", post(reload.clone()).put(reload))
}

async fn serve_metrics() -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, observe::render_metrics())
}

/// Serves without TLS until the stop begins; requests in flight then have two seconds to end.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> std::io::Result<()> {
    serve_on(Plain(listener), router, shutdown).await
}

/// The same with TLS. Where it has authorities for clients, every path but those of health answers 401 to a client without
/// a certificate of theirs; handlers find the certificate by [`Peer::of`].
///
/// # Errors
/// Where the listener fails.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<Tls>,
    router: Router,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let router = if tls.wants_certificates() { router.layer(from_fn(certified_only)) } else { router };
    serve_on(TlsListener::new(listener, tls)?, router, shutdown).await
}

async fn serve_on<L>(listener: L, router: Router, shutdown: Shutdown) -> std::io::Result<()>
where
    L: axum::serve::Listener<Addr = Peer>,
    Peer: for<'a> Connected<IncomingStream<'a, L>>,
{
    let router = router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let graceful = {
        let shutdown = shutdown.clone();
        async move { shutdown.wait().await }
    };
    let service = router.into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(listener, service).with_graceful_shutdown(graceful);
    let overdue = async move {
        shutdown.wait().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        result = server => result,
        () = overdue => Ok(()),
    }
}

async fn certified_only(request: Request, next: Next) -> Response {
    if Peer::is_certified(request.extensions()) || HEALTH.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, "this server wants a client certificate\n").into_response()
}

/// The address under which this machine reaches a listener: an unspecified host becomes loopback.
#[must_use]
pub fn loopback_of(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => address.set_ip(std::net::Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(_) => address.set_ip(std::net::Ipv6Addr::LOCALHOST.into()),
        }
    }
    address
}
