//! A receiver on a real socket that stores as Prometheus does (a request is stored as a whole or not at all) and misbehaves
//! as a test wants it to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use promring_proto::remote_write::v1::WriteRequest;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A request as it came in.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    pub(super) decoded: WriteRequest,
}

impl Received {
    /// Every sample: its metric name and time.
    pub(super) fn samples(&self) -> Vec<(String, i64)> {
        let series = self.decoded.timeseries.iter();
        series
            .flat_map(|series| {
                let name = series.labels[0].value.clone();
                series.samples.iter().map(move |sample| (name.clone(), sample.timestamp))
            })
            .collect()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// What the receiver does with a request.
pub(super) enum Action {
    /// Stores it, or refuses it as Prometheus does.
    Store,
    Answer(u16, &'static str),
    /// With a header.
    AnswerWith(u16, &'static str, String),
    /// Closes the connection without an answer.
    Reset,
    /// Stores it and does the same.
    StoreAndReset,
    /// Stores it and answers with something else.
    StoreAndAnswer(u16),
    /// Never answers.
    Hang,
}

type Script = Box<dyn FnMut(usize, &Received) -> Action + Send>;

/// Stored samples by metric name, in the order of their arrival.
pub(super) type Stored = BTreeMap<String, Vec<i64>>;

#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) url: String,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<usize>,
}

struct State {
    script: Script,
    received: Vec<Received>,
    stored: Stored,
}

impl Receiver {
    /// Starts one. The script is asked for each request, with the number of those before it.
    pub(super) async fn start(script: impl FnMut(usize, &Received) -> Action + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State { script: Box::new(script), received: Vec::new(), stored: Stored::new() };
        let receiver = Self {
            url: format!("http://{}/api/v1/write", listener.local_addr().unwrap()),
            state: Arc::new(Mutex::new(state)),
            changed: watch::Sender::new(0),
        };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        receiver
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    pub(super) fn stored(&self) -> Stored {
        self.state.lock().unwrap().stored.clone()
    }

    /// Waits until so many requests were received.
    pub(super) async fn requests(&self, count: usize) {
        self.changed.subscribe().wait_for(|received| *received >= count).await.unwrap();
    }

    /// Waits until so many samples are stored.
    pub(super) async fn samples(&self, count: usize) {
        let mut changed = self.changed.subscribe();
        while self.stored().values().map(Vec::len).sum::<usize>() < count {
            changed.changed().await.unwrap();
        }
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        while let Some(request) = read_request(&mut stream, &mut buffer).await {
            let (answer, number) = self.handle(request);
            self.changed.send_replace(number);
            match answer {
                Some(answer) if answer.is_empty() => return,
                Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap_or_default(),
                None => std::future::pending().await,
            }
        }
    }

    /// The answer to write; empty: the connection is closed; None: there is none. And how many requests there were.
    fn handle(&self, request: Received) -> (Option<String>, usize) {
        let mut state = self.state.lock().unwrap();
        let number = state.received.len();
        let action = (state.script)(number, &request);
        let answer = match action {
            Action::Store => Some(match state.store(&request) {
                Ok(()) => answer(204, "", ""),
                Err(reason) => answer(400, "", reason),
            }),
            Action::Answer(status, body) => Some(answer(status, "", body)),
            Action::AnswerWith(status, name, value) => {
                Some(answer(status, &format!("{name}: {value}\r\n"), ""))
            }
            Action::Reset => Some(String::new()),
            Action::StoreAndReset => {
                let _as_good_as_it_can = state.store(&request);
                Some(String::new())
            }
            Action::StoreAndAnswer(status) => {
                let _as_good_as_it_can = state.store(&request);
                Some(answer(status, "", ""))
            }
            Action::Hang => None,
        };
        state.received.push(request);
        (answer, number + 1)
    }
}

impl State {
    fn store(&mut self, request: &Received) -> Result<(), &'static str> {
        let mut stored = self.stored.clone();
        for (name, time) in request.samples() {
            let times = stored.entry(name).or_default();
            match times.last() {
                Some(last) if *last > time => return Err("out of order sample"),
                // The same sample again is no change.
                Some(last) if *last == time => {}
                _ => times.push(time),
            }
        }
        self.stored = stored;
        Ok(())
    }
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} Whatever\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let head_len = loop {
        if let Some(at) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..head_len].to_vec()).unwrap();
    let len = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let end = head_len + len.unwrap_or(0_usize);
    while buffer.len() < end {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer[head_len..end].to_vec();
    buffer.drain(..end);
    let decoded = snap::raw::Decoder::new().decompress_vec(&body).unwrap_or_default();
    Some(Received { head, body, decoded: WriteRequest::decode(&*decoded).unwrap_or_default() })
}
