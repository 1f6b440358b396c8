//! The network without a cluster in it: for tests that put a process where it can be cut off.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::network::{Network, PodNetwork, ip_program};

/// A network that a test runs in.
#[derive(Debug)]
pub struct Wires(Network);

/// A network namespace with an address of its own, for processes that can be cut off. Dropping it deletes it.
#[derive(Debug)]
pub struct Host(PodNetwork);

/// Runs `test` in a network of its own. The test's thread, its runtime and all that it starts are in it: 127.0.0.1 is not the
/// machine's, and nothing else of the machine is in reach.
///
/// # Panics
/// Where there can be no such network (it needs root), and where the test does.
pub fn in_network<T: Send>(test: impl AsyncFnOnce(&Wires) -> T + Send) -> T {
    let wires = Wires(Network::create());
    run_in(&wires.0, async || test(&wires).await)
}

/// Runs `test` with a runtime whose threads are in this network.
pub(crate) fn run_in<T: Send>(network: &Network, test: impl AsyncFnOnce() -> T + Send) -> T {
    let in_network = || {
        network.enter();
        // Its threads begin in the network that this one is in.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test())
    };
    std::thread::scope(|scope| {
        let name = std::thread::current().name().unwrap_or("network").to_owned();
        let thread = std::thread::Builder::new().name(name).spawn_scoped(scope, in_network).unwrap();
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Wires {
    /// A host on this network.
    #[must_use]
    pub fn add_host(&self) -> Host {
        Host(self.0.add_pod())
    }
}

impl Host {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.0.address()
    }

    /// What runs a program on it: a program and its first arguments, behind which that program and its own follow.
    #[must_use]
    pub fn runner(&self) -> (PathBuf, [&str; 3]) {
        (ip_program(), ["netns", "exec", self.0.name()])
    }

    /// Takes its cable out, or puts it back: both ends stay where they are, nothing passes.
    pub fn connect(&self, connected: bool) {
        self.0.connect(connected);
    }
}
