//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler as processes in the cluster's network namespace,
//! with real authentication and RBAC. Ports are fixed, as every cluster has a namespace of its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Options;
use crate::certificates::Certificates;
use crate::daemon::Daemon;
use crate::network::BRIDGE;

/// Port of the API server.
pub(crate) const API_PORT: u16 = 6443;
/// How long a start may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);
/// Services have addresses, though nothing routes to them: there is no kube-proxy.
const SERVICE_RANGE: &str = "10.96.0.0/16";

/// Who may come with a static token: name and groups. The token is the name.
const USERS: [(&str, &str); 4] = [
    ("admin", "system:masters"),
    ("kubelet", "system:masters"),
    ("system:kube-controller-manager", ""),
    ("system:kube-scheduler", ""),
];

/// The running control plane.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    program: PathBuf,
    dir: PathBuf,
    certificates: Certificates,
    node_monitor_grace: Duration,
    streaming_lists: bool,
    etcd: Option<Daemon>,
    api_server: Option<Daemon>,
    others: Vec<Daemon>,
}

impl ControlPlane {
    /// Starts all parts, and returns when the API server is ready.
    pub(crate) async fn start(dir: &Path, options: &Options) -> Self {
        let dir = dir.join("control-plane");
        std::fs::create_dir(&dir).unwrap();
        let users = USERS.map(|(name, groups)| format!("{name},{name},{name},\"{groups}\"\n"));
        std::fs::write(dir.join("tokens.csv"), users.concat()).unwrap();
        let certificates = Certificates::create(&dir);
        let program = options.control_plane.clone();
        std::fs::write(dir.join("audit-policy.json"), audit_policy()).unwrap();
        let mut plane = Self {
            program,
            dir,
            certificates,
            node_monitor_grace: options.node_monitor_grace,
            streaming_lists: options.streaming_lists,
            etcd: None,
            api_server: None,
            others: vec![],
        };
        for (user, _) in USERS {
            plane.write_kubeconfig(user);
        }
        plane.start_etcd();
        plane.start_api_server().await;
        plane.start_others();
        plane
    }

    /// A kubeconfig of one of the users with static tokens.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.dir.join(format!("{user}.kubeconfig"))
    }

    /// Where the API server writes down the requests of everybody but the cluster's own parts.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.log")
    }

    /// The certificate authority's certificate.
    pub(crate) fn ca(&self) -> &Path {
        &self.certificates.ca
    }

    /// Starts etcd on the data that it had, after its end.
    pub(crate) fn start_etcd(&mut self) {
        self.etcd = None;
        let arguments = [
            "etcd",
            "--data-dir=etcd",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=default=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ];
        self.etcd = Some(self.daemon("etcd", &arguments.map(str::to_owned)));
    }

    /// Starts the API server, and returns when it is ready.
    pub(crate) async fn start_api_server(&mut self) {
        let path = |path: &Path| path.display().to_string();
        let certificates = &self.certificates;
        let arguments = [
            "kube-apiserver".to_owned(),
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--bind-address={BRIDGE}"),
            format!("--advertise-address={BRIDGE}"),
            format!("--secure-port={API_PORT}"),
            format!("--tls-cert-file={}", path(&certificates.server)),
            format!("--tls-private-key-file={}", path(&certificates.server_key)),
            "--token-auth-file=tokens.csv".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", path(&certificates.token_public_key)),
            format!("--service-account-signing-key-file={}", path(&certificates.token_key)),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            "--audit-policy-file=audit-policy.json".to_owned(),
            "--audit-log-path=audit.log".to_owned(),
            format!("--feature-gates=WatchList={}", self.streaming_lists),
        ];
        self.api_server = Some(self.daemon("kube-apiserver", &arguments));
        let client = crate::http_client(&self.certificates.ca);
        let url = format!("https://{BRIDGE}:{API_PORT}/readyz");
        let since = Instant::now();
        loop {
            let answer = client.get(&url).bearer_auth("admin").send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "the API server is not ready after {PATIENCE:?}");
            self.etcd.iter_mut().chain(&mut self.api_server).for_each(Daemon::check);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Kills the API server.
    pub(crate) fn stop_api_server(&mut self) {
        self.api_server = None;
    }

    fn start_others(&mut self) {
        let grace = self.node_monitor_grace.as_secs();
        let config = |user: &str| {
            let path = self.kubeconfig(user).display().to_string();
            ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
                .map(|flag| format!("--{flag}={path}"))
        };
        let manager = [
            "kube-controller-manager".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials".to_owned(),
            format!("--service-account-private-key-file={}", self.certificates.token_key.display()),
            format!("--root-ca-file={}", self.certificates.ca.display()),
            "--cert-dir=manager".to_owned(),
            format!("--node-monitor-grace-period={grace}s"),
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
        ];
        let manager: Vec<_> = manager.into_iter().chain(config("system:kube-controller-manager")).collect();
        let scheduler = [
            "kube-scheduler".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            "--leader-elect=false".to_owned(),
            "--cert-dir=scheduler".to_owned(),
        ];
        let scheduler: Vec<_> = scheduler.into_iter().chain(config("system:kube-scheduler")).collect();
        self.others =
            vec![self.daemon("kube-controller-manager", &manager), self.daemon("kube-scheduler", &scheduler)];
    }

    fn daemon(&self, name: &str, arguments: &[String]) -> Daemon {
        Daemon::start(&self.program, arguments, &self.dir, self.dir.join(format!("{name}.log")))
    }

    fn write_kubeconfig(&self, user: &str) {
        let text = kubeconfig(self.ca(), user);
        std::fs::write(self.kubeconfig(user), text).unwrap();
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // Clients first, so that they do not fill their logs.
        self.others.clear();
        self.api_server = None;
        self.etcd = None;
    }
}

/// Lets etcd forget all versions but the newest.
pub(crate) async fn compact() {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
    let ask = async |path: &str, body: serde_json::Value| -> serde_json::Value {
        let request = client.post(format!("http://127.0.0.1:2379/v3/kv/{path}")).body(body.to_string());
        let answer = request.send().await.unwrap().error_for_status().unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    };
    // Any key, in base64: the answer names the newest revision.
    let newest = ask("range", json!({"key": "eA=="})).await;
    let revision = newest["header"]["revision"].as_str().unwrap();
    ask("compaction", json!({"revision": revision, "physical": true})).await;
}

/// Requests are logged without their bodies, but for those of the cluster's parts and of the test itself.
fn audit_policy() -> String {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "userGroups": ["system:masters", "system:serviceaccounts:kube-system"]},
            {"level": "None", "users": ["system:apiserver", USERS[2].0, USERS[3].0]},
            {"level": "Metadata"},
        ],
    })
    .to_string()
}

/// A kubeconfig with this token, in JSON, which is YAML as well.
pub(crate) fn kubeconfig(ca: &Path, token: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://{BRIDGE}:{API_PORT}"),
            "certificate-authority": ca,
        }}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
        "current-context": "test",
    })
    .to_string()
}
