//! Targets: what is scraped, and the two hashes that name it.
//!
//! A target has an **identity** ([`TargetId`]): its final labels and its URL. Two targets with one identity are
//! one target. It also has a **key** ([`TargetKey`]): job and labels without `__*`. Owner, slots and the lane of
//! the queue belong to the key, so that a changed path, parameter or interval keeps all three.

mod discovered;
mod url;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

pub use self::url::query_escaped;
pub(crate) use self::url::{dialled, shown_host};
pub use discovered::{Assembled, DiscoveredLabels};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::ScrapeConfig;
use crate::duration::parse_duration;
use crate::hash::FieldHasher;
use crate::labels::Labels;

/// Host and port of a target.
pub const ADDRESS: &str = "__address__";
/// The path of the unix socket that a target listens on. Its address is only what the request calls its host then.
pub const UNIX_SOCKET: &str = "__unix_socket__";
/// `http` or `https`.
pub const SCHEME: &str = "__scheme__";
/// The path of the URL.
pub const METRICS_PATH: &str = "__metrics_path__";
/// How often the target is scraped.
pub const SCRAPE_INTERVAL: &str = "__scrape_interval__";
/// How long a scrape may take.
pub const SCRAPE_TIMEOUT: &str = "__scrape_timeout__";
/// Whether classic histograms become native ones with custom buckets: `true` or `false`.
pub const CONVERT_CLASSIC_HISTOGRAMS: &str = "__convert_classic_histograms_to_nhcb__";
/// Whether classic buckets are kept beside a native histogram: `true` or `false`.
pub const ALWAYS_SCRAPE_CLASSIC_HISTOGRAMS: &str = "__always_scrape_classic_histograms__";
/// Whether native histograms are asked for and kept: `true` or `false`.
pub const SCRAPE_NATIVE_HISTOGRAMS: &str = "__scrape_native_histograms__";
/// Begins the labels that carry URL parameters.
pub const PARAM_PREFIX: &str = "__param_";
/// Begins the labels that discovery attaches; they go after relabelling.
pub const META_PREFIX: &str = "__meta_";

/// A target's identity: a 128-bit hash of its final labels and its URL. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(pub u128);

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TargetId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for TargetId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TargetId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom(format_args!("{text:?} is not a target id")))
    }
}

/// What owner, slots and lane of a target hang on: a 64-bit hash of job and labels without `__*`. Written as 16
/// hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetKey(pub u64);

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for TargetKey {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for TargetKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TargetKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom(format_args!("{text:?} is not a target key")))
    }
}

impl TargetKey {
    /// The key of a target of `job` with these final labels.
    #[must_use]
    pub fn new(job: &str, labels: &Labels) -> Self {
        let mut hasher = FieldHasher::new();
        hasher.field(job.as_bytes());
        for (name, value) in labels.iter().filter(|(name, _)| !name.starts_with("__")) {
            hasher.field(name.as_bytes()).field(value.as_bytes());
        }
        Self(hasher.finish64())
    }
}

/// Targets as a source of discovery delivers them: labels of each, and labels that all of them share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetGroup {
    /// Names the group among its source's groups: a file and its index, an object's name.
    pub source: String,
    /// Labels of every target; a target's own win.
    pub labels: Labels,
    /// The labels of each target, `__address__` among them.
    pub targets: Vec<Labels>,
}

/// One thing to scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// See [`TargetId`].
    pub id: TargetId,
    /// See [`TargetKey`].
    pub key: TargetKey,
    /// The job that it belongs to (the name in the configuration; relabelling may have changed the label `job`).
    pub job: Arc<str>,
    /// Final labels, without `__meta_*`, with `__address__` and the other `__*` that make the URL.
    pub labels: Labels,
    /// How often it is scraped.
    pub interval: Duration,
    /// How long a scrape may take, at most the interval.
    pub timeout: Duration,
    /// What is fetched; or why nothing can be: each scrape then fails with this error, as it does in Prometheus.
    pub url: Result<::url::Url, NoUrl>,
}

