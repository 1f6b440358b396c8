//! The JSON between allocator and scrapers, and what both show of themselves.
//!
//! Unknown fields are ignored everywhere, so that parts one version apart work together.

use std::collections::BTreeMap;

pub use promring_model::handover::{Grant, MemberReport, MoveId, MoveTerms, NotAVersion, Staying, Version};
use promring_model::labels::Labels;
use promring_model::target::{TargetId, TargetKey};
use serde::{Deserialize, Serialize};

/// A scraper's name may have this many bytes: a DNS name's length, as a pod's host name is one.
pub const SCRAPER_NAME_BYTES_MAX: usize = 253;

/// Whether a text can name a scraper.
///
/// # Errors
/// What a name looks like.
pub fn check_scraper_name(name: &str) -> Result<(), String> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !name.is_empty() && name.len() <= SCRAPER_NAME_BYTES_MAX && name.bytes().all(valid) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no scraper name: letters, digits, '-', '.' and '_', at most {SCRAPER_NAME_BYTES_MAX} bytes"
    ))
}

/// Answer of `GET /api/v1/assignments/{scraper}`. `T`: what stands for a target, where that is not written yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment<T = AssignedTarget> {
    /// What this answer brings the scraper to.
    pub version: Version,
    /// What it is relative to; null: the answer is the whole assignment.
    pub base: Option<Version>,
    /// Targets to take up or to change, by job.
    pub upsert: BTreeMap<String, JobAssignment<T>>,
    /// Targets that exist no more: their series end with staleness markers.
    #[serde(default)]
    pub gone: Vec<TargetId>,
    /// Targets that another scraper has now: no markers.
    #[serde(default)]
    pub moved: Vec<TargetId>,
    /// Keys that a former allocator knew and that exist no more, and whose targets this one cannot name: in a whole answer
    /// targets with such a key that are not listed end with staleness markers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone_keys: Vec<TargetKey>,
    /// All moves that concern the scraper, whatever `base` is. One that it is in and that is not listed is done, or was
    /// given up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub moves: BTreeMap<MoveId, MoveTerms>,
}

/// One job's part of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAssignment<T = AssignedTarget> {
    /// Hash over what the scraper owns of the job's configuration, as the allocator's file has it:
    /// 16 hexadecimal digits.
    pub config_hash: String,
    /// False: a source of this job has not synced, and the scraper keeps what it holds of it.
    pub synced: bool,
    /// Why no target of this job may be scraped (`target_limit`): each fails with this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// The targets.
    pub targets: Vec<T>,
}

/// One target of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedTarget {
    /// Identity.
    pub id: TargetId,
    /// Final labels, `__address__` and the other `__*` of the URL included.
    pub labels: Labels,
    /// The first slot that is this scraper's, in Unix milliseconds; none: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// The first slot that is no longer this scraper's; none: no end is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// The moves by which the target's key comes and goes: `incoming`, `outgoing`. `from` and `until` follow from
    /// them, and stand here for who looks on.
    #[serde(flatten)]
    pub grant: Grant,
}

/// Body of `POST /api/v1/scrapers/{scraper}/report`: the heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version in force; none: nothing was received yet.
    pub version: Option<Version>,
    /// Where the scraper's own server is, as `http://host:port`.
    pub address: String,
    /// The scraper is on its way out and takes no new targets.
    #[serde(default)]
    pub draining: bool,
    /// Whether all targets are told of, beginning with `targets`: what did not fit into this report follows in the next ones, which
    /// are not `full`. Otherwise `targets` are those that changed since the last report, or some of them.
    #[serde(default)]
    pub full: bool,
    /// Health and weight of targets.
    #[serde(default)]
    pub targets: Vec<TargetReport>,
    /// Backlog by destination.
    #[serde(default)]
    pub queues: Vec<QueueReport>,
    /// Samples scraped since the process started.
    #[serde(default)]
    pub samples_total: u64,
    /// Hash of the expanded external labels, 16 hexadecimal digits: it must be the same on every scraper.
    #[serde(default)]
    pub external_labels_hash: String,
    /// Jobs whose configuration here differs from the allocator's.
    #[serde(default)]
    pub config_mismatch: Vec<String>,
    /// Jobs in the assignment that this scraper's own file does not have.
    #[serde(default)]
    pub unknown_jobs: Vec<String>,
    /// The node that the scraper runs on, where it was told (`--node`); empty: not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// What it was answered last: see [`ReportAnswer::spare`]. Of this process: one that starts is to get its share.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spare: bool,
    /// What hand-over needs to know: claims, moves, progress. Its `full` speaks of claims, `full` above of health.
    #[serde(default)]
    pub handover: MemberReport,
}

