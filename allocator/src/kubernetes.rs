//! Single requests to the API server, beside the lists and watches of discovery: JSON goes there and comes back.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use promring_model::config::KubernetesAccess;
use promring_net::client::{USER_AGENT, describe};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::discovery::kubernetes::client::{Status, connect};

/// An answer may have this many bytes: an object as etcd takes it.
const ANSWER_BYTES_MAX: usize = 2 << 20;

/// Why a request has no good answer.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The API server answered otherwise.
    Status(StatusCode, String),
    /// It did not answer, or with something else.
    Unanswered(String),
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status, message) => write!(f, "the API server answered {status}: {message}"),
            Self::Unanswered(message) => f.write_str(message),
        }
    }
}

/// The way to the API server. It is looked for at the first request, and again when credentials are no longer good.
pub(crate) struct ApiServer {
    access: KubernetesAccess,
    timeout: Duration,
    client: Mutex<Option<kube::Client>>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("access", &self.access).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Requests may take this long.
    pub(crate) fn new(access: KubernetesAccess, timeout: Duration) -> Self {
        Self { access, timeout, client: Mutex::new(None) }
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ApiError> {
        let sent = tokio::time::timeout(self.timeout, self.exchange(method, path, body)).await;
        let result = sent
            .unwrap_or_else(|_| Err(ApiError::Unanswered(format!("no answer within {:?}", self.timeout))));
        if let Err(ApiError::Status(StatusCode::UNAUTHORIZED, _)) = result {
            *self.client.lock().await = None;
        }
        let answer = result?;
        serde_json::from_slice(&answer)
            .map_err(|error| ApiError::Unanswered(format!("the API server's answer cannot be read: {error}")))
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Vec<u8>, ApiError> {
        let client = self.client().await?;
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string().into_bytes()));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::USER_AGENT, USER_AGENT)
            .body(body)
            .map_err(|error| ApiError::Unanswered(error.to_string()))?;
        let answer = client.send(request).await.map_err(|error| ApiError::Unanswered(describe(&error)))?;
        let status = answer.status();
        let mut body = answer.into_body();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ApiError::Unanswered(describe(&error)))?;
            text.extend_from_slice(&frame.into_data().unwrap_or_else(|_| Bytes::new()));
            if text.len() > ANSWER_BYTES_MAX {
                return Err(ApiError::Unanswered("the API server's answer is too large".to_owned()));
            }
        }
        if status.is_success() {
            return Ok(text);
        }
        let told: Option<Status> = serde_json::from_slice(&text).ok();
        Err(ApiError::Status(status, told.map(|status| status.message).unwrap_or_default()))
    }

    async fn client(&self) -> Result<kube::Client, ApiError> {
        let mut held = self.client.lock().await;
        if let Some(client) = &*held {
            return Ok(client.clone());
        }
        let client = connect(&self.access).await.map_err(ApiError::Unanswered)?;
        Ok(held.insert(client).clone())
    }
}
