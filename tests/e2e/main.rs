//! The real binary against real servers, started by tests/e2e.sh, which says where they are.

#![allow(unreachable_pub, reason = "a test binary has no public items")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed"
)]

#[path = "../support/host.rs"]
mod host;
#[path = "../support/mod.rs"]
mod support;

mod chance;
mod differential;
mod disk;
mod divergences;
mod dropin;
mod engine;
mod fleet;
mod generator;
mod handover;
mod heavy_target;
mod kill;
mod kubernetes;
mod large;
mod main_job;
mod memory;
mod owners;
mod passage;
mod payload;
mod promtool;
mod proxy;
mod receivers;
mod recorder;
mod seed;
mod servers;
