//! A receiver on a real socket that stores as Prometheus does (a request is stored as a whole or not at all) and misbehaves
//! as a test wants it to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use promring_proto::remote_write::v1::WriteRequest;
use promring_proto::remote_write::v2;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) decoded: WriteRequest,
    /// The same of remote write 2.0.
    pub(crate) decoded_v2: v2::Request,
}

impl Received {
    /// Every sample: its metric name and time.
    pub(crate) fn samples(&self) -> Vec<(String, i64)> {
        self.samples_of_series().into_iter().map(|(_, name, time)| (name, time)).collect()
    }

    /// The same, with all labels of its series before them, as they are by either version.
    fn samples_of_series(&self) -> Vec<(String, String, i64)> {
        if self.is_v2() {
            let series = self.decoded_v2.timeseries.iter();
            return series
                .flat_map(|series| {
                    let refs = series.labels_refs.iter();
                    let labels: Vec<&String> =
                        refs.map(|number| &self.decoded_v2.symbols[*number as usize]).collect();
                    let (all, name) = (format!("{labels:?}"), labels[1].clone());
                    series.samples.iter().map(move |sample| (all.clone(), name.clone(), sample.timestamp))
                })
                .collect();
        }
        let series = self.decoded.timeseries.iter();
        series
            .flat_map(|series| {
                let labels = series.labels.iter();
                let labels: Vec<&String> = labels.flat_map(|label| [&label.name, &label.value]).collect();
                let (all, name) = (format!("{labels:?}"), labels[1].clone());
                series.samples.iter().map(move |sample| (all.clone(), name.clone(), sample.timestamp))
            })
            .collect()
    }

