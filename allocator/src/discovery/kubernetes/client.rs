//! The way to the API server. kube's client does kubeconfig files, the pod's own ServiceAccount and its tokens; where the
//! configuration has `api_server` with HTTP client settings, the same client goes through ours.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use promring_model::config::{HttpClientConfig, KubernetesAccess};
use promring_net::client::{HttpClient, USER_AGENT, describe};
use serde::Deserialize;

use super::watch::Trouble;

/// Where a pod finds its namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// An error's body is read up to so many bytes.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for this API server. Files are read now; credentials that expired want a new client.
///
/// # Errors
/// What cannot be read or used.
pub(crate) async fn connect(access: &KubernetesAccess) -> Result<kube::Client, String> {
    let mut config = match access {
        KubernetesAccess::InCluster => kube::Config::incluster()
            .map_err(|error| format!("not in a Kubernetes cluster: {}", describe(&error)))?,
        KubernetesAccess::Kubeconfig(path) => from_file(path).await?,
        KubernetesAccess::Server { url, http } => return through(url, http),
    };
    // How long an answer may take is the watch's business, and so is trying again.
    (config.connect_timeout, config.read_timeout, config.default_retry) =
        (Some(CONNECT_TIMEOUT), None, false);
    kube::Client::try_from(config).map_err(|error| describe(&error))
}

async fn from_file(path: &Path) -> Result<kube::Config, String> {
    let mut file = Kubeconfig::read_from(path).map_err(|error| describe(&error))?;
    let users = file.auth_infos.iter_mut().filter_map(|user| user.auth_info.as_mut());
    for user in users {
        // kube takes the line end that most tools write for a part of the token. A file that cannot be read is left to it: it
        // may be another user's, or there is a token beside it.
        if let Some(Ok(token)) = user.token_file.as_ref().map(std::fs::read_to_string) {
            user.token = Some(token.trim().to_owned().into());
            user.token_file = None;
        }
    }
    kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|error| describe(&error))
}

/// The namespace of this pod.
///
/// # Errors
/// Outside of a cluster.
pub(crate) fn own_namespace() -> Result<String, String> {
    let text = std::fs::read_to_string(NAMESPACE_FILE)
        .map_err(|error| format!("the pod's own namespace: {NAMESPACE_FILE}: {error}"))?;
    match text.trim() {
        "" => Err(format!("the pod's own namespace: {NAMESPACE_FILE} is empty")),
        name => Ok(name.to_owned()),
    }
}

/// kube's client over the HTTP client of the configuration.
fn through(url: &url::Url, http: &HttpClientConfig) -> Result<kube::Client, String> {
    let client = HttpClient::new(http).map_err(|error| error.to_string())?;
    let base = url.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, base) = (client.clone(), base.clone());
        async move { send(&client, &base, request).await }
    });
    Ok(kube::Client::new(service, "default"))
}

async fn send(
    client: &HttpClient,
    base: &url::Url,
    request: Request<Body>,
) -> Result<Response<reqwest::Body>, tower::BoxError> {
    let (parts, body) = request.into_parts();
    let mut url = base.clone();
    // The API server may live under a path.
    url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), parts.uri.path()));
    url.set_query(parts.uri.query());
    let mut headers = parts.headers;
    headers.extend(client.headers().await?);
    let answer = client
        .connections()
        .request(parts.method, url)
        .headers(headers)
        .body(body.collect_bytes().await?)
        .send()
        .await?;
    Ok(answer.into())
}

/// Sends a GET and gives the answer's body if the answer is good.
///
/// # Errors
/// What went wrong, as far as it tells what to do next.
pub(crate) async fn get(client: &kube::Client, path: &str, accept: &str) -> Result<Body, Trouble> {
    let request = Request::get(path)
        .header(http::header::ACCEPT, accept)
        .header(http::header::USER_AGENT, USER_AGENT)
        .body(Body::empty())
        .map_err(|error| Trouble::Other(error.to_string()))?;
    let answer = client.send(request).await.map_err(|error| Trouble::Other(describe(&error)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer.into_body());
    }
    let retry_after = answer.headers().get(http::header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while text.len() < ERROR_BYTES_MAX {
        let Some(Ok(frame)) = body.frame().await else { break };
        text.extend_from_slice(&frame.into_data().unwrap_or_else(|_| Bytes::new()));
    }
    let told: Option<Status> = serde_json::from_slice(&text).ok();
    let message = told.map(|status| status.message).filter(|message| !message.is_empty());
    let message = message.unwrap_or_else(|| format!("the API server answered {status}"));
    Err(Trouble::of_status(status, message, retry_after.map(Duration::from_secs)))
}

/// What the API server says of a failure, as an answer or as an event of a watch.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) code: u16,
    #[serde(default)]
    pub(crate) reason: String,
}

impl Status {
    /// The code as HTTP has it.
    pub(crate) fn status_code(&self) -> StatusCode {
        match self.reason.as_str() {
            "Expired" | "Gone" => StatusCode::GONE,
            _ => StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}
