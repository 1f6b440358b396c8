//! What is allowed, and probably does not do what was meant.

mod names;
mod rules;
mod sources;
mod values;
mod variables;

pub(crate) use rules::{Stage, Written, on_rules, place};
pub(crate) use sources::may_come_with_instance;
pub(crate) use values::*;
pub(crate) use variables::{
    unexpanded, unexpanded_secret, unfilled_external_label, variable_hint, varying_external_label,
};
