//! Our own sections, `allocator` and `scraper`.

use std::time::Duration;

use super::Builder;
use crate::config::raw::{Given, RawAllocator, RawQueue, RawScraper, Size};
use crate::config::{AllocatorSettings, FsyncPolicy, QueueSettings, ScraperSettings};
use crate::duration::format_duration;

impl Builder<'_> {
    pub(super) fn allocator(&mut self, raw: &Given<RawAllocator>) -> AllocatorSettings {
        let default = AllocatorSettings::default();
        let Some(raw) = raw.get() else { return default };
        AllocatorSettings {
            lapse: self.positive(&raw.lapse, default.lapse),
            settle: self.own_duration(&raw.settle, default.settle),
        }
    }

    pub(super) fn scraper(&mut self, raw: &Given<RawScraper>) -> ScraperSettings {
        let default = ScraperSettings::default();
        let Some(raw) = raw.get() else { return default };
        ScraperSettings {
            heartbeat: self.positive(&raw.heartbeat, default.heartbeat),
            flush_timeout: self.own_duration(&raw.flush_timeout, default.flush_timeout),
            body_size_limit: self.positive_size(&raw.body_size_limit, default.body_size_limit),
            memory_limit: match &raw.memory_limit {
                Given::Is(Size(0), _) => Some(u64::MAX),
                Given::Is(Size(bytes), _) => Some(*bytes),
                _ => default.memory_limit,
            },
            queue: self.queue(&raw.queue, &default.queue),
        }
    }

    fn queue(&mut self, raw: &Given<RawQueue>, default: &QueueSettings) -> QueueSettings {
        let Some(raw) = raw.get() else { return default.clone() };
        QueueSettings {
            max_bytes: self.positive_size(&raw.max_bytes, default.max_bytes),
            max_age: self.positive(&raw.max_age, default.max_age),
            fsync: self.fsync(raw, default.fsync),
        }
    }

    fn fsync(&mut self, raw: &RawQueue, default: FsyncPolicy) -> FsyncPolicy {
        let default_interval = match default {
            FsyncPolicy::Interval(interval) => interval,
            FsyncPolicy::Always | FsyncPolicy::Never => Duration::from_secs(1),
        };
        let interval = self.positive(&raw.fsync_interval, default_interval);
        let choices = [
            ("always", FsyncPolicy::Always),
            ("interval", FsyncPolicy::Interval(interval)),
            ("never", FsyncPolicy::Never),
        ];
        let policy = match &raw.fsync {
            Given::Is(text, spot) => self.one_of(*spot, text, &choices, "policy for fsync"),
            _ => None,
        };
        let policy = policy.unwrap_or(FsyncPolicy::Interval(interval));
        if let (Some(spot), FsyncPolicy::Always | FsyncPolicy::Never) = (raw.fsync_interval.spot(), policy) {
            self.report.warning(spot, "fsync_interval has an effect only with fsync: interval");
        }
        policy
    }

    /// In our own sections a key without a value means its default.
    fn own_duration(&self, given: &Given<Duration>, default: Duration) -> Duration {
        given.get().copied().unwrap_or(default)
    }

    fn positive(&mut self, given: &Given<Duration>, default: Duration) -> Duration {
        match given {
            Given::Is(value, spot) if value.is_zero() => {
                let hint = format!("the default is {}", format_duration(default));
                self.report.error(*spot, "this must be longer than 0s").hint(hint);
                default
            }
            given => self.own_duration(given, default),
        }
    }

    fn positive_size(&mut self, given: &Given<Size>, default: u64) -> u64 {
        match given {
            Given::Is(Size(0), spot) => {
                self.report
                    .error(*spot, "this must be more than 0 bytes")
                    .hint("this bound cannot be switched off; write a large one, such as 100GB");
                default
            }
            Given::Is(size, _) => size.0,
            _ => default,
        }
    }
}
