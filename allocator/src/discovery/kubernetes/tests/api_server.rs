//! A small API server on a socket: lists in pages or streamed, watches, bookmarks, versions that are forgotten; and
//! whatever can go wrong on the way.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to one request instead of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// An answer with this status.
    Status(u16),
    /// The connection closes in the middle of the second object.
    CutInLine,
    /// Nothing comes after the first object of a streamed list.
    StallInList,
    /// Bytes come for ever, and never a whole object.
    Drip,
    /// Nothing comes.
    Silence,
    /// The watch tells that its version is gone.
    GoneEvent,
    /// The watch ends properly, at once.
    End,
}

#[derive(Default)]
struct State {
    /// By resource and then key.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    version: u64,
    /// Every change: version, resource, type, object.
    log: Vec<(u64, String, &'static str, Value)>,
    /// Versions up to this are forgotten.
    compacted: u64,
    streams_lists: bool,
    /// Lists expire before their second page.
    expires_lists: bool,
    token: Option<String>,
    forbidden: HashSet<String>,
    faults: BTreeMap<String, VecDeque<Fault>>,
    /// Paths with queries, as they came.
    requests: Vec<String>,
}

/// Clones are the same server.
#[derive(Clone)]
pub(crate) struct ApiServer {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    requested: Arc<watch::Sender<u64>>,
    pub(crate) address: SocketAddr,
    accepting: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl ApiServer {
    /// An empty server on a free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            state: Arc::new(Mutex::new(State { streams_lists: true, version: 10, ..State::default() })),
            changed: Arc::new(watch::Sender::new(0)),
            requested: Arc::new(watch::Sender::new(0)),
            address: listener.local_addr().unwrap(),
            accepting: Arc::default(),
        };
        server.accept(listener);
        server
    }

