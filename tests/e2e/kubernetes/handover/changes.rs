//! The changes, each as an operator makes it.

use std::collections::BTreeSet;

use promring_cluster::Cluster;
use promring_net::clock::now_ms;

use super::super::failover::leader;
use super::super::pods::{node, ready_pods};
use super::conditions::Midst;
use super::fleet::{Begun, Fleet, SCRAPERS, TARGETS, name};
use super::watch::{SCRAPER_PODS, in_the_midst, scraped_at, settled};
use crate::owners::{moved, of, slots_pass, standing};
use crate::support::{eventually, scaled};

const ALLOCATOR_PODS: &str = "app.kubernetes.io/component=allocator";
const ALLOCATORS: usize = 2;
/// Scrapers after a scale-out.
const MORE: usize = 5;
const SCRAPERS_OBJECT: &str = "statefulset/promring-scraper";
const ALLOCATORS_OBJECT: &str = "deployment/promring-allocator";

/// How long kubectl waits for the end of a rollout or of a pod.
fn patience() -> &'static str {
    scaled("--timeout=120s", "--timeout=900s")
}

/// Runs kubectl in the release's namespace.
async fn kubectl(cluster: &Cluster, arguments: &[&str]) -> String {
    cluster.kubectl(&[&["-n", "metrics"], arguments].concat()).await
}

/// Says how many scrapers there are to be.
async fn scale(cluster: &Cluster, scrapers: usize) {
    kubectl(cluster, &["scale", SCRAPERS_OBJECT, &format!("--replicas={scrapers}")]).await;
}

/// Restarts the scrapers, and waits until all are new.
async fn restart_scrapers(cluster: &Cluster) {
    kubectl(cluster, &["rollout", "restart", SCRAPERS_OBJECT]).await;
    kubectl(cluster, &["rollout", "status", SCRAPERS_OBJECT, patience()]).await;
}

/// The least that a scale-out of the whole moves.
fn share_of_new() -> usize {
    TARGETS * (MORE - SCRAPERS) / MORE * 7 / 10
}

/// The pods that are scraped get another path while their targets move: whoever has a target by then scrapes it there.
pub(super) async fn scaled_out(fleet: &mut Fleet<'_>) {
    let (begun, cluster) = (Begun::now(), fleet.cluster);
    let path = format!("/metrics/{}", now_ms());
    let change = async {
        scale(cluster, MORE).await;
        in_the_midst(cluster).await;
        let annotation = format!("prometheus.io/path={path}");
        cluster
            .kubectl(&["-n", "demo", "annotate", "--overwrite", "pods", "-l", "app=exporter", &annotation])
            .await;
        let (_, allocator, _) = leader(cluster).await.unwrap();
        let steps = standing(&allocator).await.unwrap().steps;
        assert!(!steps.is_empty(), "the hand-overs are over: the paths changed too late");
    };
    let (count, after) = fleet.make(MORE, Midst::HandOver, change).await;
    scraped_at(cluster, MORE, &path).await;
    let new: usize = (SCRAPERS..MORE).map(|number| of(&after, &name(number)).count()).sum();
    assert!(count >= new && new >= share_of_new(), "{count} targets moved, {new} of them to the new ones");
    slots_pass(1, 10).await;
    fleet.audit("kubectl scale, out", &begun, count).await;
}

/// Who leaves for good waits for the receiver, as nobody would send what it has left.
pub(super) async fn scaled_in(fleet: &mut Fleet<'_>) {
    let (begun, cluster) = (Begun::now(), fleet.cluster);
    let before = settled(cluster, MORE).await;
    let theirs: usize = (SCRAPERS..MORE).map(|number| of(&before, &name(number)).count()).sum();
    let change = async {
        scale(cluster, SCRAPERS).await;
        for number in SCRAPERS..MORE {
            kubectl(cluster, &["wait", "--for=delete", &format!("pod/{}", name(number)), patience()]).await;
        }
    };
    let (count, _) = fleet.make(SCRAPERS, Midst::HandOver, change).await;
    assert!(count >= theirs && theirs >= share_of_new(), "{count} targets moved of {theirs}");
    for number in SCRAPERS..MORE {
        fleet.ended(&name(number), &begun);
    }
    slots_pass(1, 10).await;
    fleet.audit("kubectl scale, in", &begun, count).await;
}

/// A restarting scraper leaves what it could not send to its successor.
pub(super) async fn restarted_scrapers(fleet: &mut Fleet<'_>) {
    let (begun, cluster) = (Begun::now(), fleet.cluster);
    let before = ready_pods(cluster, "metrics", SCRAPER_PODS).await;
    let (count, _) = fleet.make(SCRAPERS, Midst::HandOver, restart_scrapers(cluster)).await;
    // From the highest ordinal down, each told to end once the one before it was back.
    let mut order = Vec::new();
    for number in (0..SCRAPERS).rev() {
        let (told, ended) = fleet.ended(&name(number), &begun);
        let back = fleet.said(&name(number), &begun, "scraper is listening");
        assert_eq!(back.len(), 1, "{} was started {} times", name(number), back.len());
        order.extend([told, ended, back[0]]);
    }
    assert!(order.is_sorted(), "one ordinal ends after the other: {order:?}");
    let after = ready_pods(cluster, "metrics", SCRAPER_PODS).await;
    assert_eq!(after.len(), SCRAPERS);
    assert!(after.iter().all(|(name, pod)| before[name].metadata.uid != pod.metadata.uid));
    // All of them went, and what the last one gave came back.
    assert!(count >= TARGETS, "{count} hand-overs of {TARGETS} targets");
    fleet.audit("kubectl rollout restart of the StatefulSet", &begun, count).await;
}

