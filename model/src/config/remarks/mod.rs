//! What is allowed, and probably does not do what was meant.

mod rules;
mod values;

pub(crate) use rules::{Stage, on_rules};
pub(crate) use values::*;
