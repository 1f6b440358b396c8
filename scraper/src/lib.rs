//! Assignment client, scrape, parse, append, encode, queue, remote write.

pub mod queue;
