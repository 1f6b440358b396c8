//! Our own sections, `allocator` and `scraper`.

use std::time::Duration;

use super::{Size, Text, section};

section! {
    /// `allocator`.
    RawAllocator as "allocator" {
        lapse: Duration,
        settle: Duration,
    }
}

section! {
    /// `scraper`.
    RawScraper as "scraper" {
        heartbeat: Duration,
        flush_timeout: Duration,
        body_size_limit: Size,
        queue: RawQueue,
    }
}

section! {
    /// `scraper.queue`.
    RawQueue as "scraper.queue" {
        max_bytes: Size,
        max_age: Duration,
        fsync: Text,
        fsync_interval: Duration,
    }
}
