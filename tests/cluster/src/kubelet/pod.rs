//! A pod's life: network, volumes, init containers, containers; and its end.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::container::{self, State};
use super::probe::Probes;
use super::sandbox::Launch;
use super::volumes::Volumes;
use super::{RETRY, Shared, container::Policy};
use crate::network::{BRIDGE, PodNetwork};

/// What a pod's status is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct PodState {
    address: Option<Ipv4Addr>,
    initialized: bool,
    init: Vec<State>,
    containers: Vec<State>,
    started_at: String,
}

/// A pod that this kubelet runs.
pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) pod: Pod,
    pub(super) spec: PodSpec,
    pub(super) namespace: String,
    pub(super) name: String,
    state: watch::Sender<PodState>,
    /// Set when it is to end: the grace period.
    stop: watch::Sender<Option<Duration>>,
}

/// Runs a pod until its object is gone, or has been deleted because its processes have ended.
pub(super) async fn run(
    shared: Arc<Shared>,
    node: String,
    pod: Pod,
    mut changes: watch::Receiver<Option<Box<Pod>>>,
    kill: watch::Receiver<u64>,
) {
    let spec = pod.spec.clone().unwrap_or_default();
    let state = PodState {
        init: vec![State::default(); spec.init_containers.as_ref().map_or(0, Vec::len)],
        containers: vec![State::default(); spec.containers.len()],
        started_at: k8s_openapi::jiff::Timestamp::now().to_string(),
        ..PodState::default()
    };
    let running = Running {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        shared: shared.clone(),
        pod,
        spec,
        state: watch::Sender::new(state),
        stop: watch::Sender::new(None),
    };
    shared.log(format_args!("{}/{} on {node}", running.namespace, running.name));
    let network = running.network().await;
    let mut volumes = Volumes::new(&running);
    running.own_volumes(&mut volumes);
    let gone = tokio::select! {
        gone = running.live(&volumes, network.as_deref(), kill, &mut changes) => gone,
        () = running.report() => false,
        () = running.refresh(&volumes) => false,
    };
    drop(network);
    volumes.remove();
    if !gone {
        running.delete().await;
    }
    shared.log(format_args!("{}/{} has ended", running.namespace, running.name));
}

impl Running {
    async fn network(&self) -> Option<Arc<PodNetwork>> {
        if self.spec.host_network == Some(true) {
            self.state.send_modify(|state| state.address = Some(BRIDGE));
            return None;
        }
        let network = self.shared.network.clone();
        let made = tokio::task::spawn_blocking(move || Arc::new(network.add_pod())).await.unwrap();
        self.state.send_modify(|state| state.address = Some(made.address()));
        if let Some(known) =
            self.shared.pods.lock().unwrap().get_mut(&format!("{}/{}", self.namespace, self.name))
        {
            known.network = Some(made.clone());
        }
        Some(made)
    }

    fn own_volumes(&self, volumes: &mut Volumes) {
        volumes.group = self.spec.security_context.as_ref().and_then(|context| context.fs_group);
    }

    /// Runs all containers; true where the object has gone without us.
    async fn live(
        &self,
        volumes: &Volumes,
        network: Option<&PodNetwork>,
        kill: watch::Receiver<u64>,
        changes: &mut watch::Receiver<Option<Box<Pod>>>,
    ) -> bool {
        let mut containers = std::pin::pin!(self.containers(volumes, network, kill));
        let mut ended = false;
        loop {
            let gone = match changes.borrow_and_update().as_deref() {
                None => {
                    self.stop.send_replace(Some(Duration::ZERO));
                    true
                }
                Some(pod) => {
                    if pod.metadata.deletion_timestamp.is_some() {
                        let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
                        self.stop.send_replace(Some(Duration::from_secs(seconds.unsigned_abs())));
                    }
                    false
                }
            };
            if ended && self.stop.borrow().is_some() {
                return gone;
            }
            tokio::select! {
                () = &mut containers, if !ended => ended = true,
                changed = changes.changed() => if changed.is_err() {
                    self.stop.send_replace(Some(Duration::ZERO));
                    if !ended {
                        containers.await;
                    }
                    return true;
                },
            }
        }
    }

