//! Who may act as a scraper: poll for its assignment, and report for it.
//!
//! A caller's name comes from the token of its ServiceAccount, which the API server checks and binds to a pod
//! (`review.rs`); otherwise from its client certificate ([`promring_net::server::PeerCertificate`]). A token that all
//! scrapers share (`shared.rs`) proves that the caller is one of them, and not which. Without any of these anyone may call.

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
use promring_net::server::Peer;
use promring_proto::api::check_scraper_name;
use tokio::time::Instant;

use crate::Allocator;
pub(crate) use rates::OpenPoll;
use rates::Rates;
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
enum Refusal {
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
        match &*self.tokens {
            Checked::Nothing => {}
            Checked::Shared(tokens) => tokens.check(bearer(&parts.headers)?)?,
            Checked::Reviewed(reviewer) => {
                let pod = reviewer.pod_of(bearer(&parts.headers)?).await?;
                if *pod != *scraper {
                    return Err(Refusal::Name(format!(
                        "the token is that of the pod {pod}, not of {scraper}"
                    )));
                }
                return self.rates.take(scraper, Instant::now()).map_err(Refusal::Rate);
            }
        }
        if let Some(certificate) = Peer::of(&parts.extensions).and_then(|peer| peer.certificate.as_ref())
            && !certificate.speaks_for(scraper)
        {
            let names = certificate.dns_names.join(", ");
            let message = format!("the client certificate is for [{names}], not for {scraper}");
            return Err(Refusal::Name(message));
        }
        self.rates.take(scraper, Instant::now()).map_err(Refusal::Rate)
    }

    /// A poll of this scraper is held open until what this gives is dropped; None where too many are already.
    pub(crate) fn open_poll(&self, scraper: &str) -> Option<OpenPoll> {
        self.rates.open_poll(scraper)
    }
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
                Err(refusal.into_response())
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, reason, message) = match self {
            Self::Token(message) => (StatusCode::UNAUTHORIZED, "token", message),
            Self::Name(message) => (StatusCode::FORBIDDEN, "name", message),
            Self::Rate(message) => (StatusCode::TOO_MANY_REQUESTS, "rate", message.to_owned()),
            Self::Unchecked(message) => (StatusCode::SERVICE_UNAVAILABLE, "unchecked", message),
        };
        metrics::counter!("promring_allocator_refused_callers_total", "reason" => reason).increment(1);
        let mut response = (status, format!("{message}\n")).into_response();
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
