//! HTTP/2, which the HTTP library speaks.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::tls::{Authority, Files, server_config};
use super::*;

struct H2(TcpListener, TlsAcceptor);

impl axum::serve::Listener for H2 {
    type Io = TlsStream<TcpStream>;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, ()) {
        loop {
            let (socket, _) = self.0.accept().await.unwrap();
            if let Ok(stream) = self.1.accept(socket).await {
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
    let mut config = server_config(&authority.sign("localhost"));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = async |request: axum::extract::Request| {
        let headers = request.headers();
        let ours = headers["accept"].to_str().unwrap().starts_with("application/openmetrics-text")
            && headers.contains_key("x-prometheus-scrape-timeout-seconds")
            && headers["user-agent"].to_str().unwrap().starts_with("promring/")
            && headers["authorization"] == "Bearer t";
        format!("# {:?} {ours}\n", request.version())
    };
    let router = axum::Router::new().route("/", axum::routing::get(answer));
    let listener = H2(listener, TlsAcceptor::from(Arc::new(config)));
    (port, tokio::spawn(async move { axum::serve(listener, router).await }))
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
