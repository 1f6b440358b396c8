//! The roster from an API server on a socket.

use std::path::{Path, PathBuf};

use promring_model::config::SelectorMembers;
use promring_model::roster::Presence;
use serde_json::json;

use super::*;
use crate::discovery::kubernetes::tests::api_server::ApiServer;
use crate::discovery::kubernetes::tests::following::TIMING;

fn pod(name: &str, ready: &str) -> serde_json::Value {
    json!({
        "metadata": {"name": name, "namespace": "ns"},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    })
}

fn set(replicas: u32, start: u32) -> serde_json::Value {
    json!({
        "metadata": {"name": "s", "namespace": "ns"},
        "spec": {"replicas": replicas, "ordinals": {"start": start}},
    })
}

fn statefulset(kubeconfig: PathBuf) -> Members {
    Members::StatefulSet(StatefulSetMembers {
        namespace: Some("ns".to_owned()),
        name: "s".to_owned(),
        kubeconfig_file: Some(kubeconfig),
    })
}

fn config(members: Members) -> Config {
    let mut config = Config::default();
    config.allocator.members = members;
    config
}

/// Writes a file that leads to this server.
fn kubeconfig(dir: &Path, server: &ApiServer) -> PathBuf {
    let path = dir.join(format!("kubeconfig-{}", server.address.port()));
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{server: 'http://{}'}}}}]\nusers: [{{name: u, user: {{}}}}]\n",
        server.address
    );
    std::fs::write(&path, text).unwrap();
    path
}

struct Watching {
    watching: super::Watching,
    _dir: tempfile::TempDir,
}

impl Watching {
    fn start(server: &ApiServer) -> Self {
        Self::start_with(server, statefulset)
    }

