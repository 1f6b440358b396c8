//! What scrapers report beside hand-over: health and weight of targets, queues, rates.

use std::collections::{BTreeMap, HashMap};

use promring_model::target::{TargetId, TargetKey};
use promring_proto::api::{QueueReport, Report, TargetReport};

use crate::away::Away;
use crate::means::{Counted, Means};
use crate::targets::Discovered;

/// A weight that is another by less than this part is the same: samples come and go with every scrape.
const SAME_PART: u64 = 20;

/// So many targets may be told of before it is known whose they are; nobody has as many.
const TARGETS_MAX: usize = 2_000_000;

/// What a scraper last reported, beside its targets.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// The report without its targets and without what concerns hand-over but for the version.
    pub report: Report,
    /// Samples a second over its recent reports.
    pub samples_per_second: f64,
    /// When it reported, in Unix milliseconds.
    pub at_ms: i64,
    /// The run whose health of all targets was told.
    health_of_run: Option<u64>,
}

/// How one target is doing.
#[derive(Debug)]
struct Known {
    report: TargetReport,
    /// Samples of a recent scrape: a target that is down will be back with what it had. None: none has told any.
    samples: Option<u64>,
    /// As what it counts for the means.
    counted: Option<Counted>,
}

/// All scrapers' reports.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    by_scraper: BTreeMap<String, Reported>,
    targets: HashMap<TargetId, Known>,
    away: Away,
    means: Means,
    /// What scrapers told of targets before it was known whose these are.
    early: BTreeMap<String, HashMap<TargetId, TargetReport>>,
}

impl Reports {
    /// Keeps apart what a scraper tells of targets as long as nobody knows whose these are (see [`Reports::believe`]).
    pub(crate) fn put_by(&mut self, name: &str, told: Vec<TargetReport>) {
        let mut room = TARGETS_MAX.saturating_sub(self.early.values().map(HashMap::len).sum());
        if told.is_empty() {
            return;
        }
        let early = self.early.entry(name.to_owned()).or_default();
        for report in told {
            if early.contains_key(&report.id) || room > 0 {
                room -= usize::from(early.insert(report.id, report).is_none());
            }
        }
    }

    /// Whether something was put by.
    pub(crate) fn has_put_by(&self) -> bool {
        !self.early.is_empty()
    }

    /// A target turns out to be this scraper's: takes what was put by of it. The last word counts, but for its weight, which not
    /// every word has.
    pub(crate) fn believe(&mut self, name: &str, target: &Discovered) {
        let told = self.early.get_mut(name).and_then(|early| early.remove(&target.target.id));
        if let Some(report) = told {
            self.learn(report);
            self.count(target);
        }
    }

    /// It is known whose all targets are: nobody is believed what is still put by.
    pub(crate) fn drop_put_by(&mut self) {
        let ignored: usize = std::mem::take(&mut self.early).values().map(HashMap::len).sum();
        count_ignored(ignored);
    }

    /// Takes a report. Calls `changed` for each target whose weight is another than before, which is then to be counted (see
    /// [`Reports::count`]), and returns whether the health of all targets is wanted: there is only what changed.
    pub(crate) fn take(
        &mut self,
        name: &str,
        mut report: Report,
        now_ms: i64,
        mut changed: impl FnMut(TargetId),
    ) -> bool {
        for report in std::mem::take(&mut report.targets) {
            let id = report.id;
            if self.learn(report) {
                changed(id);
            }
        }
        report.handover.claims = Vec::new();
        report.handover.ended = Vec::new();
        report.handover.moves = Vec::new();
        let reported = self.by_scraper.entry(name.to_owned()).or_default();
        let run = report.handover.run;
        if report.full {
            reported.health_of_run = Some(run);
        }
        reported.observe(report, now_ms);
        reported.health_of_run != Some(run)
    }

    /// Takes what is told of a target. Returns whether its weight is another than before.
    fn learn(&mut self, report: TargetReport) -> bool {
        let id = report.id;
        let before = self.targets.remove(&id);
        let (known, counted) = before.map_or((None, None), |before| (before.samples, before.counted));
        let is_same = |known: &u64| report.samples.abs_diff(*known) <= known / SAME_PART;
        let samples = if known.as_ref().is_some_and(is_same) { known } else { report.yields().or(known) };
        self.targets.insert(id, Known { report, samples, counted });
        samples != known
    }

