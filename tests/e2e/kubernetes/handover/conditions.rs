//! How the audit's receiver is doing while changes are made.

use std::fmt;

use promring_testkit::receiver::Fault;

use super::super::pods::{address, ready_pods};
use super::fleet::{Fleet, SERIES_IN_ALL};
use super::watch::{SCRAPER_PODS, in_the_midst, watch};
use crate::owners::{Owners, slots_pass};
use crate::support::{eventually, metric_of};

/// How the receiver takes samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    /// At once.
    Well,
    /// A second after each request.
    Slowly,
    /// At once, but nobody listens at its address for a while in the midst of each change.
    NotForAWhile,
}

impl fmt::Display for Receiving {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Well => "",
            Self::Slowly => " with a slow receiver",
            Self::NotForAWhile => " with a receiver that goes away",
        })
    }
}

/// When in a change the receiver goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Midst {
    /// When a hand-over is under way.
    HandOver,
    /// At once: nothing is to be handed over.
    Beginning,
}

impl Fleet<'_> {
    /// How the receiver does from now on.
    pub(super) async fn set_receiving(&mut self, receiving: Receiving) {
        self.receiving = receiving;
        self.receiver.clear_faults();
        if receiving == Receiving::Slowly {
            self.receiver.add_fault(Fault::Slow { delay_ms: 1_000 }).unwrap();
            let before = self.sent().await;
            eventually("requests take a second", async || {
                let after = self.sent().await;
                let (seconds, requests) = (after.0 - before.0, after.1 - before.1);
                (requests > 0.0 && seconds / requests > 0.7).then_some(())
            })
            .await;
        }
    }

    /// Makes a change, and waits until it is over and so many scrapers have everything. Gives how many targets got another
    /// owner meanwhile, where one that goes and comes back counts twice, and who has what then.
    pub(super) async fn make(
        &mut self,
        scrapers: usize,
        midst: Midst,
        change: impl Future<Output = ()>,
    ) -> (usize, Owners) {
        let cluster = self.cluster;
        if self.receiving != Receiving::NotForAWhile {
            return watch(cluster, scrapers, change).await;
        }
        let change = async {
            tokio::join!(change, self.receiver_goes_and_comes_back(midst));
        };
        watch(cluster, scrapers, change).await
    }

    async fn receiver_goes_and_comes_back(&mut self, midst: Midst) {
        if midst == Midst::HandOver {
            in_the_midst(self.cluster).await;
        }
        self.receiver.close().await;
        slots_pass(10, 60).await;
        // Of each series at least five samples wait somewhere.
        let waiting = self.sum("prometheus_remote_storage_samples_pending").await;
        assert!(waiting >= 5.0 * SERIES_IN_ALL as f64, "only {waiting} samples wait for the receiver");
        self.receiver.reopen().await.unwrap();
    }

    /// How many seconds the scrapers have spent on requests to the audit's receiver, and how many they were.
    async fn sent(&self) -> (f64, f64) {
        let name = "prometheus_remote_storage_sent_batch_duration_seconds";
        (self.sum(&format!("{name}_sum")).await, self.sum(&format!("{name}_count")).await)
    }

    /// The sum over all scrapers of a metric of the audit's receiver.
    async fn sum(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for pod in ready_pods(self.cluster, "metrics", SCRAPER_PODS).await.values() {
            let base = format!("http://{}:8081", address(pod));
            sum += metric_of(&base, name, r#"remote_name="audit""#).await.unwrap_or_default();
        }
        sum
    }
}
