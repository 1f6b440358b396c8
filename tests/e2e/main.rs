//! The real binary against real servers, started by tests/e2e.sh, which says where they are.

#![allow(unreachable_pub, reason = "a test binary has no public items")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed"
)]

#[path = "../support/mod.rs"]
mod support;

mod differential;
mod divergences;
mod fleet;
mod kubernetes;
mod main_job;
mod promtool;
mod receivers;
mod recorder;
mod seed;
mod servers;
