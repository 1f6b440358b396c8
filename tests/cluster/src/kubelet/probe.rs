//! Startup, readiness and liveness probes, by HTTP and by TCP.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe as Spec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A container's probes.
#[derive(Debug)]
pub(super) struct Probes {
    startup: Option<Probe>,
    readiness: Option<Probe>,
    liveness: Option<Probe>,
}

#[derive(Clone, Debug)]
struct Probe {
    action: Action,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    failures: u32,
    successes: u32,
}

#[derive(Clone, Debug)]
enum Action {
    Http(String),
    Tcp(SocketAddr),
}

/// What the probes have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The container has started, and is ready or not.
    Ready(bool),
    /// It has to be restarted.
    Dead,
}

/// The probes of one run of a container.
#[derive(Debug)]
pub(super) struct Checks {
    client: reqwest::Client,
    startup: Option<Running>,
    readiness: Option<Running>,
    liveness: Option<Running>,
    told: bool,
}

#[derive(Debug)]
struct Running {
    probe: Probe,
    due: Instant,
    failures: u32,
    successes: u32,
}

impl Probes {
    /// As the container has them.
    pub(super) fn new(container: &Container, address: Ipv4Addr) -> Self {
        let probe = |spec: &Option<Spec>| spec.as_ref().and_then(|spec| Probe::new(spec, container, address));
        Self {
            startup: probe(&container.startup_probe),
            readiness: probe(&container.readiness_probe),
            liveness: probe(&container.liveness_probe),
        }
    }

    /// Begins with a container's start.
    pub(super) fn start(&self) -> Checks {
        let client =
            reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap();
        let running = |probe: &Option<Probe>| probe.clone().map(Running::new);
        Checks {
            client,
            startup: running(&self.startup),
            readiness: running(&self.readiness),
            liveness: running(&self.liveness),
            told: false,
        }
    }
}

impl Checks {
    /// The next finding.
    pub(super) async fn next(&mut self) -> Outcome {
        while let Some(startup) = &mut self.startup {
            match startup.check(&self.client).await {
                Some(true) => self.startup = None,
                Some(false) => return Outcome::Dead,
                None => {}
            }
        }
        if !self.told {
            self.told = true;
            return Outcome::Ready(self.readiness.is_none());
        }
        loop {
            let readiness = self.readiness.as_ref().map(|running| running.due);
            let liveness = self.liveness.as_ref().map(|running| running.due);
            let live_first = liveness.is_some_and(|due| readiness.is_none_or(|other| due < other));
            match (&mut self.readiness, &mut self.liveness) {
                (_, Some(liveness)) if live_first => {
                    if liveness.check(&self.client).await == Some(false) {
                        return Outcome::Dead;
                    }
                }
                (Some(readiness), _) => {
                    if let Some(ready) = readiness.check(&self.client).await {
                        return Outcome::Ready(ready);
                    }
                }
                _ => std::future::pending().await,
            }
        }
    }
}

impl Running {
    fn new(probe: Probe) -> Self {
        Self { due: Instant::now() + probe.delay, probe, failures: 0, successes: 0 }
    }

    /// Waits until it is due and probes once; Some where a threshold has been reached.
    async fn check(&mut self, client: &reqwest::Client) -> Option<bool> {
        tokio::time::sleep_until(self.due).await;
        let succeeded = self.probe.succeeds(client).await;
        // Only now, so that a probe that was cut off is made again.
        self.due += self.probe.period;
        (self.successes, self.failures) =
            if succeeded { (self.successes + 1, 0) } else { (0, self.failures + 1) };
        match () {
            () if self.successes >= self.probe.successes => Some(true),
            () if self.failures >= self.probe.failures => Some(false),
            () => None,
        }
    }
}

impl Probe {
    fn new(spec: &Spec, container: &Container, address: Ipv4Addr) -> Option<Self> {
        let port = |port: &IntOrString| match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_ref() == Some(name))
                .and_then(|port| u16::try_from(port.container_port).ok()),
        };
        let action = if let Some(http) = &spec.http_get {
            let scheme = http.scheme.as_deref().unwrap_or("HTTP").to_ascii_lowercase();
            let path = http.path.as_deref().unwrap_or("/");
            Action::Http(format!("{scheme}://{address}:{}{path}", port(&http.port)?))
        } else {
            Action::Tcp(SocketAddr::from((address, port(&spec.tcp_socket.as_ref()?.port)?)))
        };
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| value.map_or(default, i32::unsigned_abs);
        Some(Self {
            action,
            delay: seconds(spec.initial_delay_seconds, 0),
            period: seconds(spec.period_seconds, 10),
            timeout: seconds(spec.timeout_seconds, 1),
            failures: count(spec.failure_threshold, 3),
            successes: count(spec.success_threshold, 1),
        })
    }

    async fn succeeds(&self, client: &reqwest::Client) -> bool {
        match &self.action {
            Action::Http(url) => {
                let answer = client.get(url).timeout(self.timeout).send().await;
                answer.is_ok_and(|answer| (200..400).contains(&answer.status().as_u16()))
            }
            Action::Tcp(address) => {
                let connected = tokio::time::timeout(self.timeout, TcpStream::connect(address)).await;
                connected.is_ok_and(|connected| connected.is_ok())
            }
        }
    }
}
