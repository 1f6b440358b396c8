//! A Kubernetes cluster of processes, for end-to-end tests: a real control plane with authentication and RBAC, and a
//! kubelet that runs pods as processes, each pod in a network namespace of its own.
//!
//! It needs root and Linux. What it lacks: a container runtime (an image is a program on this machine), kube-proxy and
//! DNS (pods find Services and StatefulSet pods by their `/etc/hosts`, so a Service's port has to be its target port),
//! exec and gRPC probes, `subPath`, resource limits, sidecars.
//!
//! Everything lies in network namespaces and a directory that carry the process id of the test, and ends with it: by
//! `Drop`, by the kernel's parent-death signal where the test is killed, and what is left of names and files then is
//! removed by the next test that starts a cluster.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test tool: where it cannot go on, the test has failed"
)]

mod certificates;
mod control_plane;
mod daemon;
mod kubelet;
mod network;
mod wires;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::Mutex;

use control_plane::ControlPlane;
use kubelet::Kubelet;
use network::Network;
pub use wires::{Host, Wires, in_network};

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program with etcd, the API server and the rest: `tests/parts/kubernetes`.
    pub control_plane: PathBuf,
    /// Names of nodes that run pods.
    pub nodes: Vec<String>,
    /// Programs by image, without a tag.
    pub images: BTreeMap<String, PathBuf>,
    /// How long a node may be silent before it counts as not ready.
    pub node_monitor_grace: Duration,
    /// Whether the API server can begin a watch with the list.
    pub streaming_lists: bool,
}

/// A request that the API server has answered, as its audit log has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// As RBAC names it: list, watch, ….
    pub verb: String,
    /// As RBAC names it: pods, ….
    pub resource: String,
    /// Empty for a request to the whole cluster.
    pub namespace: String,
    /// It asks for all there is: a list, or a watch that begins with one.
    pub lists: bool,
    /// The answer's status.
    pub code: u64,
}

impl Options {
    /// A cluster with two nodes and no images.
    #[must_use]
    pub fn new(control_plane: impl Into<PathBuf>) -> Self {
        Self {
            control_plane: control_plane.into(),
            nodes: vec!["node-a".to_owned(), "node-b".to_owned()],
            images: BTreeMap::new(),
            // Nodes that a test makes by the API alone send no heartbeats.
            node_monitor_grace: Duration::from_secs(3_600),
            streaming_lists: true,
        }
    }

    /// Pods of this image run that program.
    #[must_use]
    pub fn image(mut self, image: &str, program: impl Into<PathBuf>) -> Self {
        self.images.insert(image.to_owned(), program.into());
        self
    }
}

/// A running cluster.
#[expect(missing_debug_implementations, reason = "kube's client has none")]
pub struct Cluster {
    // Dropped in this order: pods, control plane.
    kubelet: Kubelet,
    control_plane: Mutex<ControlPlane>,
    client: Client,
    admin: PathBuf,
    audit_log: PathBuf,
    ca: PathBuf,
    program: PathBuf,
    dir: PathBuf,
}

/// Runs `test` with a cluster, and deletes the cluster however the test ends. The test's thread, its runtime and all that
/// it starts are in the cluster's network: 127.0.0.1 is not the machine's, and nothing else of the machine is in reach.
///
/// # Panics
/// Where the cluster does not start, and where the test does.
pub fn run<T: Send>(options: &Options, test: impl AsyncFnOnce(&Cluster) -> T + Send) -> T {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let network = Arc::new(Network::create());
    let dir = network::directory();
    wires::run_in(&network, async || {
        let cluster = Cluster::start(options, dir.path(), Arc::clone(&network)).await;
        let outcome = test(&cluster).await;
        cluster.kubelet.stop().await;
        outcome
    })
}

impl Cluster {
    async fn start(options: &Options, dir: &Path, network: Arc<Network>) -> Self {
        let control_plane = ControlPlane::start(dir, options).await;
        let client = client(&control_plane.kubeconfig("admin")).await;
        let own = self::client(&control_plane.kubeconfig("kubelet")).await;
        let kubelet = Kubelet::start(own, network, dir, options).await;
        Self {
            kubelet,
            client,
            admin: control_plane.kubeconfig("admin"),
            audit_log: control_plane.audit_log(),
            ca: control_plane.ca().to_owned(),
            control_plane: Mutex::new(control_plane),
            program: options.control_plane.clone(),
            dir: dir.to_owned(),
        }
    }

