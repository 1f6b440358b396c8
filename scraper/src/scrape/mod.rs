//! Scraping: one task a target, which wakes at the target's slots, fetches, parses and appends.

mod body;
pub mod fetch;
pub mod http;
mod library;
mod report;
mod target_loop;

pub use body::BodyRules;
pub use target_loop::{Carried, Command, Environment, Keep, TargetLoop};
