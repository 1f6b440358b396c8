//! Prometheus's own promtool beside promring: the same verdict on every configuration file, the same labels for every
//! target. What differs on purpose stands in testdata/config/divergences.txt with its reason, and nowhere else.

mod discovery;
mod files;
mod generated;
mod golden;
mod random;
mod verdicts;

use crate::servers::part;

/// A version of promtool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// The version that promring follows, built from its Go module.
    V3_15,
    /// Debian's: what an older file meant.
    V2_42,
}

impl Version {
    fn program(self) -> String {
        match self {
            Self::V3_15 => part("PROMTOOL"),
            Self::V2_42 => part("PROMTOOL_2_42"),
        }
    }
}
