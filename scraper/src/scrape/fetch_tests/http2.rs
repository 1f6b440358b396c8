//! HTTP/2, which the HTTP library speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::serve::Listener;
use promring_model::target::Target;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::tls::{Authority, Files, Identity, server_config};
use super::*;

/// A listener whose connections speak TLS; it counts them.
struct H2<L>(L, TlsAcceptor, Arc<AtomicUsize>);

impl<L: Listener> Listener for H2<L> {
    type Io = TlsStream<L::Io>;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, ()) {
        loop {
            let (socket, _) = self.0.accept().await;
            if let Ok(stream) = self.1.accept(socket).await {
                self.2.fetch_add(1, Ordering::SeqCst);
                return (stream, ());
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Tells which version it is asked by, and whether by the headers of a scrape.
async fn server(authority: &Authority) -> (u16, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, serve(listener, &authority.sign("localhost"), Arc::default()))
}

fn serve(
    listener: impl Listener,
    identity: &Identity,
    connections: Arc<AtomicUsize>,
) -> JoinHandle<std::io::Result<()>> {
    let mut config = server_config(identity);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let answer = async |request: axum::extract::Request| {
        let headers = request.headers();
        let ours = headers["accept"].to_str().unwrap().starts_with("application/openmetrics-text")
            && headers.contains_key("x-prometheus-scrape-timeout-seconds")
            && headers["user-agent"].to_str().unwrap().starts_with("promring/")
            && headers["authorization"] == "Bearer t";
        format!("# {:?} {ours}\n", request.version())
    };
    let redirect = axum::response::Redirect::temporary("/");
    let long_head = async || [("x-long", "x".repeat(promring_net::client::HTTP2_HEAD_BYTES_MAX as usize))];
    let router = axum::Router::new()
        .route("/", axum::routing::get(answer))
        .route("/long", axum::routing::get(long_head))
        .route("/from", axum::routing::get(redirect));
    let listener = H2(listener, TlsAcceptor::from(Arc::new(config)), connections);
    tokio::spawn(async move { axum::serve(listener, router).await })
}

fn url(port: u16) -> Url {
    format!("https://localhost:{port}/").parse().unwrap()
}

#[tokio::test]
async fn http_2_is_spoken_where_the_server_chooses_it() {
    let authority = Authority::new();
    let (port, server) = server(&authority).await;
    let files = Files::new(&authority);
    let job = files.job("");
    let auth = "authorization: {credentials: t}";
    let mut both = Client::new(&format!("{job}\n{auth}"));
    for _ in 0..2 {
        assert_eq!(both.fetch(&url(port)).await, Ok("# HTTP/2.0 true\n".to_owned()));
    }
    let mut only_1 = Client::new(&format!("{job}\n{auth}\nenable_http2: false"));
    assert_eq!(only_1.fetch(&url(port)).await, Ok("# HTTP/1.1 true\n".to_owned()));
    server.abort();
}

#[tokio::test]
async fn a_head_is_bounded() {
    let authority = Authority::new();
    let (port, server) = server(&authority).await;
    let files = Files::new(&authority);
    for job in [files.job(""), files.job(", server_name: localhost")] {
        let mut client = Client::new(&format!("{job}\nauthorization: {{credentials: t}}"));
        client.fetch(&url(port).join("long").unwrap()).await.unwrap_err();
        assert_eq!(client.fetch(&url(port)).await, Ok("# HTTP/2.0 true\n".to_owned()));
    }
    server.abort();
}

#[tokio::test]
async fn a_connection_that_has_gone_silent_is_replaced() {
    let authority = Authority::new();
    let (port, server) = server(&authority).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = listener.local_addr().unwrap().port();
    // What is in between forgets its connections now and then, and tells nobody.
    let (forget, forgetting) = tokio::sync::watch::channel(());
    let between = tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let mut forgetting = forgetting.clone();
            forgetting.mark_unchanged();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = forgetting.changed() => std::future::pending().await,
                }
            });
        }
    });
    let files = Files::new(&authority);
    let mut client = Client::new(&format!("{}\nauthorization: {{credentials: t}}", files.job("")));
    let good = Ok("# HTTP/2.0 true\n".to_owned());
    assert_eq!(client.fetch(&url(through)).await, good);
    forget.send_replace(());
    // Nothing comes on the connection any more, so each wait is over at once.
    tokio::time::pause();
    for _ in 0..9 {
        let error = client.fetch(&url(through)).await.unwrap_err();
        assert!(error.starts_with("context deadline exceeded") || error.contains("keep-alive"), "{error}");
    }
    tokio::time::resume();
    assert_eq!(client.fetch(&url(through)).await, good);
    between.abort();
    server.abort();
}

#[tokio::test]
async fn it_is_spoken_with_a_server_of_another_name_on_one_connection() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let server = serve(listener, &authority.sign("elsewhere.example"), Arc::clone(&connections));
    let files = Files::new(&authority);
    let job = format!("{}\nauthorization: {{credentials: t}}", files.job(", server_name: elsewhere.example"));
    let mut client = Client::new(&job);
    let good = Ok("# HTTP/2.0 true\n".to_owned());
    assert_eq!(client.fetch(&url(port)).await, good);
    assert_eq!(client.fetch(&url(port).join("/from").unwrap()).await, good);
    let error = client.fetch(&url(port).join("/nothing").unwrap()).await;
    assert_eq!(error, Err("server returned HTTP status 404 Not Found".to_owned()));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    // As whoever rotates certificates does it: what was made with the old ones is of no more use.
    files.put("ca.pem", &format!("{}{}", Authority::new().sign("a").pem(), files.read("ca.pem")));
    assert_eq!(client.fetch(&url(port)).await, good);
    assert_eq!(connections.load(Ordering::SeqCst), 2);
    let mut only_1 = Client::new(&format!("{job}\nenable_http2: false"));
    assert_eq!(only_1.fetch(&url(port)).await, Ok("# HTTP/1.1 true\n".to_owned()));
    server.abort();
}

#[tokio::test]
async fn it_is_spoken_over_a_unix_socket_and_asked_again_where_the_connection_has_ended() {
    let authority = Authority::new();
    let files = Files::new(&authority);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("exporter.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let through = dir.path().join("through.sock");
    let between = UnixListener::bind(&through).unwrap();
    let server = serve(listener, &authority.sign("localhost"), Arc::default());
    let (end, ending) = tokio::sync::watch::channel(());
    let passing = tokio::spawn(async move {
        loop {
            let (mut near, _) = between.accept().await.unwrap();
            let mut far = tokio::net::UnixStream::connect(&path).await.unwrap();
            let mut ending = ending.clone();
            ending.mark_unchanged();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = ending.changed() => {}
                }
            });
        }
    });
    let config = format!(
        "{}\nauthorization: {{credentials: t}}\nscheme: https\nmetrics_path: /\nstatic_configs: [{{targets: ['localhost:1'], labels: {{__unix_socket__: {}}}}}]",
        files.job(""),
        through.display()
    );
    let mut client = Client::new(&config);
    let target: Target = crate::testing::target_of(&job(&config));
    client.connection = Connection::new(&target);
    let url = target.url.as_ref().unwrap();
    for _ in 0..3 {
        assert_eq!(client.fetch(url).await, Ok("# HTTP/2.0 true\n".to_owned()));
        end.send_replace(());
    }
    passing.abort();
    server.abort();
}
