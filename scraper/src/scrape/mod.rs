//! Scraping: one task a target, which wakes at the target's slots, fetches, parses and appends.

mod append;
mod attempt;
mod body;
pub mod cores;
pub mod download;
mod failure;
pub mod fetch;
pub mod http;
mod library;
pub mod replay;
mod report;
mod target_loop;

pub use body::BodyRules;
#[cfg(test)]
pub(crate) use body::Staging;
pub use target_loop::{Carried, Command, Environment, Keep, TargetLoop};
