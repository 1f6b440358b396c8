//! Targets that exist no more and whose loops wait for the slot of their markers. One that comes back before is as if it had
//! never been away: its new loop takes over what the old one has, and no marker is written.

use std::collections::HashMap;

use promring_model::handover::MoveId;
use promring_model::target::{Target, TargetId, TargetKey};
use promring_net::clock::now_ms;

use crate::manager::{Running, Task};
use crate::scrape::{Command, Keep};

/// Loops that were told that their target is gone, by its key.
#[derive(Debug, Default)]
pub(crate) struct Leaving(HashMap<TargetKey, Vec<Leaver>>);

#[derive(Debug)]
struct Leaver {
    running: Running,
    /// What a successor can use, after the configurations that were taken since.
    keep: Keep,
}

impl Leaving {
    /// A loop was told that its target is gone.
    pub(crate) fn add(&mut self, running: Running) {
        let leaver = Leaver { running, keep: Keep::Everything };
        self.0.entry(leaver.running.target.key).or_default().push(leaver);
    }

    /// Hands over the tasks of loops that have ended.
    pub(crate) fn take_finished(&mut self) -> Vec<Task> {
        let mut finished = Vec::new();
        self.0.retain(|_, leavers| {
            let ended = leavers.extract_if(.., |leaver| leaver.running.task.is_finished());
            finished.extend(ended.map(|leaver| leaver.running.task));
            !leavers.is_empty()
        });
        finished
    }

    /// The loop of a target of this key that the new one is to wait for, and what it can use of what that had. `incoming` is the move by
    /// which the new one comes. No markers are written where their slot has not come: it will be scraped, by who was to mark, or, where
    /// the target was to end at a T that has not come, by who has it until then. A target that comes by a move of its own begins after
    /// the markers, as nobody here knows from when on.
    pub(crate) fn succeed(
        &mut self,
        key: TargetKey,
        incoming: Option<MoveId>,
        is_it: impl Fn(TargetId) -> bool,
    ) -> Option<(Task, Keep)> {
        let leavers = self.0.get_mut(&key)?;
        let at = leavers.iter().position(|leaver| is_it(leaver.running.target.id))?;
        let Leaver { running, keep } = leavers.swap_remove(at);
        if leavers.is_empty() {
            self.0.remove(&key);
        }
        running.commands.send_if_modified(|command| {
            let Command::Gone(end) = *command else { return false };
            let at_ms = now_ms();
            let is_the_move = incoming.is_none() || incoming == end.fence;
            let is_called_off = is_the_move || end.from.is_some_and(|from| from > at_ms);
            if is_called_off {
                *command = Command::Back { end, at_ms };
            }
            is_called_off
        });
        Some((running.task, keep))
    }

    /// The configuration was replaced: of a target's series its successor can use so much; None: all.
    pub(crate) fn reconfigure(&mut self, kept: impl Fn(&Target) -> Option<Keep>) {
        for leaver in self.0.values_mut().flatten() {
            leaver.keep = leaver.keep.max(kept(&leaver.running.target).unwrap_or(Keep::Everything));
        }
    }

    /// Hands over all tasks.
    pub(crate) fn take_tasks(&mut self) -> impl Iterator<Item = Task> + use<> {
        std::mem::take(&mut self.0).into_values().flatten().map(|leaver| leaver.running.task)
    }
}
