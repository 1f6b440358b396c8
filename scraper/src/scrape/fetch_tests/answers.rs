//! What is made of answers, good and bad.

use std::io::Write as _;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

pub(super) const TEXT: &str = "200 OK\r\nContent-Type: text/plain";
const TOO_LARGE: &str = "body size limit exceeded";

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_plain_and_a_packed_body_are_read() {
    assert_eq!(fetch("", text("a 1\n")).await, Ok("a 1\n".to_owned()));
    let mut packed = gzip(b"a 1\n");
    packed.extend(gzip(b"b 2\n"));
    let head = format!("{TEXT}\r\nContent-Encoding: gzip");
    assert_eq!(fetch("", answer(&head, &packed)).await, Ok("a 1\nb 2\n".to_owned()));
}

#[tokio::test]
async fn the_content_type_is_told_as_it_was_sent() {
    let kind = "application/openmetrics-text; version=1.0.0";
    let script = vec![answer(&format!("200 OK\r\nContent-Type: {kind}"), b""), answer("200 OK", b"")];
    let server = Server::start([script]).await;
    let mut client = Client::new("");
    for expected in [kind, ""] {
        let Client { fetcher, connection, buffers, memory, .. } = &mut client;
        let body = fetcher.open(connection, &server.url("/"), PATIENCE, memory).await.unwrap();
        assert_eq!(&*body.content_type, expected);
        body.close(connection, buffers);
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut_at_the_timeout_even_where_it_always_has_more() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = super::server::request(&mut socket).await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";
        let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, head.as_bytes()).await;
        while tokio::io::AsyncWriteExt::write_all(&mut socket, b"a 1\n").await.is_ok() {}
    });
    let error = Client::new("body_size_limit: 0").fetch_within(&url, Duration::from_millis(300)).await;
    assert!(error.unwrap_err().contains("within the scrape timeout of 300ms"));
    server.await.unwrap();
}