/// A target as its scraper sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetReport {
    /// Identity.
    pub id: TargetId,
    /// `up`, `down` or `unknown`.
    pub health: Health,
    /// Why the last scrape failed, or empty.
    #[serde(default)]
    pub last_error: String,
    /// When the last scrape began, in Unix milliseconds; zero: never.
    pub last_scrape_ms: i64,
    /// How long it took, in seconds.
    pub last_scrape_duration: f64,
    /// Samples that it yielded before metric relabelling; of one that is down, what it yielded before.
    pub samples: u64,
    /// `samples` are none because the last scrape that succeeded yielded none. Otherwise none of one that is not up means that
    /// nothing is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty: bool,
}

impl TargetReport {
    /// Of a target that has not been scraped yet.
    #[must_use]
    pub fn unknown(id: TargetId) -> Self {
        Self {
            id,
            health: Health::Unknown,
            last_error: String::new(),
            last_scrape_ms: 0,
            last_scrape_duration: 0.0,
            samples: 0,
            empty: false,
        }
    }

    /// Samples that a scrape of it yields, as far as that is known. Parts of the version before do not tell [`Self::empty`].
    #[must_use]
    pub fn yields(&self) -> Option<u64> {
        (self.samples > 0 || self.empty || self.health == Health::Up).then_some(self.samples)
    }
}

/// Health of a target, as Prometheus names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// The last scrape succeeded.
    Up,
    /// The last scrape failed.
    Down,
}

/// Backlog of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueReport {
    /// Its name.
    pub destination: String,
    /// Samples not yet acknowledged.
    pub samples: u64,
    /// Bytes on disk not yet acknowledged.
    pub bytes: u64,
    /// Samples beside these that the receiver has refused before: each is asked for alone, and nothing waits for them.
    #[serde(default)]
    pub aside_samples: u64,
    /// Their bytes.
    #[serde(default)]
    pub aside_bytes: u64,
    /// Age of the oldest unacknowledged record, in seconds.
    pub oldest_seconds: u64,
    /// Samples dropped for good since the process started.
    pub dropped: u64,
}

/// Answer to a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// The term of the allocator that answers.
    pub term: u64,
    /// What this scraper has stays with it, but for what is given: a drain need not wait for more. An allocator that does not know
    /// this never says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staying: Option<Staying>,
    /// The allocator wants to be told of all targets, at once.
    #[serde(default)]
    pub full: bool,
    /// This scraper's ordinal goes away, so it should send everything before it ends.
    #[serde(default)]
    pub leaving: bool,
    /// No other scraper takes targets, so that a drain would be in vain.
    #[serde(default)]
    pub alone: bool,
    /// The next report should tell all claims, at once.
    #[serde(default)]
    pub full_claims: bool,
    /// The number of the report that this answers.
    #[serde(default)]
    pub sequence: u64,
    /// The newest version for this scraper, as long as assignments are given out.
    #[serde(default)]
    pub version: Option<Version>,
    /// Whether it takes targets and placement has none for it, as there are too few or its own have gone: it waits for nothing. It
    /// tells that on, so that the next leader takes it for none that is new. None: nothing is given out yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare: Option<bool>,
}