pub(super) async fn restarted_allocators(fleet: &mut Fleet<'_>) {
    let (begun, cluster) = (Begun::now(), fleet.cluster);
    let before = settled(cluster, SCRAPERS).await;
    let old = ready_pods(cluster, "metrics", ALLOCATOR_PODS).await;
    let (_, _, term) = leader(cluster).await.unwrap();
    let change = async {
        kubectl(cluster, &["rollout", "restart", ALLOCATORS_OBJECT]).await;
        kubectl(cluster, &["rollout", "status", ALLOCATORS_OBJECT, patience()]).await;
        eventually("one of the new allocators leads", async || {
            let (pod, _, next) = leader(cluster).await?;
            (next > term && !old.contains_key(&pod)).then_some(())
        })
        .await;
    };
    let (count, after) = fleet.make(SCRAPERS, Midst::Beginning, change).await;
    assert_eq!((count, after), (0, before), "a restart of the allocators moves nothing");
    let new = ready_pods(cluster, "metrics", ALLOCATOR_PODS).await;
    assert!(new.len() == ALLOCATORS && new.keys().all(|pod| !old.contains_key(pod)), "{:?}", new.keys());
    for pod in old.keys() {
        assert_eq!(fleet.said(pod, &begun, "stopping").len(), 1, "{pod}:\n{}", cluster.logs("metrics", pod));
        eventually("an old allocator has ended by itself", async || {
            (fleet.said(pod, &begun, "stopped").len() == 1).then_some(())
        })
        .await;
    }
    // It may be over within as many seconds.
    slots_pass(3, 10).await;
    fleet.audit("kubectl rollout restart of the Deployment", &begun, count).await;
}

pub(super) async fn deleted_pod(fleet: &mut Fleet<'_>) {
    let (begun, cluster) = (Begun::now(), fleet.cluster);
    let pod = name(1);
    let mine = of(&settled(cluster, SCRAPERS).await, &pod).count();
    let delete = async {
        kubectl(cluster, &["delete", "pod", &pod, patience()]).await;
    };
    let (count, after) = fleet.make(SCRAPERS, Midst::HandOver, delete).await;
    fleet.ended(&pod, &begun);
    let back = of(&after, &pod).count();
    assert!(mine > 0 && back > 0 && count >= mine + back, "{count} moved; {mine} went, {back} came back");
    fleet.audit("kubectl delete pod", &begun, count).await;
}

/// The leading allocator is killed, and another one leads once its Lease has run out.
pub(super) async fn killed_leader(fleet: &mut Fleet<'_>) {
    let (begun, cluster) = (Begun::now(), fleet.cluster);
    let before = settled(cluster, SCRAPERS).await;
    let (pod, _, term) = leader(cluster).await.unwrap();
    let change = async {
        cluster.kill("metrics", &pod);
        eventually("an allocator leads again", async || (leader(cluster).await?.2 > term).then_some(()))
            .await;
    };
    let (count, after) = fleet.make(SCRAPERS, Midst::Beginning, change).await;
    assert_eq!((count, after), (0, before), "a killed leader moves nothing");
    assert_eq!(fleet.said(&pod, &begun, "stopp").len(), 0, "it did not end in order");
    fleet.audit("the leading allocator killed", &begun, count).await;
}

/// A node with some of the scrapers, and with the leading allocator if that can be had, is drained for maintenance.
pub(super) async fn drained_node(fleet: &mut Fleet<'_>) {
    let (begun, cluster) = (Begun::now(), fleet.cluster);
    let before = settled(cluster, SCRAPERS).await;
    let scrapers = ready_pods(cluster, "metrics", SCRAPER_PODS).await;
    let on = |node_name: &str| -> BTreeSet<String> {
        let there = scrapers.iter().filter(|(_, pod)| node(pod) == node_name);
        there.map(|(name, _)| name.clone()).collect()
    };
    let nodes: BTreeSet<String> = scrapers.values().map(node).collect();
    // A leader that has just taken over may not be ready yet.
    let leading = eventually("the leading allocator is ready", async || {
        let (leading, ..) = leader(cluster).await?;
        ready_pods(cluster, "metrics", ALLOCATOR_PODS).await.remove(&leading)
    })
    .await;
    // Those of a node where all scrapers are have nobody to give their targets to.
    let mut candidates: Vec<&String> = nodes.iter().filter(|node| on(node).len() < SCRAPERS).collect();
    candidates.sort_by_key(|candidate| **candidate == node(&leading));
    let drained = *candidates.last().expect("the scrapers run on several nodes");
    let there = on(drained);
    let theirs: usize = there.iter().map(|name| of(&before, name).count()).sum();
    let change = async {
        let drain = ["drain", drained, "--ignore-daemonsets", "--delete-emptydir-data", patience()];
        cluster.kubectl(&drain).await;
    };
    let (count, after) = fleet.make(SCRAPERS, Midst::HandOver, change).await;
    let all = ready_pods(cluster, "metrics", "app.kubernetes.io/name=promring").await;
    assert!(all.values().all(|pod| node(pod) != *drained), "pods are left on {drained}");
    for pod in &there {
        fleet.ended(pod, &begun);
    }
    let elsewhere = moved(&before, &after).len();
    assert!(theirs > 0 && count >= theirs, "{count} moved, {theirs} were there");
    cluster.kubectl(&["uncordon", drained]).await;
    let with_leader = *drained == node(&leading);
    eprintln!(
        "{there:?} were drained, the leader with them: {with_leader}; {elsewhere} targets are elsewhere now"
    );
    fleet.audit("kubectl drain", &begun, count).await;
}