#[tokio::test]
async fn only_status_200_succeeds() {
    let error = fetch("", answer("500 Internal Server Error\r\nContent-Type: text/plain", b"")).await;
    assert_eq!(error, Err("server returned HTTP status 500 Internal Server Error".to_owned()));
    assert_eq!(
        fetch("", answer("204 No Content", b"")).await,
        Err("server returned HTTP status 204 No Content".to_owned())
    );
    assert_eq!(fetch("", "HTTP/1.1 404\r\n\r\n").await, Err("server returned HTTP status 404".to_owned()));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_it_comes() {
    let config = "body_size_limit: 1KB";
    let large = vec![b'\n'; 2_000];
    let bodies = [
        answer(TEXT, &large),
        answer(&format!("{TEXT}\r\nContent-Encoding: gzip"), &gzip(&large)),
        format!("HTTP/1.1 {TEXT}\r\nContent-Length: 99999999999\r\n\r\n").into_bytes(),
        format!("HTTP/1.1 {TEXT}\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n").into_bytes(),
        [format!("HTTP/1.0 {TEXT}\r\n\r\n").into_bytes(), large].concat(),
    ];
    for body in bodies {
        assert_eq!(fetch(config, body).await, Err(TOO_LARGE.to_owned()));
    }
    // As Prometheus has it, the limit itself is too much.
    for (bytes, answered) in [(1_024, Err(TOO_LARGE.to_owned())), (1_023, Ok("\n".repeat(1_023)))] {
        let body = vec![b'\n'; bytes];
        assert_eq!(fetch(config, answer(TEXT, &body)).await, answered);
        let packed = answer(&format!("{TEXT}\r\nContent-Encoding: gzip"), &gzip(&body));
        assert_eq!(fetch(config, packed).await, answered);
    }
}

#[tokio::test]
async fn a_limit_of_zero_is_none() {
    let body = "#".repeat((1 << 20) + 1);
    assert_eq!(fetch("", text(&body)).await, Err(TOO_LARGE.to_owned()));
    assert_eq!(fetch("body_size_limit: 0", text(&body)).await, Ok(body));
}

#[tokio::test]
async fn a_gzip_bomb_stops_at_the_limit() {
    // Of many members, so that each of them is small.
    let member = gzip(&vec![b'\n'; 8 << 20]);
    let bomb = answer(&format!("{TEXT}\r\nContent-Encoding: gzip"), &member.repeat(100));
    let server = Server::start([vec![bomb]]).await;
    let mut client = Client::new("");
    assert_eq!(client.fetch(&server.url("/")).await, Err(TOO_LARGE.to_owned()));
    let (lent, returned) = (client.buffers.take(), client.buffers.take());
    assert!(
        lent.capacity().max(returned.capacity()) <= 4 << 20,
        "{} {}",
        lent.capacity(),
        returned.capacity()
    );
}

#[tokio::test]
async fn a_packed_body_that_is_damaged_or_cut_is_refused() {
    let head = format!("{TEXT}\r\nContent-Encoding: gzip");
    let packed = gzip(&b"metric 1\n".repeat(100));
    let mut damaged = packed.clone();
    let last = damaged.len() - 6;
    damaged[last] ^= 1;
    for body in [&packed[..packed.len() - 9], &damaged, b"plain text", b"", &[&packed[..], b"rest"].concat()]
    {
        let error = fetch("", answer(&head, body)).await.unwrap_err();
        assert!(error.contains("cannot be unpacked"), "{error}");
    }
    let error = fetch("", answer(&format!("{TEXT}\r\nContent-Encoding: br"), b"x")).await.unwrap_err();
    assert!(error.contains("unexpected Content-Encoding \"br\""), "{error}");
}

#[tokio::test]
async fn chunks_with_extensions_and_trailers_make_one_body() {
    let coded = "4;a=b\r\na 1\n\r\n4 \r\nb 2\n\r\n0\r\nTrailer: x\r\n\r\n";
    let head = format!("HTTP/1.1 {TEXT}\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(fetch("", head.clone() + coded).await, Ok("a 1\nb 2\n".to_owned()));
    let error = fetch("", head + "4\r\na 1\n\r\nzz\r\n").await.unwrap_err();
    assert!(error.contains("malformed chunked encoding"), "{error}");
}

#[tokio::test]
async fn a_body_may_end_with_its_connection() {
    assert_eq!(fetch("", format!("HTTP/1.0 {TEXT}\r\n\r\na 1\n")).await, Ok("a 1\n".to_owned()));
}

#[tokio::test]
async fn a_large_body_is_read_whole() {
    let body: String = (0..40_000).map(|n| format!("metric_{n} {n}\n")).collect();
    assert_eq!(fetch("", text(&body)).await, Ok(body.clone()));
    let head = format!("HTTP/1.1 {TEXT}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    let chunks = body
        .as_bytes()
        .chunks(4_097)
        .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    let coded: Vec<u8> = head.into_iter().chain(chunks).chain(*b"0\r\n\r\n").collect();
    assert_eq!(fetch("", coded).await, Ok(body));
}

#[tokio::test]
async fn interim_answers_are_passed_over_up_to_a_size() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    let whole = String::from_utf8(text("a 1\n")).unwrap();
    assert_eq!(fetch("", early.repeat(50) + &whole).await, Ok("a 1\n".to_owned()));
    assert!(fetch("", early.repeat(40_000) + &whole).await.unwrap_err().contains("interim"));
    let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n";
    let refused = "server returned HTTP status 101 Switching Protocols";
    assert_eq!(fetch("", switched).await, Err(refused.to_owned()));
}

#[tokio::test]
async fn malformed_and_oversized_heads_fail_the_scrape() {
    let banner = fetch("", "SSH-2.0-OpenSSH_9.6\r\n").await.unwrap_err();
    assert!(banner.starts_with("malformed HTTP response"), "{banner}");
    let large = |bytes| {
        let filler = "x".repeat(bytes);
        format!("HTTP/1.1 200 OK\r\nX: {filler}\r\nContent-Length: 4\r\n\r\na 1\n")
    };
    assert_eq!(fetch("", large(1_000_000)).await, Ok("a 1\n".to_owned()));
    assert!(fetch("", large(1_050_000)).await.unwrap_err().contains("more than 1048576 bytes"));
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 21));
    assert!(fetch("", endless).await.unwrap_err().contains("more than 1048576 bytes"));
}

#[tokio::test]
async fn what_breaks_off_is_an_unexpected_end() {
    for (sent, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "after 3 of 100 bytes"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "after 3 bytes of a chunked body"),
        ("HTTP/1.1 200 OK\r\nContent-Len", "in the head"),
    ] {
        let error = fetch("", sent).await.unwrap_err();
        assert!(error.contains("unexpected EOF") && error.contains(expected), "{error}");
    }
    assert!(
        fetch("", "").await.unwrap_err().contains("EOF: the server closed the connection without an answer")
    );
}

#[tokio::test]
async fn a_slow_drip_runs_into_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let drip = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        server::request(&mut socket).await.unwrap();
        let head = format!("HTTP/1.1 {TEXT}\r\nContent-Length: 100000\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        // Ends when the client has closed the connection.
        while socket.write_all(b"#").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let error = Client::new("").fetch_within(&url, Duration::from_millis(100)).await.unwrap_err();
    assert!(error.starts_with("context deadline exceeded"), "{error}");
    drip.await.unwrap();
}
