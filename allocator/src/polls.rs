//! Long polls that wait, by scraper: a change wakes those that it concerns, however many others wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use promring_model::handover::Name;
use tokio::sync::watch;

/// Waiting polls.
#[derive(Debug, Default)]
pub(crate) struct Polls(Mutex<HashMap<Name, watch::Sender<()>>>);

impl Polls {
    /// Tells when something is new for a scraper: from this call on.
    pub(crate) fn wait_for(&self, scraper: &str) -> watch::Receiver<()> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.get(scraper) {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = watch::channel(());
                waiting.insert(Name::from(scraper), sender);
                receiver
            }
        }
    }

    /// Something is new for these.
    pub(crate) fn wake(&self, scrapers: &[Name]) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in scrapers {
            // Whoever waits again asks for a new channel, so that none is left of those who never come back.
            if let Some(sender) = waiting.remove(name) {
                sender.send_replace(());
            }
        }
    }

    /// Something is new for all.
    pub(crate) fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for sender in waiting.values() {
            sender.send_replace(());
        }
    }

    /// Forgets those whom nobody waits for any more.
    pub(crate) fn sweep(&self) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, sender| sender.receiver_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_whom_it_concerns_are_woken() {
        let polls = Polls::default();
        let (one, same, other) = (polls.wait_for("a"), polls.wait_for("a"), polls.wait_for("b"));
        polls.wake(&[Name::from("a"), Name::from("c")]);
        let woken = [one, same, other].map(|receiver| receiver.has_changed().unwrap_or(true));
        assert_eq!(woken, [true, true, false]);
        polls.sweep();
        assert!(polls.0.lock().unwrap().is_empty(), "nobody waits any more");
    }
}
