//! A small HTTP/1.1 client for one thing: a GET whose answer is read as far as the caller wants it.
//!
//! A target has at most one connection. Between scrapes it owns a socket (and its TLS session) and no buffer: the
//! request is put together in a borrowed buffer, the answer's head is read into it, and the body takes its place.
//! What this client does not do goes by the HTTP library: HTTP/2 (where that can connect) and proxies.

mod chunked;
mod connect;
pub(super) mod gzip;
mod head;
mod http2;
mod incoming;
pub(super) mod redirect;
mod request;

use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use promring_model::target::{Target, UNIX_SOCKET};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use url::Url;

use super::fetch::FetchError;
use crate::memory::{Full, Hold, Memory};
use connect::{Dialled, Stream};
use head::{Head, Packing};
use http2::Http2;
use incoming::Framing;
pub(super) use incoming::Incoming;

/// Interim answers (status 1xx) that come before one request's own answer may have this many bytes.
const INTERIM_BYTES_MAX: usize = 1 << 20;

/// A packed body may be larger than the plain one by this much: what gzip adds to what it cannot pack.
const PACKED_EXTRA_BYTES: u64 = 64 << 10;

/// What one target's scrapes keep between them.
#[derive(Default)]
pub struct Connection {
    idle: Option<Idle>,
    /// Where the target is reached by a unix socket instead of by its address.
    socket: Option<Box<Path>>,
    /// The server speaks HTTP/2, which is the HTTP library's to do.
    http2: bool,
    /// It speaks HTTP/2, where the library cannot connect to it.
    own_http2: Option<Box<Http2>>,
    /// The Content-Type of the last answer: it hardly ever changes.
    content_type: Option<Arc<str>>,
}

/// A connection that waits for the next scrape.
struct Idle {
    stream: Stream,
    /// The settings it was made with: when files change, so must it.
    tls: Option<Arc<ClientConfig>>,
}

/// How connections of a job speak TLS.
#[derive(Clone, Debug)]
pub(super) struct Tls<'a> {
    pub(super) config: Arc<ClientConfig>,
    /// Whether the server may choose HTTP/2.
    pub(super) http2: bool,
    /// The name to ask for and to check, instead of the URL's host.
    pub(super) server_name: Option<&'a ServerName<'static>>,
}

/// One request.
pub(super) struct Ask<'a> {
    pub(super) url: &'a Url,
    /// Set where the URL's scheme is https.
    pub(super) tls: Option<Tls<'a>>,
    /// Lines of the request's head beyond those that the URL gives, each with its line end.
    pub(super) lines: &'a [&'a [u8]],
    /// Most bytes of the body, unpacked.
    pub(super) bytes_max: u64,
    /// Whether an answer that leads elsewhere is told as such.
    pub(super) redirects: bool,
    /// Asked where a head is long.
    pub(super) memory: &'a Arc<Memory>,
}

/// What came of a request.
pub(super) enum Outcome {
    /// Status 200; the body follows.
    Body { content_type: Arc<str>, gzip: bool, incoming: Incoming, keep: Option<Keep> },
    /// Status 301, 302, 303, 307 or 308 with this `Location`.
    Redirect(String),
    /// The server chose HTTP/2; nothing was asked.
    Http2,
}

/// What a connection is kept with, once its body was read.
pub(super) struct Keep {
    tls: Option<Arc<ClientConfig>>,
}

/// Why an exchange broke off.
enum Broken {
    /// Before a byte of the answer came: on a connection that was idle, the server closed it meanwhile.
    Unanswered(FetchError),
    /// Later, or for good.
    Failed(FetchError),
}

impl From<FetchError> for Broken {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

/// What a head means for the request.
enum Answer {
    Body {
        content_type: Arc<str>,
        gzip: bool,
    },
    Redirect(String),
    /// 100 Continue and the like: the answer itself follows.
    Interim,
    Refused(FetchError),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("idle", &self.idle.is_some())
            .field("socket", &self.socket)
            .field("http2", &self.http2)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// The connection of this target, not made yet.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        let socket = target.labels.get(UNIX_SOCKET).filter(|path| !path.is_empty());
        Self { socket: socket.map(|path| Path::new(path).into()), ..Self::default() }
    }

