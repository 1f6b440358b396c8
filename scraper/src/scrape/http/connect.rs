//! Connections: TCP with both address families, unix sockets, TLS.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Url};

use super::Tls;
use crate::scrape::fetch::FetchError;

/// An address of the other family is tried after this time (RFC 8305), as in Go.
const OTHER_FAMILY_DELAY: Duration = Duration::from_millis(300);

/// Either kind of socket, with TLS or without.
pub(in crate::scrape) type Stream = Box<dyn Io>;

/// A socket that a task can own.
pub(in crate::scrape) trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Io for T {}

/// A new connection.
pub(super) enum Dialled {
    /// Ready for a request.
    Http1(Stream),
    /// The server chose HTTP/2.
    Http2(Stream),
}

/// Connects to the URL's host, or to the unix socket in its place.
pub(super) async fn dial(
    url: &Url,
    socket: Option<&Path>,
    tls: Option<&Tls<'_>>,
) -> Result<Dialled, FetchError> {
    match (socket, tls) {
        (Some(path), Some(tls)) => handshake(unix(path).await?, url, tls).await,
        (Some(path), None) => Ok(Dialled::Http1(Box::new(unix(path).await?))),
        (None, Some(tls)) => handshake(tcp(url).await?, url, tls).await,
        (None, None) => Ok(Dialled::Http1(Box::new(tcp(url).await?))),
    }
}

async fn unix(path: &Path) -> Result<UnixStream, FetchError> {
    let connected = UnixStream::connect(path).await;
    connected.map_err(|error| FetchError::Transport(format!("dial unix {}: {error}", path.display())))
}

async fn tcp(url: &Url) -> Result<TcpStream, FetchError> {
    let fail = |error: String| FetchError::Transport(format!("dial tcp: {error}"));
    let port = url.port_or_known_default().ok_or_else(|| fail("the URL has no port".to_owned()))?;
    let stream = match url.host() {
        None => return Err(fail("the URL has no host".to_owned())),
        Some(Host::Ipv4(ip)) => connect(&[SocketAddr::from((ip, port))]).await?,
        Some(Host::Ipv6(ip)) => connect(&[SocketAddr::from((ip, port))]).await?,
        Some(Host::Domain(name)) => {
            let found = tokio::net::lookup_host((name, port)).await;
            let found: Vec<SocketAddr> =
                found.map_err(|error| fail(format!("lookup {name}: {error}")))?.collect();
            // The resolver sorts the family that should be tried first to the front.
            let Some(first) = found.first() else { return Err(fail(format!("lookup {name}: no such host"))) };
            let (preferred, others): (Vec<_>, Vec<_>) =
                found.iter().partition(|address| address.is_ipv4() == first.is_ipv4());
            either_family(&preferred, &others).await?
        }
    };
    // A request is one segment; it should not wait for the server's acknowledgement of the last one.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Whoever connects first, with a head start for the preferred family.
async fn either_family(preferred: &[SocketAddr], others: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    if others.is_empty() {
        return connect(preferred).await;
    }
    let first = connect(preferred);
    tokio::pin!(first);
    if let Ok(done) = tokio::time::timeout(OTHER_FAMILY_DELAY, &mut first).await {
        return match done {
            Ok(stream) => Ok(stream),
            Err(error) => connect(others).await.map_err(|_| error),
        };
    }
    let second = connect(others);
    tokio::pin!(second);
    tokio::select! {
        done = &mut first => match done { Ok(stream) => Ok(stream), Err(error) => second.await.map_err(|_| error) },
        done = &mut second => match done { Ok(stream) => Ok(stream), Err(_) => first.await },
    }
}

/// The first of these addresses, in turn, that can be connected to; the error is the first one's.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    let mut failed = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                failed.get_or_insert_with(|| FetchError::Transport(format!("dial tcp {address}: {error}")));
            }
        }
    }
    Err(failed.unwrap_or_else(|| FetchError::Transport("dial tcp: no address".to_owned())))
}

async fn handshake<S: Io + 'static>(stream: S, url: &Url, tls: &Tls<'_>) -> Result<Dialled, FetchError> {
    let fail = |error: &dyn std::fmt::Display| FetchError::Transport(format!("TLS handshake: {error}"));
    let name = match tls.server_name {
        Some(name) => name.clone(),
        None => server_name(url).ok_or_else(|| fail(&"the URL's host is no name for a certificate"))?,
    };
    let mut protocols = vec![b"http/1.1".to_vec()];
    if tls.http2 {
        protocols.insert(0, b"h2".to_vec());
    }
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let stream = connector.with_alpn(protocols).connect(name, stream).await.map_err(|error| {
        if speaks_plain(&error) { fail(&"server gave HTTP response to HTTPS client") } else { fail(&error) }
    })?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return Ok(Dialled::Http2(Box::new(stream)));
    }
    Ok(Dialled::Http1(Box::new(stream)))
}

fn server_name(url: &Url) -> Option<ServerName<'static>> {
    match url.host()? {
        Host::Domain(name) => ServerName::try_from(name.to_owned()).ok(),
        Host::Ipv4(ip) => Some(ServerName::from(std::net::IpAddr::V4(ip))),
        Host::Ipv6(ip) => Some(ServerName::from(std::net::IpAddr::V6(ip))),
    }
}

/// Whether the server answered the handshake with what is no TLS.
fn speaks_plain(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}
