//! A target whose body is made while it is sent, so that the test holds none of it.

use std::io::{self, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;

/// What the next scrapes get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Body {
    Empty,
    /// All series.
    Good,
    /// All series, and a last line that is none.
    MalformedEnd,
    /// All series but the last bytes: then the connection closes.
    BrokenEnd,
    /// Packed bytes that unpack to a thousand times as many, without end.
    Bomb,
    /// Ever new series, without end.
    Endless,
    /// The same in short lines, of names that no other scrape of any target has.
    EverNew,
}

const BODIES: [Body; 7] =
    [Body::Empty, Body::Good, Body::MalformedEnd, Body::BrokenEnd, Body::Bomb, Body::Endless, Body::EverNew];

/// The target. Its threads end with the test.
pub struct Generator {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    series: usize,
    body: AtomicU8,
    scrapes: AtomicU64,
    bytes: AtomicU64,
}

impl Generator {
    pub fn start(series: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            series,
            body: AtomicU8::new(Body::Empty as u8),
            scrapes: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                // A scraper that has enough closes the connection.
                std::thread::spawn(move || shared.converse(&stream));
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, body: Body) {
        self.shared.body.store(body as u8, Ordering::SeqCst);
    }

    /// Scrapes that have begun.
    pub fn scrapes(&self) -> u64 {
        self.shared.scrapes.load(Ordering::SeqCst)
    }

    /// Bytes that the last scrape has taken.
    pub fn bytes_of_last_scrape(&self) -> u64 {
        self.shared.bytes.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn converse(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte)?;
                head.push(byte[0]);
            }
            let body = BODIES[self.body.load(Ordering::SeqCst) as usize];
            self.bytes.store(0, Ordering::SeqCst);
            self.scrapes.fetch_add(1, Ordering::SeqCst);
            let gzip = head.windows(4).any(|word| word == b"gzip") && body != Body::Empty;
            let encoding = if gzip { "Content-Encoding: gzip\r\n" } else { "" };
            stream.write_all(
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n{encoding}Transfer-Encoding: chunked\r\n\r\n")
                    .as_bytes(),
            )?;
            let mut chunks = BufWriter::with_capacity(64 << 10, Chunks { stream, bytes: &self.bytes });
            if gzip {
                let mut packed = GzEncoder::new(chunks, Compression::fast());
                self.write(body, &mut packed)?;
                chunks = packed.finish()?;
            } else {
                self.write(body, &mut chunks)?;
            }
            chunks.flush()?;
            if body == Body::BrokenEnd {
                return stream.shutdown(std::net::Shutdown::Both);
            }
            stream.write_all(b"0\r\n\r\n")?;
        }
    }

    /// About 150 bytes a series, which differ in one label.
    fn write(&self, body: Body, out: &mut impl Write) -> io::Result<()> {
        match body {
            Body::Empty => Ok(()),
            Body::Bomb => loop {
                out.write_all(&b"a 1\n".repeat(16 << 10))?;
            },
            Body::EverNew => {
                static SCRAPES: AtomicU64 = AtomicU64::new(0);
                let scrape = SCRAPES.fetch_add(1, Ordering::SeqCst);
                for number in 0_u64.. {
                    writeln!(out, "m{scrape}_{number}{{l=\"{number}\"}} 1")?;
                }
                Ok(())
            }
            Body::Good | Body::MalformedEnd | Body::BrokenEnd | Body::Endless => {
                writeln!(out, "# TYPE http_request_duration_seconds_count counter")?;
                let series = if body == Body::Endless { usize::MAX } else { self.series };
                for number in 0..series {
                    writeln!(
                        out,
                        "http_request_duration_seconds_count{{method=\"GET\",route=\"/api/v1/things/{{id}}/parts\",status=\"200\",zone=\"eu-central-1a\",thing=\"{number:012}\"}} {number}"
                    )?;
                }
                if body == Body::MalformedEnd { writeln!(out, "and{{then=\"nothing\" 1") } else { Ok(()) }
            }
        }
    }
}

/// The chunked transfer coding.
struct Chunks<'s> {
    stream: &'s TcpStream,
    bytes: &'s AtomicU64,
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
            chunk.extend_from_slice(bytes);
            chunk.extend_from_slice(b"\r\n");
            self.stream.write_all(&chunk)?;
            self.bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