    /// Whether it says that it is one of remote write 2.0.
    pub(crate) fn is_v2(&self) -> bool {
        self.header("Content-Type") == Some("application/x-protobuf;proto=io.prometheus.write.v2.Request")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// What the receiver does with a request.
pub(crate) enum Action {
    /// Stores it, or refuses it as Prometheus does.
    Store,
    /// Stores what it can of it, and refuses the rest as Mimir does: these samples, and what is not newer than what
    /// it has of a series.
    StoreInPart(Refuses),
    Answer(u16, &'static str),
    /// With a header.
    AnswerWith(u16, &'static str, String),
    /// With the number of samples that are stored, as a receiver of 2.0 has it; the rest of the answer follows.
    AnswerWritten(u16, usize, &'static str),
    /// Closes the connection without an answer.
    Reset,
    /// Stores it and does the same.
    StoreAndReset,
    /// Stores it and answers with something else.
    StoreAndAnswer(u16),
    /// Stores it, and answers once it is told to.
    StoreAndWait(Arc<Notify>),
    /// Never answers.
    Hang,
}

/// Whether a receiver takes no sample of this series and time.
pub(crate) type Refuses = Arc<dyn Fn(&str, i64) -> bool + Send + Sync>;

type Script = Box<dyn FnMut(usize, &Received) -> Action + Send>;

/// Stored samples by metric name, in the order of their arrival.
pub(crate) type Stored = BTreeMap<String, Vec<i64>>;

#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<usize>,
}

struct State {
    script: Script,
    received: Vec<Received>,
    stored: Stored,
    /// The time of the newest sample of each series, by all its labels.
    last: BTreeMap<String, i64>,
    /// The newest sample of each series, where some of a request may be stored: its time and its value.
    newest: BTreeMap<String, (i64, u64)>,
}

impl Receiver {
    /// Starts one. The script is asked for each request, with the number of those before it.
    pub(crate) async fn start(script: impl FnMut(usize, &Received) -> Action + Send + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    /// The same on a socket that is there already.
    pub(crate) fn on(
        listener: TcpListener,
        script: impl FnMut(usize, &Received) -> Action + Send + 'static,
    ) -> Self {
        let (received, stored, last, newest) = Default::default();
        let state = State { script: Box::new(script), received, stored, last, newest };
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

    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    pub(crate) fn stored(&self) -> Stored {
        self.state.lock().unwrap().stored.clone()
    }

    /// Waits until so many requests were received.
    pub(crate) async fn requests(&self, count: usize) {
        self.changed.subscribe().wait_for(|received| *received >= count).await.unwrap();
    }

    /// Waits until so many samples are stored.
    pub(crate) async fn samples(&self, count: usize) {
        let mut changed = self.changed.subscribe();
        while self.stored().values().map(Vec::len).sum::<usize>() < count {
            changed.changed().await.unwrap();
        }
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        while let Some(request) = read_request(&mut stream, &mut buffer).await {
            let (answer, number, wait) = self.handle(request);
            self.changed.send_replace(number);
            if let Some(told) = wait {
                told.notified().await;
            }
            match answer {
                Some(answer) if answer.is_empty() => return,
                Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap_or_default(),
                None => std::future::pending().await,
            }
        }
    }

    /// The answer to write; empty: the connection is closed; None: there is none. And how many requests there were, and
    /// what the answer waits for.
    fn handle(&self, request: Received) -> (Option<String>, usize, Option<Arc<Notify>>) {
        let mut state = self.state.lock().unwrap();
        let number = state.received.len();
        let action = (state.script)(number, &request);
        let wait = if let Action::StoreAndWait(told) = &action { Some(Arc::clone(told)) } else { None };
        let answer = match action {
            Action::Store if request.is_v2() => {
                let (written, refused) = state.store_v2(&request);
                let status = if refused.is_empty() { 204 } else { 400 };
                Some(answer(status, &written_headers(written), &refused))
            }
            Action::Store | Action::StoreAndWait(_) => Some(match state.store(&request) {
                Ok(()) => answer(204, "", ""),
                Err(reason) => answer(400, "", reason),
            }),
            Action::StoreInPart(refuses) => Some(match state.store_in_part(&request, &*refuses) {
                None => answer(204, "", ""),
                Some(reason) => answer(400, "", &reason),
            }),
            Action::Answer(status, body) => Some(answer(status, "", body)),
            Action::AnswerWith(status, name, value) => {
                Some(answer(status, &format!("{name}: {value}\r\n"), ""))
            }
            Action::AnswerWritten(status, written, body) => {
                Some(answer(status, &written_headers(written), body))
            }
            Action::Reset => Some(String::new()),
            Action::StoreAndReset => {
                state.store_some_way(&request);
                Some(String::new())
            }
            Action::StoreAndAnswer(status) => {
                state.store_some_way(&request);
                Some(answer(status, "", ""))
            }
            Action::Hang => None,
        };
        state.received.push(request);
        (answer, number + 1, wait)
    }
}

impl State {
    fn store(&mut self, request: &Received) -> Result<(), &'static str> {
        let before = (self.stored.clone(), self.last.clone());
        for (series, name, time) in request.samples_of_series() {
            if !self.take(series, name, time) {
                // All of it or nothing.
                (self.stored, self.last) = before;
                return Err("out of order sample");
            }
        }
        Ok(())
    }

    /// Stores a sample. False: one of its series that is newer is stored.
    fn take(&mut self, series: String, name: String, time: i64) -> bool {
        let last = self.last.entry(series).or_insert(i64::MIN);
        // The same sample again is no change.
        if time > *last {
            *last = time;
            self.stored.entry(name).or_default().push(time);
        }
        time >= *last
    }

    /// Stores what can be stored, as Mimir and Cortex do with 1.0, and says why the first of the rest cannot.
    fn store_in_part(&mut self, request: &Received, refuses: &dyn Fn(&str, i64) -> bool) -> Option<String> {
        let mut first = None;
        let mut refused = |why: &str, name: &str| {
            first.get_or_insert_with(|| format!("{why}. The affected series is {{__name__=\"{name}\"}}"));
        };
        for series in &request.decoded.timeseries {
            let name = &series.labels[0].value;
            if series.samples.iter().any(|sample| refuses(name, sample.timestamp)) {
                refused(
                    "received a series whose number of labels exceeds the limit (actual: 31, limit: 30) \
                     (err-mimir-max-label-names-per-series)",
                    name,
                );
                continue;
            }
            for sample in &series.samples {
                let now = (sample.timestamp, sample.value.to_bits());
                match self.newest.get(name) {
                    Some(newest) if newest.0 > now.0 => refused(
                        "the sample has been rejected because another sample with a more recent timestamp has \
                         already been ingested and out-of-order samples are not allowed (err-mimir-sample-out-of-order)",
                        name,
                    ),
                    Some(newest) if newest.0 == now.0 && newest.1 != now.1 => refused(
                        "the sample has been rejected because another sample with the same timestamp, but a different \
                         value, has already been ingested (err-mimir-sample-duplicate-timestamp)",
                        name,
                    ),
                    Some(newest) if *newest == now => {}
                    _ => {
                        self.newest.insert(name.clone(), now);
                        self.stored.entry(name.clone()).or_default().push(now.0);
                    }
                }
            }
        }
        first
    }

    /// Stores what can be stored, as Prometheus does with 2.0. How much that is, and a line for each sample that is refused.
    fn store_v2(&mut self, request: &Received) -> (usize, String) {
        let (mut written, mut refused) = (0, String::new());
        for (series, name, time) in request.samples_of_series() {
            if self.take(series, name.clone(), time) {
                written += 1;
            } else {
                refused.push_str(&format!("out of order sample for series {{__name__=\"{name}\"}}\n"));
            }
        }
        (written, refused)
    }

    /// Stores it, whatever comes of that.
    fn store_some_way(&mut self, request: &Received) {
        if request.is_v2() {
            self.store_v2(request);
        } else {
            let _as_good_as_it_can = self.store(request);
        }
    }
}

fn written_headers(samples: usize) -> String {
    let field = |kind, count| format!("X-Prometheus-Remote-Write-{kind}-Written: {count}\r\n");
    [field("Samples", samples), field("Histograms", 0), field("Exemplars", 0)].concat()
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
    let mut request =
        Received { head, body, decoded: WriteRequest::default(), decoded_v2: v2::Request::default() };
    if request.is_v2() {
        request.decoded_v2 = v2::Request::decode(&*decoded).unwrap_or_default();
    } else {
        request.decoded = WriteRequest::decode(&*decoded).unwrap_or_default();
    }
    Some(request)
}