    fn start_with(server: &ApiServer, members: impl Fn(PathBuf) -> Members) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(members(kubeconfig(dir.path(), server)));
        let watching = super::Watching::start(&config, &Watches::with_timing(TIMING));
        Self { watching, _dir: dir }
    }

    /// Waits for a roster of exactly this.
    async fn until(&mut self, expected: &[(&str, Presence)]) -> Roster {
        let wait = async {
            loop {
                let Told::Roster(roster) = self.watching.next().await.unwrap() else { continue };
                let names: Vec<_> =
                    roster.names().map(|name| (name, roster.presence(name).unwrap())).collect();
                if names == expected {
                    return roster;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.expect("the roster comes")
    }
}

impl Watching {
    /// Waits for a failure with this text, before any roster; empty: for its end.
    async fn until_failing(&mut self, text: &str) {
        let told = tokio::time::timeout(std::time::Duration::from_secs(10), self.watching.next()).await;
        match told.expect("it is told").unwrap() {
            Told::Failing(Some(failure)) if !text.is_empty() => assert!(failure.contains(text), "{failure}"),
            Told::Failing(None) if text.is_empty() => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_pods_that_a_selector_matches_and_may_not_be_seen_are_said_to_be_so() {
    let server = ApiServer::start().await;
    server.forbid("pods");
    let mut watching = Watching::start_with(&server, |path| {
        let (namespace, selector) = (Some("ns".to_owned()), "app=otel".to_owned());
        Members::Selector(SelectorMembers { namespace, selector, kubeconfig_file: Some(path) })
    });
    watching.until_failing("pods is forbidden").await;
    server.apply("pods", pod("collector", "True"));
    server.allow("pods");
    watching.until_failing("").await;
    watching.until(&[("collector", Presence::Ready)]).await;
}

#[tokio::test]
async fn the_roster_follows_the_set_and_its_pods() {
    let server = ApiServer::start().await;
    server.apply("statefulsets", set(2, 0));
    server.apply("pods", pod("s-0", "True"));
    server.apply("pods", pod("unrelated", "True"));
    let mut watching = Watching::start(&server);
    watching.until(&[("s-0", Presence::Ready), ("s-1", Presence::Gone)]).await;
    server.apply("pods", pod("s-1", "False"));
    watching.until(&[("s-0", Presence::Ready), ("s-1", Presence::NotReady)]).await;
    let mut terminating = pod("s-0", "True");
    terminating["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    server.apply("pods", terminating);
    watching.until(&[("s-0", Presence::Terminating), ("s-1", Presence::NotReady)]).await;
    server.delete("pods", "ns/s-0");
    watching.until(&[("s-0", Presence::Gone), ("s-1", Presence::NotReady)]).await;
    server.apply("statefulsets", set(1, 1));
    watching.until(&[("s-1", Presence::NotReady)]).await;
    assert!(
        server
            .last_request("pods")
            .contains("/namespaces/ns/pods?labelSelector=statefulset.kubernetes.io%2Fpod-name&")
    );
    assert!(server.last_request("statefulsets").contains("fieldSelector=metadata.name%3Ds&"));
}

#[tokio::test]
async fn without_the_set_or_the_right_to_see_it_no_roster_is_told_and_why() {
    let server = ApiServer::start().await;
    server.forbid("statefulsets");
    server.apply("pods", pod("s-0", "True"));
    let mut watching = Watching::start(&server);
    watching.until_failing("statefulsets is forbidden").await;
    server.wait_for("statefulsets", "", 3).await;
    server.allow("statefulsets");
    watching.until_failing("").await;
    server.apply("statefulsets", set(1, 0));
    watching.until(&[("s-0", Presence::Ready)]).await;
    server.delete("statefulsets", "ns/s");
    server.apply("pods", pod("s-0", "False"));
    watching.until(&[("s-0", Presence::NotReady)]).await;
}

#[tokio::test]
async fn what_was_watched_before_a_reload_has_nothing_more_to_say() {
    for old_fails in [true, false] {
        let (old, new) = (ApiServer::start().await, ApiServer::start().await);
        if old_fails {
            old.forbid("statefulsets");
        }
        for (server, replicas) in [(&old, 1), (&new, 2)] {
            server.apply("statefulsets", set(replicas, 0));
            server.apply("pods", pod("s-0", "True"));
        }
        let dir = tempfile::tempdir().unwrap();
        let of = |server| config(statefulset(kubeconfig(dir.path(), server)));
        let watches = Watches::with_timing(TIMING);
        let mut watching = super::Watching::start(&of(&old), &watches);
        // Its word lies in the channel when the configuration changes.
        let has_told = async {
            while watching.told.is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), has_told).await.expect("it tells");
        assert!(watching.apply_config(&of(&new), &watches));
        let told = tokio::time::timeout(std::time::Duration::from_secs(10), watching.next()).await;
        let names: Vec<String> = match told.expect("the new one tells").unwrap() {
            Told::Roster(roster) => roster.names().map(str::to_owned).collect(),
            Told::Failing(failure) => panic!("{failure:?}"),
        };
        assert_eq!(names, ["s-0", "s-1"]);
    }
}

#[tokio::test]
async fn a_reload_to_another_kind_of_clients_has_the_roster_told_again() {
    let server = ApiServer::start().await;
    server.apply("statefulsets", set(1, 0));
    server.apply("pods", pod("s-0", "True"));
    let mut watching = Watching::start(&server);
    watching.until(&[("s-0", Presence::Ready)]).await;
    let mut config = config(watching.watching.members.clone());
    let watches = Watches::with_timing(TIMING);
    assert!(!watching.watching.apply_config(&config, &watches), "nothing is new");
    config.allocator.clients = Clients::DropIn;
    assert!(watching.watching.apply_config(&config, &watches));
    watching.until(&[("s-0", Presence::Ready)]).await;
}

fn pod_on(name: &str, ready: &str, node: &str) -> serde_json::Value {
    let mut pod = pod(name, ready);
    pod["spec"] = json!({ "nodeName": node });
    pod
}

#[tokio::test]
async fn the_roster_follows_the_pods_that_a_selector_matches_and_knows_their_nodes() {
    let server = ApiServer::start().await;
    server.apply("pods", pod_on("collector-x7", "True", "north"));
    server.apply("pods", pod_on("collector-q2", "False", "south"));
    let mut watching = Watching::start_with(&server, |path| {
        let (namespace, selector) = (Some("ns".to_owned()), "app=otel".to_owned());
        Members::Selector(SelectorMembers { namespace, selector, kubeconfig_file: Some(path) })
    });
    let roster =
        watching.until(&[("collector-q2", Presence::NotReady), ("collector-x7", Presence::Ready)]).await;
    let nodes = ["collector-q2", "collector-x7", "other"].map(|name| roster.node(name).map(str::to_owned));
    assert_eq!(nodes, [Some("south".to_owned()), Some("north".to_owned()), None]);
    server.delete("pods", "ns/collector-q2");
    watching.until(&[("collector-x7", Presence::Ready)]).await;
    assert!(server.last_request("pods").contains("/namespaces/ns/pods?labelSelector=app%3Dotel&"));
}
