//! What leader and members tell each other. Everything here is a state, never an event: a message that is lost is
//! made good by the next one, and one that comes twice changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::target::TargetKey;

/// A scraper's name.
pub type Name = Arc<str>;

/// A version of the assignment: the leader's term, and a counter within it. Written `term-counter`,
/// also as an ETag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Grows with every new leader.
    pub term: u64,
    /// Grows with every change.
    pub counter: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.term, self.counter)
    }
}

/// A text that is no version.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAVersion;

impl fmt::Display for NotAVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a version of the form term-counter")
    }
}

impl std::error::Error for NotAVersion {}

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (term, counter) = text.trim_matches('"').split_once('-').ok_or(NotAVersion)?;
        Ok(Self {
            term: term.parse().map_err(|_| NotAVersion)?,
            counter: counter.parse().map_err(|_| NotAVersion)?,
        })
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Names a move: the version in which it began. No two leaders ever give the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MoveId(pub Version);

impl fmt::Display for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a scraper is granted of one key.
///
/// Without a move the key is its own from receipt on. `incoming`: from that move's T on, once that may begin; what is
/// scraped goes behind the move's fence. `outgoing`: up to that move's T, once the scraper has accepted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The move by which the key comes or came here, as long as that is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incoming: Option<MoveId>,
    /// The move by which it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outgoing: Option<MoveId>,
}

/// What a scraper is told of a move that concerns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveTerms {
    /// Who gives.
    pub old: Name,
    /// Where the giver is asked, as `http://host:port`.
    #[serde(default)]
    pub old_address: String,
    /// Who takes.
    pub new: Name,
    /// T in Unix milliseconds: slots before it are the giver's, the others the taker's. None: still being prepared.
    #[serde(default)]
    pub at: Option<i64>,
    /// T is final and the taker may begin at it. Until then T is a proposal to the giver.
    #[serde(default)]
    pub begin: bool,
    /// Destinations at which the giver has sent everything from before T: their fences open.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sent: BTreeSet<String>,
}

/// What a leader tells one scraper: the answer to a poll, targets left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What this brings the scraper to.
    pub version: Version,
    /// All keys of the scraper.
    pub grants: BTreeMap<TargetKey, Grant>,
    /// All moves that concern it. One that it is in and that is not listed is done, or was given up.
    pub moves: BTreeMap<MoveId, MoveTerms>,
    /// Keys that exist no more, and whose series this scraper ends with markers. A key that is neither granted
    /// nor gone has moved.
    pub gone: BTreeSet<TargetKey>,
}

/// What a draining scraper has that nobody will take over, so that it need not wait for that: everything that it has and has
/// not given when it holds this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staying {
    /// The newest version for the scraper when this was said: of another one it says nothing.
    pub version: Version,
    /// Keys that the leader does not know of: their discovery has not synced since it began, so that they stay where they are.
    #[serde(default)]
    pub unknown: u64,
    /// Keys whose takers were waited for in vain: they do not get ready for them, as their files lack the job.
    #[serde(default)]
    pub unready: u64,
}

/// What a scraper says of a move that it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveReport {
    /// Which move.
    pub id: MoveId,
    /// What it was told of it.
    pub terms: MoveTerms,
    /// As the giver: the T that it has accepted, which is final. As the taker: the T that it begins at, which is as final.
    #[serde(default)]
    pub settled: Option<i64>,
    /// As the taker: all that it needs is there.
    #[serde(default)]
    pub prepared: bool,
    /// As the taker: keys that it lacks something for, which keep it from being prepared.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unready: BTreeSet<TargetKey>,
    /// As the giver: destinations at which everything from before T is sent.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub sent: BTreeSet<String>,
    /// As the giver: `sent` holds every destination that there is.
    #[serde(default)]
    pub all_sent: bool,
}

/// What a scraper says to have of one key. Only in full reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The key.
    pub key: TargetKey,
    /// As it was granted.
    #[serde(flatten)]
    pub grant: Grant,
}

/// Progress at one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Grows whenever the destination takes something.
    pub acked: u64,
    /// Age of the oldest sample that waits, in milliseconds; zero where none does.
    pub oldest_ms: i64,
}

/// A scraper's heartbeat, as far as hand-over goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberReport {
    /// The run of the process, growing with every start; and the number of the report in it. Older ones than the
    /// newest that came are ignored.
    #[serde(default)]
    pub run: u64,
    /// See `run`.
    #[serde(default)]
    pub sequence: u64,
    /// The highest term that it has seen. It takes nothing of a lower one, not even after a restart.
    #[serde(default)]
    pub promised: u64,
    /// The version in force, saved over a restart; none: nothing was received yet.
    #[serde(default)]
    pub version: Option<Version>,
    /// Where it is asked by others, as `http://host:port`.
    #[serde(default)]
    pub address: String,
    /// It is on its way out.
    #[serde(default)]
    pub draining: bool,
    /// It scrapes nothing any more, and never will: it only sends what it has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub over: bool,
    /// Whether `claims` holds all that there is.
    #[serde(default)]
    pub full: bool,
    /// The keys that it has; empty unless `full`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
    /// Keys that existed no more when it had them last, of which markers may be unsent, with the move behind whose fence those wait;
    /// empty unless `full`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Claim>,
    /// All moves that it is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<MoveReport>,
    /// Progress by destination.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub progress: BTreeMap<String, Progress>,
}
