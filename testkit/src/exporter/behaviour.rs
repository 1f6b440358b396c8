//! What an exporter does with a scrape: answer it, or one of the things that happen in the world.

use promring_model::labels::Labels;
use serde::{Deserialize, Serialize};

/// How an exporter answers scrapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "behaviour", rename_all = "snake_case", deny_unknown_fields)]
pub enum Behaviour {
    /// With its metrics.
    #[default]
    Healthy,
    /// With this status and a short body.
    Status {
        /// 100 to 999.
        code: u16,
    },
    /// With status 200 and a body that is no exposition.
    Garbage,
    /// With lines of metrics for as long as somebody reads.
    Endless,
    /// Not at all: the request is read and the connection stays open.
    Hung,
    /// With its metrics, this late.
    Slow {
        /// Milliseconds between request and answer.
        delay_ms: u64,
    },
    /// With the first half of the body that it announced; then it closes the connection.
    CutOff,
    /// With its metrics, which it calls `text/html`.
    WrongContentType,
}

/// The body of `POST /-/behaviour`: every field that is given is applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// A new behaviour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Behaviour>,
    /// With `set`: for how many scrapes, after which the exporter is healthy; unset: until it is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Whether bodies are compressed for who asks for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gzip: Option<bool>,
    /// Series that disappear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vanish: Option<Vanish>,
    /// Brings back all series that disappeared.
    #[serde(default)]
    pub reappear: bool,
    /// When the exporter closes its listener, in Unix milliseconds; 0: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub die_at_ms: Option<i64>,
}

/// Series that are not shown from a moment on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vanish {
    /// Every series that has all of these labels.
    pub matching: Labels,
    /// From when on, in Unix milliseconds.
    pub at_ms: i64,
}