    fn accept(&self, listener: TcpListener) {
        let server = self.clone();
        let task = tokio::spawn(async move {
            // Dropped with the server's stop, so that its connections break.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = server.clone();
                connections.spawn(async move { drop(server.serve(stream).await) });
            }
        });
        *self.accepting.lock().unwrap() = Some(task);
    }

    /// Closes everything.
    pub(crate) async fn stop(&self) {
        let task = self.accepting.lock().unwrap().take().unwrap();
        task.abort();
        let _ = task.await;
    }

    /// Comes back on the same port, with what it knew.
    pub(crate) async fn start_again(&self) {
        self.accept(TcpListener::bind(self.address).await.unwrap());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn without_streaming_lists(&self) {
        self.state().streams_lists = false;
    }

    /// A cluster that changes so fast that no list in pages comes to its end.
    pub(crate) fn expire_lists(&self) {
        self.state().expires_lists = true;
    }

    pub(crate) fn set_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    /// Nobody may see `RESOURCE`, or `NAMESPACE/RESOURCE`.
    pub(crate) fn forbid(&self, resource: &str) {
        self.state().forbidden.insert(resource.to_owned());
    }

    pub(crate) fn allow(&self, resource: &str) {
        self.state().forbidden.remove(resource);
    }

    /// The next requests for this resource go wrong like this.
    pub(crate) fn fail(&self, resource: &str, faults: &[Fault]) {
        self.state().faults.entry(resource.to_owned()).or_default().extend(faults.iter().cloned());
    }

    /// How many requests for this resource hold this text.
    pub(crate) fn requests(&self, resource: &str, part: &str) -> usize {
        let path_ends = format!("/{resource}?");
        let state = self.state();
        state.requests.iter().filter(|r| r.contains(&path_ends) && r.contains(part)).count()
    }

    /// Waits for so many such requests.
    pub(crate) async fn wait_for(&self, resource: &str, part: &str, count: usize) {
        let mut requested = self.requested.subscribe();
        let wait = async {
            while self.requests(resource, part) < count {
                requested.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the requests come");
    }

    pub(crate) fn last_request(&self, resource: &str) -> String {
        let path_ends = format!("/{resource}?");
        self.state().requests.iter().rfind(|r| r.contains(&path_ends)).unwrap().clone()
    }

    /// Creates or replaces an object.
    pub(crate) fn apply(&self, resource: &str, mut object: Value) {
        let key = key(&object);
        {
            let mut state = self.state();
            state.version += 1;
            let version = state.version;
            object["metadata"]["resourceVersion"] = json!(version.to_string());
            let known = state.objects.entry(resource.to_owned()).or_default();
            let kind = if known.insert(key, object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
            state.log.push((version, resource.to_owned(), kind, object));
        }
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn delete(&self, resource: &str, key: &str) {
        {
            let mut state = self.state();
            let mut object = state.objects.get_mut(resource).unwrap().remove(key).unwrap();
            state.version += 1;
            let version = state.version;
            object["metadata"]["resourceVersion"] = json!(version.to_string());
            state.log.push((version, resource.to_owned(), "DELETED", object));
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// Sends every watch a bookmark with a newer version, which is returned.
    pub(crate) fn bookmark(&self) -> u64 {
        let version = {
            let mut state = self.state();
            state.version += 1;
            let version = state.version;
            let object = json!({"metadata": {"resourceVersion": version.to_string()}});
            state.log.push((version, "*".to_owned(), "BOOKMARK", object));
            version
        };
        self.changed.send_modify(|count| *count += 1);
        version
    }

    /// Forgets all versions up to now.
    pub(crate) fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.version;
        state.log.clear();
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split(' ').nth(1).unwrap().to_owned();
            self.answer(&mut stream, &target, &head).await?;
        }
    }

    async fn answer(&self, stream: &mut TcpStream, target: &str, head: &str) -> std::io::Result<()> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let resource = path.rsplit('/').next().unwrap().to_owned();
        let namespace = path.split_once("/namespaces/").map(|(_, rest)| rest.split('/').next().unwrap());
        let (fault, refusal) = {
            let mut state = self.state();
            state.requests.push(target.to_owned());
            let authorized = state.token.as_ref().is_none_or(|token| {
                head.to_ascii_lowercase().contains(&format!("bearer {token}").to_ascii_lowercase())
            });
            let refusal = if !authorized {
                Some((401, "Unauthorized".to_owned()))
            } else if state.forbidden.contains(&resource)
                || namespace.is_some_and(|name| state.forbidden.contains(&format!("{name}/{resource}")))
            {
                Some((403, format!("{resource} is forbidden: User cannot list resource")))
            } else if query.contains_key("sendInitialEvents") && !state.streams_lists {
                Some((422, "sendInitialEvents: Forbidden: is forbidden for watch".to_owned()))
            } else if query.contains_key("continue") && state.expires_lists {
                Some((410, "The provided continue parameter is too old".to_owned()))
            } else {
                None
            };
            (state.faults.get_mut(&resource).and_then(VecDeque::pop_front), refusal)
        };
        self.requested.send_modify(|count| *count += 1);
        if let Some((code, message)) = refusal {
            return status(stream, code, &message).await;
        }
        match fault {
            Some(Fault::Status(code)) => return status(stream, code, "as the test wants it").await,
            Some(Fault::Silence) => return std::future::pending().await,
            Some(Fault::Drip) => {
                begin(stream).await?;
                loop {
                    piece(stream, b"{").await?;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            Some(Fault::End) => {
                begin(stream).await?;
                return end(stream).await;
            }
            _ => {}
        }
        if query.get("watch").is_some_and(|watch| watch == "true") {
            self.watch(stream, &resource, namespace, &query, fault).await
        } else {
            self.list(stream, &resource, namespace, &query, fault).await
        }
    }

    async fn list(
        &self,
        stream: &mut TcpStream,
        resource: &str,
        namespace: Option<&str>,
        query: &BTreeMap<String, String>,
        fault: Option<Fault>,
    ) -> std::io::Result<()> {
        let (objects, version) = self.snapshot(resource, namespace);
        let limit: usize = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let start: usize = query.get("continue").map_or(0, |next| next.parse().unwrap());
        let page: Vec<&Value> = objects.iter().skip(start).take(limit).collect();
        let more = start + page.len() < objects.len();
        let next = if more { (start + page.len()).to_string() } else { String::new() };
        let list =
            json!({"metadata": {"resourceVersion": version.to_string(), "continue": next}, "items": page});
        begin(stream).await?;
        let text = list.to_string();
        if fault == Some(Fault::CutInLine) {
            piece(stream, &text.as_bytes()[..text.len() / 2]).await?;
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        piece(stream, text.as_bytes()).await?;
        end(stream).await
    }

    async fn watch(
        &self,
        stream: &mut TcpStream,
        resource: &str,
        namespace: Option<&str>,
        query: &BTreeMap<String, String>,
        fault: Option<Fault>,
    ) -> std::io::Result<()> {
        let mut changed = self.changed.subscribe();
        let mut reached: u64 = query["resourceVersion"].parse().unwrap_or(0);
        let initial = query.contains_key("sendInitialEvents");
        if !initial && reached < self.state().compacted {
            return status(stream, 410, "too old resource version").await;
        }
        begin(stream).await?;
        if fault == Some(Fault::GoneEvent) {
            event(stream, "ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired"})).await?;
            return end(stream).await;
        }
        let cut = fault == Some(Fault::CutInLine);
        let mut sent = 0;
        if initial {
            let (objects, version) = self.snapshot(resource, namespace);
            reached = version;
            for object in &objects {
                if cut && sent == 1 {
                    piece(stream, b"{\"type\": \"ADDED\", \"obj").await?;
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
                if fault == Some(Fault::StallInList) && sent == 1 {
                    return std::future::pending().await;
                }
                event(stream, "ADDED", object).await?;
                sent += 1;
            }
            let annotations = json!({"k8s.io/initial-events-end": "true"});
            let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations});
            event(stream, "BOOKMARK", &json!({ "metadata": metadata })).await?;
        }
        loop {
            let news: Vec<(u64, &'static str, Value)> = {
                let state = self.state();
                let wanted = state.log.iter().filter(|(version, of, _, object)| {
                    *version > reached && (of == "*" || (of == resource && is_in(object, namespace)))
                });
                wanted.map(|(version, _, kind, object)| (*version, *kind, object.clone())).collect()
            };
            for (version, kind, object) in news {
                if cut && sent == 1 {
                    piece(stream, b"{\"type\": \"ADDED\", \"obj").await?;
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
                event(stream, kind, &object).await?;
                sent += 1;
                reached = version;
            }
            if changed.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    fn snapshot(&self, resource: &str, namespace: Option<&str>) -> (Vec<Value>, u64) {
        let state = self.state();
        let objects = state.objects.get(resource).into_iter().flat_map(BTreeMap::values);
        (objects.filter(|object| is_in(object, namespace)).cloned().collect(), state.version)
    }
}

fn is_in(object: &Value, namespace: Option<&str>) -> bool {
    namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace)
}

fn key(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

async fn status(stream: &mut TcpStream, code: u16, message: &str) -> std::io::Result<()> {
    let body = json!({"kind": "Status", "status": "Failure", "code": code, "message": message}).to_string();
    let mut text = format!("HTTP/1.1 {code} Whatever\r\nContent-Type: application/json\r\n");
    let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await
}

async fn begin(stream: &mut TcpStream) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await
}

async fn piece(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    stream.write_all(&chunk).await
}

async fn end(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"0\r\n\r\n").await
}

async fn event(stream: &mut TcpStream, kind: &str, object: &Value) -> std::io::Result<()> {
    piece(stream, format!("{}\n", json!({"type": kind, "object": object})).as_bytes()).await
}

/// A running pod with one port and address 10.0.0.`n`.
pub(crate) fn pod(name: &str, n: u8) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": "node", "containers": [{"name": "app", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": format!("10.0.0.{n}")},
    })
}
