//! Tokens of ServiceAccounts, as the API server judges them: TokenReview, which names the pod that a token is bound to.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::rates::{Allowance, Bucket};
use super::verdict::{Standing, Verdict, Word};
use super::{Refusal, ReviewedTokens};
use crate::kubernetes::ApiServer;

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// How the API server names the pod that a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";

/// How long the API server may take: less than a scraper waits for the answer to its report.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Questions at once.
const AT_ONCE: usize = 16;

/// Tokens that are remembered.
const TOKENS_MAX: usize = 20_000;

/// A token may have this many bytes.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Questions about tokens that nobody has seen before, a second and at once: who makes tokens up costs the API server no more.
const NEW: Allowance = Allowance { per_second: 50.0, burst: 2_000.0 };

/// Asks about tokens, and remembers the answers for a while.
#[derive(Debug)]
pub(super) struct Reviewer {
    api_server: ApiServer,
    audience: String,
    /// The users that the ServiceAccounts are.
    users: Vec<String>,
    /// With these the tokens are hashed: no token is kept, and without them none can be found that hashes alike.
    hashers: [RandomState; 2],
    tokens: Mutex<HashMap<[u64; 2], Arc<Token>>>,
    asking: Semaphore,
    new: Mutex<Bucket>,
}

#[derive(Debug, Default)]
struct Token {
    verdict: Mutex<Verdict>,
    /// Held by who asks about it.
    asking: tokio::sync::Mutex<()>,
}

impl Token {
    fn verdict(&self) -> MutexGuard<'_, Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reviewer {
    pub(super) fn new(reviewed: ReviewedTokens) -> Self {
        let user = |(namespace, name): &(String, String)| format!("system:serviceaccount:{namespace}:{name}");
        Self {
            api_server: ApiServer::new(reviewed.access, TIMEOUT),
            audience: reviewed.audience,
            users: reviewed.accounts.iter().map(user).collect(),
            hashers: std::array::from_fn(|_| RandomState::new()),
            tokens: Mutex::default(),
            asking: Semaphore::new(AT_ONCE),
            new: Mutex::new(Bucket::new(NEW.burst, Instant::now())),
        }
    }

    /// The pod that this token belongs to.
    pub(super) async fn pod_of(self: &Arc<Self>, token: &str) -> Result<Arc<str>, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::Token("the token is too long".to_owned()));
        }
        let known = self.token(token)?;
        let standing = known.verdict().standing(Instant::now());
        match standing {
            Standing::Known(word) => pod(word),
            Standing::Renew(pod) => {
                let (reviewer, token) = (Arc::clone(self), token.to_owned());
                tokio::spawn(async move {
                    // One question is enough.
                    if let Ok(_asking) = known.asking.try_lock() {
                        let _as_known = reviewer.ask(&known, &token).await;
                    }
                });
                Ok(pod)
            }
            Standing::Ask => {
                let _asking = known.asking.lock().await;
                // Another request may have asked meanwhile.
                let standing = known.verdict().standing(Instant::now());
                match standing {
                    Standing::Known(word) => pod(word),
                    Standing::Renew(pod) => Ok(pod),
                    Standing::Ask => self.ask(&known, token).await,
                }
            }
        }
    }

    fn token(&self, token: &str) -> Result<Arc<Token>, Refusal> {
        let key = self.hashers.each_ref().map(|hasher| hasher.hash_one(token));
        let now = Instant::now();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tokens.get(&key) {
            return Ok(Arc::clone(known));
        }
        let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        if !new.take(NEW, now) {
            return Err(Refusal::Rate("too many unknown tokens come at once"));
        }
        if tokens.len() >= TOKENS_MAX {
            // Those in use are asked about just now.
            tokens.retain(|_, token| Arc::strong_count(token) > 1 || !token.verdict().is_old(now));
        }
        if tokens.len() >= TOKENS_MAX {
            return Err(Refusal::Rate("too many unknown tokens come at once"));
        }
        Ok(Arc::clone(tokens.entry(key).or_default()))
    }

    /// Asks the API server, and takes its word down.
    async fn ask(&self, known: &Token, token: &str) -> Result<Arc<str>, Refusal> {
        let reviewed = match self.asking.acquire().await {
            Ok(_permit) => self.review(token).await,
            Err(error) => Err(error.to_string()),
        };
        let result = match &reviewed {
            Ok(Word::Pod(_)) => "good",
            Ok(Word::Refused(_)) => "refused",
            Err(_) => "unanswered",
        };
        metrics::counter!("promring_allocator_token_reviews_total", "result" => result).increment(1);
        match reviewed {
            Ok(word) => {
                known.verdict().told(word.clone(), Instant::now());
                pod(word)
            }
            Err(message) => {
                tracing::warn!(message, "a scraper's token cannot be checked");
                let before = known.verdict().unanswered(Instant::now());
                before
                    .ok_or_else(|| Refusal::Unchecked(format!("the token cannot be checked now: {message}")))
            }
        }
    }

    async fn review(&self, token: &str) -> Result<Word, String> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self.audience]},
        });
        let answer: Review = self
            .api_server
            .request(Method::POST, PATH, Some(&review))
            .await
            .map_err(|error| error.to_string())?;
        Ok(self.judge(answer.status).map_or_else(Word::Refused, Word::Pod))
    }

    fn judge(&self, status: ReviewStatus) -> Result<Arc<str>, String> {
        if !status.authenticated {
            let reason = status.error.filter(|reason| !reason.is_empty());
            return Err(reason.unwrap_or_else(|| "the API server does not know the token".to_owned()));
        }
        // A server that names no audience has not looked at it.
        if !status.audiences.contains(&self.audience) {
            return Err(format!("the token is not for the audience {}", self.audience));
        }
        if !self.users.contains(&status.user.username) {
            return Err(format!("the token is that of {}", status.user.username));
        }
        let pod = status.user.extra.get(POD_NAME).and_then(|names| names.first());
        pod.map(|name| name.as_str().into()).ok_or_else(|| "the token is bound to no pod".to_owned())
    }
}

fn pod(word: Word) -> Result<Arc<str>, Refusal> {
    match word {
        Word::Pod(pod) => Ok(pod),
        Word::Refused(reason) => Err(Refusal::Token(reason)),
    }
}

#[derive(Debug, Deserialize)]
struct Review {
    #[serde(default)]
    status: ReviewStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReviewStatus {
    authenticated: bool,
    user: ReviewedUser,
    audiences: Vec<String>,
    error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ReviewedUser {
    username: String,
    extra: HashMap<String, Vec<String>>,
}
