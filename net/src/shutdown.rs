//! Stopping: one signal that every task can wait for.

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

    /// Whether the stop has started.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        *self.state.borrow()
    }

    /// Returns when the stop starts, at once where it has started already.
    pub async fn wait(&self) {
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = state.wait_for(|stopped| *stopped).await;
    }
}

/// Waits for SIGTERM or SIGINT (Ctrl-C) and says which one came.
///
/// # Errors
/// Where the handlers cannot be installed.
pub async fn stop_signal() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
