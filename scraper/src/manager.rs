//! The manager: keeps one loop running for each target of the assignment.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, counter, describe_counter, describe_gauge, gauge};
use promring_model::config::{Config, ScrapeConfig};
use promring_model::labels::Labels;
use promring_model::target::{Target, TargetId, TargetKey};
use promring_net::clock::now_ms;
use promring_proto::api::{AssignedTarget, Assignment, Grant, Health, TargetReport, Version};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::assignment::{Change, Difference, Held};
use crate::destinations::Prepared;
use crate::handover::{End, Gate};
use crate::leaving::Leaving;
use crate::rules::{Classes, SeriesRules};
use crate::scrape::fetch::Fetcher;
use crate::scrape::{BodyRules, Carried, Command, Environment, Keep, TargetLoop};
use crate::sink::Sink;

/// One target that is being scraped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) target: Arc<Target>,
    pub(crate) commands: watch::Sender<Command>,
    pub(crate) task: Task,
}

/// A loop; it ends with what its successor takes over.
pub type Task = JoinHandle<Option<Carried>>;

/// A job as this scraper's own file has it.
#[derive(Debug)]
struct Job {
    config: Arc<ScrapeConfig>,
    /// How its targets are asked, or why they can't be.
    fetcher: Result<Arc<Fetcher>, String>,
}

/// All targets of this scraper.
#[derive(Debug)]
pub struct Manager {
    environment: Arc<Environment>,
    jobs: HashMap<String, Job>,
    external: Labels,
    sink: Arc<Sink>,
    classes: Classes,
    held: Held,
    running: HashMap<TargetId, Running>,
    /// The longest timeout of any target that there was: no scrape in flight takes longer.
    timeout_max: Duration,
    /// Loops that were told to end and may still do.
    ending: Vec<Task>,
    /// Those of them that end with markers.
    leaving: Leaving,
    /// Jobs that the own file does not have, of which targets were assigned: each is in the log once.
    unknown: BTreeSet<String>,
}

impl Manager {
    /// A manager without targets.
    #[must_use]
    pub fn new(config: &Config, prepared: Prepared, environment: Arc<Environment>) -> Self {
        describe_metrics();
        let jobs = config.scrape_configs.iter().map(|job| {
            let made = Job::new(job, config);
            count_pool(false, made.fetcher.is_ok());
            (job.job_name.clone(), made)
        });
        let jobs = jobs.collect();
        Self {
            environment,
            jobs,
            external: config.external_labels.clone(),
            sink: prepared.sink,
            classes: prepared.classes,
            held: Held::default(),
            running: HashMap::new(),
            timeout_max: Duration::ZERO,
            ending: Vec::new(),
            leaving: Leaving::default(),
            unknown: BTreeSet::new(),
        }
    }

