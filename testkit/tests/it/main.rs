//! Exporters, audit and receiver over real sockets.

// Clippy lets tests unwrap and panic, but not the functions that tests share.
#![allow(clippy::unwrap_used, clippy::panic)]

mod audit;
mod client;
mod config;
mod exporters;
mod payload;
mod receiver;
