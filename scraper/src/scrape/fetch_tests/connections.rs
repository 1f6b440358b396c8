//! Connections between scrapes, and what requests say.

use promring_model::target::Target;
use tokio::net::UnixListener;

use super::*;

#[tokio::test]
async fn one_connection_serves_many_scrapes() {
    let chunked = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n";
    let error = answer("503 Service Unavailable", b"later");
    let script = vec![text("a 1\n"), chunked.to_vec(), error, text("b 2\n"), text("")];
    let mut server = Server::start([script]).await;
    let mut client = Client::new("");
    let mut results = Vec::new();
    for _ in 0..5 {
        results.push(client.fetch(&server.url("/metrics")).await.unwrap_or_else(|error| error));
    }
    let status = "server returned HTTP status 503 Service Unavailable";
    assert_eq!(results, ["a 1\n", "\n", status, "b 2\n", ""]);
    server.finished().await;
    assert_eq!(server.seen().iter().map(Vec::len).collect::<Vec<_>>(), [5]);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_is_replaced() {
    let mut server = Server::start([vec![text("a 1\n")], vec![text("b 2\n")]]).await;
    let mut client = Client::new("");
    assert_eq!(client.fetch(&server.url("/")).await, Ok("a 1\n".to_owned()));
    assert_eq!(client.fetch(&server.url("/")).await, Ok("b 2\n".to_owned()));
    server.finished().await;
}

#[tokio::test]
async fn a_connection_that_closes_on_the_request_is_replaced_once() {
    let closes = Vec::new();
    let scripts = [vec![text("a 1\n"), closes.clone()], vec![text("b 2\n"), closes.clone()], vec![closes]];
    let mut server = Server::start(scripts).await;
    let mut client = Client::new("");
    assert_eq!(client.fetch(&server.url("/")).await, Ok("a 1\n".to_owned()));
    assert_eq!(client.fetch(&server.url("/")).await, Ok("b 2\n".to_owned()));
    assert!(client.fetch(&server.url("/")).await.unwrap_err().contains("EOF"));
    server.finished().await;
    assert_eq!(server.seen().iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
}

#[tokio::test]
async fn an_answer_that_broke_off_is_not_asked_for_again() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec();
    let server = Server::start([vec![text("a 1\n"), cut], vec![text("b 2\n")]]).await;
    let mut client = Client::new("");
    assert_eq!(client.fetch(&server.url("/")).await, Ok("a 1\n".to_owned()));
    assert!(client.fetch(&server.url("/")).await.unwrap_err().contains("unexpected EOF"));
    assert_eq!(client.fetch(&server.url("/")).await, Ok("b 2\n".to_owned()));
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_end_the_connection() {
    let more = [text("a 1\n"), text("forged 1\n")].concat();
    let server = Server::start([vec![more, text("never asked\n")], vec![text("b 2\n")]]).await;
    let mut client = Client::new("");
    assert_eq!(client.fetch(&server.url("/")).await, Ok("a 1\n".to_owned()));
    assert_eq!(client.fetch(&server.url("/")).await, Ok("b 2\n".to_owned()));
}

#[tokio::test]
async fn a_connection_that_is_to_be_closed_is_not_used_again() {
    let close = answer("200 OK\r\nContent-Type: text/plain\r\nConnection: close", b"a 1\n");
    let server = Server::start([vec![close, text("never asked\n")], vec![text("b 2\n")]]).await;
    let mut client = Client::new("");
    assert_eq!(client.fetch(&server.url("/")).await, Ok("a 1\n".to_owned()));
    assert_eq!(client.fetch(&server.url("/")).await, Ok("b 2\n".to_owned()));
}

#[tokio::test]
async fn a_scrape_that_timed_out_leaves_no_connection_behind() {
    let server = Server::start([
        vec![b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec(), Vec::new()],
        vec![text("b 2\n")],
    ])
    .await;
    // The script waits for a second request before it closes.
    let mut client = Client::new("");
    let error = client.fetch_within(&server.url("/"), Duration::from_millis(50)).await.unwrap_err();
    assert!(error.contains("scrape timeout"), "{error}");
    assert_eq!(client.fetch(&server.url("/")).await, Ok("b 2\n".to_owned()));
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url: Url = format!("http://localhost:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
    drop(listener);
    let error = Client::new("").fetch(&url).await.unwrap_err();
    assert!(error.contains("dial tcp") && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn requests_say_what_prometheus_says_and_who_asks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "first\n").unwrap();
    let config = format!(
        "authorization: {{credentials_file: {}}}\nhttp_headers: {{X-Scope: {{values: [one, two]}}}}\nenable_compression: false",
        path.display()
    );
    let server = Server::start([vec![text(""), text("")]]).await;
    let mut client = Client::new(&config);
    client.fetch_within(&server.url("/m?a=b"), Duration::from_millis(1_500)).await.unwrap();
    std::fs::write(&path, "the second\n").unwrap();
    client.fetch(&server.url("/m?a=b")).await.unwrap();
    let [first, second] = &server.seen()[0][..] else { panic!("two requests on one connection") };
    assert!(first.starts_with("GET /m?a=b HTTP/1.1\r\nHost: 127.0.0.1:"), "{first}");
    for line in [
        "Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3\r\n",
        "Accept-Encoding: identity\r\n",
        "User-Agent: promring/",
        "X-Prometheus-Scrape-Timeout-Seconds: 1.5\r\n",
        "x-scope: one\r\nx-scope: two\r\n",
        "authorization: Bearer first\r\n",
    ] {
        assert!(first.contains(line), "{line} in {first}");
    }
    assert!(second.contains("authorization: Bearer the second\r\n"), "{second}");
    assert!(second.contains("X-Prometheus-Scrape-Timeout-Seconds: 10\r\n"), "{second}");
}

#[tokio::test]
async fn secrets_are_not_in_the_debug_text() {
    let server = Server::start([vec![text("")]]).await;
    let mut client =
        Client::new("basic_auth: {username: u, password: hush}\nhttp_headers: {X-Key: {secrets: [hush]}}");
    client.fetch(&server.url("/")).await.unwrap();
    assert!(server.seen()[0][0].contains("x-key: hush"));
    let shown = format!("{:?} {:?}", client.fetcher, client.connection);
    assert!(!shown.contains("hush") && !shown.contains("dTpodXNo"), "{shown}");
}

#[tokio::test]
async fn a_target_is_reached_by_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("exporter.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let served = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        server::serve(socket, vec![text("a 1\n"), text("b 2\n")], |request| seen.push(request)).await;
        seen
    });
    let config = format!(
        "static_configs: [{{targets: ['nowhere.invalid:1'], labels: {{__unix_socket__: {}}}}}]",
        path.display()
    );
    let mut client = Client::new(&config);
    let target: Target = crate::testing::target_of(&job(&config));
    client.connection = Connection::new(&target);
    let url = target.url.as_ref().unwrap();
    assert_eq!(client.fetch(url).await, Ok("a 1\n".to_owned()));
    assert_eq!(client.fetch(url).await, Ok("b 2\n".to_owned()));
    assert!(served.await.unwrap()[1].contains("Host: nowhere.invalid:1\r\n"));
    std::fs::remove_file(&path).unwrap();
    assert!(client.fetch(url).await.unwrap_err().contains("dial unix"));
}

#[tokio::test]
async fn basic_auth_is_sent_with_a_password_from_a_file_that_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    std::fs::write(&path, "first\n").unwrap();
    let server = Server::start([vec![text(""), text("")]]).await;
    let mut client = Client::new(&format!("basic_auth: {{username: me, password_file: {}}}", path.display()));
    client.fetch(&server.url("/")).await.unwrap();
    std::fs::write(&path, "the second\n").unwrap();
    client.fetch(&server.url("/")).await.unwrap();
    let [first, second] = &server.seen()[0][..] else { panic!("two requests on one connection") };
    // As base64 of me:first and me:the second.
    assert!(first.contains("authorization: Basic bWU6Zmlyc3Q=\r\n"), "{first}");
    assert!(second.contains("authorization: Basic bWU6dGhlIHNlY29uZA==\r\n"), "{second}");
}

