//! The real binary against real servers, started by tests/e2e.sh, which says where they are.

#[path = "../support/mod.rs"]
mod support;

mod fleet;
mod main_job;
mod servers;
