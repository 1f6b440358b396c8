//! Every limit of the queue, in one place.

/// Most bytes of a record's body. A receiver takes far less; this keeps a damaged length from becoming an allocation.
pub const RECORD_BODY_BYTES_MAX: usize = 32 << 20;

/// Bytes after which a segment is finished.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 16 << 20;

/// A segment takes at most one part in so many of what the queue may take, so that dropping the oldest is never coarse.
pub(crate) const SEGMENT_SHARE: u64 = 16;

/// A lane has at least so many, too.
pub(crate) const LANE_SEGMENTS_MIN: u64 = 8;

/// No bound of a queue and no disk makes segments smaller than this.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// A segment of which everything is acknowledged is finished, and so deleted, at this size already: a queue that keeps
/// up holds little disk and little page cache.
pub(crate) const SEGMENT_IDLE_BYTES_MAX: u64 = 4 << 20;

/// What lies aside takes at most one part in so many of the bound of bytes, or a segment.
pub(crate) const ASIDE_SHARE: u64 = 16;

/// And no more bytes than this. At twenty samples a second a lane has not sent its part of it in hours.
pub(crate) const ASIDE_BYTES_MAX: u64 = 64 << 20;

/// Bytes of a segment in memory, where it stands in for a disk that fails.
pub(crate) const MEMORY_SEGMENT_BYTES_MAX: u64 = 1 << 20;

/// Bytes in memory for all queues of a disk that fails.
pub(crate) const MEMORY_BYTES_MAX: u64 = 32 << 20;

/// Most lanes of a set; Prometheus's max_shards defaults to 50.
pub const LANES_MAX: usize = 999;

/// Bytes of a `meta` file.
pub(crate) const META_BYTES_MAX: u64 = 4096;

/// How often a failing disk is tried again, in milliseconds.
pub(crate) const DISK_RETRY_MS: i64 = 1000;

/// How many segments may give way for one append on a full disk before it goes to memory.
pub(crate) const MAKE_ROOM_TRIES_MAX: usize = 8;

/// With back-pressure, scrapes begin as long as more than one part in so many of the bound of bytes is free.
pub(crate) const ROOM_SHARE: u64 = 16;

/// How often one record is read, a pause of [`READ_RETRY_MS`] between, before the rest of its segment counts as unreadable.
pub(crate) const READ_TRIES_MAX: u32 = 10;

/// The same once the process is asked to end, for as long as records lie in memory behind it, which would be lost.
pub(crate) const READ_TRIES_ENDING_MAX: u32 = 2;

/// So long what comes in is not sent before what lies in a directory that cannot be read, in milliseconds.
pub(crate) const UNREAD_HOLD_MS: i64 = 60_000;

/// Pause after a failed read, in milliseconds.
pub(crate) const READ_RETRY_MS: u64 = 1000;

/// Longest name of a destination, in bytes.
pub const DESTINATION_BYTES_MAX: usize = 1024;