/// Why a target's labels make no URL that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not a valid URL: {reason}")]
pub struct NoUrl {
    /// What the labels gave.
    pub url: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Why a target's labels make no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nothing says where to scrape.
    #[error("no address: __address__ is empty after relabelling")]
    NoAddress,
    /// Host and port hold no slash; a path belongs in metrics_path.
    #[error("{0:?} is not a valid address: it holds a \"/\"; put the path into metrics_path")]
    AddressWithPath(String),
    /// A duration label cannot be read.
    #[error("{label} is {value:?}: {reason}")]
    Duration {
        /// The label's name.
        label: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A label that switches something on or off says neither.
    #[error("{label} is {value:?}: it must be true or false")]
    Switch {
        /// The label's name.
        label: &'static str,
        /// Its value.
        value: String,
    },
    /// A scrape may not take longer than the interval.
    #[error("the scrape timeout {timeout} is longer than the scrape interval {interval}")]
    TimeoutOverInterval {
        /// The timeout as written.
        timeout: String,
        /// The interval as written.
        interval: String,
    },
}

impl Target {
    /// The target that these final labels describe. Allocator and scraper both come to it by this function:
    /// only labels travel between them.
    ///
    /// # Errors
    /// Where address, interval or timeout cannot be used. Labels that make no URL are a target all the same, one whose
    /// scrapes fail.
    pub fn from_final_labels(config: &ScrapeConfig, labels: Labels) -> Result<Self, TargetError> {
        let address = labels.get(ADDRESS).ok_or(TargetError::NoAddress)?;
        if address.contains('/') {
            return Err(TargetError::AddressWithPath(address.to_owned()));
        }
        let interval = duration_label(&labels, SCRAPE_INTERVAL)?;
        let timeout = duration_label(&labels, SCRAPE_TIMEOUT)?;
        if timeout > interval {
            return Err(TargetError::TimeoutOverInterval {
                timeout: labels.get(SCRAPE_TIMEOUT).unwrap_or_default().to_owned(),
                interval: labels.get(SCRAPE_INTERVAL).unwrap_or_default().to_owned(),
            });
        }
        for label in [CONVERT_CLASSIC_HISTOGRAMS, ALWAYS_SCRAPE_CLASSIC_HISTOGRAMS, SCRAPE_NATIVE_HISTOGRAMS]
        {
            if let Some(value) = labels.get(label).filter(|value| !is_switch(value)) {
                return Err(TargetError::Switch { label, value: value.to_owned() });
            }
        }
        let url = url::of_target(config, &labels, address);
        let mut hasher = FieldHasher::new();
        hasher.field(config.job_name.as_bytes());
        for (name, value) in labels.iter() {
            hasher.field(name.as_bytes()).field(value.as_bytes());
        }
        hasher.field(url.as_ref().map_or_else(|error| error.url.as_bytes(), |url| url.as_str().as_bytes()));
        Ok(Self {
            id: TargetId(hasher.finish128()),
            key: TargetKey::new(&config.job_name, &labels),
            job: Arc::from(config.job_name.as_str()),
            labels,
            interval,
            timeout,
            url,
        })
    }
}

impl Target {
    /// The URL as Prometheus shows it: with the port that the address names, even where it is the scheme's own.
    #[must_use]
    pub fn scrape_url(&self) -> String {
        let address = self.labels.get(ADDRESS).unwrap_or_default();
        match &self.url {
            Ok(url) => {
                // A path that is empty is not written.
                let is_bare = self.labels.get(METRICS_PATH).is_none();
                let from = if is_bare { ::url::Position::AfterPath } else { ::url::Position::BeforePath };
                format!("{}://{}{}", url.scheme(), shown_host(address), &url[from..])
            }
            Err(error) => error.url.clone(),
        }
    }
}

fn duration_label(labels: &Labels, label: &'static str) -> Result<Duration, TargetError> {
    let value = labels.get(label).unwrap_or_default();
    let fail = |reason: String| TargetError::Duration { label, value: value.to_owned(), reason };
    let duration = parse_duration(value).map_err(|error| fail(error.to_string()))?;
    if duration.is_zero() { Err(fail("it must not be zero".to_owned())) } else { Ok(duration) }
}

/// Whether Go's `strconv.ParseBool` reads it.
fn is_switch(value: &str) -> bool {
    matches!(
        value,
        "1" | "t" | "T" | "true" | "TRUE" | "True" | "0" | "f" | "F" | "false" | "FALSE" | "False"
    )
}
