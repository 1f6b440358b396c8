//! Live reload: SIGHUP, `POST /-/reload` and a changed file make a process read its configuration again. A good one takes
//! over, a bad one is refused whole and the old one stays; log and metrics say which.

use std::path::PathBuf;
use std::sync::Arc;

use promring_model::config::Config;
use promring_net::clock::now_ms;
use promring_net::reload::{ReloadRequests, WATCH_INTERVAL, Watched};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::load;

/// SIGHUP, from the moment this exists: before that it kills the process. One that comes before anything follows the
/// configuration makes it be read once more.
pub(crate) fn hangups() -> Result<Signal, String> {
    signal(SignalKind::hangup()).map_err(|error| format!("SIGHUP cannot be listened to: {error}"))
}

/// Follows the configuration in `path` until it is dropped: `apply` gets every good one. `watched` is what the configuration
/// in force was read from.
pub(crate) async fn follow(
    path: PathBuf,
    mut hangups: Signal,
    mut watched: Watched,
    mut requests: ReloadRequests,
    apply: impl Fn(Arc<Config>) -> Result<(), String>,
) {
    let success = metrics::gauge!("prometheus_config_last_reload_successful");
    let success_time = metrics::gauge!("prometheus_config_last_reload_success_timestamp_seconds");
    let failures = metrics::counter!("promring_config_reload_failures_total");
    let told_success = || {
        success.set(1.0);
        success_time.set(now_ms() as f64 / 1_000.0);
    };
    told_success();
    // A change was seen, and the files are given until the next look to stay as they are.
    let mut settling = false;
    let mut tick = tokio::time::interval(WATCH_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let (cause, answer) = tokio::select! {
            _ = hangups.recv() => ("SIGHUP", None),
            Some(answer) = requests.recv() => ("POST /-/reload", Some(answer)),
            _ = tick.tick() => {
                // A file that is still being written may already be valid, and mean something else.
                let changed = watched.changed();
                if !std::mem::replace(&mut settling, changed) || changed {
                    continue;
                }
                ("a changed file", None)
            }
        };
        // Files are read, and queues opened that may be large and damaged: others have this thread's work meanwhile.
        let (noted, result) = tokio::task::block_in_place(|| {
            let read = load::read(&path);
            (read.watched, read.config.and_then(&apply))
        });
        watched = noted;
        settling = false;
        match &result {
            Ok(()) => {
                told_success();
                tracing::info!(cause, file = %path.display(), "configuration reloaded");
            }
            Err(error) => {
                success.set(0.0);
                failures.increment(1);
                tracing::error!(cause, file = %path.display(), "the new configuration is refused, the old one stays: {error}");
            }
        }
        if let Some(answer) = answer {
            // Whoever asked may have gone.
            let _ = answer.send(result);
        }
    }
}
