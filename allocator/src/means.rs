//! What a target weighs of which nothing is known yet: as much as the others do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Samples a second of a target where nothing is known of any: 1,500 series every 15 s.
pub(crate) const WEIGHT_DEFAULT: f64 = 100.0;

/// Whole millionths of a sample a second, so that what is taken away leaves nothing behind.
const UNITS: f64 = 1e6;

/// The mean weight of the targets of each job, and of all, as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct Means {
    jobs: HashMap<Arc<str>, Mean>,
    all: Mean,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    units: u128,
    targets: usize,
}

/// What one target was counted as.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    job: Arc<str>,
    units: u64,
}

impl Means {
    /// Counts a target of this job with as many samples in each interval.
    pub(crate) fn add(&mut self, job: &Arc<str>, samples: u64, interval: Duration) -> Counted {
        // The cast saturates.
        let units = (samples as f64 / interval.as_secs_f64() * UNITS) as u64;
        match self.jobs.get_mut(job) {
            Some(mean) => mean.add(units),
            None => self.jobs.entry(Arc::clone(job)).or_default().add(units),
        }
        self.all.add(units);
        Counted { job: Arc::clone(job), units }
    }

    /// Takes back what was counted.
    pub(crate) fn remove(&mut self, Counted { job, units }: &Counted) {
        self.all.remove(*units);
        if let Some(mean) = self.jobs.get_mut(job) {
            mean.remove(*units);
            if mean.targets == 0 {
                self.jobs.remove(job);
            }
        }
    }

    /// Samples a second of a target of this job, if nothing is known of it: the mean of those of the job that are known, or of
    /// all that are.
    pub(crate) fn of(&self, job: &str) -> f64 {
        let of_job = self.jobs.get(job).and_then(Mean::samples);
        of_job.or_else(|| self.all.samples()).unwrap_or(WEIGHT_DEFAULT)
    }

    /// How many targets of a job are known.
    pub(crate) fn known(&self, job: &str) -> usize {
        self.jobs.get(job).map_or(0, |mean| mean.targets)
    }
}

impl Mean {
    fn add(&mut self, units: u64) {
        self.units += u128::from(units);
        self.targets += 1;
    }

    fn remove(&mut self, units: u64) {
        self.units = self.units.saturating_sub(u128::from(units));
        self.targets = self.targets.saturating_sub(1);
    }

    fn samples(&self) -> Option<f64> {
        (self.targets > 0).then(|| self.units as f64 / self.targets as f64 / UNITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_weighs_as_its_job_does_or_as_all_do() {
        let mut means = Means::default();
        assert_eq!(means.of("web"), WEIGHT_DEFAULT);
        let (web, db): (Arc<str>, Arc<str>) = (Arc::from("web"), Arc::from("db"));
        let second = Duration::from_secs(1);
        let counted = [
            means.add(&web, 100, second),
            means.add(&web, 600, second * 2),
            means.add(&db, 5_000, second * 10),
        ];
        assert_eq!((means.of("web"), means.known("web")), (200.0, 2));
        assert_eq!(means.of("db"), 500.0);
        assert_eq!((means.of("new"), means.known("new")), (300.0, 0));
        means.remove(&counted[1]);
        assert_eq!((means.of("web"), means.of("new")), (100.0, 300.0));
        means.remove(&counted[0]);
        assert_eq!((means.of("web"), means.known("web")), (500.0, 0));
        means.remove(&counted[2]);
        assert_eq!(means.of("web"), WEIGHT_DEFAULT);
        assert!(means.jobs.is_empty());
    }

    #[test]
    fn no_number_of_samples_is_too_large() {
        let mut means = Means::default();
        let job: Arc<str> = Arc::from("a");
        let counted: Vec<Counted> =
            (0..3).map(|_| means.add(&job, u64::MAX, Duration::from_millis(1))).collect();
        assert!(means.of("a") > 1e12 && means.of("a").is_finite());
        counted.iter().for_each(|counted| means.remove(counted));
        assert_eq!(means.of("a"), WEIGHT_DEFAULT);
    }
}
