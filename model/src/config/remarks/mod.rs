//! What is allowed, and probably does not do what was meant.

mod names;
mod rules;
mod sources;
mod values;

pub(crate) use rules::{Stage, Written, on_rules, place};
pub(crate) use sources::may_come_with_instance;
pub(crate) use values::*;