#[tokio::test]
async fn a_token_of_oauth2_is_fetched_once_and_again_when_it_expires() {
    use axum::routing::post;

    /// What the token server was sent.
    type Asked = std::sync::Arc<std::sync::Mutex<Vec<String>>>;
    async fn serve(lifetime: u32, asked: Asked) -> (String, tokio::task::JoinHandle<()>) {
        let answer = move |body: String| async move {
            let mut asked = asked.lock().unwrap();
            asked.push(body);
            let number = asked.len();
            let token =
                format!(r#"{{"access_token":"t{number}","token_type":"Bearer","expires_in":{lifetime}}}"#);
            ([("content-type", "application/json")], token)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/token", post(answer));
        (url, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
    }
    // The second kind is as good as expired when it comes.
    for (lifetime, expected) in [(3_600, ["t1", "t1"]), (1, ["t1", "t2"])] {
        let asked = Asked::default();
        let (token_url, tokens) = serve(lifetime, Asked::clone(&asked)).await;
        let server = Server::start([vec![text("a 1\n"), text("b 2\n")]]).await;
        let mut client = Client::new(&format!(
            "oauth2: {{client_id: me, client_secret: hush, token_url: '{token_url}', scopes: [read, more], endpoint_params: {{audience: x}}}}"
        ));
        for token in expected {
            client.fetch(&server.url("/")).await.unwrap();
            let head = server.seen()[0].last().unwrap().clone();
            assert!(head.contains(&format!("authorization: Bearer {token}\r\n")), "{head}");
        }
        let forms = asked.lock().unwrap().clone();
        assert_eq!(forms.len(), usize::from(expected[0] != expected[1]) + 1, "{forms:?}");
        for part in ["grant_type=client_credentials", "scope=read+more", "audience=x"] {
            assert!(forms[0].contains(part), "{part} in {forms:?}");
        }
        tokens.abort();
    }
}

#[tokio::test]
async fn a_fetch_that_waits_takes_little_room() {
    let mut client = Client::new("");
    let url = "http://host/".parse().unwrap();
    let Client { fetcher, connection, memory, .. } = &mut client;
    let waiting = fetcher.open(connection, &url, PATIENCE, memory);
    assert!(size_of_val(&waiting) <= 2_048, "{} bytes", size_of_val(&waiting));
}
