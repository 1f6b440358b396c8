//! Who may act as a scraper, which is to poll for its assignment and to report for it; and who may ask as a drop-in client.
//!
//! A caller's name comes from the token of its ServiceAccount, which the API server checks and binds to a pod
//! (`review.rs`); otherwise from its client certificate ([`promring_net::server::PeerCertificate`]). A token that all
//! scrapers share (`shared.rs`) proves that the caller is one of them, and not which. Without any of these anyone may call.
//!
//! Drop-in clients often have one certificate for all: a certificate that names none of them is good for each, as a
//! shared token is. They only fetch lists, so nothing can be forged by it.

mod rates;
mod review;
mod shared;
mod verdict;

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use promring_model::config::KubernetesAccess;
use promring_net::server::{Peer, PeerCertificate};
use promring_proto::api::check_scraper_name;
use tokio::time::Instant;

use crate::Allocator;
pub(crate) use rates::OpenPoll;
use rates::{Allowance, Rates};
use review::Reviewer;
use shared::SharedTokens;

/// How tokens are asked for.
#[derive(Clone, Debug, Default)]
pub enum Tokens {
    /// Not at all.
    #[default]
    Unasked,
    /// One of those in this file, one a line.
    Shared(PathBuf),
    /// One of a ServiceAccount, bound to a pod.
    Reviewed(ReviewedTokens),
}

/// Which tokens of ServiceAccounts are good.
#[derive(Clone, Debug)]
pub struct ReviewedTokens {
    /// The scrapers' ServiceAccounts, as namespace and name.
    pub accounts: Vec<(String, String)>,
    /// The audience that tokens have to be for.
    pub audience: String,
    /// The API server that is asked.
    pub access: KubernetesAccess,
}

/// Decides who may act as which scraper. Clones share one memory.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    tokens: Arc<Checked>,
    rates: Rates,
}

#[derive(Debug, Default)]
enum Checked {
    #[default]
    Nothing,
    Shared(SharedTokens),
    Reviewed(Arc<Reviewer>),
}

/// Why a caller is turned away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No token, or not a good one.
    Token(String),
    /// It is somebody else.
    Name(String),
    /// It comes too often.
    Rate(&'static str),
    /// Nobody can say now whether its token is good.
    Unchecked(String),
}

impl Callers {
    /// Callers have to show such a token. Where the connection has a client certificate as well, that one has to be in
    /// order, too.
    ///
    /// # Errors
    /// Where the file of shared tokens cannot be used.
    pub fn new(tokens: Tokens) -> Result<Self, String> {
        let tokens = match tokens {
            Tokens::Unasked => Checked::Nothing,
            Tokens::Shared(path) => Checked::Shared(SharedTokens::read(path)?),
            Tokens::Reviewed(reviewed) => Checked::Reviewed(Arc::new(Reviewer::new(reviewed))),
        };
        Ok(Self { tokens: Arc::new(tokens), rates: Rates::default() })
    }

    /// Whether a request may act as the scraper of this name.
    async fn check(&self, parts: &Parts, scraper: &str) -> Result<(), Refusal> {
        let certificate = Peer::of(&parts.extensions).and_then(|peer| peer.certificate.as_ref());
        match (self.pod(&parts.headers).await?, certificate) {
            (Some(pod), _) => same_pod(&pod, scraper)?,
            (None, Some(certificate)) if !certificate.speaks_for(scraper) => {
                return Err(not_named(certificate, scraper));
            }
            (None, _) => {}
        }
        self.rates.take(scraper, Allowance::SCRAPER, Instant::now()).map_err(Refusal::Rate)
    }

