//! What to write instead, for mistakes that are often made.
//!
//! docs/mistakes.md lists them with a file of testdata/config each.

mod address;
mod joined;
mod keys;
mod values;

pub(crate) use address::static_target;
pub(crate) use joined::{in_braces, in_line, in_quotes, joined_name};
pub(crate) use keys::unknown_key;
pub(crate) use values::*;

pub(crate) use crate::nearest::nearest;
