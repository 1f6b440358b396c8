//! Scrapers whose configuration file does not have a job (yet).
//!
//! A changed ConfigMap reaches nodes up to a minute apart. So a scraper that is given targets of a job that its file lacks is
//! waited for; after [`PATIENCE_MS`] the job's targets go to scrapers that have it, until its file has it, too.

use std::collections::BTreeMap;

/// How long a scraper's file may lack a job before the job's targets go elsewhere, in milliseconds.
pub(crate) const PATIENCE_MS: i64 = 30_000;

/// Which scraper lacks which jobs, and since when (Unix milliseconds).
#[derive(Debug, Default)]
pub(crate) struct Lacking {
    since: BTreeMap<String, BTreeMap<String, Lack>>,
}

#[derive(Clone, Copy, Debug)]
struct Lack {
    since_ms: i64,
    /// It was waited for in vain.
    overdue: bool,
}

impl Lacking {
    /// A scraper has told which jobs of the assignment its file lacks. Returns whether one that it was no longer given is
    /// there now.
    pub(crate) fn reported(
        &mut self,
        scraper: &str,
        jobs: impl Iterator<Item = String>,
        now_ms: i64,
    ) -> bool {
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
        came
    }

    /// Time has passed. Returns whether a scraper was waited for in vain.
    pub(crate) fn tick(&mut self, now_ms: i64) -> bool {
        let mut changed = false;
        for (scraper, jobs) in &mut self.since {
            for (job, lack) in jobs {
                if !lack.overdue && now_ms - lack.since_ms >= PATIENCE_MS {
                    lack.overdue = true;
                    changed = true;
                    tracing::warn!(
                        scraper,
                        job,
                        "the scraper's configuration does not have this job; its targets go to scrapers that have it"
                    );
                }
            }
        }
        changed
    }

    /// Whether this scraper should be given no targets of this job.
    #[must_use]
    pub(crate) fn avoids(&self, scraper: &str, job: &str) -> bool {
        self.since.get(scraper).and_then(|jobs| jobs.get(job)).is_some_and(|lack| lack.overdue)
    }

    /// Those of `scrapers` that may be given targets of this job: all where nobody has it, as one of them may get it.
    #[must_use]
    pub(crate) fn takers<'a>(&self, scrapers: &'a [String], job: &str) -> Vec<&'a String> {
        let knowing: Vec<&String> = scrapers.iter().filter(|scraper| !self.avoids(scraper, job)).collect();
        if knowing.is_empty() { scrapers.iter().collect() } else { knowing }
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
        assert!(!lacking.reported("s", jobs(&["new"]), 0));
        assert!(!lacking.reported("s", jobs(&["new"]), 29_000));
        assert!(!lacking.tick(29_999));
        assert!(!lacking.reported("s", jobs(&[]), 29_999));
        assert!(!lacking.tick(90_000));
        assert!(!lacking.avoids("s", "new"));
    }

    #[test]
    fn a_job_that_does_not_come_is_avoided_until_it_is_there() {
        let mut lacking = Lacking::default();
        lacking.reported("s", jobs(&["new"]), 0);
        lacking.reported("s", jobs(&["new", "newer"]), 10_000);
        assert!(lacking.tick(30_000));
        assert!(!lacking.tick(30_001), "told once");
        assert!(lacking.avoids("s", "new") && !lacking.avoids("s", "newer") && !lacking.avoids("t", "new"));
        let all = ["s".to_owned(), "t".to_owned()];
        assert_eq!(lacking.takers(&all, "new"), ["t"]);
        assert_eq!(lacking.takers(&all[..1], "new"), ["s"], "nobody has it: one of them may get it");
        assert!(!lacking.reported("s", jobs(&["new"]), 31_000));
        assert!(lacking.avoids("s", "new"), "a heartbeat that says the same changes nothing");
        assert!(lacking.reported("s", jobs(&["newer"]), 32_000));
        assert!(!lacking.avoids("s", "new"));
    }
}
