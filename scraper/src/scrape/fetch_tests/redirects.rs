//! Redirects.

use super::*;

fn to(location: &str) -> Vec<u8> {
    answer(&format!("302 Found\r\nLocation: {location}"), b"moved")
}

#[tokio::test]
async fn a_redirect_on_the_same_host_uses_the_same_connection() {
    let script = vec![to("/other?x"), text("a 1\n"), answer("308 P\r\nLocation: y", b""), text("b 2\n")];
    let server = Server::start([script]).await;
    let mut client = Client::new("");
    assert_eq!(client.fetch(&server.url("/a/metrics")).await, Ok("a 1\n".to_owned()));
    assert_eq!(client.fetch(&server.url("/a/metrics")).await, Ok("b 2\n".to_owned()));
    let seen = server.seen();
    assert!(seen[0][1].starts_with("GET /other?x "), "{seen:?}");
    assert!(seen[0][3].starts_with("GET /a/y "), "{seen:?}");
    assert!(!seen[0][0].contains("Referer") && !seen[0][2].contains("Referer"), "{seen:?}");
    assert!(seen[0][1].contains(&format!("\r\nReferer: {}\r\n", server.url("/a/metrics"))), "{seen:?}");
}

#[tokio::test]
async fn the_tenth_redirect_is_not_followed() {
    let mut server = Server::start([vec![to("/metrics"); 10]]).await;
    let error = Client::new("").fetch(&server.url("/metrics")).await.unwrap_err();
    assert_eq!(error, "stopped after 10 redirects");
    server.finished().await;
    let mut script = vec![to("/metrics"); 9];
    script.push(text("a 1\n"));
    let server = Server::start([script]).await;
    assert_eq!(Client::new("").fetch(&server.url("/metrics")).await, Ok("a 1\n".to_owned()));
}

#[tokio::test]
async fn a_proxy_does_not_change_how_many_redirects_are_followed() {
    // Whose URL the library asks for is the proxy's to answer.
    let proxy = Server::start([vec![to("/metrics"); 10]]).await;
    let url = "http://nowhere.invalid/metrics".parse().unwrap();
    let mut client = Client::new(&format!("proxy_url: {}", proxy.url("/")));
    let error = client.fetch(&url).await.unwrap_err();
    assert!(error.contains("stopped after 10 redirects"), "{error}");
    assert_eq!(proxy.seen()[0].len(), 10);
    let mut script = vec![to("/metrics"); 9];
    script.push(text("a 1\n"));
    let proxy = Server::start([script]).await;
    let mut client = Client::new(&format!("proxy_url: {}", proxy.url("/")));
    assert_eq!(client.fetch(&url).await, Ok("a 1\n".to_owned()));
}

#[tokio::test]
async fn redirects_are_followed_only_where_the_job_says_so_and_only_with_a_location() {
    let config = "follow_redirects: false";
    assert_eq!(fetch(config, to("/x")).await, Err("server returned HTTP status 302 Found".to_owned()));
    assert_eq!(
        fetch("", answer("302 Found", b"")).await,
        Err("server returned HTTP status 302 Found".to_owned())
    );
    assert_eq!(fetch("", to("")).await, Err("server returned HTTP status 302 Found".to_owned()));
    assert!(fetch("", to("file:///etc/passwd")).await.unwrap_err().contains("unsupported protocol scheme"));
}

#[tokio::test]
async fn credentials_stay_with_their_host_even_when_the_way_leads_back() {
    let end = Server::start([vec![text("a 1\n")]]).await;
    let other = Server::start([vec![to(end.url("/end").as_str())]]).await;
    let first = Server::start([vec![to(other.url_as("localhost", "/other").as_str())]]).await;
    let config = "basic_auth: {username: u, password: p}\nhttp_headers: {X-Scope: {values: [one]}, Cookie: {values: [c]}}";
    assert_eq!(Client::new(config).fetch(&first.url("/")).await, Ok("a 1\n".to_owned()));
    let heads = [&first, &other, &end].map(|server| server.seen()[0][0].clone());
    let with_credentials = heads.each_ref().map(|head| head.contains("authorization: Basic dTpw\r\n"));
    assert_eq!(with_credentials, [true, false, false]);
    assert_eq!(heads.each_ref().map(|head| head.contains("cookie: c\r\n")), [true, false, false]);
    assert!(heads.iter().all(|head| head.contains("x-scope: one\r\n")));
}

