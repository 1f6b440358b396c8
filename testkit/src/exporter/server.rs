//! The listener of one exporter, and what it does on its connections.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::http::{NoRequest, Request, begin_body, end_body, read_request};
use super::{Behaviour, Change, Shared};
use crate::clock::now_ms;

/// The format of the expositions.
const TEXT_0_0_4: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Most connections of one exporter; a further one is closed at once.
const CONNECTIONS_MAX: usize = 256;
/// Pause after a failure to accept, most often a lack of file descriptors, which does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of each chunk of an endless body.
const ENDLESS_CHUNK_BYTES: usize = 16 << 10;

/// Accepts connections until the exporter's death; then all of them are closed.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let death = died(shared.death.subscribe());
    tokio::pin!(death);
    loop {
        tokio::select! {
            () = &mut death => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(converse(stream, shared.clone()));
                }
                Ok(_) => tracing::warn!(exporter = %shared.address, "too many connections"),
                Err(error) => {
                    tracing::warn!(exporter = %shared.address, %error, "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Returns at the time of death, whenever that gets known.
async fn died(mut death: watch::Receiver<Option<i64>>) {
    loop {
        let at_ms = *death.borrow_and_update();
        let left = at_ms.map(|at_ms| Duration::from_millis(u64::try_from(at_ms - now_ms()).unwrap_or(0)));
        if left.is_some_and(|left| left.is_zero()) {
            return;
        }
        let sleep = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            changed = death.changed() => if changed.is_err() { return },
        }
    }
}

/// Serves one connection until either side has enough. Errors mean that the client has gone.
async fn converse(mut stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    loop {
        let request = match read_request(&mut stream, &mut buffer).await {
            Ok(request) => request,
            Err(NoRequest::Closed) => return,
            Err(NoRequest::Bad(why)) => {
                let _ = answer(&mut stream, 400, "text/plain", why.as_bytes()).await;
                return;
            }
        };
        match respond(&mut stream, &shared, &request).await {
            Ok(Then::KeepAlive) if !request.close => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Buffers that answers are put together in, shared by all exporters of a fleet: a connection that holds one only
/// while it answers costs nothing between scrapes, and no scrape allocates.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<Vec<u8>>>);

/// Most buffers that are kept for later.
const BUFFERS_KEPT_MAX: usize = 32;

impl Buffers {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < BUFFERS_KEPT_MAX {
            kept.push(buffer);
        }
    }
}

enum Then {
    KeepAlive,
    Close,
}

async fn respond(stream: &mut TcpStream, shared: &Shared, request: &Request) -> io::Result<Then> {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", path) if path == "/metrics" || path.starts_with("/metrics/") => {
            return metrics(stream, shared, request).await;
        }
        ("POST", "/-/behaviour") => match serde_json::from_slice::<Change>(&request.body) {
            Ok(change) => {
                // First the answer: a change may close this very connection.
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
                shared.apply(&change);
            }
            Err(error) => {
                answer(stream, 400, "text/plain", format!("not a change of behaviour: {error}\n").as_bytes())
                    .await?;
            }
        },
        ("GET", "/-/status") => answer_json(stream, &shared.status()).await?,
        ("GET", "/-/series") => answer_json(stream, &shared.template.exposed(&shared.identity)).await?,
        (_, "/metrics" | "/-/behaviour" | "/-/status" | "/-/series") => {
            answer(stream, 405, "text/plain", b"no such method here\n").await?;
        }
        _ => answer(stream, 404, "text/plain", b"try /metrics\n").await?,
    }
    Ok(Then::KeepAlive)
}

async fn metrics(stream: &mut TcpStream, shared: &Shared, request: &Request) -> io::Result<Then> {
    let (behaviour, gzip) = shared.next();
    let gzip = gzip && request.gzip;
    match behaviour {
        Behaviour::Healthy => exposition(stream, shared, TEXT_0_0_4, gzip, Part::Whole).await?,
        Behaviour::WrongContentType => exposition(stream, shared, "text/html", gzip, Part::Whole).await?,
        Behaviour::Slow { delay_ms } => {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            exposition(stream, shared, TEXT_0_0_4, gzip, Part::Whole).await?;
        }
        Behaviour::Status { code } => answer(stream, code, "text/plain", b"as told\n").await?,
        Behaviour::Garbage => {
            answer(stream, 200, TEXT_0_0_4, b"http_requests_total{ 12 ..\n\xff\xfe not an exposition\n\0")
                .await?;
        }
        Behaviour::Endless => endless(stream).await?,
        Behaviour::Hung => {
            // Until the client gives up.
            while stream.read(&mut [0; 256]).await? > 0 {}
            return Ok(Then::Close);
        }
        Behaviour::CutOff => {
            exposition(stream, shared, TEXT_0_0_4, false, Part::FirstHalf).await?;
            return Ok(Then::Close);
        }
    }
    Ok(Then::KeepAlive)
}

/// How much of an answer is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    FirstHalf,
}

/// Answers with the exposition as it stands now.
async fn exposition(
    stream: &mut TcpStream,
    shared: &Shared,
    content_type: &str,
    gzip: bool,
    part: Part,
) -> io::Result<()> {
    let mut out = shared.buffers.take();
    let start = begin_body(200, content_type, gzip, &mut out);
    if gzip {
        let mut text = shared.buffers.take();
        shared.render(&mut text);
        let mut encoder = GzEncoder::new(out, Compression::fast());
        encoder.write_all(&text)?;
        out = encoder.finish()?;
        shared.buffers.give_back(text);
    } else {
        shared.render(&mut out);
    }
    end_body(start, &mut out);
    let end = if part == Part::Whole { out.len() } else { out.len() / 2 };
    stream.write_all(&out[..end]).await?;
    shared.buffers.give_back(out);
    Ok(())
}

async fn endless(stream: &mut TcpStream) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {TEXT_0_0_4}\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut number = 0_u64;
    loop {
        let mut lines = String::new();
        while lines.len() < ENDLESS_CHUNK_BYTES {
            lines.push_str(&format!("endless_total{{line=\"{number}\"}} 1\n"));
            number += 1;
        }
        let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
        stream.write_all(chunk.as_bytes()).await?;
    }
}

async fn answer(stream: &mut TcpStream, status: u16, content_type: &str, body: &[u8]) -> io::Result<()> {
    let mut out = Vec::with_capacity(256 + body.len());
    let start = begin_body(status, content_type, false, &mut out);
    out.extend_from_slice(body);
    end_body(start, &mut out);
    stream.write_all(&out).await
}

async fn answer_json(stream: &mut TcpStream, value: &impl serde::Serialize) -> io::Result<()> {
    answer(stream, 200, "application/json", &serde_json::to_vec(value)?).await
}
