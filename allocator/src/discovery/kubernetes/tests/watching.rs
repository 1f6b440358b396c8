//! One watch through everything that servers and networks do.

use serde_json::json;

use super::api_server::{ApiServer, Fault, pod};
use super::following::{Following, IMPATIENT, config};

const PODS: &str = "- job_name: pods\n  kubernetes_sd_configs: [{role: pod, API}]\n";

/// A server with the pods a and b, and a source that has told them.
async fn with_two_pods() -> (ApiServer, Following) {
    let server = ApiServer::start().await;
    server.apply("pods", pod("a", 1));
    server.apply("pods", pod("b", 2));
    let mut following = Following::start(&server, PODS);
    following.until_addresses("pods", &["10.0.0.1:80", "10.0.0.2:80"]).await;
    (server, following)
}

/// Adds a third pod and waits for it: the watch is alive and nothing got lost.
async fn assert_alive(server: &ApiServer, following: &mut Following) {
    server.apply("pods", pod("c", 3));
    following.until_addresses("pods", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]).await;
}

#[tokio::test]
async fn a_streamed_list_goes_over_into_the_watch() {
    let (server, mut following) = with_two_pods().await;
    server.apply("pods", pod("c", 3));
    server.delete("pods", "default/a");
    let mut changed = pod("b", 4);
    changed["metadata"]["annotations"] = json!({"x": "y"});
    server.apply("pods", changed);
    following.until_addresses("pods", &["10.0.0.3:80", "10.0.0.4:80"]).await;
    let group = &following.jobs["pods"].groups["default/b"];
    assert_eq!(group.labels.get("__meta_kubernetes_pod_annotation_x"), Some("y"));
    assert_eq!((server.requests("pods", "watch=true"), server.requests("pods", "limit=")), (1, 0));
}

/// Three pages of pods, each with an address of its own.
fn server_has_pages_of_pods(server: &ApiServer) {
    for n in 0..1_101 {
        let mut pod = pod(&format!("p{n:04}"), 1);
        pod["status"]["podIP"] = json!(format!("10.1.{}.{}", n / 256, n % 256));
        server.apply("pods", pod);
    }
}

#[tokio::test]
async fn a_server_without_streaming_lists_is_listed_in_pages() {
    let server = ApiServer::start().await;
    server.without_streaming_lists();
    server_has_pages_of_pods(&server);
    let mut following = Following::start(&server, PODS);
    following.until("all pods", |jobs| jobs.get("pods").is_some_and(|told| told.complete)).await;
    assert_eq!(following.addresses("pods").len(), 1_101);
    assert_eq!(server.requests("pods", "limit=500"), 3);
    server.apply("pods", pod("late", 9));
    following.until("the late pod", |jobs| jobs["pods"].groups.contains_key("default/late")).await;
    // The refused streaming list, and the watch.
    assert_eq!(server.requests("pods", "watch=true"), 2);
}

#[tokio::test]
async fn a_list_whose_pages_always_expire_is_asked_for_at_once() {
    let server = ApiServer::start().await;
    server.without_streaming_lists();
    server.expire_lists();
    server_has_pages_of_pods(&server);
    let mut following = Following::start(&server, PODS);
    following.until("all pods", |jobs| jobs.get("pods").is_some_and(|told| told.complete)).await;
    assert_eq!(following.addresses("pods").len(), 1_101);
    assert_eq!(following.jobs["pods"].failure, None);
    assert_eq!((server.requests("pods", "limit=500"), server.requests("pods", "continue=")), (2, 1));
    // What went while nobody watched is not in the next list either.
    server.stop().await;
    server.delete("pods", "default/p0000");
    server.compact();
    server.start_again().await;
    following.until("the pod's end", |jobs| !jobs["pods"].groups.contains_key("default/p0000")).await;
    assert_eq!(following.addresses("pods").len(), 1_100);
}

#[tokio::test]
async fn a_list_that_comes_in_is_told_of_before_it_is_there() {
    let server = ApiServer::start().await;
    server.apply("pods", pod("a", 1));
    server.apply("pods", pod("b", 2));
    server.fail("pods", &[Fault::StallInList]);
    let mut following = Following::start_timed(&config(&server, PODS), IMPATIENT);
    following.until("a list", |jobs| jobs.get("pods").is_some_and(|told| told.arriving == 1)).await;
    let told = &following.jobs["pods"];
    assert!(told.groups.is_empty() && !told.complete, "a part of a list is no list");
    following.until_addresses("pods", &["10.0.0.1:80", "10.0.0.2:80"]).await;
}