    /// A client that may do everything.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A kubeconfig file of who may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.admin
    }

    /// A kubeconfig file with this token.
    #[must_use]
    pub fn kubeconfig_with(&self, name: &str, token: &str) -> PathBuf {
        let path = self.dir.join(format!("{name}.kubeconfig"));
        std::fs::write(&path, control_plane::kubeconfig(&self.ca, token)).unwrap();
        path
    }

    /// Where pods reach what the test itself serves.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        network::BRIDGE
    }

    /// The API server's URL.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("https://{}:{}", network::BRIDGE, control_plane::API_PORT)
    }

    /// The certificate of the authority that signed the API server's.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// A directory that goes with the cluster.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs kubectl, which has to succeed, and gives its standard output.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let all: Vec<&str> = ["kubectl"].into_iter().chain(arguments.iter().copied()).collect();
        self.tool(&self.program, &all).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a program that takes KUBECONFIG, and gives its standard output.
    ///
    /// # Errors
    /// Where it fails: what it was, and what it wrote.
    pub async fn tool(&self, program: &Path, arguments: &[&str]) -> Result<String, String> {
        let output = tokio::process::Command::new(program)
            .args(arguments)
            .env("KUBECONFIG", &self.admin)
            .env("HOME", &self.dir)
            .envs(daemon::no_proxies())
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        if output.status.success() {
            return Ok(stdout);
        }
        Err(format!("{} {}: {}\n{stdout}{stderr}", program.display(), arguments.join(" "), output.status))
    }

    /// What a user (`system:serviceaccount:NAMESPACE:NAME`) has asked the API server for so far. A watch is counted when it
    /// begins.
    #[must_use]
    pub fn requests(&self, user: &str) -> Vec<Request> {
        let log = std::fs::read_to_string(&self.audit_log).unwrap();
        let mut requests = Vec::new();
        // The last line may not be whole yet.
        for event in log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let verb = text(&event["verb"]);
            let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
            let begins = event["stage"] == "ResponseStarted";
            let counts = begins || verb != "watch" || code >= 400;
            if event["user"]["username"] == user && counts {
                let object = &event["objectRef"];
                let (resource, namespace) = (text(&object["resource"]), text(&object["namespace"]));
                let streams = text(&event["requestURI"]).contains("sendInitialEvents=true");
                let lists = verb == "list" || verb == "watch" && streams;
                requests.push(Request { verb, resource, namespace, lists, code });
            }
        }
        requests
    }

    /// Everything that a pod's containers have written, after restarts too.
    #[must_use]
    pub fn logs(&self, namespace: &str, pod: &str) -> String {
        self.kubelet.logs(namespace, pod)
    }

    /// Takes the pod's network away, or gives it back: both ends stay where they are, nothing passes.
    pub fn connect(&self, namespace: &str, pod: &str, connected: bool) {
        self.kubelet.connect(namespace, pod, connected);
    }

    /// Kills the pod's processes with SIGKILL, as running out of memory would; they are restarted by its policy.
    pub fn kill(&self, namespace: &str, pod: &str) {
        self.kubelet.kill(namespace, pod);
    }

    /// Kills the API server. Pods go on.
    pub async fn stop_api_server(&self) {
        self.control_plane.lock().await.stop_api_server();
    }

    /// Starts the API server again, and returns when it is ready.
    pub async fn start_api_server(&self) {
        self.control_plane.lock().await.start_api_server().await;
    }

    /// Kills etcd, and starts it again on its data.
    pub async fn restart_etcd(&self) {
        self.control_plane.lock().await.start_etcd();
    }

    /// Lets etcd forget all versions but the newest. The API server keeps some of them in its memory until it restarts.
    pub async fn compact(&self) {
        control_plane::compact().await;
    }
}

/// A client of what a kubeconfig file says.
async fn client(kubeconfig: &Path) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    config.proxy_url = None;
    Client::try_from(config).unwrap()
}

/// An HTTP client that trusts this authority, or whom the system trusts where there is none.
pub(crate) fn http_client(ca: &Path) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(&std::fs::read(ca).unwrap()).unwrap();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([ca])
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}
