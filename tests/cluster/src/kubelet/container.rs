//! One container: a process that is started, probed, restarted by its pod's policy, and stopped.

use std::process::ExitStatus;
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::Instant;

use super::probe::{Outcome, Probes};
use super::sandbox::Launch;

/// The first and the longest pause before a restart. Shorter than a real kubelet's: nobody wants to wait for those.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// One that has run for this long begins with the shortest pause again.
const BACKOFF_RESET: Duration = Duration::from_secs(30);
/// What a container that fails its liveness probe gets to end, where the pod sets nothing else.
const GRACE_DEFAULT: Duration = Duration::from_secs(30);

/// When an ended container is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Always,
    OnFailure,
    Never,
}

impl Policy {
    /// As a pod says it.
    pub(super) fn of(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }
}

/// How a container is.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    now: Now,
    last: Option<Exit>,
    restarts: u32,
    started: bool,
    /// Whether it takes requests, as its readiness probe says.
    pub(super) ready: bool,
}

#[derive(Clone, Debug, Default)]
enum Now {
    #[default]
    Creating,
    Waiting {
        reason: String,
        message: String,
    },
    Running {
        since: String,
    },
    Ended(Exit),
}

#[derive(Clone, Debug)]
struct Exit {
    code: i32,
    signal: Option<i32>,
    started: String,
    finished: String,
}

impl State {
    /// Not started, for this reason.
    pub(super) fn waiting(reason: &str, message: &str) -> Self {
        let now = Now::Waiting { reason: reason.to_owned(), message: message.to_owned() };
        Self { now, ..Self::default() }
    }

    /// Whether it has ended with an error.
    pub(super) fn has_failed(&self) -> bool {
        matches!(&self.now, Now::Ended(exit) if exit.code != 0)
    }

    /// Whether it has ended and will not be started again.
    pub(super) fn has_ended(&self, policy: Policy) -> bool {
        match &self.now {
            Now::Ended(exit) => policy == Policy::Never || (policy == Policy::OnFailure && exit.code == 0),
            Now::Creating | Now::Waiting { .. } | Now::Running { .. } => false,
        }
    }

    /// An entry of containerStatuses.
    pub(super) fn status(&self, spec: &Container) -> Value {
        let image = spec.image.clone().unwrap_or_default();
        let state = match &self.now {
            Now::Creating => json!({"waiting": {"reason": "ContainerCreating"}}),
            Now::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
            Now::Running { since } => json!({"running": {"startedAt": since}}),
            Now::Ended(exit) => json!({"terminated": exit.status()}),
        };
        let last = self.last.as_ref().map_or(json!({}), |exit| json!({"terminated": exit.status()}));
        json!({
            "name": spec.name,
            "image": image,
            "imageID": format!("process://{image}"),
            "containerID": format!("process://{}-{}", spec.name, self.restarts),
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": state,
            "lastState": last,
        })
    }
}

impl Exit {
    fn status(&self) -> Value {
        let reason = if self.code == 0 { "Completed" } else { "Error" };
        json!({
            "exitCode": self.code, "signal": self.signal, "reason": reason,
            "startedAt": self.started, "finishedAt": self.finished,
        })
    }
}

/// Runs a container until it has ended for good or `stop` says so; whether it succeeded at last. `set` takes every
/// change of its state, `kill` ends the process without grace.
pub(super) async fn run(
    launch: &Launch,
    probes: &Probes,
    policy: Policy,
    set: impl Fn(State),
    mut stop: watch::Receiver<Option<Duration>>,
    mut kill: watch::Receiver<u64>,
) -> bool {
    let mut state = State::default();
    let mut backoff = BACKOFF_MIN;
    loop {
        if stop.borrow().is_some() {
            return false;
        }
        let began = Instant::now();
        let started = Timestamp::now().to_string();
        let status = match launch.start() {
            Err(error) => {
                launch.note(&format!("kubelet: {error}"));
                None
            }
            Ok(child) => {
                state.now = Now::Running { since: started.clone() };
                set(state.clone());
                Some(attend(child, probes, &mut state, &set, &mut stop, &mut kill).await)
            }
        };
        let signal = status.and_then(|status| std::os::unix::process::ExitStatusExt::signal(&status));
        let code = status.and_then(|status| status.code()).unwrap_or(128 + signal.unwrap_or(0));
        let exit = Exit { code, signal, started, finished: Timestamp::now().to_string() };
        state = State { now: Now::Ended(exit.clone()), ready: false, started: false, ..state };
        set(state.clone());
        if stop.borrow().is_some() || state.has_ended(policy) {
            return code == 0;
        }
        if began.elapsed() > BACKOFF_RESET {
            backoff = BACKOFF_MIN;
        }
        let message = format!("back-off {backoff:?} after exit code {code}");
        state.now = Now::Waiting { reason: "CrashLoopBackOff".to_owned(), message };
        state.last = Some(exit);
        set(state.clone());
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            () = wanted(&mut stop) => return false,
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
        state.restarts += 1;
    }
}

/// Returns when the container is to end.
async fn wanted(stop: &mut watch::Receiver<Option<Duration>>) {
    let _ = stop.wait_for(Option::is_some).await;
}

/// Watches over a running process until it has ended.
async fn attend(
    mut child: Child,
    probes: &Probes,
    state: &mut State,
    set: &impl Fn(State),
    stop: &mut watch::Receiver<Option<Duration>>,
    kill: &mut watch::Receiver<u64>,
) -> ExitStatus {
    kill.mark_unchanged();
    let mut checks = probes.start();
    loop {
        tokio::select! {
            status = child.wait() => return status.unwrap(),
            outcome = checks.next() => match outcome {
                Outcome::Ready(ready) => {
                    if (state.started, state.ready) != (true, ready) {
                        (state.started, state.ready) = (true, ready);
                        set(state.clone());
                    }
                }
                Outcome::Dead => return terminate(child, Some(GRACE_DEFAULT), stop).await,
            },
            () = wanted(stop) => {
                state.ready = false;
                set(state.clone());
                return terminate(child, None, stop).await;
            }
            Ok(()) = kill.changed() => {
                let _ = child.start_kill();
            }
        }
    }
}

/// SIGTERM, the grace period, SIGKILL. The period of `stop` counts where it has one, and may get shorter meanwhile.
async fn terminate(
    mut child: Child,
    grace: Option<Duration>,
    stop: &mut watch::Receiver<Option<Duration>>,
) -> ExitStatus {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        let _ = kill_process(pid, Signal::TERM);
    }
    let since = Instant::now();
    loop {
        let grace = stop.borrow_and_update().or(grace).unwrap_or(GRACE_DEFAULT);
        tokio::select! {
            status = child.wait() => return status.unwrap(),
            () = tokio::time::sleep_until(since + grace) => {
                let _ = child.start_kill();
                return child.wait().await.unwrap();
            }
            Ok(()) = stop.changed() => {}
        }
    }
}