#[tokio::test]
async fn a_connection_that_fails_says_nothing_about_streaming_lists() {
    let server = ApiServer::start().await;
    server.apply("pods", pod("a", 1));
    server.stop().await;
    let mut following = Following::start(&server, PODS);
    following.until("a failure", |jobs| jobs.get("pods").is_some_and(|told| told.failure.is_some())).await;
    server.start_again().await;
    following.until_addresses("pods", &["10.0.0.1:80"]).await;
    assert_eq!(server.requests("pods", "limit="), 0, "{}", server.last_request("pods"));
}

#[tokio::test]
async fn a_watch_that_ended_goes_on_from_the_last_bookmark_without_a_list() {
    let server = ApiServer::start().await;
    server.apply("pods", pod("a", 1));
    server.apply("pods", pod("b", 2));
    let mut following = Following::start_timed(&config(&server, PODS), IMPATIENT);
    following.until_addresses("pods", &["10.0.0.1:80", "10.0.0.2:80"]).await;
    let version = server.bookmark();
    server.fail("pods", &[Fault::End]);
    // Nothing comes for a while, so that the connection counts as dead; the next watch is ended by the server.
    server.wait_for("pods", &format!("resourceVersion={version}"), 2).await;
    let lists = server.requests("pods", "sendInitialEvents");
    let watches = server.requests("pods", "watch=true");
    // On a busy machine the first list may have been given up and begun again.
    let from_bookmark = server.requests("pods", &format!("resourceVersion={version}"));
    assert_eq!(from_bookmark, watches - lists);
    assert!(from_bookmark >= 2);
    assert_alive(&server, &mut following).await;
    assert_eq!(following.jobs["pods"].failure, None);
}

#[tokio::test]
async fn a_forgotten_version_leads_to_a_new_list_that_keeps_what_is_there() {
    for gone in [Fault::Status(410), Fault::GoneEvent] {
        let (server, mut following) = with_two_pods().await;
        // The list's connection breaks first: what it has told so far must take nothing away.
        server.fail("pods", &[gone, Fault::CutInLine, Fault::CutInLine]);
        server.stop().await;
        server.delete("pods", "default/a");
        server.apply("pods", pod("z", 3));
        server.start_again().await;
        following
            .until("the new pod", |jobs| {
                let told = &jobs["pods"];
                assert!(told.addresses().contains(&"10.0.0.2:80"), "b stays all the time");
                told.addresses().contains(&"10.0.0.3:80")
            })
            .await;
        following.until_addresses("pods", &["10.0.0.2:80", "10.0.0.3:80"]).await;
        assert!(server.requests("pods", "sendInitialEvents") >= 3);
    }
}

#[tokio::test]
async fn targets_stay_while_the_server_is_away_and_follow_when_it_is_back() {
    let (server, mut following) = with_two_pods().await;
    server.stop().await;
    following.until_failure("pods", "pods: ").await;
    assert_eq!(following.addresses("pods").len(), 2);
    server.apply("pods", pod("c", 3));
    server.delete("pods", "default/a");
    server.compact();
    server.start_again().await;
    following.until_addresses("pods", &["10.0.0.2:80", "10.0.0.3:80"]).await;
    following.until("the end of the failure", |jobs| jobs["pods"].failure.is_none()).await;
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_of_a_line_loses_nothing() {
    let server = ApiServer::start().await;
    server.apply("pods", pod("a", 1));
    server.apply("pods", pod("b", 2));
    // In the list, and then in the watch.
    server.fail("pods", &[Fault::CutInLine]);
    let mut following = Following::start(&server, PODS);
    following.until_addresses("pods", &["10.0.0.1:80", "10.0.0.2:80"]).await;
    server.fail("pods", &[Fault::CutInLine]);
    server.stop().await;
    server.start_again().await;
    server.apply("pods", pod("d", 4));
    server.apply("pods", pod("e", 5));
    server.delete("pods", "default/d");
    following.until_addresses("pods", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.5:80"]).await;
}

#[tokio::test]
async fn a_list_in_pages_that_breaks_off_takes_nothing_away() {
    let server = ApiServer::start().await;
    server.without_streaming_lists();
    server.apply("pods", pod("a", 1));
    let mut following = Following::start(&server, PODS);
    following.until_addresses("pods", &["10.0.0.1:80"]).await;
    server.stop().await;
    server.compact();
    // A watch from a forgotten version, a list that breaks, one with a server error, one that is good.
    server.apply("pods", pod("b", 2));
    server.compact();
    server.fail("pods", &[Fault::Status(410), Fault::CutInLine, Fault::Status(500)]);
    server.start_again().await;
    following.until_addresses("pods", &["10.0.0.1:80", "10.0.0.2:80"]).await;
    assert!(server.requests("pods", "limit=500") >= 4);
}

#[tokio::test]
async fn an_expired_token_is_read_again() {
    let server = ApiServer::start().await;
    server.apply("pods", pod("a", 1));
    server.set_token("old");
    let dir = tempfile::tempdir().unwrap();
    let (kubeconfig, token) = (dir.path().join("config"), dir.path().join("token"));
    std::fs::write(&token, "old\n").unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{server: 'http://{}'}}}}]\nusers: [{{name: u, user: {{tokenFile: '{}'}}}}]\n",
        server.address,
        token.display()
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let jobs = format!(
        "- job_name: pods\n  kubernetes_sd_configs: [{{role: pod, kubeconfig_file: '{}'}}]\n",
        kubeconfig.display()
    );
    let mut following = Following::start_config(&config(&server, &jobs));
    following.until_addresses("pods", &["10.0.0.1:80"]).await;
    // The token is revoked; the new one is there a moment later.
    server.set_token("new");
    server.stop().await;
    server.start_again().await;
    following.until_failure("pods", "Unauthorized").await;
    std::fs::write(&token, "new\n").unwrap();
    server.apply("pods", pod("b", 2));
    following.until_addresses("pods", &["10.0.0.1:80", "10.0.0.2:80"]).await;
}

