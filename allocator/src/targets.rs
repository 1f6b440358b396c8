//! From target groups to targets: one job's discovered labels, relabelled, checked and without doubles.
//!
//! Work is done a group at a time: a change of one pod relabels that pod's targets only.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use promring_model::config::{Discovery, ScrapeConfig};
use promring_model::labels::Labels;
use promring_model::target::{Assembled, DiscoveredLabels, Target, TargetError, TargetId, TargetKey};
use promring_proto::api::{DroppedTarget, SourceStatus};

use crate::discovery::{Found, Group, kind_of};
use crate::packed::Packed;
use crate::patience::Condition;
use crate::succession::{self, Fate};

/// Dropped targets shown, for each job, unless `keep_dropped_targets` names another number.
const DROPPED_KEPT_MAX: u64 = 1_000;

/// Labels before relabelling that name the node of a target, the first that is there counts: its pod's, its endpoint's,
/// and the node itself.
pub const NODE_LABELS: [&str; 4] = [
    "__meta_kubernetes_pod_node_name",
    "__meta_kubernetes_endpoint_node_name",
    "__meta_kubernetes_endpointslice_endpoint_node_name",
    "__meta_kubernetes_node_name",
];

/// A target as the allocator keeps it: [`Target`] with its labels packed and without the URL, which follows from them.
#[derive(Debug)]
pub struct PackedTarget {
    /// Its identity.
    pub id: TargetId,
    /// Its key.
    pub key: TargetKey,
    /// The job that it belongs to.
    pub job: Arc<str>,
    /// Final labels.
    pub labels: Packed,
    /// How often it is scraped.
    pub interval: Duration,
    /// How long a scrape may take.
    pub timeout: Duration,
}

impl PackedTarget {
    /// The target with everything that follows from its labels. `config` is its job's.
    ///
    /// # Errors
    /// Where the configuration is another than the one that the target was made by, and does not fit.
    pub fn unpack(&self, config: &ScrapeConfig) -> Result<Target, TargetError> {
        Target::from_final_labels(config, self.labels.to_labels())
    }
}

/// A target and where it comes from.
#[derive(Debug)]
pub struct Discovered {
    /// The target.
    pub target: PackedTarget,
    group: Arc<Group>,
    /// Its place in the group.
    index: usize,
}

impl Discovered {
    /// The target that `target` became, whose labels stand at `index` in the group.
    #[must_use]
    pub fn new(target: PackedTarget, group: Arc<Group>, index: usize) -> Self {
        Self { target, group, index }
    }

    /// The node that it runs on, by the labels that discovery of Kubernetes gives it.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        let own = self.group.targets.get(self.index);
        let label = |name: &&str| own.and_then(|own| own.get(name)).or_else(|| self.group.labels.get(name));
        NODE_LABELS.iter().find_map(label)
    }

    /// Its labels before relabelling, made anew: they are long, and only people read them.
    #[must_use]
    pub fn discovered_labels(&self, config: &ScrapeConfig) -> Labels {
        before_relabelling(config, &self.group, self.index).build()
    }
}

/// What became of a group's targets, one for one: None for those that are none after relabelling.
type Outcomes = Box<[Option<Arc<Discovered>>]>;

/// A group that a source has told.
#[derive(Debug)]
struct Held {
    group: Arc<Group>,
    outcomes: Outcomes,
    /// The source's start in which it was told last.
    round: u64,
}

/// One source of a job.
#[derive(Debug, Default)]
struct Source {
    groups: HashMap<Arc<str>, Held>,
    /// Counts the starts of the source: what a new start has not told once it is complete is gone.
    round: u64,
    condition: Condition,
}

/// What a source has told that is no more. It stays until those that came instead have told everything.
#[derive(Debug)]
struct Inherited {
    groups: Vec<Held>,
    /// The places of those of them that have not yet.
    heirs: BTreeSet<usize>,
}

/// Everything that is known of one job's targets.
#[derive(Debug)]
pub struct JobTargets {
    /// The job's configuration.
    pub config: Arc<ScrapeConfig>,
    /// The job's name as its targets share it.
    name: Arc<str>,
    sources: Vec<Source>,
    inherited: Vec<Inherited>,
    active: BTreeMap<TargetId, Arc<Discovered>>,
    /// Further targets with an identity that is active. One takes over when the active one goes.
    doubles: HashMap<TargetId, Vec<Arc<Discovered>>>,
    /// Targets that became active (true) or ceased to be, in that order.
    changes: Vec<(Arc<Discovered>, bool)>,
    discovered: usize,
    dropped: u64,
    duplicates: u64,
    /// Grows with every change of what the other fields say.
    revision: u64,
}

