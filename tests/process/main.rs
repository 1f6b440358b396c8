//! The real binary as a process, with nothing else installed.

#[path = "../support/mod.rs"]
mod support;

mod command_line;
