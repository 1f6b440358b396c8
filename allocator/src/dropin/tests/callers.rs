//! Who may ask as a drop-in client.

use super::*;
use crate::callers::Tokens;

/// What each path of a client answers to a caller with a certificate for these names.
async fn statuses(allocator: &Allocator, client: &str, names: &[&str]) -> [u16; 2] {
    let paths = [format!("/http_sd/{client}"), format!("/jobs/web/targets?collector_id={client}")];
    let mut statuses = [0; 2];
    for (status, path) in statuses.iter_mut().zip(paths) {
        let (answered, body) = ask_with(allocator, &path, names).await;
        assert_eq!(answered == StatusCode::OK, !is_no_yaml(&body), "{path}: {body}");
        *status = answered.as_u16();
    }
    statuses
}

#[tokio::test]
async fn a_certificate_that_names_a_client_is_for_that_one_and_any_other_is_for_all() {
    let allocator = allocator(&format!("{STATIC}scrape_configs:\n{}", job("web", 5, "")));
    for (client, names, expected) in [
        ("a", &["a"][..], 200),
        ("a", &["a.pool.svc"], 200),
        ("b", &["a.pool.svc"], 403),
        ("b", &["collectors", "collectors.svc"], 200),
        ("b", &["collectors", "b.pool.svc"], 200),
        ("b", &[], 200),
    ] {
        assert_eq!(statuses(&allocator, client, names).await, [expected; 2], "{client} {names:?}");
    }
    // What is nobody's own, all may see.
    for path in ["/scrape_configs", "/jobs", "/jobs/web/targets"] {
        assert_eq!(ask_with(&allocator, path, &["a.pool.svc"]).await.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn with_tokens_a_client_shows_one_on_every_path_and_is_refused_with_what_is_no_yaml() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens");
    std::fs::write(&path, "secret\n").unwrap();
    let text = format!("{STATIC}scrape_configs:\n{}", job("web", 5, ""));
    let callers = Callers::new(Tokens::Shared(path)).unwrap();
    let allocator = allocator_for(&text, callers);
    let paths =
        ["/scrape_configs", "/jobs", "/jobs/web/targets", "/jobs/web/targets?collector_id=a", "/http_sd/a"];
    for path in paths {
        for (token, status) in [(None, 401), (Some("Bearer wrong"), 401), (Some("Bearer secret"), 200)] {
            let mut request = Request::get(path);
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            let response = allocator.routes().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{path} {token:?}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(is_no_yaml(std::str::from_utf8(&body).unwrap()), status != 200, "{path}");
        }
    }
}

#[tokio::test]
async fn a_client_that_asks_without_end_is_held_up_and_others_are_not() {
    let allocator = allocator(&format!("{STATIC}scrape_configs:\n{}", job("web", 5, "")));
    let mut refused = 0;
    for _ in 0..500 {
        let (status, body) = ask(&allocator, "/http_sd/a").await;
        refused += u32::from(status == StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(status == StatusCode::OK, !is_no_yaml(&body), "{body}");
    }
    assert!((1..=300).contains(&refused), "{refused}");
    assert_eq!(ask(&allocator, "/http_sd/b").await.0, StatusCode::OK);
}