    /// The version in force.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.held.version()
    }

    /// Everything that is assigned; None before the first answer.
    #[must_use]
    pub fn assignment(&self) -> Option<Assignment> {
        self.held.assignment()
    }

    /// Goes on with the assignment of an earlier process; the gate says from when on.
    pub fn restore(&mut self, assignment: Assignment) {
        let version = assignment.version;
        if let Some(difference) = self.held.apply(assignment) {
            self.carry_out(version, difference.changes, &HashMap::new());
        }
    }

    /// Brings an answer of the allocator into force, to a poll that was sent at `asked_ms`. False: it was of no use, and
    /// the next poll should ask for everything.
    pub fn apply(&mut self, mut answer: Assignment, asked_ms: i64) -> bool {
        let version = answer.version;
        let moves = std::mem::take(&mut answer.moves);
        let gate = Arc::clone(&self.environment.gate);
        let held = &mut self.held;
        // Nothing else that the member is told comes in between.
        let taken = gate.with(|member| {
            let Difference { changes, gone } = member.takes(version).then(|| held.apply(answer)).flatten()?;
            let told = held.told(version, moves, gone, |key| member.window(key));
            Some((changes, member.apply(told, asked_ms, now_ms())?))
        });
        let Some((changes, effects)) = taken else {
            tracing::warn!(%version, held = ?self.held.version(), "an assignment of an older term, or relative to another version, is ignored");
            return false;
        };
        self.carry_out(version, changes, &Gate::ends(&effects));
        gate.changed.notify_one();
        true
    }

    fn carry_out(&mut self, version: Version, changes: Vec<Change>, ends: &HashMap<TargetKey, End>) {
        drop(self.take_ended());
        self.environment.companions.set(self.held.shared());
        let mut left: HashMap<TargetKey, Task> = HashMap::new();
        let (mut taken, mut ended) = (0_usize, 0_usize);
        let mut took: HashMap<String, Duration> = HashMap::new();
        let comes = |change: &Change| match change {
            Change::Take { target, .. } if !self.running.contains_key(&target.id) => self.held.key(target.id),
            Change::Take { .. } | Change::Moved(_) | Change::Gone(_) => None,
        };
        let succeeded: HashSet<TargetKey> = match self.environment.gate.with(|member| member.is_moving()) {
            true => changes.iter().filter_map(comes).collect(),
            false => HashSet::new(),
        };
        for change in changes {
            match change {
                Change::Moved(id) => {
                    ended += 1;
                    let command = self.moved(id, &succeeded);
                    if let Some(running) = self.stop(id, command) {
                        left.insert(running.target.key, running.task);
                    }
                }
                Change::Gone(id) => {
                    ended += 1;
                    let command = self.gone(id, ends);
                    if let Some(running) = self.stop(id, command) {
                        self.ending.push(running.task);
                    }
                }
                Change::Take { job, target } => {
                    taken += 1;
                    let begun = Instant::now();
                    self.take(&job, *target, &mut left);
                    *took.entry(job).or_default() += begun.elapsed();
                }
            }
        }
        self.ending.extend(left.into_values());
        self.tell_refusals();
        self.tell_idle();
        for (job, terms) in self.held.jobs() {
            counter!("prometheus_target_scrape_pool_sync_total", "scrape_job" => job.clone()).increment(1);
            let took = took.remove(job).unwrap_or_default();
            self.environment.metrics.syncs.record(job, took.as_secs_f64());
            // What the allocator refuses is too many targets.
            let exceeded = counter!("prometheus_target_scrape_pool_exceeded_target_limit_total");
            exceeded.increment(u64::from(terms.refusal.is_some()));
        }
        tracing::info!(%version, taken, ended, targets = self.running.len(), "assignment in force");
    }

    /// How a target that exists no more ends. Its key may have other targets; it may also be another scraper's by now,
    /// which writes the markers then.
    fn gone(&self, id: TargetId, ends: &HashMap<TargetKey, End>) -> Command {
        let Some(key) = self.running.get(&id).map(|running| running.target.key) else {
            return Command::Moved;
        };
        let gate = &self.environment.gate;
        let end = ends.get(&key).copied().or_else(|| {
            gate.with(|member| {
                let (from, until) =
                    member.window(key).filter(|(_, until)| until.is_none_or(|at| at > now_ms()))?;
                let fence = member.fence(key).map(|(id, _)| id);
                Some(End { from: Some(from), until, fence, ..End::default() })
            })
        });
        match end {
            Some(end) => self.marked(id, key, end),
            None => self.moved(id, &HashSet::new()),
        }
    }

    /// It ends with markers, but for the series that are another one's as well.
    fn marked(&self, id: TargetId, key: TargetKey, end: End) -> Command {
        let gate = &self.environment.gate;
        let is_other = |running: &Running| running.target.key == key && running.target.id != id;
        let shared =
            gate.with(|member| member.grant_of(key).is_some()) && self.running.values().any(is_other);
        gate.begin_markers(key);
        Command::Gone(End { shared, ..end })
    }

    /// How a target ends that is another scraper's from now on. One that exists no more, and was on its way to it, ends here where its
    /// next slot is before T, and else there, with markers of the series that it had here. Others of its key may live; `succeeded`
    /// are keys of which another one comes here in its place.
    fn moved(&self, id: TargetId, succeeded: &HashSet<TargetKey>) -> Command {
        let Some(key) = self.running.get(&id).map(|running| running.target.key) else {
            return Command::Moved;
        };
        let gate = &self.environment.gate;
        let end = gate.with(|member| {
            let (_, until) = member.gives(key).filter(|_| !succeeded.contains(&key))?;
            // The key is not held any more, but what came by a move may still wait.
            let fences = member.fences().filter(|(_, _, keys)| keys.contains(&key));
            let fence = fences.map(|(id, ..)| id).max();
            Some(End { until, fence, given: true, ..End::default() })
        });
        let Some(end) = end else { return Command::Moved };
        gate.given.expect_gone(key, id);
        self.marked(id, key, end)
    }

    /// Has the series of these keys' targets put where their next owner finds them.
    pub(crate) fn show(&self, keys: &BTreeSet<TargetKey>) {
        let mut expected: HashMap<TargetKey, Vec<&Running>> =
            keys.iter().map(|key| (*key, Vec::new())).collect();
        for running in self.running.values() {
            if let Some(targets) = expected.get_mut(&running.target.key) {
                targets.push(running);
            }
        }
        for (key, targets) in expected {
            self.environment.gate.given.expect(key, targets.iter().map(|running| running.target.id));
            for running in targets {
                running.commands.send_modify(|command| {
                    if let Command::Scrape(refusal) = command {
                        *command = Command::Show(refusal.take());
                    }
                });
            }
        }
    }

    /// Says of which keys targets cannot be scraped here.
    fn tell_idle(&self) {
        self.environment.gate.set_idle(self.held.keys_without(|id| self.running.contains_key(&id)));
    }

    /// Tells a loop how it ends. One that writes markers first is looked after here; any other is returned.
    fn stop(&mut self, id: TargetId, command: Command) -> Option<Running> {
        let running = self.running.remove(&id)?;
        let is_marked = matches!(command, Command::Gone(_));
        running.commands.send_replace(command);
        if is_marked {
            self.leaving.add(running);
            return None;
        }
        Some(running)
    }

    fn take(&mut self, job: &str, assigned: AssignedTarget, left: &mut HashMap<TargetKey, Task>) {
        if self.running.contains_key(&assigned.id) {
            return;
        }
        let Some(own) = self.jobs.get(job) else {
            if self.unknown.insert(job.to_owned()) {
                tracing::warn!(
                    job,
                    "targets were assigned of a job that this scraper's configuration does not have"
                );
            }
            return;
        };
        let is_usable = own.fetcher.is_ok();
        match Target::from_final_labels(&own.config, assigned.labels) {
            Ok(mut target) => {
                // The allocator's word for it, even where its file gives the URL other parameters than ours.
                target.id = assigned.id;
                let predecessor = match is_usable {
                    true => self.predecessor(&target, assigned.grant, left),
                    false => None,
                };
                // A slot belongs to this scraper if it comes after the target became active here, which the gate knows.
                self.start(Arc::new(target), now_ms(), predecessor);
            }
            Err(error) => {
                sync_failed(job).increment(1);
                tracing::error!(job, %error, "an assigned target cannot be scraped");
            }
        }
    }

    /// The loop that had the series of a target which comes: its own that has not ended yet since it was gone, or that of
    /// another one with its key, which the same answer takes away or which is gone and does not come back itself.
    fn predecessor(
        &mut self,
        target: &Target,
        grant: Grant,
        left: &mut HashMap<TargetKey, Task>,
    ) -> Option<(Task, Keep)> {
        let own = self.leaving.succeed(target.key, grant.incoming, |id| id == target.id);
        own.or_else(|| Some((left.remove(&target.key)?, Keep::Everything)))
            .or_else(|| self.leaving.succeed(target.key, grant.incoming, |id| !self.held.holds(id)))
    }

    /// Starts the loop of a target. Where another one had its series, the new one waits for its end.
    fn start(&mut self, target: Arc<Target>, from_ms: i64, predecessor: Option<(Task, Keep)>) {
        let Some(own) = self.jobs.get(&*target.job) else { return };
        let fetcher = match &own.fetcher {
            Ok(fetcher) => Arc::clone(fetcher),
            Err(error) => {
                tracing::error!(job = %target.job, error, "the job's HTTP settings cannot be used; its targets are not scraped");
                let report = TargetReport {
                    health: Health::Down,
                    last_error: error.clone(),
                    ..TargetReport::unknown(target.id)
                };
                self.environment.statuses.set(report);
                return;
            }
        };
        let rules = SeriesRules::new(&own.config, &target, &self.external, &self.classes);
        let body_rules = BodyRules::new(&own.config, &target);
        let mut target_loop = Box::new(TargetLoop::new(
            Arc::clone(&target),
            fetcher,
            rules,
            body_rules,
            Arc::clone(&self.sink),
            Arc::clone(&self.environment),
        ));
        let refusal = self.held.jobs().get(&*target.job).and_then(|terms| terms.refusal.clone());
        let (commands, received) = watch::channel(Command::Scrape(refusal));
        let task = tokio::spawn(async move {
            let mut done_ms = from_ms;
            if let Some((task, keep)) = predecessor
                && let Some(carried) = task.await.ok().flatten()
            {
                done_ms = target_loop.take_over(carried, keep);
            }
            target_loop.run(done_ms, received).await
        });
        self.timeout_max = self.timeout_max.max(target.timeout);
        self.running.insert(target.id, Running { target, commands, task });
    }

    /// Takes a new configuration. Targets of jobs that did not change go on undisturbed, unless external labels or
    /// destinations changed; no target loses a slot. Jobs that the new file lacks go on as they are until the
    /// allocator, which has the same file, takes them away.
    pub fn apply_config(&mut self, config: &Config, prepared: Prepared) {
        let labels_changed = self.external != config.external_labels || self.classes != prepared.classes;
        let sink_changed = labels_changed || !self.sink.is_same(&prepared.sink);
        self.external = config.external_labels.clone();
        (self.sink, self.classes) = (prepared.sink, prepared.classes);
        let mut changed = BTreeSet::new();
        for job in &config.scrape_configs {
            let same = |known: &Job| known.config.scraper_hash == job.scraper_hash && known.fetcher.is_ok();
            if !self.jobs.get(&job.job_name).is_some_and(same) {
                changed.insert(job.job_name.clone());
                let (known, made) = (self.jobs.contains_key(&job.job_name), Job::new(job, config));
                count_pool(known, made.fetcher.is_ok());
                self.jobs.insert(job.job_name.clone(), made);
            }
        }
        let kept = |target: &Target| match (labels_changed, changed.contains(&*target.job), sink_changed) {
            (true, _, _) => Some(Keep::Slots),
            (false, true, _) => Some(Keep::Markers),
            (false, false, true) => Some(Keep::Everything),
            (false, false, false) => None,
        };
        let running = self.running.values();
        let restarted: Vec<(TargetId, Keep)> =
            running.filter_map(|running| Some((running.target.id, kept(&running.target)?))).collect();
        self.leaving.reconfigure(kept);
        for (id, keep) in &restarted {
            if let Some(running) = self.running.remove(id) {
                running.commands.send_replace(Command::Moved);
                self.start(running.target, i64::MIN, Some((running.task, *keep)));
            }
        }
        // Targets that were assigned before the own file had their job, or while its settings could not be used.
        for target in self.held.targets() {
            if changed.contains(&target.0) && !self.running.contains_key(&target.1.id) {
                self.take(&target.0, target.1, &mut HashMap::new());
            }
        }
        self.unknown.retain(|job| !self.jobs.contains_key(job));
        self.tell_idle();
        tracing::info!(
            jobs_changed = changed.len(),
            loops_restarted = restarted.len(),
            "scraper: configuration taken"
        );
    }

    /// Tells running loops whether their job may be scraped.
    fn tell_refusals(&self) {
        for running in self.running.values() {
            let refusal = self.held.jobs().get(&*running.target.job).and_then(|terms| terms.refusal.clone());
            let gives = || self.environment.gate.with(|member| member.gives(running.target.key).is_some());
            running.commands.send_if_modified(|held| {
                let command = match held {
                    Command::Show(_) if gives() => Command::Show(refusal),
                    Command::Show(_)
                    | Command::Scrape(_)
                    | Command::Moved
                    | Command::Gone(_)
                    | Command::Back { .. } => Command::Scrape(refusal),
                };
                let changed = *held != command;
                if changed {
                    held.clone_from(&command);
                }
                changed
            });
        }
    }

    /// Brings the metrics of Prometheus's scrape pools up to date: a pool is a job that has targets here.
    pub fn publish(&mut self) {
        let mut targets: BTreeMap<&str, usize> = self.jobs.keys().map(|job| (job.as_str(), 0)).collect();
        for running in self.running.values() {
            *targets.entry(&running.target.job).or_default() += 1;
        }
        gauge!("promring_config_mismatches", "kind" => "differs").set(self.mismatches().len() as f64);
        gauge!("promring_config_mismatches", "kind" => "absent").set(self.unknown_jobs().len() as f64);
        for (job, count) in targets {
            gauge!("prometheus_target_scrape_pool_targets", "scrape_job" => job.to_owned()).set(count as f64);
            if let Some(own) = self.jobs.get(job) {
                let limit = own.config.limits.targets.unwrap_or(0) as f64;
                gauge!("prometheus_target_scrape_pool_target_limit", "scrape_job" => job.to_owned())
                    .set(limit);
            }
        }
    }

    /// The targets that are scraped.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.running.values().map(|running| &running.target)
    }

    /// Jobs whose configuration here differs from the allocator's.
    #[must_use]
    pub fn mismatches(&self) -> Vec<String> {
        let differs = |(name, job): (&String, &Job)| {
            let theirs = self.held.jobs().get(name)?;
            (theirs.config_hash != format!("{:016x}", job.config.scraper_hash)).then(|| name.clone())
        };
        let mut names: Vec<String> = self.jobs.iter().filter_map(differs).collect();
        names.sort();
        names
    }

    /// Jobs that the allocator has and the own file does not. Targets of them wait for the file; after a while the allocator
    /// gives them to others.
    #[must_use]
    pub fn unknown_jobs(&self) -> Vec<String> {
        self.held.jobs().keys().filter(|job| !self.jobs.contains_key(*job)).cloned().collect()
    }

    /// How long a scrape in flight may take, of targets that were moved or are gone as well.
    pub(crate) fn scrape_timeout_max(&self) -> Duration {
        self.timeout_max
    }

    /// Hands over the tasks of loops that have ended, with all that is known of their series, which nobody takes over any more.
    pub fn take_ended(&mut self) -> Vec<Task> {
        let mut ended = self.leaving.take_finished();
        ended.extend(self.ending.extract_if(.., |task| task.is_finished()));
        ended
    }

    /// Hands over the tasks of all loops, to be waited for once `stopping` was triggered.
    pub fn take_tasks(&mut self) -> Vec<Task> {
        let running = std::mem::take(&mut self.running).into_values().map(|running| running.task);
        running.chain(self.ending.drain(..)).chain(self.leaving.take_tasks()).collect()
    }
}