    /// To another server, reached in the same way.
    pub(super) fn sibling(&self) -> Self {
        Self { socket: self.socket.clone(), ..Self::default() }
    }

    /// Whether the server speaks HTTP/2 with the library, as far as is known.
    pub(super) fn is_http2(&self) -> bool {
        self.http2
    }

    /// Whether it does so on a connection of ours.
    pub(super) fn has_own_http2(&self) -> bool {
        self.own_http2.is_some()
    }

    /// Whether a unix socket takes the place of the address.
    pub(super) fn has_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// The Content-Type as a shared string: mostly the one of the last answer.
    pub(super) fn content_type(&mut self, value: &str) -> Arc<str> {
        match &self.content_type {
            Some(last) if **last == *value => Arc::clone(last),
            _ => Arc::clone(self.content_type.insert(Arc::from(value))),
        }
    }

    /// Asks once and reads the answer's head. `body` is a buffer whose content goes; it stays with the body where one
    /// follows. A connection that was kept and that the server closed meanwhile is replaced, once. The caller bounds the
    /// time; where it gives up, the connection is closed.
    pub(super) async fn exchange(
        &mut self,
        ask: &Ask<'_>,
        body: &mut Vec<u8>,
    ) -> Result<Outcome, FetchError> {
        let kept = self.own_http2.as_deref().filter(|kept| kept.serves(ask)).cloned();
        // Otherwise it broke, or the server has enough of it: a GET may be asked again.
        if let Some(kept) = kept
            && let Ok(response) = Box::pin(kept.ask(ask)).await
        {
            return self.understand(response, ask);
        }
        self.own_http2 = None;
        if let Some(stream) = self.take_idle(ask).await {
            match self.ask(stream, ask, body).await {
                Err(Broken::Unanswered(_)) => {}
                Err(Broken::Failed(error)) => return Err(error),
                Ok(outcome) => return Ok(outcome),
            }
        }
        // Boxed, as a handshake's state is large and target loops should not carry room for it.
        let stream = match Box::pin(connect::dial(ask.url, self.socket.as_deref(), ask.tls.as_ref())).await? {
            Dialled::Http1(stream) => stream,
            Dialled::Http2(_) if self.is_within_reach(ask) => {
                self.http2 = true;
                return Ok(Outcome::Http2);
            }
            Dialled::Http2(stream) => {
                let http2 = Box::pin(Http2::begin(stream, ask)).await?;
                let asked = self.own_http2.insert(Box::new(http2)).clone().ask(ask);
                let response = Box::pin(asked).await?;
                return self.understand(response, ask);
            }
        };
        self.exchange_on(stream, ask, body).await
    }

    /// Whether the library can connect to the same server.
    fn is_within_reach(&self, ask: &Ask<'_>) -> bool {
        self.socket.is_none() && ask.tls.as_ref().is_none_or(|tls| tls.server_name.is_none())
    }

    /// The same on a new connection.
    pub(super) async fn exchange_on(
        &mut self,
        stream: Stream,
        ask: &Ask<'_>,
        body: &mut Vec<u8>,
    ) -> Result<Outcome, FetchError> {
        self.ask(stream, ask, body).await.map_err(|broken| match broken {
            Broken::Unanswered(error) | Broken::Failed(error) => error,
        })
    }

    /// The kept connection, if it is still of use.
    async fn take_idle(&mut self, ask: &Ask<'_>) -> Option<Stream> {
        let Idle { mut stream, tls } = self.idle.take()?;
        let same = match (&tls, &ask.tls) {
            (None, None) => true,
            (Some(made_with), Some(now)) => Arc::ptr_eq(made_with, &now.config),
            (None, Some(_)) | (Some(_), None) => false,
        };
        (same && is_quiet(&mut stream).await).then_some(stream)
    }

    /// The body was read from this connection, which may serve the next scrape.
    pub(super) fn keep(&mut self, stream: Option<Stream>, keep: Option<Keep>) {
        if let (Some(stream), Some(Keep { tls })) = (stream, keep) {
            self.idle = Some(Idle { stream, tls });
        }
    }

