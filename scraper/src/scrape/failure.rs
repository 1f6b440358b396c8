//! Why a scrape failed.

use super::fetch::FetchError;
use crate::memory::Full;
use crate::parse::{ParseError, UnsupportedContentType};
use crate::rules::Refusal;

/// Why a scrape failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no body, or not the whole of it.
    #[error(transparent)]
    Fetch(FetchError),
    /// The target must not be asked.
    #[error("{0}")]
    Refused(String),
    /// The body cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Nobody knows how to read the body.
    #[error(transparent)]
    ContentType(#[from] UnsupportedContentType),
    /// A series cannot be.
    #[error(transparent)]
    Series(#[from] Refusal),
    /// There are more samples than sample_limit allows. The text is Prometheus's.
    #[error("sample limit exceeded")]
    SampleLimit,
    /// The scraper's memory does not suffice.
    #[error(transparent)]
    Memory(#[from] Full),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Memory(full) => Self::Memory(full),
            other => Self::Fetch(other),
        }
    }
}

impl Failure {
    /// Whether the body came, whether it could be read or not.
    pub(crate) fn has_body(&self) -> bool {
        self.was_read() || matches!(self, Self::ContentType(_))
    }

    /// Whether what was read of the body counts: a body that did not come whole was not read, as in Prometheus.
    pub(crate) fn was_read(&self) -> bool {
        match self {
            Self::Parse(_) | Self::Series(_) | Self::SampleLimit => true,
            Self::Fetch(_) | Self::Refused(_) | Self::ContentType(_) | Self::Memory(_) => false,
        }
    }
}