/// Prometheus's counters of scrape pools that are made, and made anew.
fn count_pool(known: bool, good: bool) {
    let (all, failed) = if known {
        (
            counter!("prometheus_target_scrape_pool_reloads_total"),
            counter!("prometheus_target_scrape_pool_reloads_failed_total"),
        )
    } else {
        (
            counter!("prometheus_target_scrape_pools_total"),
            counter!("prometheus_target_scrape_pools_failed_total"),
        )
    };
    all.increment(1);
    failed.increment(u64::from(!good));
}

fn describe_metrics() {
    describe_counter!("prometheus_target_scrape_pools_total", "Jobs that were set up.");
    describe_counter!("prometheus_target_scrape_pools_failed_total", "Jobs that could not be set up.");
    describe_counter!("prometheus_target_scrape_pool_reloads_total", "Jobs that were set up anew.");
    describe_counter!(
        "prometheus_target_scrape_pool_reloads_failed_total",
        "Jobs that could not be set up anew."
    );
    describe_counter!("prometheus_target_scrape_pool_sync_total", "Assignments taken, by job.");
    describe_counter!(
        "prometheus_target_scrape_pool_exceeded_target_limit_total",
        "Assignments of a job that was over its target_limit."
    );
    describe_gauge!("prometheus_target_scrape_pool_targets", "Targets that are scraped here, by job.");
    describe_gauge!("prometheus_target_scrape_pool_target_limit", "target_limit of a job; 0 without one.");
    counter!("prometheus_target_scrape_pool_reloads_total").increment(0);
    counter!("prometheus_target_scrape_pool_reloads_failed_total").increment(0);
}

/// Assigned targets of a job that cannot be scraped: there from the start, since alerts look at its growth.
fn sync_failed(job: &str) -> Counter {
    counter!("prometheus_target_sync_failed_total", "scrape_job" => job.to_owned())
}

impl Job {
    fn new(job: &Arc<ScrapeConfig>, config: &Config) -> Self {
        sync_failed(&job.job_name).increment(0);
        let fetcher = Fetcher::new(job, config.scraper.body_size_limit);
        Self { config: Arc::clone(job), fetcher: fetcher.map(Arc::new).map_err(|error| error.to_string()) }
    }
}