    /// One request and the head of its answer on this connection.
    async fn ask(
        &mut self,
        mut stream: Stream,
        ask: &Ask<'_>,
        body: &mut Vec<u8>,
    ) -> Result<Outcome, Broken> {
        request::write(ask.url, ask.lines, body);
        let sent = async {
            stream.write_all(body).await?;
            stream.flush().await
        };
        sent.await.map_err(|error| Broken::Unanswered(FetchError::Transport(format!("sending: {error}"))))?;
        body.clear();
        let mut interim = 0;
        let (answer, framing, keep_alive) = loop {
            let (answer, framing, keep_alive, length) = self.head(&mut stream, ask, body).await?;
            if !matches!(answer, Answer::Interim) {
                break (answer, framing, keep_alive);
            }
            interim += length;
            if interim > INTERIM_BYTES_MAX {
                let message = format!("more than {INTERIM_BYTES_MAX} bytes of interim answers");
                return Err(FetchError::Transport(message).into());
            }
        };
        let keep = keep_alive.then(|| Keep { tls: ask.tls.as_ref().map(|tls| Arc::clone(&tls.config)) });
        let outcome = match answer {
            Answer::Body { content_type, gzip } => {
                let bytes_max = sent_bytes_max(ask.bytes_max, gzip);
                let incoming = Incoming::new(stream, framing, bytes_max, std::mem::take(body))?;
                return Ok(Outcome::Body { content_type, gzip, incoming, keep });
            }
            // The body of these is of no use. The connection is, if nothing more must be waited for.
            Answer::Redirect(location) => Ok(Outcome::Redirect(location)),
            Answer::Refused(error) => Err(error.into()),
            Answer::Interim => return Err(FetchError::Transport("no answer".to_owned()).into()),
        };
        let whole = incoming::is_whole(framing, body);
        self.keep(whole.then_some(stream), keep);
        outcome
    }

    /// Reads a head and takes it out of `body`, where what came after it stays.
    async fn head(
        &mut self,
        stream: &mut Stream,
        ask: &Ask<'_>,
        body: &mut Vec<u8>,
    ) -> Result<(Answer, Framing, bool, usize), Broken> {
        let mut long: Option<Hold> = None;
        // What an interim answer left may be the whole head.
        let mut seen = 0;
        loop {
            head::settle_version(body);
            if body.len() > seen
                && let Some(head) = head::parse(body, seen)?
            {
                let length = head.length;
                let found = (self.answer(&head, ask.redirects)?, head.framing()?, head.keep_alive, length);
                body.drain(..length);
                return Ok(found);
            }
            seen = body.len();
            if seen >= head::FIRST_BYTES {
                // The buffer grows by doubling.
                let bytes = seen as u64 * 3;
                match &mut long {
                    Some(hold) => hold.grow_to(bytes).map_err(FetchError::from)?,
                    None => long = Some(ask.memory.try_admit(bytes).ok_or(FetchError::Memory(Full::Others))?),
                }
            }
            head::read_some(stream, body).await?;
        }
    }

    fn answer(&mut self, head: &Head<'_>, redirects: bool) -> Result<Answer, FetchError> {
        Ok(match (head.status, head.location) {
            // 101 is an answer: the server has left HTTP, unasked.
            (100 | 102..=199, _) => Answer::Interim,
            (200, _) => {
                let gzip = match head.packing {
                    Packing::Plain => false,
                    Packing::Gzip => true,
                    Packing::Other(name) => {
                        let name = head::shown(name);
                        return Err(FetchError::Encoding(format!("unexpected Content-Encoding {name:?}")));
                    }
                };
                let content_type = self.content_type(&String::from_utf8_lossy(head.content_type));
                Answer::Body { content_type, gzip }
            }
            (301 | 302 | 303 | 307 | 308, Some(location)) if redirects && !location.is_empty() => {
                Answer::Redirect(String::from_utf8_lossy(location).into_owned())
            }
            (status, _) => {
                let text = format!("{status} {}", head::shown(head.reason));
                Answer::Refused(FetchError::Status(text.trim().to_owned()))
            }
        })
    }
}

/// Most bytes of a body as it is sent, where it may have `bytes_max` unpacked.
pub(super) fn sent_bytes_max(bytes_max: u64, gzip: bool) -> u64 {
    if gzip { bytes_max.saturating_add(PACKED_EXTRA_BYTES) } else { bytes_max }
}

/// Whether an idle connection is open and the server said nothing that it was not asked for. This costs a system
/// call only where something came.
async fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0];
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_pending()))
        .await
}
