//! One list and one watch over a kind of objects, kept going for ever.
//!
//! The list comes as the beginning of the watch where the server can do that (streaming lists); otherwise in pages, and in
//! one piece where the server has forgotten the version of the first page before the last one was read. When a watch ends, it goes on from the last version that was told, by objects or bookmarks. Only when the server no longer has
//! that version (410) is everything listed again, and what is known stays meanwhile.

use std::fmt::Write as _;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use promring_model::config::KubernetesAccess;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::client::{self, Status};
use super::kind::{Kind, MetaObject};
use super::lines::{Lines, whole};
use super::store::{Applied, Store};

/// Objects of one page of a list.
const PAGE_ITEMS: usize = 500;

/// A page may have this many bytes: half a megabyte for each object.
const PAGE_BYTES_MAX: usize = 256 << 20;

/// A list in one piece may have this many bytes.
const LIST_BYTES_MAX: usize = 2 << 30;

/// Marks the bookmark that ends a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

const JSON: &str = "application/json";
/// Asks for metadata only; a server that has no such form sends whole objects.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;q=0.9";
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;q=0.9";

/// How long things may take. Tests shorten them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Until an answer begins.
    pub(crate) head: Duration,
    /// Without a byte in an answer: the connection counts as dead. Bookmarks come about every minute.
    pub(crate) idle: Duration,
    /// A whole list.
    pub(crate) list: Duration,
    /// After this the server ends a watch (up to twice as long, so that watches don't end together).
    pub(crate) watch: Duration,
    /// The first pause after a failure.
    pub(crate) backoff_min: Duration,
    /// The longest one.
    pub(crate) backoff_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            idle: Duration::from_secs(90),
            list: Duration::from_secs(600),
            watch: Duration::from_secs(300),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
        }
    }
}

/// Which objects of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Those of one namespace.
    pub(crate) namespace: Option<String>,
    /// A label selector, or empty.
    pub(crate) label: String,
    /// A field selector, or empty.
    pub(crate) field: String,
}

/// What went wrong, as far as it tells what to do next.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The version to go on from is gone: list again.
    Gone,
    /// The credentials are no longer good: read them again.
    Unauthorized(String),
    /// We may not do this.
    Forbidden(String),
    /// The server cannot do streaming lists.
    NoStreaming,
    /// Nothing came for a while: the connection may be dead.
    Silent(String),
    /// The server refuses the request as it is.
    Refused(String),
    /// The server asks for patience.
    Busy(String, Option<Duration>),
    /// Anything else.
    Other(String),
}

impl Trouble {
    /// What an answer with this status means.
    pub(crate) fn of_status(status: StatusCode, message: String, retry_after: Option<Duration>) -> Self {
        match status {
            StatusCode::GONE => Self::Gone,
            StatusCode::UNAUTHORIZED => Self::Unauthorized(message),
            StatusCode::FORBIDDEN => Self::Forbidden(message),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Self::Busy(message, retry_after)
            }
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Self::Refused(message),
            _ => Self::Other(message),
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Gone => "the API server no longer has the version to go on from",
            Self::NoStreaming => "the API server does not stream lists",
            Self::Unauthorized(message)
            | Self::Forbidden(message)
            | Self::Silent(message)
            | Self::Refused(message)
            | Self::Busy(message, _)
            | Self::Other(message) => message,
        }
    }
}

/// Watches one kind in one scope.
pub(crate) struct Watcher<K: Kind> {
    access: Arc<KubernetesAccess>,
    scope: Scope,
    store: Arc<Store<K::Stored>>,
    timing: Timing,
    client: Option<kube::Client>,
    /// Where the watch goes on; None: with a list.
    version: Option<String>,
    /// Lists are streamed until the server says that it cannot.
    streaming: bool,
    /// Something came since the last failure.
    progress: bool,
    /// The last step was a watch.
    watched: bool,
    /// And the server has begun to answer it.
    answered: bool,
    /// How often in a row the version was gone, with no event of a watch in between.
    expired: u32,
    kind: PhantomData<K>,
}

