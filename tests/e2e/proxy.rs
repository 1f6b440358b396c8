//! A proxy between promring and a receiver that does at random what networks and receivers do, and remembers which samples
//! went by. Without anybody behind it, it is the receiver itself, and takes everything of the version that it speaks: what a
//! sender tries by the other one, because it took a fault for a refusal, it must send again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::passage::{Passage, Sample, samples};
use crate::recorder::read;
use crate::support::client;

/// The field of a request by which its sender says which of its processes it is.
pub const PROCESS: &str = "x-process";

/// What is late where anything may happen.
const DELAY: Duration = Duration::from_millis(150);

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Passed,
    /// It gets there so late.
    Slow(Duration),
    /// It gets nowhere, and there is no answer.
    Hangs,
    /// It gets there, and there is no answer.
    HangsBehind,
    /// The connection breaks in the middle of the body.
    ResetInBody,
    /// It gets there, and the connection breaks before the answer.
    ResetBehind,
    /// It gets nowhere and is answered by this status.
    Told(u16),
    /// It gets there and is answered by a 500.
    ToldBehind,
}

/// How a proxy treats requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    /// Anything may happen.
    Wild,
    /// Everything passes.
    Calm,
    /// Everything gets there, so late.
    Slow(Duration),
    /// Nothing gets there; a 503 says so.
    Away,
}

/// A running proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: SocketAddr,
    /// None: it is the receiver.
    upstream: Option<String>,
    version: u8,
    client: reqwest::Client,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    random: SmallRng,
    temper: Temper,
    seen: Vec<Passage>,
    fates: BTreeMap<Fate, usize>,
    /// What the receiver said to what it did not take.
    refusals: BTreeMap<String, usize>,
}