    /// These targets are no more. What they yielded is kept for a while.
    pub(crate) fn forget(&mut self, gone: &[(TargetKey, TargetId)], now_ms: i64) {
        self.away.expire(now_ms);
        for (key, id) in gone {
            let Some(known) = self.targets.remove(id) else { continue };
            known.counted.iter().for_each(|counted| self.means.remove(counted));
            if let Some(samples) = known.samples {
                self.away.put(*key, *id, samples, now_ms);
            }
        }
    }

    /// These targets are there: those that have lately been away yield what they did, those that have come in the place of others
    /// of their keys what these did, and all are counted (see [`Reports::count`]).
    pub(crate) fn welcome<'a>(&mut self, living: impl IntoIterator<Item = &'a Discovered>) {
        if self.targets.is_empty() && self.away.is_empty() {
            return;
        }
        for target in living {
            let id = target.target.id;
            // One of which something is known keeps that.
            let is_known = self.targets.get(&id).is_some_and(|known| known.samples.is_some());
            if !is_known && let Some(samples) = self.away.take(target.target.key, id) {
                let known = || Known { report: TargetReport::unknown(id), samples: None, counted: None };
                self.targets.entry(id).or_insert_with(known).samples = Some(samples);
            }
            self.count(target);
        }
    }

    /// Has what is known of a target stand for those of which nothing is.
    pub(crate) fn count(&mut self, target: &Discovered) {
        let target = &target.target;
        let Some(known) = self.targets.get_mut(&target.id) else { return };
        let Some(samples) = known.samples else { return };
        let counted = self.means.add(&target.job, counts(samples), target.interval);
        let before = known.counted.replace(counted);
        before.iter().for_each(|counted| self.means.remove(counted));
    }

    /// What a target of this job weighs of which nothing is known, in samples a second.
    pub(crate) fn guess(&self, job: &str) -> f64 {
        self.means.of(job)
    }

    /// How many of a job's targets have told how many samples they yield.
    pub(crate) fn known(&self, job: &str) -> usize {
        self.means.known(job)
    }

    /// Whether it is known how many samples a target yields.
    pub(crate) fn knows(&self, id: TargetId) -> bool {
        self.samples(id).is_some()
    }

    fn samples(&self, id: TargetId) -> Option<u64> {
        // One that is back may be asked for before it is welcomed.
        self.targets.get(&id).map_or_else(|| self.away.get(id), |known| known.samples)
    }

    /// Samples a second that the targets of a key make together; one of which nothing is known, as many as others do.
    pub(crate) fn weight<'a>(&self, targets: impl IntoIterator<Item = &'a Discovered>) -> f64 {
        let weight = |target: &Discovered| match self.samples(target.target.id) {
            None => self.guess(&target.target.job),
            Some(samples) => counts(samples) as f64 / target.target.interval.as_secs_f64(),
        };
        targets.into_iter().map(weight).sum()
    }

    /// What its scraper last said of a target.
    pub(crate) fn health(&self, id: TargetId) -> Option<&TargetReport> {
        self.targets.get(&id).map(|known| &known.report)
    }

    /// Whether a scraper had something in its queues when it reported last.
    pub(crate) fn has_backlog(&self, scraper: &str) -> bool {
        // What the receiver has refused before lies on the volume as well.
        let holds = |queue: &QueueReport| queue.samples > 0 || queue.aside_samples > 0;
        self.of(scraper).is_some_and(|reported| reported.report.queues.iter().any(holds))
    }

    /// Nobody needs to know any more what a scraper reported.
    pub(crate) fn forget_scraper(&mut self, scraper: &str) {
        self.by_scraper.remove(scraper);
        self.early.remove(scraper);
    }

    /// What a scraper last reported.
    pub(crate) fn of(&self, scraper: &str) -> Option<&Reported> {
        self.by_scraper.get(scraper)
    }
}

