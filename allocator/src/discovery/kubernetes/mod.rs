//! `kubernetes_sd_configs`: targets from the objects of a Kubernetes cluster.
//!
//! [`watch`](self) keeps one list and one watch for each kind and scope, whatever the number of jobs, and a store of what
//! matters of each object. A view builds a role's target groups from the stores. The files named after kinds are pure:
//! trimmed JSON types, what is kept of them, and the labels.

pub(crate) mod client;
mod container_ports;
mod endpoints;
mod endpointslice;
mod ingress;
pub(crate) mod kind;
pub(crate) mod labels;
mod lines;
mod node;
pub(crate) mod pod;
mod service;
pub(crate) mod store;
mod view;
pub(crate) mod watch;
pub(crate) mod watches;

use std::time::Duration;

use promring_model::config::KubernetesDiscovery;
use tokio::task::JoinSet;

use super::{Found, Reporter};
use view::View;
pub use watches::Watches;

/// How long until a source that cannot be started is tried again.
const START_AGAIN: Duration = Duration::from_secs(10);

/// Starts the sources of equal discoveries: what is built for one is told to all of them.
pub(super) fn start(
    discovery: KubernetesDiscovery,
    watches: &Watches,
    reporters: Vec<Reporter>,
    tasks: &mut JoinSet<()>,
) {
    // Subscribed now, so that a reload finds the watches of the old configuration still there.
    match View::new(&discovery, watches) {
        Ok(view) => drop(tasks.spawn(view.run(reporters))),
        Err(message) => {
            let watches = watches.clone();
            tasks.spawn(async move {
                tracing::error!(message, "kubernetes_sd cannot start");
                for reporter in &reporters {
                    reporter.send(Found::Failed(message.clone())).await;
                }
                loop {
                    tokio::time::sleep(START_AGAIN).await;
                    if let Ok(view) = View::new(&discovery, &watches) {
                        return view.run(reporters).await;
                    }
                }
            });
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