impl JobTargets {
    /// No source has synced yet.
    #[must_use]
    pub fn new(config: Arc<ScrapeConfig>) -> Self {
        sync_failed(&config.job_name).increment(0);
        Self {
            name: Arc::from(config.job_name.as_str()),
            sources: config.discovery.iter().map(|_| Source::default()).collect(),
            inherited: Vec::new(),
            config,
            active: BTreeMap::new(),
            doubles: HashMap::new(),
            changes: Vec::new(),
            discovered: 0,
            dropped: 0,
            duplicates: 0,
            revision: 0,
        }
    }

    /// Takes a new configuration of the same job. Sources that are as they were keep what they have told; what others have
    /// told stays until all that came instead of them have synced (the module `succession`).
    pub fn reconfigure(&mut self, config: Arc<ScrapeConfig>) {
        self.revision += 1;
        let fates = succession::fates(&self.config.discovery, &config.discovery);
        for inherited in &mut self.inherited {
            let heirs = inherited.heirs.iter().filter_map(|place| fates.get(*place)).flat_map(Fate::heirs);
            inherited.heirs = heirs.copied().collect();
        }
        let new = config.discovery.iter().map(|_| Source::default()).collect();
        let before = std::mem::replace(&mut self.sources, new);
        for (mut old, fate) in before.into_iter().zip(fates) {
            match fate {
                Fate::Stays(place) => {
                    // It starts anew as well.
                    old.round += 1;
                    if let Some(source) = self.sources.get_mut(place) {
                        *source = old;
                    }
                }
                Fate::Yields(places) => {
                    let groups = old.groups.into_values().collect();
                    self.inherited.push(Inherited { groups, heirs: places.into_iter().collect() });
                }
                Fate::Goes => {}
            }
        }
        self.inherited.retain(|inherited| !inherited.heirs.is_empty() && !inherited.groups.is_empty());
        self.config = config;
        self.relabel();
        let config = Arc::clone(&self.config);
        // What stands in the file need not be waited for.
        for (place, discovery) in config.discovery.iter().enumerate() {
            if let Discovery::Static(groups) = discovery {
                self.update(place, Found::all(groups));
            }
        }
    }

    /// A source told something. Returns whether the job's targets may have changed.
    pub fn update(&mut self, source: usize, found: Found) -> bool {
        let Some(state) = self.sources.get_mut(source) else { return false };
        let was_synced = state.condition.is_synced();
        let changed = match found {
            Found::Arriving => {
                state.condition.arriving();
                return false;
            }
            Found::Failed(failure) => {
                state.condition.failed(failure);
                return false;
            }
            Found::All(groups) => {
                state.round += 1;
                self.take(source, groups, &[], true)
            }
            Found::Changes { upsert, removed, complete } => self.take(source, upsert, &removed, complete),
        };
        let synced = self.sources.get(source).is_some_and(|source| source.condition.is_synced());
        if synced && !was_synced {
            for inherited in &mut self.inherited {
                inherited.heirs.remove(&source);
            }
            let done = self.inherited.extract_if(.., |inherited| inherited.heirs.is_empty());
            let done: Vec<Inherited> = done.collect();
            done.iter().flat_map(|inherited| &inherited.groups).for_each(|held| self.forget(held));
        }
        let changed = changed || synced != was_synced;
        self.revision += u64::from(changed);
        changed
    }

    fn take(&mut self, source: usize, upsert: Vec<Arc<Group>>, removed: &[Arc<str>], complete: bool) -> bool {
        let Some(state) = self.sources.get_mut(source) else { return false };
        state.condition.told(complete);
        let mut known = std::mem::take(&mut state.groups);
        let round = state.round;
        // Nothing is forgotten before everything new is there: a target that is in another group now never leaves. One more entry
        // at the head of a file puts each of its targets into the next group.
        let mut gone: Vec<Held> = removed.iter().filter_map(|name| known.remove(name)).collect();
        let mut changed = !gone.is_empty();
        for group in upsert {
            match known.get_mut(&group.source) {
                Some(held) if held.group == group => held.round = round,
                Some(_) => {
                    let new = Held { outcomes: self.assemble(&group), group, round };
                    gone.extend(known.remove(&new.group.source));
                    // The name is the new group's own, and there once.
                    known.insert(Arc::clone(&new.group.source), new);
                    changed = true;
                }
                None => {
                    let held = Held { outcomes: self.assemble(&group), group: Arc::clone(&group), round };
                    known.insert(Arc::clone(&group.source), held);
                    changed = true;
                }
            }
        }
        gone.iter().for_each(|held| self.forget(held));
        self.forget_superseded(source, &known);
        if complete {
            known.retain(|_, held| {
                let stays = held.round == round;
                if !stays {
                    self.forget(held);
                    changed = true;
                }
                stays
            });
        }
        if let Some(state) = self.sources.get_mut(source) {
            state.groups = known;
        }
        changed
    }

