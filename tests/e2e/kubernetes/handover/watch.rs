//! Who has what, while a change goes on and once it is over.

use std::time::Duration;

use promring_cluster::Cluster;

use super::super::failover::leader;
use super::super::pods::{address, ready_pods};
use super::fleet::{TARGETS, name, names};
use crate::owners::{Owners, listed, moved, standing};
use crate::support::{eventually, get_json};

/// What the chart's scrapers' pods are selected by.
pub(super) const SCRAPER_PODS: &str = "app.kubernetes.io/component=scraper";
/// How often it is looked who has what: more often than a target can move.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Makes a change, and waits until it is over and so many scrapers have everything. Gives how many targets got another owner
/// meanwhile, where one that goes and comes back counts twice, and who has what then.
pub(super) async fn watch(
    cluster: &Cluster,
    scrapers: usize,
    change: impl Future<Output = ()>,
) -> (usize, Owners) {
    let mut before = settled_now(cluster).await;
    let change = async {
        change.await;
        settled(cluster, scrapers).await
    };
    let mut change = std::pin::pin!(change);
    let mut count = 0;
    loop {
        let after = tokio::select! {
            after = &mut change => Some(after),
            () = tokio::time::sleep(LOOK_EVERY) => None,
        };
        let now = match &after {
            Some(after) => Some(after.clone()),
            None => owners(cluster).await,
        };
        if let Some(now) = now {
            count += moved(&before, &now).len();
            before = now;
        }
        if let Some(after) = after {
            return (count, after);
        }
    }
}

/// Waits until just these scrapers, those with the first ordinals, take targets and are ready, each scrapes what it is to have,
/// and no hand-over is under way. Gives who has what.
pub(super) async fn settled(cluster: &Cluster, scrapers: usize) -> Owners {
    let names = names(scrapers);
    eventually("every scraper has its targets, and no hand-over is under way", async || {
        let (_, allocator, _) = leader(cluster).await?;
        let standing = standing(&allocator).await?;
        if !standing.still || standing.takers != names {
            return None;
        }
        let owners = owners(cluster).await?;
        let pods = ready_pods(cluster, "metrics", SCRAPER_PODS).await;
        if pods.len() != scrapers || !owners.values().all(|owner| names.contains(owner)) {
            return None;
        }
        let mut scraped = Owners::new();
        for number in 0..scrapers {
            let own = listed(&format!("http://{}:8081", address(pods.get(&name(number))?))).await?;
            if own.is_empty() {
                return None;
            }
            scraped.extend(own.into_keys().map(|instance| (instance, name(number))));
        }
        (scraped == owners).then_some(owners)
    })
    .await
}

/// Waits until these scrapers scrape all targets at this path.
pub(super) async fn scraped_at(cluster: &Cluster, scrapers: usize, path: &str) {
    eventually("all targets are scraped at their new path", async || {
        let pods = ready_pods(cluster, "metrics", SCRAPER_PODS).await;
        let mut urls = Vec::new();
        for number in 0..scrapers {
            let base = format!("http://{}:8081", address(pods.get(&name(number))?));
            let answer = get_json(&format!("{base}/api/v1/targets?state=active")).await?;
            let targets = answer["data"]["activeTargets"].as_array()?;
            urls.extend(targets.iter().map(|target| target["scrapeUrl"].to_string()));
        }
        (urls.len() == TARGETS && urls.iter().all(|url| url.contains(path))).then_some(())
    })
    .await;
}

/// Who has what at the start of a change.
async fn settled_now(cluster: &Cluster) -> Owners {
    eventually("an allocator says who has what", async || owners(cluster).await).await
}

/// Who has what, as the leader says; None where nobody leads, or does not know yet.
async fn owners(cluster: &Cluster) -> Option<Owners> {
    let (_, allocator, _) = leader(cluster).await?;
    let owners = listed(&allocator).await?;
    (owners.len() == TARGETS && owners.values().all(|owner| !owner.is_empty())).then_some(owners)
}

/// Waits until a hand-over is under way.
pub(super) async fn in_the_midst(cluster: &Cluster) {
    eventually("a hand-over is under way", async || {
        let (_, allocator, _) = leader(cluster).await?;
        (!standing(&allocator).await?.steps.is_empty()).then_some(())
    })
    .await;
}
