//! Keeps on the volume what must survive a restart. Nothing is said of a change before it is safe, so this is prompt where
//! anybody waits for that. A volume that takes nothing keeps a scraper from hand-overs, not from scraping.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::Scraper;
use crate::assignment::{SavedAssignment, SavedState};

/// Where nobody waits, it is saved at most this often.
const SAVE_PAUSE: Duration = Duration::from_millis(500);

/// After a failure it is tried again so much later.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Scraper {
    /// Saves whatever changes.
    pub(super) async fn save_always(&self) {
        let gate = &self.shared.environment.gate;
        let mut told = true;
        loop {
            gate.unsaved.notified().await;
            let begun = Instant::now();
            let Some(state) = self.unsaved() else { continue };
            match self.save(state).await {
                Ok(()) => told = true,
                Err(error) => {
                    self.shared.tending.metrics.save_failures.increment(1);
                    if std::mem::take(&mut told) {
                        tracing::error!(
                            error,
                            "the assignment cannot be saved: scraping goes on, hand-overs do not"
                        );
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
            // What has changed meanwhile is still to be saved; at once, if a hand-over depends on it.
            let pause = SAVE_PAUSE.saturating_sub(begun.elapsed());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = gate.urgent.notified() => {}
            }
            gate.note_unsaved();
        }
    }

    fn unsaved(&self) -> Option<SavedState> {
        // Both at once: no answer comes in between.
        let manager = self.manager();
        let member = self.shared.environment.gate.with(|member| member.unsaved())?;
        Some(SavedState { member, assignment: manager.assignment() })
    }

    async fn save(&self, state: SavedState) -> Result<(), String> {
        let file = SavedAssignment::in_dir(&self.shared.options.data_dir);
        let state = Arc::new(state);
        let written = Arc::clone(&state);
        let write = tokio::task::spawn_blocking(move || file.save(&written));
        let result = write.await.unwrap_or_else(|error| Err(error.to_string()));
        let gate = &self.shared.environment.gate;
        let saved = &state.member;
        if result.is_err() {
            if gate.with(|member| member.cannot_save(saved)) {
                gate.changed.notify_one();
            }
            return result;
        }
        let safe = gate.with(|member| {
            let safe = member.unsaved().is_none_or(|now| now == *saved);
            if safe {
                member.saved();
            }
            safe
        });
        if safe {
            // Now it may be told.
            gate.changed.notify_one();
        }
        Ok(())
    }
}
