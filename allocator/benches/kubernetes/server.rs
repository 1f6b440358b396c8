//! An API server of generated pods: one streaming list and one watch, and a door for the benchmark to change things by.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// Serves for ever; prints its address first.
pub(crate) fn serve(pods: usize, long_annotations: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        let server = Arc::new(Server {
            pods,
            long_annotations,
            touched: Mutex::default(),
            lists: Mutex::default(),
            lines: broadcast::Sender::new(1_000),
        });
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = Arc::clone(&server);
            tokio::spawn(async move { drop(server.connection(stream).await) });
        }
    });
}

struct Server {
    pods: usize,
    long_annotations: bool,
    /// Paths that were changed, by pod.
    touched: Mutex<BTreeMap<usize, String>>,
    /// Whole lists that were sent.
    lists: Mutex<usize>,
    lines: broadcast::Sender<Arc<str>>,
}

impl Server {
    async fn connection(&self, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split(' ').nth(1).unwrap().to_owned();
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            let query: BTreeMap<String, String> =
                url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            match path {
                "/control/touch" => {
                    let pod: usize = query["pod"].parse().unwrap();
                    self.touched.lock().unwrap().insert(pod, query["value"].clone());
                    let _ = self.lines.send(event("MODIFIED", &self.pod(pod)).into());
                    return Ok(());
                }
                "/control/forget" => {
                    // Nobody is told of these changes but by the list.
                    let changed: usize = query["changed"].parse().unwrap();
                    let value = &query["value"];
                    let touched = (0..changed).map(|n| (n * 7_919 % self.pods, value.clone()));
                    self.touched.lock().unwrap().extend(touched);
                    let gone = json!({"kind": "Status", "code": 410, "reason": "Expired"});
                    let _ = self.lines.send(event("ERROR", &gone).into());
                    return Ok(());
                }
                "/control/lists" => {
                    let lists = self.lists.lock().unwrap().to_string();
                    return stream.write_all(lists.as_bytes()).await;
                }
                _ => self.watch(&mut stream, query.contains_key("sendInitialEvents")).await?,
            }
        }
    }

    async fn watch(&self, stream: &mut TcpStream, initial: bool) -> std::io::Result<()> {
        let mut news = self.lines.subscribe();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        if initial {
            for pod in 0..self.pods {
                send(stream, &event("ADDED", &self.pod(pod))).await?;
            }
            let metadata =
                json!({"resourceVersion": "5", "annotations": {"k8s.io/initial-events-end": "true"}});
            send(stream, &event("BOOKMARK", &json!({ "metadata": metadata }))).await?;
            *self.lists.lock().unwrap() += 1;
        }
        while let Ok(line) = news.recv().await {
            send(stream, &line).await?;
            if line.contains("\"ERROR\"") {
                return stream.write_all(b"0\r\n\r\n").await;
            }
        }
        Ok(())
    }

    /// A pod as a Deployment makes it, of 5 KB: one port, eight labels, four short annotations.
    fn pod(&self, n: usize) -> Value {
        let app = format!("app-{}", n / 20);
        let name = format!("{app}-6d4cf56db6-{:05x}", n * 7_919 % 1_048_576);
        let path = self.touched.lock().unwrap().get(&n).cloned().unwrap_or_else(|| "metrics".to_owned());
        let mut annotations = json!({
            "prometheus.io/scrape": "true",
            "prometheus.io/port": "8080",
            "prometheus.io/path": format!("/{path}"),
            "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z",
        });
        let variables: Vec<Value> = (0..10)
            .map(|k| json!({"name": format!("VARIABLE_{k}"), "value": format!("value-{k}")}))
            .collect();
        let containers = json!([{
            "name": "main",
            "image": format!("registry.example.com/team/{app}:1.2.3"),
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
            "env": variables,
            "volumeMounts": [{"name": "token", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10},
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10},
        }]);
        if self.long_annotations {
            let applied = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers}});
            annotations["kubectl.kubernetes.io/last-applied-configuration"] = json!(applied.to_string());
        }
        let managed: Vec<Value> = (0..3)
            .map(|k| {
                json!({

                    "manager": "kube-controller-manager", "operation": "Update", "time": "2026-01-01T00:00:00Z",
                    "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}, "f:tier": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {".": {}, "f:image": {}, "f:name": {}, "f:ports": {"n": k}}}}},
                })
            })
            .collect();
        let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(
            |kind| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}),
        );
        let id = format!("{:08x}-1c2d-4e5f-8a9b-{:012x}", n, n * 31);
        json!({
            "metadata": {
                "name": name, "namespace": format!("team-{}", n % 50), "uid": id, "resourceVersion": "4",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {
                    "app.kubernetes.io/name": app, "app.kubernetes.io/instance": app, "app.kubernetes.io/version": "1.2.3",
                    "app.kubernetes.io/component": "server", "app.kubernetes.io/part-of": format!("system-{}", n % 50),
                    "app.kubernetes.io/managed-by": "Helm", "pod-template-hash": "6d4cf56db6", "tier": "backend",
                },
                "annotations": annotations,
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-6d4cf56db6"), "uid": id, "controller": true}],
                "managedFields": managed,
            },
            "spec": {
                "nodeName": format!("node-{}", n % 2_000), "containers": containers,
                "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
                "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
            },
            "status": {
                "phase": "Running", "podIP": format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255),
                "hostIP": format!("192.168.{}.{}", n % 2_000 / 250, n % 250),
                "conditions": conditions,
                "containerStatuses": [{"name": "main", "ready": true, "containerID": format!("containerd://{:064x}", n * 7), "image": "x", "imageID": "registry.example.com/x@sha256:0"}],
            },
        })
    }
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

async fn send(stream: &mut TcpStream, line: &str) -> std::io::Result<()> {
    stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await
}