#[tokio::test]
async fn another_port_of_the_same_host_gets_the_credentials() {
    let other = Server::start([vec![text("a 1\n")]]).await;
    let first = Server::start([vec![to(other.url("/").as_str()), text("b 2\n")]]).await;
    let mut client = Client::new("authorization: {credentials: t}");
    assert_eq!(client.fetch(&first.url("/")).await, Ok("a 1\n".to_owned()));
    assert!(other.seen()[0][0].contains("authorization: Bearer t\r\n"));
    // The target's own connection is the one that is kept.
    assert_eq!(client.fetch(&first.url("/")).await, Ok("b 2\n".to_owned()));
}

fn named(url: &Url) -> String {
    url.as_str().replacen("://", "://u:p@", 1)
}

#[tokio::test]
async fn a_user_that_a_redirect_names_is_told_there_and_only_there() {
    let end = Server::start([vec![text("a 1\n")]]).await;
    let middle = Server::start([vec![to(end.url("/end").as_str())]]).await;
    let first = Server::start([vec![to(&named(&middle.url("/middle")))]]).await;
    let config =
        "authorization: {credentials: t}\nhttp_headers: {Cookie: {values: [c]}, Referer: {values: [r]}}";
    assert_eq!(Client::new(config).fetch(&first.url("/")).await, Ok("a 1\n".to_owned()));
    let heads = [&first, &middle, &end].map(|server| server.seen()[0][0].to_ascii_lowercase());
    let lines_of = |name: &str| {
        heads.each_ref().map(|head| {
            let lines = head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        })
    };
    assert_eq!(lines_of("authorization"), [["bearer t"], ["basic dtpw"], ["bearer t"]]);
    assert_eq!(lines_of("cookie"), [["c"]; 3]);
    let (by_first, by_middle) = (first.url("/").to_string(), middle.url("/middle").to_string());
    assert_eq!(lines_of("referer"), [vec!["r"], vec!["r", &by_first], vec!["r", &by_middle]]);
}

#[tokio::test]
async fn another_host_gets_the_user_that_its_url_names_unless_there_are_http_headers() {
    let authorization = "authorization: {credentials: t}";
    for (config, is_told) in [
        (authorization.to_owned(), true),
        (format!("{authorization}\nhttp_headers: {{Cookie: {{values: [c]}}}}"), false),
    ] {
        let other = Server::start([vec![text("a 1\n")]]).await;
        let first = Server::start([vec![to(&named(&other.url_as("localhost", "/")))]]).await;
        assert_eq!(Client::new(&config).fetch(&first.url("/")).await, Ok("a 1\n".to_owned()));
        let head = other.seen()[0][0].to_ascii_lowercase();
        assert_eq!(head.contains("\r\nauthorization: basic dtpw\r\n"), is_told, "{head}");
        assert!(!head.contains("bearer") && !head.contains("cookie"), "{head}");
    }
}

#[tokio::test]
async fn a_user_in_the_url_of_a_target_goes_before_the_configured_one_also_through_a_proxy() {
    let server = Server::start([vec![text("a 1\n")], vec![text("a 1\n")]]).await;
    let basic = "basic_auth: {username: other}";
    for config in [basic.to_owned(), format!("{basic}\nproxy_url: {}", server.url("/"))] {
        let url = named(&server.url("/")).parse().unwrap();
        assert_eq!(Client::new(&config).fetch(&url).await, Ok("a 1\n".to_owned()), "{config}");
    }
    for requests in server.seen() {
        let head = requests[0].to_ascii_lowercase();
        assert_eq!(head.matches("authorization: ").count(), 1, "{head}");
        assert!(head.contains("\r\nauthorization: basic dtpw\r\n"), "{head}");
    }
}
