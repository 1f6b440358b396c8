//! Processes that call themselves by the name of another one: a pod that was deleted by force and is still there, a copied unit file.
//! The one that was started last is heard; the other one goes on with what it had, so that samples are there twice.

use std::collections::HashMap;

use metrics::{Counter, counter, describe_counter};

/// After a restart, a report or two of the process before may still be under way.
const REPORTS_MAX: u32 = 3;

/// Reports of processes of which a later one has reported.
pub(crate) struct Namesakes {
    /// The run of such a process by name, and how many reports of it came since.
    late: HashMap<String, (u64, u32)>,
    ignored: Counter,
}

impl std::fmt::Debug for Namesakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namesakes").field("late", &self.late).finish_non_exhaustive()
    }
}

impl Default for Namesakes {
    fn default() -> Self {
        describe_counter!(
            "promring_allocator_namesake_reports_total",
            "Reports of a process while another one of its name, which was started later, reports as well."
        );
        Self { late: HashMap::new(), ignored: counter!("promring_allocator_namesake_reports_total") }
    }
}

impl Namesakes {
    /// A process has reported of which a later one has reported before. True: that is no report that was under way, and nobody was told.
    pub(crate) fn reported(&mut self, name: &str, run: u64) -> bool {
        let (late, count) = self.late.entry(name.to_owned()).or_insert((run, 0));
        if *late != run {
            (*late, *count) = (run, 0);
        }
        *count = count.saturating_add(1);
        if *count >= REPORTS_MAX {
            self.ignored.increment(1);
        }
        *count == REPORTS_MAX
    }

    /// Nobody needs to know any more.
    pub(crate) fn forget(&mut self, name: &str) {
        self.late.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_goes_on_is_told_once_and_what_was_under_way_is_not() {
        let mut namesakes = Namesakes::default();
        let mut told = |name: &str, runs: &[u64]| -> Vec<bool> {
            runs.iter().map(|run| namesakes.reported(name, *run)).collect()
        };
        assert_eq!(told("a", &[1, 1, 1, 1]), [false, false, true, false]);
        assert_eq!(told("b", &[1, 1, 2, 2, 2]), [false, false, false, false, true], "each by itself");
        namesakes.forget("a");
        assert!(!namesakes.reported("a", 1));
    }
}
