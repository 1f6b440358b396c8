//! In a cluster: a real control plane, and pods as processes (`tests/cluster`).

mod cluster;

use promring_cluster::Options;

use crate::servers::part;

/// A cluster that runs promring and node_exporter.
fn options() -> Options {
    Options::new(part("KUBERNETES"))
        .image("promring", env!("CARGO_BIN_EXE_promring"))
        .image("node-exporter", part("NODE_EXPORTER"))
        .image("busybox/sh", "/bin/sh")
}
