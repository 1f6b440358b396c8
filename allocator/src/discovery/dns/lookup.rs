//! One question to the name servers, with Prometheus's idea of an answer: records, or the servers' word that there are
//! none. Anything else leaves things as they are.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::resolv_conf::ResolvConf;

const DNS_PORT: u16 = 53;

/// How long a server may take.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of an answer over UDP that we take, as we tell servers.
const UDP_BYTES_MAX: u16 = 4_096;

/// The system's configuration may have this many bytes.
const CONF_BYTES_MAX: u64 = 1 << 20;

/// Asks name servers.
#[derive(Debug)]
pub(super) struct Resolver {
    conf: ResolvConf,
    port: u16,
}

impl Resolver {
    /// With the servers of this file.
    ///
    /// # Errors
    /// Where it cannot be read or names no server.
    pub(super) fn from_file(path: &Path) -> Result<Self, String> {
        let fail = |reason: String| format!("{}: {reason}", path.display());
        let bytes = promring_net::files::read_bounded(path, CONF_BYTES_MAX).map_err(fail)?;
        let conf = ResolvConf::parse(&String::from_utf8_lossy(&bytes));
        if conf.servers.is_empty() {
            return Err(fail("it names no server".to_owned()));
        }
        Ok(Self { conf, port: DNS_PORT })
    }

    /// With the servers of such a file's text, on another port.
    #[cfg(test)]
    pub(super) fn with_port(conf: &str, port: u16) -> Self {
        Self { conf: ResolvConf::parse(conf), port }
    }

    /// The records of `name`. Empty where the servers say that there are none, for every name that it may stand for.
    ///
    /// # Errors
    /// Where one of the names that it may stand for got no such word from any server: there may be records.
    pub(super) async fn lookup(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, String> {
        let mut failure = None;
        for whole in self.conf.names(name) {
            match self.ask_servers(&whole, kind).await {
                Ok(Some(records)) => return Ok(records),
                Ok(None) => {}
                Err(message) => failure = Some(message),
            }
        }
        match failure {
            None => Ok(Vec::new()),
            Some(message) => Err(format!("{name:?} could not be looked up: {message}")),
        }
    }

    /// What the first server with an answer says: records (there may be none of this kind), or that there is no such
    /// name.
    async fn ask_servers(&self, name: &str, kind: RecordType) -> Result<Option<Vec<RData>>, String> {
        let query = Name::from_ascii(name).map_err(|error| error.to_string())?;
        let mut failure = "no name server".to_owned();
        for server in &self.conf.servers {
            let server = SocketAddr::new(*server, self.port);
            match ask(server, &query, kind).await {
                Ok(answer) => match answer.metadata.response_code {
                    ResponseCode::NoError => {
                        return Ok(Some(answer.answers.into_iter().map(|record| record.data).collect()));
                    }
                    ResponseCode::NXDomain => return Ok(None),
                    code => failure = format!("{server} answered {code} for {name}"),
                },
                Err(message) => failure = format!("{server}: {message}"),
            }
        }
        Err(failure)
    }
}

/// Asks one server by UDP, and by TCP where the answer does not fit.
async fn ask(server: SocketAddr, name: &Name, kind: RecordType) -> Result<Message, String> {
    let mut question = Message::query();
    question.metadata.id = rand::random();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_BYTES_MAX);
    question.set_edns(edns);
    let in_time = |result: Result<Result<Message, String>, _>| {
        result.unwrap_or_else(|_| Err(format!("no answer in {SERVER_TIMEOUT:?}")))
    };
    let answer = in_time(timeout(SERVER_TIMEOUT, by_udp(server, &question)).await)?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    in_time(timeout(SERVER_TIMEOUT, by_tcp(server, &question)).await)
}

async fn by_udp(server: SocketAddr, question: &Message) -> Result<Message, String> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    // A port of its own for each question, and connected: nobody else's answer is taken.
    let socket = UdpSocket::bind(any).await.map_err(|error| error.to_string())?;
    socket.connect(server).await.map_err(|error| error.to_string())?;
    let bytes = question.to_vec().map_err(|error| error.to_string())?;
    socket.send(&bytes).await.map_err(|error| error.to_string())?;
    let mut buffer = vec![0; usize::from(UDP_BYTES_MAX)];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(|error| error.to_string())?;
        // What is no answer to this question may be a late or forged one.
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && answers(&answer, question)
        {
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &Message) -> Result<Message, String> {
    let fail = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(server).await.map_err(fail)?;
    let bytes = question.to_vec().map_err(|error| error.to_string())?;
    let length = u16::try_from(bytes.len()).map_err(|error| error.to_string())?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await.map_err(fail)?;
    let length = stream.read_u16().await.map_err(fail)?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await.map_err(fail)?;
    let answer = Message::from_vec(&buffer).map_err(|error| error.to_string())?;
    if answers(&answer, question) { Ok(answer) } else { Err("an answer to another question".to_owned()) }
}

fn answers(answer: &Message, question: &Message) -> bool {
    answer.metadata.id == question.metadata.id && answer.queries == question.queries
}
