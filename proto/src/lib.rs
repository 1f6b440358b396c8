//! Every wire format of promring: remote write, and the JSON between allocator and scrapers.
//!
//! Nothing here opens a socket. Formats are described as types; what is written on the hot path is encoded by
//! hand, and tests prove it against the types byte for byte.

pub mod api;
pub mod exposition;
pub mod histogram;
pub mod pen;
pub mod remote_write;
pub mod varint;
