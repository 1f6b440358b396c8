//! What is allowed, and probably does not do what was meant.

mod rules;
mod values;

pub(crate) use rules::{Stage, Written, on_rules, place};
pub(crate) use values::*;
