//! An exporter that goes by a script: each client gets a case's steps one after the other, one a request, and the last
//! one from then on. So two scrapers that come at different moments still see the same bodies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The path of something that redirects may lead to.
pub const ELSEWHERE: &str = "/elsewhere";

/// What one request is answered with.
#[derive(Clone, Debug)]
pub struct Step {
    /// Names it where something differs.
    pub name: String,
    pub status: u16,
    /// Lines of the head beside Content-Length, each without its end.
    pub head: Vec<String>,
    pub body: Vec<u8>,
    pub ending: Ending,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Whole,
    /// The connection is closed after so many bytes of the body.
    Cut(usize),
    /// There is no answer, and the connection stays open.
    Hang,
    /// The connection is closed at once.
    Closed,
}

impl Step {
    /// A 200 with this body.
    pub fn new(name: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let head =
            if content_type.is_empty() { vec![] } else { vec![format!("Content-Type: {content_type}")] };
        Self { name: name.to_owned(), status: 200, head, body: body.into(), ending: Ending::Whole }
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub fn head(mut self, line: &str) -> Self {
        self.head.push(line.to_owned());
        self
    }

    pub fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }
}

/// A job and what its target shows.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is about; steps are named by it and their own name.
    pub family: String,
    /// Its job, and the path of its target.
    pub job: String,
    /// Further lines of the job's configuration, without indentation.
    pub settings: String,
    pub steps: Vec<Step>,
}

/// How far clients are: the number of requests by path and client.
type Progress = Arc<Mutex<BTreeMap<(String, String), usize>>>;

/// Heads of requests by path and client.
type Heads = Arc<Mutex<BTreeMap<(String, String), String>>>;

/// The running exporter.
#[derive(Clone, Debug)]
pub struct Script {
    pub address: SocketAddr,
    cases: Arc<BTreeMap<String, Vec<Step>>>,
    progress: Progress,
    heads: Heads,
}

impl Script {
    pub async fn start(cases: &[Case]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let steps = cases.iter().map(|case| (case.job.clone(), case.steps.clone())).collect();
        let script =
            Self { address, cases: Arc::new(steps), progress: Arc::default(), heads: Arc::default() };
        let server = script.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.answer(stream).await });
            }
        });
        script
    }

    /// The head of the first request that each client has sent to each path, without what must differ.
    pub fn heads(&self) -> BTreeMap<(String, String), String> {
        self.heads.lock().unwrap().clone()
    }

    /// One request on each connection, so that no client sends one again because its connection was closed.
    async fn answer(self, mut stream: TcpStream) -> Option<()> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if request.len() > 1 << 16 || stream.read_buf(&mut request).await.ok()? == 0 {
                return None;
            }
        }
        let request = String::from_utf8(request).ok()?;
        let client = client_of(&request);
        if request.split(' ').nth(1)? == ELSEWHERE {
            let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nelsewhere 1\n";
            stream.write_all(answer.as_bytes()).await.ok()?;
            return stream.shutdown().await.ok();
        }
        let path = request.split(' ').nth(1)?.split('?').next()?.trim_start_matches('/').to_owned();
        let steps = self.cases.get(&path)?;
        let key = (path, client);
        self.heads.lock().unwrap().entry(key.clone()).or_insert_with(|| comparable(&request));
        let at = {
            let mut progress = self.progress.lock().unwrap();
            let next = progress.entry(key).or_default();
            *next += 1;
            *next - 1
        };
        let step = &steps[at.min(steps.len() - 1)];
        let mut answer = format!("HTTP/1.1 {} As Told\r\nConnection: close\r\n", step.status);
        for line in &step.head {
            answer.push_str(line);
            answer.push_str("\r\n");
        }
        answer.push_str(&format!("Content-Length: {}\r\n\r\n", step.body.len()));
        let mut answer = answer.into_bytes();
        match step.ending {
            Ending::Whole => answer.extend_from_slice(&step.body),
            Ending::Cut(bytes) => answer.extend_from_slice(&step.body[..bytes]),
            Ending::Closed => return None,
            Ending::Hang => {
                // Until the client gives up.
                let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_u8()).await;
                return None;
            }
        }
        stream.write_all(&answer).await.ok()?;
        stream.shutdown().await.ok()
    }
}

fn client_of(request: &str) -> String {
    let agent = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("user-agent").then(|| value.trim().to_ascii_lowercase())
    });
    agent.unwrap_or_default().split('/').next().unwrap_or_default().to_owned()
}

/// The request line and the fields in alphabetical order, without User-Agent and what manages the connection.
fn comparable(request: &str) -> String {
    let mut lines = request.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let mut fields: Vec<String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| format!("{}: {}", name.to_ascii_lowercase(), value.trim()))
        .filter(|field| !field.starts_with("user-agent:") && !field.starts_with("connection:"))
        .collect();
    fields.sort();
    format!("{first}; {}", fields.join("; "))
}
