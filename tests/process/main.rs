//! The real binary as a process, with nothing else installed.

#![allow(unreachable_pub, reason = "a test binary has no public items")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed"
)]

#[path = "../support/mod.rs"]
mod support;

mod bad_config;
mod bad_input;
mod callers;
mod command_line;
mod demo;
mod differing_files;
mod failover;
mod flaps;
mod handover;
mod metrics;
mod no_url;
mod outage;
mod payload;
mod reload;
mod remote_write;
mod resume;
mod scale_in;
mod silent_sources;
mod sources;
mod stop;
mod version_6;
