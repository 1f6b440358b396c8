//! Network namespaces: one for the cluster, with a bridge in it, and one for each pod, with an address on that
//! bridge. Nothing is added to the machine's own network, and nothing in here reaches it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where iproute2 keeps the names.
const NAMESPACES: &str = "/var/run/netns";
/// What all names of ours begin with; the process id follows.
const PREFIX: &str = "promring-test-";
/// Address of the bridge, where the control plane listens.
pub(crate) const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// Pods get addresses from here on.
const FIRST_POD: u32 = u32::from_be_bytes([10, 244, 1, 1]);
/// Most pods that one cluster gets addresses for, over its whole life.
const PODS_MAX: u32 = 0xF000;

/// A cluster's network. Dropping it deletes its namespaces.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    pods: AtomicU32,
}

/// A pod's network namespace. Dropping it deletes it.
#[derive(Debug)]
pub(crate) struct PodNetwork {
    name: String,
    cluster: String,
    veth: String,
    address: Ipv4Addr,
}

impl Network {
    /// Makes a namespace with a bridge, after deleting what tests that were killed have left behind.
    pub(crate) fn create() -> Self {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        remove_stale(Path::new(NAMESPACES), |name| ip(&["netns", "delete", name]));
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let network =
            Self { name: format!("{PREFIX}{}-{number}", std::process::id()), pods: AtomicU32::new(0) };
        let name = network.name.as_str();
        ip(&["netns", "add", name]);
        for arguments in [
            "link set lo up",
            "link add br0 type bridge forward_delay 0",
            &format!("address add {BRIDGE}/16 dev br0"),
            "link set br0 up",
        ] {
            let arguments: Vec<&str> = ["-n", name].into_iter().chain(arguments.split(' ')).collect();
            ip(&arguments);
        }
        network
    }

    /// Moves the calling thread, and all threads and processes that it will start, into the cluster's namespace.
    pub(crate) fn enter(&self) {
        let file = std::fs::File::open(Path::new(NAMESPACES).join(&self.name)).unwrap();
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// A namespace with an address of its own.
    pub(crate) fn add_pod(&self) -> PodNetwork {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        assert!(number < PODS_MAX, "no more pod addresses");
        let pod = PodNetwork {
            name: format!("{}-{number}", self.name),
            cluster: self.name.clone(),
            veth: format!("pod{number}"),
            address: Ipv4Addr::from(FIRST_POD + number),
        };
        ip(&["netns", "add", &pod.name]);
        let (veth, cluster, address) = (&pod.veth, &pod.cluster, pod.address);
        for (namespace, arguments) in [
            (cluster, format!("link add {veth} type veth peer name eth0 netns {}", pod.name)),
            (cluster, format!("link set {veth} master br0 up")),
            (&pod.name, "link set lo up".to_owned()),
            (&pod.name, format!("address add {address}/16 dev eth0")),
            (&pod.name, "link set eth0 up".to_owned()),
            (&pod.name, format!("route add default via {BRIDGE}")),
        ] {
            let arguments: Vec<&str> =
                ["-n", namespace.as_str()].into_iter().chain(arguments.split(' ')).collect();
            ip(&arguments);
        }
        pod
    }
}

impl PodNetwork {
    /// The pod's address.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The namespace's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Takes the pod's cable out, or puts it back.
    pub(crate) fn connect(&self, connected: bool) {
        let state = if connected { "up" } else { "down" };
        ip(&["-n", &self.cluster, "link", "set", &self.veth, state]);
    }
}

impl Drop for PodNetwork {
    fn drop(&mut self) {
        // Its end of the pair goes with the namespace, but only when the kernel has got round to it.
        try_ip(&["-n", &self.cluster, "link", "delete", &self.veth]);
        try_ip(&["netns", "delete", &self.name]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        try_ip(&["netns", "delete", &self.name]);
    }
}

/// Deletes what carries the process id of a test that is no more: entries of `dir` by their names.
fn remove_stale(dir: &Path, mut remove: impl FnMut(&str)) {
    for name in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name()) {
        let Some(name) = name.to_str() else { continue };
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        // One that has ended, but has not been waited for, has no program any more.
        if pid.is_some_and(|pid| Path::new("/proc").join(pid).join("exe").read_link().is_err()) {
            remove(name);
        }
    }
}

/// A directory for a cluster's files, after deleting those of tests that were killed. It begins with the process id,
/// as the namespaces do.
pub(crate) fn directory() -> tempfile::TempDir {
    let parent = std::env::temp_dir();
    remove_stale(&parent, |name| {
        let _ = std::fs::remove_dir_all(parent.join(name));
    });
    let prefix = format!("{PREFIX}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).unwrap()
}

/// iproute2, which is not on everybody's PATH.
pub(crate) fn ip_program() -> PathBuf {
    let known = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"];
    known.iter().map(PathBuf::from).find(|path| path.exists()).expect("iproute2 is installed")
}

fn ip(arguments: &[&str]) {
    assert!(try_ip(arguments), "ip {} failed; this needs root", arguments.join(" "));
}

fn try_ip(arguments: &[&str]) -> bool {
    let output = Command::new(ip_program()).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}