impl Proxy {
    /// A proxy to `upstream`, a URL that takes remote write of this version.
    pub async fn start(upstream: Option<String>, version: u8, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Shared {
            random: SmallRng::seed_from_u64(seed),
            temper: Temper::Wild,
            seen: Vec::new(),
            fates: BTreeMap::new(),
            refusals: BTreeMap::new(),
        };
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            upstream,
            version,
            client: client(),
            shared: Arc::new(Mutex::new(shared)),
        };
        let server = proxy.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        proxy
    }

    /// Where it takes remote write.
    pub fn url(&self) -> String {
        format!("http://{}/write", self.address)
    }

    /// From now on requests are treated like this.
    pub fn set(&self, temper: Temper) {
        self.shared.lock().unwrap().temper = temper;
    }

    /// All requests whose bodies went by as a whole, in order; they are forgotten here.
    pub fn take_seen(&self) -> Vec<Passage> {
        std::mem::take(&mut self.shared.lock().unwrap().seen)
    }

    /// What happened, in words.
    pub fn summary(&self) -> String {
        let shared = self.shared.lock().unwrap();
        format!("{:?}, refused by the receiver: {:?}", shared.fates, shared.refusals)
    }

    /// How many requests were late, or were turned away.
    pub fn troubled(&self) -> usize {
        let shared = self.shared.lock().unwrap();
        let is_trouble = |fate: &Fate| !matches!(fate, Fate::Passed);
        shared.fates.iter().filter(|(fate, _)| is_trouble(fate)).map(|(_, count)| count).sum()
    }

    /// Whether each kind of fate has befallen a request.
    pub fn has_done_everything(&self) -> bool {
        let shared = self.shared.lock().unwrap();
        let all = [
            Fate::Passed,
            Fate::Slow(DELAY),
            Fate::Hangs,
            Fate::HangsBehind,
            Fate::ResetInBody,
            Fate::ResetBehind,
            Fate::Told(500),
            Fate::Told(429),
            Fate::Told(400),
            Fate::ToldBehind,
        ];
        all.iter().all(|fate| shared.fates.contains_key(fate))
    }

    fn fate(&self) -> Fate {
        let mut shared = self.shared.lock().unwrap();
        match shared.temper {
            Temper::Wild => {}
            Temper::Calm => return Fate::Passed,
            Temper::Slow(delay) => return Fate::Slow(delay),
            Temper::Away => return Fate::Told(503),
        }
        match shared.random.random_range(0..24) {
            0 => Fate::Slow(DELAY),
            1 => Fate::Hangs,
            2 => Fate::HangsBehind,
            3 => Fate::ResetInBody,
            4 => Fate::ResetBehind,
            5 => Fate::Told(500),
            6 => Fate::Told(429),
            7 => Fate::Told(400),
            8 => Fate::ToldBehind,
            _ => Fate::Passed,
        }
    }

    async fn serve(self, mut stream: TcpStream) -> Option<()> {
        let _ = stream.set_nodelay(true);
        let mut buffer = Vec::new();
        loop {
            let head_len = loop {
                if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break at + 4;
                }
                if stream.read_buf(&mut buffer).await.ok()? == 0 {
                    return None;
                }
            };
            let head = String::from_utf8(buffer.drain(..head_len).collect()).ok()?;
            let fields: Vec<(String, String)> = head
                .lines()
                .skip(1)
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let length: usize =
                fields.iter().find(|(name, _)| name == "content-length").and_then(|(_, n)| n.parse().ok())?;
            let mut fate = self.fate();
            let wanted = if fate == Fate::ResetInBody { length / 2 } else { length };
            while buffer.len() < wanted {
                if stream.read_buf(&mut buffer).await.ok()? == 0 {
                    return None;
                }
            }
            if fate == Fate::ResetInBody {
                self.note(fate);
                return stream.set_zero_linger().ok();
            }
            let body: Vec<u8> = buffer.drain(..length).collect();
            let message = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
            let request = read(self.version, &message);
            // Of a sample alone it would be a refusal for good.
            if fate == Fate::Told(400) && request.records.len() < 2 {
                fate = Fate::Passed;
            }
            self.note(fate);
            let samples = samples(&request);
            let count = samples.len();
            let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
            let process = field(PROCESS).and_then(|process| process.parse().ok()).unwrap_or_default();
            let again = field("retry-attempt").is_some();
            let number = self.see(process, again, samples);
            let answer = match fate {
                Fate::Passed => self.forward(number, count, &fields, body).await,
                Fate::Slow(delay) => {
                    tokio::time::sleep(delay).await;
                    self.forward(number, count, &fields, body).await
                }
                Fate::Told(status) => {
                    format!("HTTP/1.1 {status} As Told\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n")
                }
                Fate::ToldBehind => {
                    self.forward(number, count, &fields, body).await;
                    "HTTP/1.1 500 As Told\r\nContent-Length: 0\r\n\r\n".to_owned()
                }
                Fate::Hangs => {
                    let _ = stream.read_u8().await;
                    return None;
                }
                Fate::HangsBehind => {
                    self.forward(number, count, &fields, body).await;
                    let _ = stream.read_u8().await;
                    return None;
                }
                Fate::ResetBehind => {
                    self.forward(number, count, &fields, body).await;
                    return stream.set_zero_linger().ok();
                }
                Fate::ResetInBody => return None,
            };
            stream.write_all(answer.as_bytes()).await.ok()?;
            if answer.starts_with("HTTP/1.1 2") {
                self.note_of(number, |passage| passage.acknowledged = true);
            }
        }
    }

    /// Whether the request says that it is of the version that the receiver takes.
    fn understands(&self, fields: &[(String, String)]) -> bool {
        let is_v2 = fields
            .iter()
            .any(|(name, value)| name == "content-type" && value.contains("io.prometheus.write.v2.Request"));
        is_v2 == (self.version == 2)
    }

    fn see(&self, process: u32, again: bool, samples: Vec<Sample>) -> usize {
        let mut shared = self.shared.lock().unwrap();
        shared.seen.push(Passage { process, again, samples, stored: false, acknowledged: false });
        shared.seen.len() - 1
    }

    fn note_of(&self, number: usize, note: impl FnOnce(&mut Passage)) {
        // None: it was late, and all are taken.
        if let Some(passage) = self.shared.lock().unwrap().seen.get_mut(number) {
            note(passage);
        }
    }

    fn note(&self, fate: Fate) {
        *self.shared.lock().unwrap().fates.entry(fate).or_default() += 1;
    }

    /// The receiver's answer, as it goes back.
    async fn forward(
        &self,
        number: usize,
        samples: usize,
        fields: &[(String, String)],
        body: Vec<u8>,
    ) -> String {
        let Some(upstream) = &self.upstream else {
            if !self.understands(fields) {
                return "HTTP/1.1 415 Unsupported Media Type\r\nContent-Length: 0\r\n\r\n".to_owned();
            }
            self.note_of(number, |passage| passage.stored = true);
            let written = if self.version == 2 {
                format!("X-Prometheus-Remote-Write-Samples-Written: {samples}\r\n")
            } else {
                String::new()
            };
            return format!("HTTP/1.1 204 Stored\r\n{written}Content-Length: 0\r\n\r\n");
        };
        let mut request = self.client.post(upstream).body(body);
        for (name, value) in fields {
            if !["host", "content-length", "connection"].contains(&name.as_str()) {
                request = request.header(name, value);
            }
        }
        let Ok(response) = request.send().await else {
            return "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n".to_owned();
        };
        let status = response.status().as_u16();
        let mut answer = format!("HTTP/1.1 {status} From Behind\r\n");
        for (name, value) in response.headers() {
            let name = name.as_str();
            if name.starts_with("x-prometheus-remote-write") || name == "retry-after" {
                answer.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
            }
        }
        let text = response.text().await.unwrap_or_default();
        if status >= 300 {
            // Without the series that it names.
            let reason: String = text.split('{').next().unwrap_or_default().trim().chars().take(80).collect();
            *self.shared.lock().unwrap().refusals.entry(format!("{status} {reason}")).or_default() += 1;
        }
        answer.push_str(&format!("Content-Length: {}\r\n\r\n{text}", text.len()));
        answer
    }
}
