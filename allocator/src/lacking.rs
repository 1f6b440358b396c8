//! Scrapers whose configuration file does not have a job (yet).
//!
//! A changed ConfigMap reaches nodes up to a minute apart. So a scraper that is given targets of a job that its file lacks is
//! waited for; after [`PATIENCE_MS`] the job's targets go to scrapers that have it, until its file has it, too.

use std::collections::BTreeMap;

use promring_model::handover::Name;
use promring_model::hash::FieldHasher;
use promring_model::target::TargetKey;

/// How long a scraper's file may lack a job before the job's targets go elsewhere, in milliseconds.
pub(crate) const PATIENCE_MS: i64 = 30_000;

/// Which scraper lacks which jobs, and since when (Unix milliseconds).
#[derive(Debug, Default)]
pub(crate) struct Lacking {
    since: BTreeMap<String, BTreeMap<String, Lack>>,
    /// Grows whenever a scraper is to be avoided for a job, or no longer.
    changes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Lack {
    since_ms: i64,
    /// It was waited for in vain.
    overdue: bool,
}

impl Lacking {
    /// A scraper has told which jobs of the assignment its file lacks.
    pub(crate) fn reported(&mut self, scraper: &str, jobs: impl Iterator<Item = String>, now_ms: i64) {
        let before = self.since.remove(scraper).unwrap_or_default();
        let fresh = Lack { since_ms: now_ms, overdue: false };
        let now: BTreeMap<String, Lack> = jobs
            .map(|job| {
                let lack = before.get(&job).copied().unwrap_or(fresh);
                (job, lack)
            })
            .collect();
        let came = before.iter().any(|(job, lack)| lack.overdue && !now.contains_key(job));
        if !now.is_empty() {
            self.since.insert(scraper.to_owned(), now);
        }
        self.changes += u64::from(came);
    }

    /// Nobody needs to know any more what a scraper's file lacked.
    pub(crate) fn forget(&mut self, scraper: &str) {
        self.since.remove(scraper);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now_ms: i64) {
        for (scraper, jobs) in &mut self.since {
            for (job, lack) in jobs {
                if !lack.overdue && now_ms - lack.since_ms >= PATIENCE_MS {
                    lack.overdue = true;
                    self.changes += 1;
                    tracing::warn!(
                        scraper,
                        job,
                        "the scraper's configuration does not have this job; its targets go to scrapers that have it"
                    );
                }
            }
        }
    }

    /// Grows whenever a scraper is to be avoided for a job, or no longer.
    #[must_use]
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether no scraper is known to lack anything.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        self.since.is_empty()
    }

    /// Whether this scraper should be given no targets of this job.
    #[must_use]
    pub(crate) fn avoids(&self, scraper: &str, job: &str) -> bool {
        self.since.get(scraper).and_then(|jobs| jobs.get(job)).is_some_and(|lack| lack.overdue)
    }

    /// Who gets a key of this job that placement wants at `wanted`: that one, unless its file lacks the job; then one of
    /// `takers` that has it, the same one for a key as long as they do not change. Where nobody has it, `wanted`, as it may
    /// get it.
    #[must_use]
    pub(crate) fn divert<'a>(
        &self,
        key: TargetKey,
        job: &str,
        wanted: &'a Name,
        takers: impl Iterator<Item = &'a Name>,
    ) -> &'a Name {
        if !self.avoids(wanted, job) {
            return wanted;
        }
        // By the highest hash: one that comes or goes changes no more than its own part.
        let rank =
            |name: &Name| FieldHasher::new().field(&key.0.to_le_bytes()).field(name.as_bytes()).finish64();
        let having = takers.filter(|name| !self.avoids(name, job));
        having.max_by_key(|name| (rank(name), (*name).clone())).unwrap_or(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(names: &[&str]) -> std::vec::IntoIter<String> {
        names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn a_job_that_comes_in_time_is_never_avoided() {
        let mut lacking = Lacking::default();
        lacking.reported("s", jobs(&["new"]), 0);
        lacking.reported("s", jobs(&["new"]), 29_000);
        lacking.tick(29_999);
        lacking.reported("s", jobs(&[]), 29_999);
        lacking.tick(90_000);
        assert!(!lacking.avoids("s", "new"));
        assert_eq!(lacking.changes(), 0);
    }

    #[test]
    fn a_job_that_does_not_come_is_avoided_until_it_is_there() {
        let mut lacking = Lacking::default();
        lacking.reported("s", jobs(&["new"]), 0);
        lacking.reported("s", jobs(&["new", "newer"]), 10_000);
        lacking.tick(30_000);
        lacking.tick(30_001);
        assert_eq!(lacking.changes(), 1, "told once");
        assert!(lacking.avoids("s", "new") && !lacking.avoids("s", "newer") && !lacking.avoids("t", "new"));
        let all = [Name::from("s"), Name::from("t")];
        let key = TargetKey(7);
        assert_eq!(lacking.divert(key, "new", &all[0], all.iter()), &all[1]);
        assert_eq!(lacking.divert(key, "newer", &all[0], all.iter()), &all[0]);
        assert_eq!(
            lacking.divert(key, "new", &all[0], all[..1].iter()),
            &all[0],
            "nobody has it: it may get it"
        );
        lacking.reported("s", jobs(&["new"]), 31_000);
        assert!(lacking.avoids("s", "new"), "a heartbeat that says the same changes nothing");
        lacking.reported("s", jobs(&["newer"]), 32_000);
        assert!(!lacking.avoids("s", "new"));
        assert_eq!(lacking.changes(), 2);
    }
}