impl<K: Kind> Watcher<K> {
    /// Feeds `store`, once it runs.
    pub(crate) fn new(
        access: Arc<KubernetesAccess>,
        scope: Scope,
        store: Arc<Store<K::Stored>>,
        timing: Timing,
    ) -> Self {
        Self {
            access,
            scope,
            store,
            timing,
            client: None,
            version: None,
            streaming: true,
            progress: false,
            watched: false,
            answered: false,
            expired: 0,
            kind: PhantomData,
        }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let Err(trouble) = self.step().await else {
                failures = 0;
                // A server that ends watches at once is not asked in a circle.
                if began.elapsed() < self.timing.backoff_min && self.watched {
                    tokio::time::sleep(self.timing.backoff_min).await;
                }
                continue;
            };
            // A quiet watch that was good for longer than it was waited for is no failure of its successor's.
            let quiet = self.answered && began.elapsed() > self.doubled(failures);
            if std::mem::take(&mut self.progress) || quiet || began.elapsed() > self.timing.backoff_max {
                failures = 0;
            }
            failures += 1;
            if let Some(pause) = self.handle(&trouble, failures) {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Notes what went wrong and says how long to wait; None: not at all.
    fn handle(&mut self, trouble: &Trouble, failures: u32) -> Option<Duration> {
        let resource = K::RESOURCE;
        let first = failures == 1;
        match trouble {
            Trouble::NoStreaming => {
                self.streaming = false;
                return None;
            }
            Trouble::Gone => {
                self.version = None;
                self.expired += 1;
                tracing::info!(resource, "the API server has forgotten our version; listing again");
                // The server is well: what failed before it said so does not count.
                return Some(self.backoff(self.expired));
            }
            // Nothing happened, or the connection is half dead: a new one tells.
            Trouble::Silent(_) if self.version.is_some() => {
                self.progress = true;
                return None;
            }
            Trouble::Unauthorized(_) => {
                self.client = None;
                // Tokens are rotated: the file holds a new one, most likely.
                if first {
                    return None;
                }
            }
            Trouble::Forbidden(_)
            | Trouble::Busy(..)
            | Trouble::Silent(_)
            | Trouble::Refused(_)
            | Trouble::Other(_) => {}
        }
        metrics::counter!("prometheus_sd_kubernetes_failures_total").increment(1);
        let message = format!("{resource}: {}", trouble.message());
        let namespace = self.scope.namespace.as_deref().unwrap_or("all");
        tracing::warn!(
            resource,
            namespace,
            failures,
            error = trouble.message(),
            "watch failed; what is known stays"
        );
        self.store.fail(message);
        let pause = self.backoff(failures);
        Some(match trouble {
            Trouble::Busy(_, Some(wanted)) => pause.max((*wanted).min(self.timing.backoff_max)),
            _ => pause,
        })
    }

    /// Doubles with each failure, and is anywhere between half and the whole of that.
    fn backoff(&self, failures: u32) -> Duration {
        self.doubled(failures).mul_f64(rand::random_range(0.5..=1.0))
    }

    fn doubled(&self, failures: u32) -> Duration {
        let doubled = self.timing.backoff_min.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.timing.backoff_max)
    }

    /// One list or watch, to its end.
    async fn step(&mut self) -> Result<(), Trouble> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                let client = client::connect(&self.access).await.map_err(Trouble::Other)?;
                self.client.insert(client).clone()
            }
        };
        self.watched = self.version.is_some();
        self.answered = false;
        match self.version.clone() {
            Some(version) => self.watch(&client, Some(&version)).await,
            None if self.streaming => self.watch(&client, None).await,
            None => self.list(&client).await,
        }
    }

    /// Watches from `version`, or from a streaming list.
    async fn watch(&mut self, client: &kube::Client, version: Option<&str>) -> Result<(), Trouble> {
        let seconds = self.timing.watch.as_secs();
        let seconds = rand::random_range(seconds..=seconds * 2);
        let mut path = self.path();
        let _ = write!(path, "watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}");
        match version {
            Some(version) => {
                let _ = write!(path, "&resourceVersion={}", encoded(version));
            }
            None => {
                path.push_str("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=");
            }
        }
        self.count("watch");
        let accept = if K::METADATA_ONLY { METADATA } else { JSON };
        let body = match self.head(client, &path, accept).await {
            // Servers without streaming lists refuse one of the two parameters: as invalid, or as a bad request.
            Err(Trouble::Refused(message)) if version.is_none() && refuses_streaming(&message) => {
                return Err(Trouble::NoStreaming);
            }
            answer => answer?,
        };
        let mut deadline = None;
        if version.is_none() {
            self.store.begin_list();
            deadline = Some(Instant::now() + self.timing.list);
        } else {
            self.answered = true;
            self.store.recover();
        }
        let mut lines = Lines::new(body);
        while let Some(line) = lines.next(self.timing.idle, deadline).await? {
            if self.event(&line)? {
                deadline = None;
            }
        }
        match deadline {
            // The list did not come to its end.
            Some(_) => Err(Trouble::Other("the list broke off".to_owned())),
            None => Ok(()),
        }
    }

    /// Takes one event. Returns whether it was the end of a streaming list.
    fn event(&mut self, line: &Bytes) -> Result<bool, Trouble> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(false);
        }
        let event: Event<'_> = serde_json::from_slice(line)
            .map_err(|error| Trouble::Other(format!("an event that cannot be read: {error}")))?;
        let object = event.object.get();
        match event.kind {
            "BOOKMARK" => {
                let bookmark: MetaObject = serde_json::from_str(object).unwrap_or_default();
                let ends_list = bookmark
                    .metadata
                    .annotations
                    .get(INITIAL_EVENTS_END)
                    .is_some_and(|value| value == "true");
                if ends_list {
                    self.listed();
                    self.version = Some(bookmark.metadata.resource_version);
                } else {
                    self.reached(&bookmark.metadata.resource_version);
                }
                return Ok(ends_list);
            }
            "ERROR" => {
                let status: Status = serde_json::from_str(object).unwrap_or_default();
                return Err(Trouble::of_status(status.status_code(), status.message, None));
            }
            "ADDED" | "MODIFIED" | "DELETED" => {}
            // A kind of event that only newer servers know.
            _ => return Ok(false),
        }
        let Some(raw) = self.read(object) else {
            // Its version counts all the same: else it would come again and again.
            let version: MetaObject = serde_json::from_str(object).unwrap_or_default();
            self.reached(&version.metadata.resource_version);
            return Ok(false);
        };
        let version = K::meta(&raw).resource_version.clone();
        if event.kind == "DELETED" {
            self.store.remove(&K::meta(&raw).key());
            count_event(K::RESOURCE, "delete");
        } else {
            self.apply(raw);
        }
        self.reached(&version);
        Ok(false)
    }

    /// Notes how far the watch has come. During a list versions are in no order, so that only its end counts.
    fn reached(&mut self, version: &str) {
        if self.version.is_some() && !version.is_empty() {
            version.clone_into(self.version.get_or_insert_default());
            self.progress = true;
            self.expired = 0;
        }
    }

    fn listed(&mut self) {
        let gone = self.store.finish_list();
        self.version = Some(String::new());
        self.progress = true;
        let objects = self.store.len();
        let namespace = self.scope.namespace.as_deref().unwrap_or("all");
        tracing::debug!(resource = K::RESOURCE, namespace, objects, gone, "listed");
    }

    /// A list in pages. One of which a page has expired would do so again: as client-go's pager does, everything is then asked
    /// for at once.
    async fn list(&mut self, client: &kube::Client) -> Result<(), Trouble> {
        let deadline = Instant::now() + self.timing.list;
        self.store.begin_list();
        let mut next = String::new();
        let mut in_pages = true;
        loop {
            let mut path = self.path();
            if in_pages {
                let _ = write!(path, "limit={PAGE_ITEMS}");
            }
            if !next.is_empty() {
                let _ = write!(path, "&continue={}", encoded(&next));
            }
            let bytes_max = if in_pages { PAGE_BYTES_MAX } else { LIST_BYTES_MAX };
            match self.page(client, &path, bytes_max, deadline).await {
                Ok(meta) => {
                    next = meta.next.unwrap_or_default();
                    if next.is_empty() {
                        self.listed();
                        self.version = Some(meta.resource_version.unwrap_or_default());
                        return Ok(());
                    }
                }
                Err(Trouble::Gone) if in_pages && !next.is_empty() => {
                    let resource = K::RESOURCE;
                    tracing::info!(
                        resource,
                        "a list has expired before its end; asking for everything at once"
                    );
                    (next, in_pages) = (String::new(), false);
                    // What was told by the first pages and is no more must not stay.
                    self.store.begin_list();
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Takes the objects of a page, or of a whole list.
    async fn page(
        &self,
        client: &kube::Client,
        path: &str,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<ListMeta, Trouble> {
        self.count("list");
        let accept = if K::METADATA_ONLY { METADATA_LIST } else { JSON };
        let body = self.head(client, path, accept).await?;
        let page = whole(body, bytes_max, self.timing.idle, deadline).await?;
        let list: List<'_> = serde_json::from_slice(&page)
            .map_err(|error| Trouble::Other(format!("a list that cannot be read: {error}")))?;
        for item in list.items.unwrap_or_default() {
            if let Some(raw) = self.read(item.get()) {
                self.apply(raw);
            }
        }
        Ok(list.metadata)
    }

    /// The object in this JSON. One that cannot be read is skipped and counted.
    fn read(&self, json: &str) -> Option<K::Raw> {
        let resource = K::RESOURCE;
        let read: Result<K::Raw, _> = serde_json::from_str(json);
        match read {
            Ok(raw) if !K::meta(&raw).name.is_empty() => return Some(raw),
            Ok(_) => tracing::warn!(resource, "an object without a name is skipped"),
            Err(error) => {
                let start: String = json.chars().take(200).collect();
                tracing::warn!(resource, %error, start, "an object that cannot be read is skipped");
            }
        }
        metrics::counter!("promring_kubernetes_skipped_objects_total", "resource" => resource).increment(1);
        None
    }

    fn apply(&self, raw: K::Raw) {
        let key = K::meta(&raw).key();
        let stored = K::compact(raw);
        let key = K::key(&stored).cloned().unwrap_or_else(|| Arc::from(key));
        match self.store.apply(key, stored) {
            Applied::Added => count_event(K::RESOURCE, "add"),
            Applied::Changed => count_event(K::RESOURCE, "update"),
            Applied::Unchanged => {}
        }
    }

    async fn head(
        &self,
        client: &kube::Client,
        path: &str,
        accept: &str,
    ) -> Result<kube::client::Body, Trouble> {
        let silent = || Trouble::Other(format!("the API server did not answer in {:?}", self.timing.head));
        tokio::time::timeout(self.timing.head, client::get(client, path, accept))
            .await
            .map_err(|_| silent())?
    }

    /// The path and the selectors; further parameters can be appended.
    fn path(&self) -> String {
        let mut path = String::from(K::API);
        if let Some(namespace) = &self.scope.namespace {
            let _ = write!(path, "/namespaces/{}", encoded(namespace));
        }
        let _ = write!(path, "/{}?", K::RESOURCE);
        for (name, selector) in [("labelSelector", &self.scope.label), ("fieldSelector", &self.scope.field)] {
            if !selector.is_empty() {
                let _ = write!(path, "{name}={}&", encoded(selector));
            }
        }
        path
    }

    fn count(&self, verb: &'static str) {
        metrics::counter!("promring_kubernetes_requests_total", "resource" => K::RESOURCE, "verb" => verb)
            .increment(1);
    }
}

fn count_event(resource: &'static str, event: &'static str) {
    // Prometheus counts by role, whose names are the kinds' in the singular.
    let role = match resource {
        "pods" => "pod",
        "services" => "service",
        "nodes" => "node",
        "ingresses" => "ingress",
        "endpointslices" => "endpointslice",
        other => other,
    };
    metrics::counter!("prometheus_sd_kubernetes_events_total", "role" => role, "event" => event).increment(1);
}

/// Whether a refusal is about streaming lists.
fn refuses_streaming(message: &str) -> bool {
    message.contains("sendInitialEvents") || message.contains("resourceVersionMatch")
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
struct ListMeta {
    #[serde(default, rename = "resourceVersion")]
    resource_version: Option<String>,
    #[serde(default, rename = "continue")]
    next: Option<String>,
}