    /// Forgets what a source told that is no more, where the only one that came instead tells the same groups.
    fn forget_superseded(&mut self, source: usize, known: &HashMap<Arc<str>, Held>) {
        let mut superseded = Vec::new();
        for inherited in &mut self.inherited {
            if inherited.heirs.len() == 1 && inherited.heirs.contains(&source) {
                let told_anew = |held: &mut Held| known.contains_key(&held.group.source);
                superseded.extend(inherited.groups.extract_if(.., told_anew));
            }
        }
        superseded.iter().for_each(|held| self.forget(held));
    }

    /// Relabels a group's targets and adds them to the active ones.
    fn assemble(&mut self, group: &Arc<Group>) -> Outcomes {
        self.discovered += group.targets.len();
        let outcome = |(index, own): (usize, &Packed)| {
            let labels = DiscoveredLabels::of_pairs(&self.config, group.labels.iter(), own.iter());
            match labels.assemble() {
                Assembled::Target(target) => {
                    let target = PackedTarget {
                        id: target.id,
                        key: target.key,
                        job: Arc::clone(&self.name),
                        labels: Packed::from(&target.labels),
                        interval: target.interval,
                        timeout: target.timeout,
                    };
                    Some(Arc::new(Discovered::new(target, Arc::clone(group), index)))
                }
                Assembled::Dropped { .. } => None,
                Assembled::Invalid(error) => {
                    // There may be thousands: the page and the API list them.
                    tracing::debug!(job = %self.config.job_name, group = %group.source, %error, "not a target");
                    metrics::counter!("promring_allocator_invalid_targets_total").increment(1);
                    sync_failed(&self.config.job_name).increment(1);
                    None
                }
            }
        };
        let outcomes: Outcomes = group.targets.iter().enumerate().map(outcome).collect();
        // Of equal ones of a group Prometheus shows the discovered labels of the last (`scrapePool.sync`).
        for outcome in outcomes.iter().rev() {
            match outcome {
                Some(found) => self.add(found),
                None => self.dropped += 1,
            }
        }
        outcomes
    }

    fn add(&mut self, found: &Arc<Discovered>) {
        let id = found.target.id;
        match self.active.get(&id) {
            None => self.activate(id, Arc::clone(found)),
            Some(_) => {
                self.doubles.entry(id).or_default().push(Arc::clone(found));
                self.duplicates += 1;
            }
        }
    }

    fn activate(&mut self, id: TargetId, target: Arc<Discovered>) {
        self.changes.push((Arc::clone(&target), true));
        self.active.insert(id, target);
    }

    /// Targets that became active (true) or ceased to be since this was called last, in the order in which they did. One
    /// that takes the place of another of the same identity comes before the other goes.
    pub fn take_changes(&mut self) -> Vec<(Arc<Discovered>, bool)> {
        std::mem::take(&mut self.changes)
    }

    /// A group is gone: so are its targets, but for those that another group has as well.
    fn forget(&mut self, held: &Held) {
        self.discovered -= held.group.targets.len();
        for outcome in &held.outcomes {
            let Some(found) = outcome else {
                self.dropped -= 1;
                continue;
            };
            let id = found.target.id;
            let Some(doubles) = self.doubles.get_mut(&id) else {
                self.changes.extend(self.active.remove(&id).map(|target| (target, false)));
                continue;
            };
            self.duplicates -= 1;
            let mut heir = None;
            match doubles.iter().position(|double| Arc::ptr_eq(double, found)) {
                Some(at) => drop(doubles.remove(at)),
                None if doubles.is_empty() => {}
                None => heir = Some(doubles.remove(0)),
            }
            if doubles.is_empty() {
                self.doubles.remove(&id);
            }
            if let Some(heir) = heir {
                self.activate(id, heir);
                self.changes.push((Arc::clone(found), false));
            }
        }
    }

