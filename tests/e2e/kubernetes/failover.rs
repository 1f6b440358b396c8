//! The leading allocator goes, in the real control plane: another one leads, and nothing moves.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use promring_cluster::Cluster;

use super::install::targets;
use crate::support::eventually;

/// Who leads, as the Lease says: the pod, its URL, the term.
pub(super) async fn leader(cluster: &Cluster) -> Option<(String, String, u64)> {
    let leases: Api<Lease> = Api::namespaced(cluster.client(), "metrics");
    let lease = leases.get_opt("promring-allocator").await.ok()??;
    let annotations = lease.metadata.annotations?;
    let holder = lease.spec?.holder_identity.filter(|holder| !holder.is_empty())?;
    let pod = holder.rsplit_once('_')?.0.to_owned();
    let term = annotations.get("promring.io/term")?.parse().ok()?;
    Some((pod, annotations.get("promring.io/address")?.clone(), term))
}

/// Deletes the leader's pod. Gives the next one's URL.
pub(super) async fn moves_nothing(cluster: &Cluster) -> String {
    let (pod, url, term) = eventually("an allocator leads", async || leader(cluster).await).await;
    let owners = |found: BTreeMap<String, (String, String)>| -> BTreeMap<String, String> {
        found.into_iter().map(|(instance, (scraper, _))| (instance, scraper)).collect()
    };
    let before = owners(targets(&url).await.unwrap());
    assert!(!before.is_empty());
    cluster.kubectl(&["-n", "metrics", "delete", "pod", &pod, "--wait=false"]).await;
    let (next, url) = eventually("another one leads", async || {
        let (next, url, next_term) = leader(cluster).await?;
        (next != pod && next_term > term).then_some((next, url))
    })
    .await;
    let after = eventually("the next one knows who has what", async || {
        let found = targets(&url).await?;
        let placed = found.values().all(|(scraper, health)| !scraper.is_empty() && health == "up");
        (placed && found.len() == before.len()).then(|| owners(found))
    })
    .await;
    assert_eq!(after, before, "{next}");
    url
}
