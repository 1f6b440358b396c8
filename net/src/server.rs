//! The HTTP server that every role has: bind, health, metrics, reload, graceful stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::observe;
use crate::reload::Reloader;
use crate::shutdown::Shutdown;

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

/// Stands in the extensions of a request whose client has shown a certificate that was verified: its connection is mutual
/// TLS.
#[derive(Clone, Copy, Debug)]
pub struct MutualTls;

/// Says whether the process is ready, and why not.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The routes that every role has: `/livez`, `/readyz` (and Prometheus's `/-/healthy`, `/-/ready`), `/metrics`,
/// `POST /-/reload`.
pub fn common_routes(ready: Readiness, reloader: Option<Reloader>) -> Router {
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
        let reloader = reloader.clone();
        async move {
            match reloader {
                None => (StatusCode::NOT_IMPLEMENTED, "this process has no configuration file\n".to_owned()),
                Some(reloader) => match reloader.reload().await {
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
        .route("/-/reload", post(reload))
}

async fn serve_metrics() -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, observe::render_metrics())
}

/// Serves until the stop begins; requests in flight then have two seconds to end.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> std::io::Result<()> {
    let router = router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let graceful = {
        let shutdown = shutdown.clone();
        async move { shutdown.wait().await }
    };
    let server = axum::serve(listener, router).with_graceful_shutdown(graceful);
    let overdue = async move {
        shutdown.wait().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        result = server => result,
        () = overdue => Ok(()),
    }
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