    /// Goes through all groups again with the rules that are in force now.
    fn relabel(&mut self) {
        let before = std::mem::take(&mut self.active);
        self.doubles.clear();
        (self.discovered, self.dropped, self.duplicates) = (0, 0, 0);
        let mut sources = std::mem::take(&mut self.sources);
        let mut inherited = std::mem::take(&mut self.inherited);
        let told = sources.iter_mut().flat_map(|source| source.groups.values_mut());
        for held in told.chain(inherited.iter_mut().flat_map(|inherited| &mut inherited.groups)) {
            held.outcomes = self.assemble(&held.group);
        }
        (self.sources, self.inherited) = (sources, inherited);
        self.changes.extend(before.into_values().map(|target| (target, false)));
    }

    /// How many targets the sources have found, before relabelling.
    #[must_use]
    pub fn discovered(&self) -> usize {
        self.discovered
    }

    /// Whether every source has told its groups.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.sources.iter().all(|source| source.condition.is_synced())
    }

    /// Whether a source keeps others waiting at a start.
    #[must_use]
    pub fn keeps_others_waiting(&self) -> bool {
        self.sources.iter().any(|source| source.condition.keeps_others_waiting())
    }

    /// Whether a source keeps the allocator from being ready: it has neither synced nor failed for long. To be asked as time
    /// goes on, since that is how a source comes to count as failing of which nothing is heard.
    pub fn keeps_unready(&mut self, now_ms: i64) -> bool {
        // Each is asked.
        self.sources
            .iter_mut()
            .fold(false, |unready, source| source.condition.keeps_unready(now_ms) | unready)
    }

    /// A number that grows whenever targets, settings or whether it is synced may have changed.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many sources failed last, or say nothing.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.sources.iter().filter(|source| source.condition.fails()).count()
    }

    /// How the sources are doing, in the order of the configuration.
    pub fn sources(&self) -> impl Iterator<Item = SourceStatus> {
        self.sources.iter().zip(&self.config.discovery).map(|(source, discovery)| SourceStatus {
            scrape_pool: self.config.job_name.clone(),
            kind: kind_of(discovery).to_owned(),
            synced: source.condition.is_synced(),
            groups: source.groups.len(),
            last_error: source.condition.error(),
        })
    }

    /// The targets, by identity.
    #[must_use]
    pub fn active(&self) -> &BTreeMap<TargetId, Arc<Discovered>> {
        &self.active
    }

    /// Targets that relabelling dropped and labels that made no target, as far as they are shown, each with the rule or
    /// the error. The reasons are worked out anew: nobody looks most of the time.
    #[must_use]
    pub fn dropped(&self) -> Vec<DroppedTarget> {
        let shown_max = self.config.limits.keep_dropped_targets.unwrap_or(DROPPED_KEPT_MAX);
        let told = self.sources.iter().flat_map(|source| source.groups.values());
        let held = told.chain(self.inherited.iter().flat_map(|inherited| &inherited.groups));
        let dropped = held.flat_map(|held| {
            let gone = held.outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_none());
            gone.map(|(index, _)| self.dropped_target(&held.group, index))
        });
        dropped.take(usize::try_from(shown_max).unwrap_or(usize::MAX)).collect()
    }

    /// How many there are of these in all.
    #[must_use]
    pub fn dropped_count(&self) -> u64 {
        self.dropped
    }

    fn dropped_target(&self, group: &Group, index: usize) -> DroppedTarget {
        let discovered = before_relabelling(&self.config, group, index);
        let discovered_labels = discovered.build();
        let (dropped_by_rule, error) = match discovered.assemble() {
            Assembled::Dropped { rule } => (Some(rule), String::new()),
            Assembled::Invalid(error) => (None, error.to_string()),
            // The same labels and rules gave no target before.
            Assembled::Target(_) => (None, String::new()),
        };
        DroppedTarget { discovered_labels, scrape_pool: self.config.job_name.clone(), dropped_by_rule, error }
    }

    /// How many targets had the identity of another one.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Why no target of this job may be scraped, if that is so.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let limit = self.config.limits.targets?;
        let count = self.active.len();
        // Prometheus's words, so that alerts on the text keep working.
        (count as u64 > limit)
            .then(|| format!("target_limit exceeded (number of targets: {count}, limit: {limit})"))
    }
}

/// What alerts for Prometheus look for; there from the start, since they look at its growth.
fn sync_failed(job: &str) -> metrics::Counter {
    metrics::counter!("prometheus_target_sync_failed_total", "scrape_job" => job.to_owned())
}

fn before_relabelling<'a>(config: &'a ScrapeConfig, group: &'a Group, index: usize) -> DiscoveredLabels<'a> {
    let own = group.targets.get(index).into_iter().flat_map(Packed::iter);
    DiscoveredLabels::of_pairs(config, group.labels.iter(), own)
}

#[cfg(test)]
#[path = "targets_tests.rs"]
mod tests;
