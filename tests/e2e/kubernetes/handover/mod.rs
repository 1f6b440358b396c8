//! Targets change hands as Kubernetes makes them: the chart in a real control plane, `kubectl` for every change, and the
//! receiver that audits every slot. One cluster for all of it, one change after the other, as a cluster lives.
//!
//! Beside the audit a Prometheus takes the same samples, and nothing out of order: what it refuses is a failure.

mod changes;
mod conditions;
mod fleet;
mod watch;

use promring_cluster::{Cluster, run};

use super::options;
use crate::support::scaled;
use changes::{
    deleted_pod, drained_node, killed_leader, restarted_allocators, restarted_scrapers, scaled_in, scaled_out,
};
use conditions::Receiving;
use fleet::{EXPORTERS_NODE, Fleet};

#[test]
fn no_planned_change_in_a_cluster_loses_doubles_or_disorders_anything() {
    let mut options = options();
    options.nodes.push(EXPORTERS_NODE.to_owned());
    run(&options, async |cluster: &Cluster| {
        let mut fleet = Fleet::install(cluster).await;
        let fleet = &mut fleet;
        if scaled(false, true) {
            for receiving in [Receiving::Well, Receiving::Slowly, Receiving::NotForAWhile] {
                fleet.set_receiving(receiving).await;
                every_change(fleet).await;
            }
        } else {
            // Every change once, and those again that a bad receiver concerns most.
            scaled_out(fleet).await;
            scaled_in(fleet).await;
            restarted_scrapers(fleet).await;
            restarted_allocators(fleet).await;
            killed_leader(fleet).await;
            drained_node(fleet).await;
            fleet.set_receiving(Receiving::Slowly).await;
            scaled_out(fleet).await;
            fleet.set_receiving(Receiving::NotForAWhile).await;
            scaled_in(fleet).await;
            deleted_pod(fleet).await;
        }
        fleet.set_receiving(Receiving::Well).await;
        fleet.assert_stored().await;
    });
}

/// Every planned change, and the leader's end, which is none and moves nothing either. A drain leaves all scrapers on one node;
/// the restarts after it spread them again.
async fn every_change(fleet: &mut Fleet<'_>) {
    scaled_out(fleet).await;
    scaled_in(fleet).await;
    drained_node(fleet).await;
    restarted_scrapers(fleet).await;
    restarted_allocators(fleet).await;
    deleted_pod(fleet).await;
    killed_leader(fleet).await;
}
