//! Work that takes longer than the network should wait: at most one piece of it a core, beside the threads that serve
//! sockets.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// Bytes that are parsed, or samples' worth of them that are appended, where they arrive: this takes about as long as
/// it takes to hand work over and to be woken again, some 100 µs.
pub const INLINE_BYTES_MAX: usize = 256 << 10;

/// The cores of this machine.
#[derive(Debug)]
pub struct Cores {
    permits: Semaphore,
}

impl Default for Cores {
    fn default() -> Self {
        Self { permits: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)) }
    }
}

impl Cores {
    /// Does `work` on this thread, which serves no socket meanwhile: another one takes over. Who asks first is served
    /// first, so work that is cut into pieces takes turns.
    pub async fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
            tokio::task::block_in_place(work)
        } else {
            work()
        }
    }

    /// The same for work on this many bytes; a little of it is done at once.
    pub async fn run_sized<T>(&self, bytes: usize, work: impl FnOnce() -> T) -> T {
        if bytes <= INLINE_BYTES_MAX { work() } else { self.run(work).await }
    }
}