    async fn containers(&self, volumes: &Volumes, network: Option<&PodNetwork>, kill: watch::Receiver<u64>) {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            () = self.prepare(volumes) => {}
            _ = stop.wait_for(Option::is_some) => return,
        }
        let policy = Policy::of(self.spec.restart_policy.as_deref());
        for (index, spec) in self.spec.init_containers.iter().flatten().enumerate() {
            let set = |state: State| self.state.send_modify(|all| all.init[index] = state);
            let once = if policy == Policy::Never { Policy::Never } else { Policy::OnFailure };
            let succeeded = self.container(spec, volumes, network, once, &kill, set).await;
            if !succeeded {
                return;
            }
        }
        self.state.send_modify(|state| state.initialized = true);
        let all = self.spec.containers.iter().enumerate().map(|(index, spec)| {
            let set = move |state: State| self.state.send_modify(|all| all.containers[index] = state);
            self.container(spec, volumes, network, policy, &kill, set)
        });
        join_all(all).await;
    }

    async fn container(
        &self,
        spec: &Container,
        volumes: &Volumes,
        network: Option<&PodNetwork>,
        policy: Policy,
        kill: &watch::Receiver<u64>,
        set: impl Fn(State),
    ) -> bool {
        let address = self.state.borrow().address.unwrap_or(BRIDGE);
        let mut stop = self.stop.subscribe();
        let launch = loop {
            match Launch::new(self, spec, volumes, network, address).await {
                Ok(launch) => break launch,
                Err(reason) => {
                    self.shared.log(format_args!("{}/{}/{}: {reason}", self.namespace, self.name, spec.name));
                    set(State::waiting("CreateContainerConfigError", &reason));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                _ = stop.wait_for(Option::is_some) => return false,
            }
        };
        let probes = Probes::new(spec, address);
        container::run(&launch, &probes, policy, set, stop, kill.clone()).await
    }

    /// Fills the volumes; what they need may come later than the pod.
    async fn prepare(&self, volumes: &Volumes) {
        while let Err(error) = volumes.fill(self).await {
            self.shared.log(format_args!("{}/{}: {error}", self.namespace, self.name));
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Fills the volumes anew whenever a mounted object may have changed. Never ends.
    async fn refresh(&self, volumes: &Volumes) {
        let mut mounted = self.shared.mounted.subscribe();
        while mounted.changed().await.is_ok() {
            if let Err(error) = volumes.fill(self).await {
                self.shared.log(format_args!("{}/{}: {error}", self.namespace, self.name));
            }
        }
    }

    /// Tells the API server how the pod is, whenever that changes. Never ends.
    async fn report(&self) {
        let pods: Api<Pod> = Api::namespaced(self.shared.client.clone(), &self.namespace);
        let mut states = self.state.subscribe();
        let mut told = Value::Null;
        loop {
            let status = self.status(&states.borrow_and_update());
            if status != told {
                let patch = json!({"metadata": {"uid": self.pod.uid()}, "status": status});
                match pods.patch_status(&self.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                    Ok(_) => told = status,
                    Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => {}
                    Err(error) => {
                        self.shared.log(format_args!("status of {}/{}: {error}", self.namespace, self.name));
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                }
            }
            if states.changed().await.is_err() {
                return;
            }
        }
    }

    fn status(&self, state: &PodState) -> Value {
        let policy = Policy::of(self.spec.restart_policy.as_deref());
        let ended = state.initialized && state.containers.iter().all(|one| one.has_ended(policy));
        let failed = state.init.iter().any(|one| one.has_failed() && policy == Policy::Never);
        let phase = match () {
            () if failed => "Failed",
            () if ended && state.containers.iter().any(State::has_failed) => "Failed",
            () if ended => "Succeeded",
            () if state.initialized => "Running",
            () => "Pending",
        };
        let ready = !ended && state.initialized && state.containers.iter().all(|one| one.ready);
        let condition =
            |kind: &str, holds: bool| json!({"type": kind, "status": if holds { "True" } else { "False" }});
        let none = Vec::new();
        let init = self.spec.init_containers.as_ref().unwrap_or(&none);
        let statuses = |containers: &[Container], states: &[State]| -> Vec<Value> {
            containers.iter().zip(states).map(|(spec, state)| state.status(spec)).collect()
        };
        json!({
            "phase": phase,
            "startTime": state.started_at,
            "hostIP": BRIDGE,
            "hostIPs": [{"ip": BRIDGE}],
            "podIP": state.address,
            "podIPs": state.address.map(|address| json!([{"ip": address}])),
            "conditions": [
                condition("Initialized", state.initialized),
                condition("ContainersReady", ready),
                condition("Ready", ready),
            ],
            "initContainerStatuses": statuses(init, &state.init),
            "containerStatuses": statuses(&self.spec.containers, &state.containers),
        })
    }

    /// Deletes the object, now that nothing of the pod runs any more.
    async fn delete(&self) {
        let pods: Api<Pod> = Api::namespaced(self.shared.client.clone(), &self.namespace);
        let only_this = Preconditions { uid: self.pod.uid(), ..Preconditions::default() };
        let now = DeleteParams::default().grace_period(0).preconditions(only_this);
        loop {
            match pods.delete(&self.name, &now).await {
                Ok(_) => return,
                Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => return,
                Err(error) => self.shared.log(format_args!("delete {}: {error}", self.name)),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}