#[tokio::test]
async fn a_single_refusal_of_the_token_is_no_failure() {
    let (server, mut following) = with_two_pods().await;
    server.fail("pods", &[Fault::Status(401)]);
    server.stop().await;
    server.start_again().await;
    assert_alive(&server, &mut following).await;
}

#[tokio::test]
async fn a_list_that_never_ends_is_given_up_and_tried_again() {
    for fault in [Fault::Drip, Fault::Silence] {
        let server = ApiServer::start().await;
        server.apply("pods", pod("a", 1));
        server.fail("pods", &[fault]);
        let mut following = Following::start_timed(&config(&server, PODS), IMPATIENT);
        following.until_failure("pods", "pods: the API server").await;
        following.until_addresses("pods", &["10.0.0.1:80"]).await;
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let server = ApiServer::start().await;
    server.apply("pods", pod("a", 1));
    server.fail("pods", &[Fault::Status(429), Fault::Status(503), Fault::Status(500)]);
    let mut following = Following::start(&server, PODS);
    following.until_addresses("pods", &["10.0.0.1:80"]).await;
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_skipped() {
    let server = ApiServer::start().await;
    let mut odd = pod("odd", 9);
    odd["spec"]["containers"] = json!("none of it is as it should be");
    server.apply("pods", odd.clone());
    server.apply("pods", pod("a", 1));
    for streaming in [true, false] {
        if !streaming {
            server.without_streaming_lists();
        }
        let mut following = Following::start(&server, PODS);
        following.until_addresses("pods", &["10.0.0.1:80"]).await;
        server.apply("pods", odd.clone());
        server.apply("pods", pod("b", 2));
        following.until_addresses("pods", &["10.0.0.1:80", "10.0.0.2:80"]).await;
        server.delete("pods", "default/b");
    }
}

#[tokio::test]
async fn namespaces_and_selectors_narrow_what_is_asked_for() {
    let server = ApiServer::start().await;
    server.apply("pods", pod("a", 1));
    let mut other = pod("b", 2);
    other["metadata"]["namespace"] = json!("other");
    server.apply("pods", other);
    let jobs = "- job_name: pods\n  kubernetes_sd_configs: [{role: pod, API, namespaces: {names: [other, empty]}, selectors: [{role: pod, label: 'app in (web,x)', field: spec.nodeName=node}]}]\n";
    let mut following = Following::start(&server, jobs);
    following.until_addresses("pods", &["10.0.0.2:80"]).await;
    let asked = server.last_request("pods");
    assert!(
        asked.contains("labelSelector=app+in+%28web%2Cx%29&fieldSelector=spec.nodeName%3Dnode&"),
        "{asked}"
    );
    assert_eq!(server.requests("pods", "/namespaces/other/pods?"), 1);
    assert_eq!(server.requests("pods", "/namespaces/empty/pods?"), 1);
    assert_eq!(following.watches.len(), 2);
}
