//! Targets behind a proxy.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::answers::TEXT;
use super::tls::{Authority, Files, server_config};
use super::*;

#[tokio::test]
async fn a_proxy_is_asked_where_there_is_one() {
    let proxy = Server::start([vec![text("a 1\n")]]).await;
    let config = format!("proxy_url: {}\nproxy_connect_header: {{X-Pass: [open]}}", proxy.url("/"));
    let mut client = Client::new(&config);
    let url = "http://nowhere.invalid/metrics".parse().unwrap();
    assert_eq!(client.fetch(&url).await, Ok("a 1\n".to_owned()));
    let seen = proxy.seen()[0][0].to_ascii_lowercase();
    assert!(seen.starts_with("get http://nowhere.invalid/metrics http/1.1\r\n"), "{seen}");
    assert!(!seen.contains("x-pass"), "it is for a CONNECT: {seen}");
}

#[tokio::test]
async fn a_connection_that_a_proxy_has_closed_is_replaced_once() {
    let dropped = || vec![text("a 1\n"), Vec::new()];
    let proxy = Server::start([dropped(), vec![text("a 2\n")], vec![Vec::new()], vec![Vec::new()]]).await;
    let mut client = Client::new(&format!("proxy_url: {}", proxy.url("/")));
    let url = "http://nowhere.invalid/metrics".parse().unwrap();
    assert_eq!(client.fetch(&url).await, Ok("a 1\n".to_owned()));
    assert_eq!(client.fetch(&url).await, Ok("a 2\n".to_owned()));
    assert!(client.fetch(&url).await.is_err(), "no more often");
    assert_eq!(proxy.seen().iter().map(Vec::len).sum::<usize>(), 5);
}

#[tokio::test]
async fn no_proxy_names_who_is_asked_without_one() {
    let proxy = Server::start([vec![text("by proxy 1\n")]]).await;
    let server = Server::start([vec![text("a 1\n")]]).await;
    let mut client = Client::new(&format!("proxy_url: {}\nno_proxy: 127.0.0.1", proxy.url("/")));
    assert_eq!(client.fetch(&server.url("/")).await, Ok("a 1\n".to_owned()));
    assert!(proxy.seen().is_empty());
}

#[tokio::test]
async fn a_proxy_that_refuses_fails_the_scrape() {
    let proxy = Server::start([vec![answer("502 Bad Gateway", b"")]]).await;
    let mut client = Client::new(&format!("proxy_url: {}", proxy.url("/")));
    let url = "http://nowhere.invalid/metrics".parse().unwrap();
    assert_eq!(client.fetch(&url).await, Err("server returned HTTP status 502 Bad Gateway".to_owned()));
}

#[tokio::test]
async fn a_target_with_tls_is_reached_through_a_tunnel_that_knows_none_of_its_secrets() {
    let authority = Authority::new();
    let acceptor = TlsAcceptor::from(Arc::new(server_config(&authority.sign("nowhere.invalid"))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    // A proxy whose tunnels lead to the target, which is in the same task.
    let proxy = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let Some(connect) = server::request(&mut socket).await else { continue };
            seen.lock().unwrap().push(connect);
            socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let Ok(stream) = acceptor.accept(socket).await else { continue };
            let seen = Arc::clone(&seen);
            server::serve(stream, vec![text("a 1\n")], |head| seen.lock().unwrap().push(head)).await;
        }
    });
    let files = Files::new(&authority);
    let mut client = Client::new(&format!(
        "{}\nproxy_url: http://127.0.0.1:{port}\nproxy_connect_header: {{X-Pass: [open]}}\nauthorization: {{credentials: hush}}",
        files.job("")
    ));
    let url = "https://nowhere.invalid/metrics".parse().unwrap();
    assert_eq!(client.fetch(&url).await, Ok("a 1\n".to_owned()));
    let heads = heads.lock().unwrap().clone();
    let [connect, request] = &heads[..] else { panic!("{heads:?}") };
    assert!(connect.starts_with("CONNECT nowhere.invalid:443 HTTP/1.1\r\n"), "{connect}");
    assert!(connect.to_ascii_lowercase().contains("\r\nx-pass: open\r\n"), "{connect}");
    assert!(!connect.contains("hush"), "{connect}");
    assert!(request.starts_with("GET /metrics HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Bearer hush\r\n"), "{request}");
    assert!(!request.to_ascii_lowercase().contains("x-pass"), "{request}");
    proxy.abort();
}

#[tokio::test]
async fn a_proxy_may_speak_socks_and_look_up_the_name() {
    for scheme in ["socks5", "socks5h"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // RFC 1928: the methods of authentication, the wish to connect, and what it leads to.
        let proxy = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut methods = [0; 2];
            socket.read_exact(&mut methods).await.unwrap();
            socket.read_exact(&mut vec![0; usize::from(methods[1])]).await.unwrap();
            socket.write_all(&[5, 0]).await.unwrap();
            let mut wish = [0; 5 + "nowhere.invalid".len() + 2];
            socket.read_exact(&mut wish).await.unwrap();
            socket.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            server::serve(socket, vec![text("a 1\n")], |_| ()).await;
            wish
        });
        let mut client = Client::new(&format!("proxy_url: {scheme}://127.0.0.1:{port}"));
        let url = "http://nowhere.invalid:9100/metrics".parse().unwrap();
        assert_eq!(client.fetch(&url).await, Ok("a 1\n".to_owned()));
        drop(client);
        let expected = [&b"\x05\x01\x00\x03\x0fnowhere.invalid"[..], &9100_u16.to_be_bytes()].concat();
        assert_eq!(proxy.await.unwrap().as_slice(), expected);
    }
}

#[tokio::test]
async fn odd_answers_are_read_otherwise_through_a_proxy() {
    let body = "4\r\na 1\n\r\n0\r\n\r\n";
    let coded = "Transfer-Encoding: chunked\r\n\r\n";
    for (answer, directly, by_proxy) in [
        (format!("HTTP/1.2 {TEXT}\r\n{coded}{body}"), true, false),
        (format!("HTTP/1.1 {TEXT}\r\nX : y\r\n{coded}{body}"), true, false),
        (format!("\r\nHTTP/1.1 {TEXT}\r\n{coded}{body}"), false, true),
        (format!("HTTP/1.1 {TEXT}\r\n{coded}{}", body.replacen('4', "4 ;x", 1)), false, true),
    ] {
        assert_eq!(fetch("", answer.clone()).await.is_ok(), directly, "{answer}");
        let proxy = Server::start([vec![answer.clone().into_bytes()]]).await;
        let mut client = Client::new(&format!("proxy_url: {}", proxy.url("/")));
        let url = "http://nowhere.invalid/metrics".parse().unwrap();
        assert_eq!(client.fetch(&url).await.is_ok(), by_proxy, "{answer}");
    }
    let old = format!("HTTP/1.0 {TEXT}\r\n{coded}{body}");
    assert_eq!(fetch("", old.clone()).await, Ok(body.to_owned()), "which no parser takes");
    let proxy = Server::start([vec![old.into_bytes()]]).await;
    let mut client = Client::new(&format!("proxy_url: {}", proxy.url("/")));
    assert!(client.fetch(&"http://nowhere.invalid/metrics".parse().unwrap()).await.is_err());
}
