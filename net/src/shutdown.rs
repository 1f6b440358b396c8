//! Stopping: one signal that every task can wait for.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Tells tasks that the process (or a part of it) is to stop. Clones share one state.
#[derive(Clone, Debug)]
pub struct Shutdown {
    state: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Not yet triggered.
    #[must_use]
    pub fn new() -> Self {
        Self { state: watch::Sender::new(false) }
    }

    /// Starts the stop. Later calls change nothing.
    pub fn trigger(&self) {
        self.state.send_replace(true);
    }

    /// Returns when the stop starts, at once where it has started already.
    pub async fn wait(&self) {
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = state.wait_for(|stopped| *stopped).await;
    }
}

/// The signals that ask a process to stop. From the moment this exists they no longer kill it.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl StopSignals {
    /// SIGTERM and SIGINT (Ctrl-C).
    ///
    /// # Errors
    /// Where the handlers cannot be installed.
    pub fn install() -> Result<Self, String> {
        let handler = |kind| signal(kind).map_err(|error| format!("signals cannot be listened to: {error}"));
        let (terminate, interrupt) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup: None })
    }

    /// These and SIGHUP, for what has no configuration to reload and ends with its terminal. A SIGHUP that is ignored
    /// already stays so: that is how `nohup` keeps a process from ending.
    ///
    /// # Errors
    /// Where the handlers cannot be installed.
    pub fn with_hangup() -> Result<Self, String> {
        if is_ignored(SignalKind::hangup()) {
            return Self::install();
        }
        let hangup = signal(SignalKind::hangup())
            .map_err(|error| format!("signals cannot be listened to: {error}"))?;
        Ok(Self { hangup: Some(hangup), ..Self::install()? })
    }

    /// Waits for the next one and gives its name.
    pub async fn next(&mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = hangup => "SIGHUP",
        }
    }
}

/// Whether this process ignores a signal. Linux alone tells without unsafe code; elsewhere none counts as ignored.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    u32::try_from(kind.as_raw_value() - 1).is_ok_and(|bit| mask.checked_shr(bit).unwrap_or(0) & 1 == 1)
}
