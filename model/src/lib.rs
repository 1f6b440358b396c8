//! The words and rules of promring: labels, targets, relabelling, configuration, slots.
//!
//! Nothing here knows of sockets, files, Kubernetes, async runtimes or the clock: what happens and the time
//! it happens at come in as arguments. That keeps the rules testable as plain functions, and CI checks with
//! `cargo tree` that neither tokio nor kube is reachable from here.

pub mod bytes;
pub mod columns;
pub mod config;
pub mod duration;
pub mod election;
pub mod glob;
pub mod handover;
pub mod hash;
pub mod labels;
pub mod membership;
mod nearest;
pub mod placement;
pub mod relabel;
pub mod roster;
pub mod size;
pub mod slots;
pub mod target;
