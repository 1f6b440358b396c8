//! Who is at the other end of a connection, as far as the connection itself tells.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::Extensions;
use axum::serve::{IncomingStream, Listener};
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};

use super::tls::TlsListener;

/// The other end of a connection. Handlers find it in a request's extensions: [`Peer::of`].
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate, verified; None without TLS, or where the client has shown none.
    pub certificate: Option<Arc<PeerCertificate>>,
}

/// What a verified client certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The DNS names of its subjectAltName, as they stand there.
    pub dns_names: Vec<String>,
}

impl Peer {
    /// Whom a request came from; None where it came by no server of ours (a test of the router alone).
    #[must_use]
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get::<ConnectInfo<Self>>().map(|ConnectInfo(peer)| peer)
    }

    /// Whether a request's client has shown a certificate that was verified.
    #[must_use]
    pub fn is_certified(extensions: &Extensions) -> bool {
        Self::of(extensions).is_some_and(|peer| peer.certificate.is_some())
    }
}

impl PeerCertificate {
    /// Of a certificate that was verified already. One whose names cannot be read has none.
    pub(super) fn read(der: &CertificateDer<'_>) -> Self {
        let names = webpki::EndEntityCert::try_from(der)
            .map(|certificate| certificate.valid_dns_names().map(str::to_owned).collect());
        Self { dns_names: names.unwrap_or_default() }
    }

    /// Whether it speaks for the process of this name: that is a DNS name of it, or the first label of one, as
    /// `scraper-0` is of `scraper-0.scrapers.metrics.svc`.
    #[must_use]
    pub fn speaks_for(&self, name: &str) -> bool {
        self.processes().any(|process| process == name)
    }

    /// The names of the processes that it speaks for.
    pub fn processes(&self) -> impl Iterator<Item = &str> {
        self.dns_names.iter().flat_map(|dns_name| {
            let first_label = dns_name.split_once('.').map(|(label, _)| label);
            std::iter::once(dns_name.as_str()).chain(first_label)
        })
    }
}

impl Connected<IncomingStream<'_, Plain>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Plain>) -> Self {
        stream.remote_addr().clone()
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        stream.remote_addr().clone()
    }
}

/// Connections without TLS.
pub(super) struct Plain(pub(super) TcpListener);

impl Listener for Plain {
    type Io = TcpStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (TcpStream, Peer) {
        // axum's own way to accept: it knows which errors pass.
        let (stream, address) = Listener::accept(&mut self.0).await;
        (stream, Peer { address, certificate: None })
    }

    fn local_addr(&self) -> std::io::Result<Peer> {
        Ok(Peer { address: self.0.local_addr()?, certificate: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_speaks_for_its_names_and_their_first_labels() {
        let dns_names = ["scraper-0.scrapers.metrics.svc", "host.example.com", "*.wild.example"];
        let certificate = PeerCertificate { dns_names: dns_names.map(str::to_owned).to_vec() };
        for name in ["scraper-0", "host.example.com", "host"] {
            assert!(certificate.speaks_for(name), "{name}");
        }
        for name in ["scraper-1", "scraper", "scrapers", "example.com", "", "a.wild.example"] {
            assert!(!certificate.speaks_for(name), "{name}");
        }
    }
}
