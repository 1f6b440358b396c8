//! CPU time of the thread: what else the machine does counts little.

use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What doing something so many times takes.
pub(crate) fn cpu_time<T>(times: u64, mut once: impl FnMut() -> T) -> Duration {
    let begun = now();
    for _ in 0..times {
        black_box(once());
    }
    now() - begun
}

/// CPU time of the thread so far.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