impl Reported {
    fn observe(&mut self, report: Report, now_ms: i64) {
        let seconds = (now_ms - self.at_ms) as f64 / 1_000.0;
        // A total that shrank is a scraper that restarted.
        if self.at_ms > 0 && seconds > 0.0 && report.samples_total >= self.report.samples_total {
            let rate = (report.samples_total - self.report.samples_total) as f64 / seconds;
            // Half of it is forgotten in about ten seconds: scrapes come in bursts.
            let share = 1.0 - 0.5_f64.powf(seconds / 10.0);
            let first = self.samples_per_second == 0.0;
            self.samples_per_second =
                if first { rate } else { self.samples_per_second * (1.0 - share) + rate * share };
        }
        (self.report, self.at_ms) = (report, now_ms);
    }
}

/// As how many samples a scrape counts: one without any costs something as well, and targets that weigh nothing could all be one
/// scraper's.
fn counts(samples: u64) -> u64 {
    samples.max(1)
}

/// Counts targets that somebody told of who does not have them.
pub(crate) fn count_ignored(targets: usize) {
    metrics::counter!("promring_allocator_report_targets_ignored_total").increment(targets as u64);
}

#[cfg(test)]
mod tests {
    use promring_proto::api::{Health, MemberReport};

    use super::*;

    #[test]
    fn a_target_that_goes_down_or_wobbles_keeps_its_weight() {
        let mut reports = Reports::default();
        let id = TargetId(1);
        let mut changes = 0;
        let mut told = |health, samples, empty| {
            let targets = vec![TargetReport { health, samples, empty, ..TargetReport::unknown(id) }];
            reports.take("a", Report { targets, ..Report::default() }, 0, |_| changes += 1);
            (changes, reports.samples(id))
        };
        assert_eq!(told(Health::Unknown, 0, false), (0, None), "not scraped yet");
        assert_eq!(told(Health::Down, 0, false), (0, None), "never seen up");
        assert_eq!(told(Health::Up, 500, false), (1, Some(500)));
        assert_eq!(told(Health::Down, 0, false), (1, Some(500)));
        assert_eq!(told(Health::Up, 500, false), (1, Some(500)));
        assert_eq!(told(Health::Up, 600, false), (2, Some(600)));
        assert_eq!(told(Health::Up, 570, false), (2, Some(600)));
        assert_eq!(told(Health::Up, 630, false), (2, Some(600)));
        assert_eq!(told(Health::Down, 900, false), (3, Some(900)), "another scraper has seen it up since");
        assert_eq!(told(Health::Up, 0, true), (4, Some(0)), "it yields nothing, and is well");
        assert_eq!(told(Health::Up, 0, false), (4, Some(0)));
        assert_eq!(told(Health::Down, 0, false), (4, Some(0)));
        assert_eq!(told(Health::Up, 1, false), (5, Some(1)));
    }

    #[test]
    fn a_target_that_is_down_and_yielded_nothing_before_is_known() {
        let mut reports = Reports::default();
        let told = TargetReport { health: Health::Down, empty: true, ..TargetReport::unknown(TargetId(1)) };
        // An allocator that has just started hears no more of it than this.
        let told = serde_json::from_slice(&serde_json::to_vec(&told).unwrap()).unwrap();
        reports.take("a", Report { targets: vec![told], ..Report::default() }, 0, |_| ());
        assert!(reports.knows(TargetId(1)));
    }

    #[test]
    fn what_lies_aside_is_left_on_a_volume_as_well() {
        let mut reports = Reports::default();
        for (samples, aside_samples, has_backlog) in [(0, 0, false), (1, 0, true), (0, 1, true)] {
            let queues = vec![QueueReport { samples, aside_samples, ..QueueReport::default() }];
            reports.take("a", Report { queues, ..Report::default() }, 0, |_| ());
            assert_eq!(reports.has_backlog("a"), has_backlog, "{samples} {aside_samples}");
        }
    }

    #[test]
    fn every_run_is_asked_for_the_health_of_all_its_targets() {
        let mut reports = Reports::default();
        let mut report = |run, full| {
            let handover = MemberReport { run, ..MemberReport::default() };
            reports.take("a", Report { full, handover, ..Report::default() }, 0, |_| ())
        };
        assert!(report(1, false));
        assert!(!report(1, true) && !report(1, false));
        assert!(report(2, false), "what it found out before it restarted is old");
    }
}