/// Answer of `GET /api/v1/targets`, with Prometheus's field names, wrapped as Prometheus wraps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiResponse<T> {
    /// `success`.
    pub status: String,
    /// The content.
    pub data: T,
}

impl<T> ApiResponse<T> {
    /// A successful answer.
    pub fn success(data: T) -> Self {
        Self { status: "success".to_owned(), data }
    }
}

/// Targets that are scraped, and those that relabelling dropped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetList {
    /// Targets with an owner or waiting for one.
    pub active_targets: Vec<ActiveTarget>,
    /// Targets that a rule dropped.
    pub dropped_targets: Vec<DroppedTarget>,
    /// How many were dropped by job, those included that are not listed.
    #[serde(default)]
    pub dropped_target_counts: BTreeMap<String, u64>,
    /// Where the targets come from, and what is wrong there.
    #[serde(default)]
    pub sources: Vec<SourceStatus>,
}

/// How one source of a job is doing: one entry of its `*_sd_configs`, or its `static_configs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The job.
    pub scrape_pool: String,
    /// The key of the configuration, with the role in Kubernetes.
    pub kind: String,
    /// Whether it has told its targets since it started.
    pub synced: bool,
    /// How many target groups it has told.
    pub groups: usize,
    /// Why it failed last, or empty. What it told before stays.
    pub last_error: String,
}

/// What `GET /api/v1/targets` is asked for, as in Prometheus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetQuery {
    /// `active`, `dropped` or `any`; empty: any; anything else: none.
    pub state: String,
    /// A job; empty: all.
    pub scrape_pool: String,
}

impl TargetQuery {
    /// Whether targets that are scraped are wanted.
    #[must_use]
    pub fn wants_active(&self) -> bool {
        self.wants("active")
    }

    /// Whether targets that were dropped are wanted.
    #[must_use]
    pub fn wants_dropped(&self) -> bool {
        self.wants("dropped")
    }

    fn wants(&self, kind: &str) -> bool {
        self.state.is_empty() || [kind, "any"].iter().any(|wanted| self.state.eq_ignore_ascii_case(wanted))
    }

    /// Whether this job's targets are wanted.
    #[must_use]
    pub fn wants_pool(&self, job: &str) -> bool {
        self.scrape_pool.is_empty() || self.scrape_pool == job
    }
}

/// What stands for the time of a scrape that never was: Go's zero time.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// A target that is scraped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveTarget {
    /// Labels before relabelling; empty where not known (on a scraper).
    pub discovered_labels: Labels,
    /// Labels of its series.
    pub labels: Labels,
    /// The job.
    pub scrape_pool: String,
    /// The URL.
    pub scrape_url: String,
    /// The same as seen from elsewhere: with this machine's name where the host is `localhost` or the like.
    #[serde(default)]
    pub global_url: String,
    /// The scraper that has it; empty: none yet.
    pub scraper: String,
    /// Health.
    pub health: Health,
    /// Why the last scrape failed, or empty.
    pub last_error: String,
    /// When the last scrape began, RFC 3339; [`NEVER`] where none did.
    pub last_scrape: String,
    /// How long it took, in seconds.
    pub last_scrape_duration: f64,
    /// Samples of the last scrape before metric relabelling.
    pub samples: u64,
    /// The interval, as Prometheus writes durations.
    pub scrape_interval: String,
    /// The timeout.
    pub scrape_timeout: String,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DroppedTarget {
    /// Labels before relabelling.
    pub discovered_labels: Labels,
    /// The job.
    pub scrape_pool: String,
    /// 0-based index of the rule in relabel_configs that dropped it; null where its labels made no target.
    pub dropped_by_rule: Option<usize>,
    /// Why its labels made no target, or empty.
    #[serde(default)]
    pub error: String,
}

/// Answer of `GET /api/v1/state`: what an allocator that follows the leader has to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateView {
    /// The leader's newest version.
    pub version: Version,
    /// Whether it is ready, as `/readyz` says.
    pub ready: bool,
    /// The keys of each scraper.
    pub owners: BTreeMap<String, Vec<TargetKey>>,
}