    /// Whether a request may ask as a drop-in client: as the one of this name, or (None) for what is nobody's own.
    /// `is_member` says which clients there are; each may ask for so many `jobs` one by one.
    pub(crate) async fn check_client(
        &self,
        parts: &Parts,
        client: Option<&str>,
        is_member: impl Fn(&str) -> bool,
        jobs: usize,
    ) -> Result<(), Refusal> {
        let peer = Peer::of(&parts.extensions);
        let certificate = peer.and_then(|peer| peer.certificate.as_ref());
        let pod = self.pod(&parts.headers).await?;
        match (&pod, client, certificate) {
            (Some(pod), Some(client), _) => same_pod(pod, client)?,
            (None, Some(client), Some(certificate)) => {
                let names_others = certificate.processes().any(&is_member);
                if names_others && !certificate.speaks_for(client) {
                    return Err(not_named(certificate, client));
                }
            }
            (None, _, None) | (_, None, _) => {}
        }
        // Whoever makes names up is counted by where it comes from.
        let known = client.filter(|client| is_member(client)).map(str::to_owned);
        let caller = known.or_else(|| Some(pod?.to_string()));
        let caller = caller.or_else(|| Some(peer?.address.ip().to_string())).unwrap_or_default();
        self.rates.take(&caller, Allowance::client(jobs), Instant::now()).map_err(Refusal::Rate)
    }

    /// The pod that a request's token is bound to; None where tokens name nobody, or none are asked for.
    async fn pod(&self, headers: &HeaderMap) -> Result<Option<Arc<str>>, Refusal> {
        match &*self.tokens {
            Checked::Nothing => Ok(None),
            Checked::Shared(tokens) => tokens.check(bearer(headers)?).map(|()| None),
            Checked::Reviewed(reviewer) => reviewer.pod_of(bearer(headers)?).await.map(Some),
        }
    }

    /// A poll of this scraper is held open until what this gives is dropped; None where too many are already.
    pub(crate) fn open_poll(&self, scraper: &str) -> Option<OpenPoll> {
        self.rates.open_poll(scraper)
    }
}

fn same_pod(pod: &str, caller: &str) -> Result<(), Refusal> {
    if pod == caller {
        return Ok(());
    }
    Err(Refusal::Name(format!("the token is that of the pod {pod}, not of {caller}")))
}

fn not_named(certificate: &PeerCertificate, caller: &str) -> Refusal {
    let names = certificate.dns_names.join(", ");
    Refusal::Name(format!("the client certificate is for [{names}], not for {caller}"))
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    token.filter(|token| !token.is_empty()).ok_or_else(|| {
        Refusal::Token("a bearer token is wanted (scraper: --allocator-token-file)".to_owned())
    })
}

/// The scraper that a request acts as: the caller may do so.
#[derive(Debug)]
pub(crate) struct Scraper(pub(crate) String);

impl FromRequestParts<Allocator> for Scraper {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, allocator: &Allocator) -> Result<Self, Response> {
        let path = Path::<String>::from_request_parts(parts, allocator).await;
        let Path(name) = path.map_err(IntoResponse::into_response)?;
        check_scraper_name(&name)
            .map_err(|message| (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response())?;
        match allocator.callers().check(parts, &name).await {
            Ok(()) => Ok(Self(name)),
            Err(refusal) => {
                let from = Peer::of(&parts.extensions).map(|peer| peer.address);
                tracing::debug!(scraper = name, ?from, ?refusal, "a caller is turned away");
                Err(refusal.answer(""))
            }
        }
    }
}

impl Refusal {
    /// The answer, whose text begins with `mark`. Counts it.
    pub(crate) fn answer(self, mark: &str) -> Response {
        let (status, reason, message) = match self {
            Self::Token(message) => (StatusCode::UNAUTHORIZED, "token", message),
            Self::Name(message) => (StatusCode::FORBIDDEN, "name", message),
            Self::Rate(message) => (StatusCode::TOO_MANY_REQUESTS, "rate", message.to_owned()),
            Self::Unchecked(message) => (StatusCode::SERVICE_UNAVAILABLE, "unchecked", message),
        };
        metrics::counter!("promring_allocator_refused_callers_total", "reason" => reason).increment(1);
        let mut response = (status, format!("{mark}{message}\n")).into_response();
        let header = match status {
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            StatusCode::TOO_MANY_REQUESTS => Some((header::RETRY_AFTER, "1")),
            _ => None,
        };
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, header::HeaderValue::from_static(value));
        }
        response
    }
}

#[cfg(test)]
mod tests;