/// Answer of `GET /api/v1/scrapers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScraperList {
    /// The newest version.
    pub version: Version,
    /// Whether every source has synced or has failed for 30 s, and the scrapers are known: what `/readyz` says.
    pub ready: bool,
    /// Why the pods that are to be members (`allocator.members`), or their StatefulSet, cannot be watched; what was known
    /// stays. Empty where they are, or need not be.
    #[serde(default)]
    pub error: String,
    /// The scrapers, by name.
    pub scrapers: Vec<ScraperStatus>,
    /// Hand-overs that are under way.
    #[serde(default)]
    pub moves: Vec<HandoverStatus>,
}

/// A hand-over under way: targets that go from one scraper to another at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandoverStatus {
    /// Which.
    pub id: MoveId,
    /// Who gives.
    pub from: String,
    /// Who takes.
    pub to: String,
    /// How many keys: targets that differ in path or parameters alone count once.
    pub targets: usize,
    /// `prepare`, `until`, `from` or `fence`.
    pub step: String,
    /// Since when, in seconds.
    pub since_seconds: f64,
}

/// Answer of `GET /api/v1/scaling`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// How many scrapers the load wants, at least one.
    pub wanted: u64,
    /// What all targets yield.
    pub samples_per_second: f64,
    /// What one scraper is to carry, in samples a second: `allocator.scraper_capacity`.
    pub capacity: u64,
    /// How many targets there are.
    pub targets: u64,
    /// How many of them count as the mean of the others, as nobody has reported what they yield.
    pub targets_unknown: u64,
}

/// A scraper as the allocator sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScraperStatus {
    /// Its name.
    pub name: String,
    /// Its own server.
    pub address: String,
    /// `ready`, `draining` or `lost`.
    pub state: ScraperState,
    /// How many targets it is assigned.
    pub targets: usize,
    /// The version it has in force.
    pub version: Option<Version>,
    /// Since its last report, in seconds.
    pub last_report_seconds: f64,
    /// Samples a second over its recent reports.
    pub samples_per_second: f64,
    /// Backlog by destination.
    pub queues: Vec<QueueReport>,
    /// Jobs whose configuration there differs from the allocator's.
    pub config_mismatch: Vec<String>,
    /// Jobs that its own file does not have.
    #[serde(default)]
    pub unknown_jobs: Vec<String>,
    /// Its external labels are others than those of most scrapers.
    #[serde(default)]
    pub external_labels_differ: bool,
    /// Its ordinal goes away: once stopped, it does not come back.
    #[serde(default)]
    pub leaving: bool,
}

/// Whether a scraper takes targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScraperState {
    /// It reports and takes targets.
    Ready,
    /// It is on its way out.
    Draining,
    /// It has not reported for longer than the lapse.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_wanted_by_state_and_those_of_an_unknown_one_not_at_all() {
        for (state, wanted) in [
            ("", (true, true)),
            ("ANY", (true, true)),
            ("active", (true, false)),
            ("Dropped", (false, true)),
            ("x", (false, false)),
        ] {
            let query = TargetQuery { state: state.to_owned(), ..TargetQuery::default() };
            assert_eq!((query.wants_active(), query.wants_dropped()), wanted, "{state}");
        }
    }

    #[test]
    fn a_version_reads_back_as_written_and_as_an_etag() {
        let version = Version { term: 1_700_000_000_000, counter: 7 };
        assert_eq!(version.to_string().parse(), Ok(version));
        assert_eq!(format!("\"{version}\"").parse(), Ok(version));
        assert_eq!("7".parse::<Version>(), Err(NotAVersion));
    }

    #[test]
    fn a_report_of_an_older_scraper_without_the_newer_fields_is_read() {
        let report: Report =
            serde_json::from_str(r#"{"version":null,"address":"http://x:1","future":1}"#).unwrap();
        assert_eq!(report.address, "http://x:1");
    }
}
