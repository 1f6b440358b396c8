//! A server that says what it was told to say, byte for byte.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

/// Its n-th connection answers with the n-th script: one answer a request, then it closes. An empty answer
/// closes the connection at once.
pub(super) struct Server {
    address: std::net::SocketAddr,
    seen: Arc<Mutex<Vec<Vec<String>>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(scripts: impl IntoIterator<Item = Vec<Vec<u8>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let scripts: Vec<_> = scripts.into_iter().collect();
        let requests = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for (index, script) in scripts.into_iter().enumerate() {
                let (socket, _) = listener.accept().await.unwrap();
                requests.lock().unwrap().push(Vec::new());
                let requests = Arc::clone(&requests);
                let heard = move |request| requests.lock().unwrap()[index].push(request);
                connections.spawn(serve(socket, script, heard));
            }
            while connections.join_next().await.is_some() {}
        });
        Self { address, seen, task }
    }

    pub(super) fn url(&self, path: &str) -> Url {
        self.url_as("127.0.0.1", path)
    }

    /// By another name of this machine.
    pub(super) fn url_as(&self, host: &str, path: &str) -> Url {
        format!("http://{host}:{}{path}", self.address.port()).parse().unwrap()
    }

    /// The heads of the requests, connection by connection.
    pub(super) fn seen(&self) -> Vec<Vec<String>> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns when every connection has been served to its end.
    pub(super) async fn finished(&mut self) {
        (&mut self.task).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Plays a script on one connection; a client that goes ends it.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: S,
    script: Vec<Vec<u8>>,
    mut heard: impl FnMut(String),
) {
    for answer in script {
        let Some(request) = request(&mut socket).await else { return };
        heard(request);
        if answer.is_empty() || socket.write_all(&answer).await.is_err() || socket.flush().await.is_err() {
            return;
        }
    }
    let _ = socket.shutdown().await;
}

/// A request's head, to its empty line.
pub(super) async fn request<S: AsyncRead + Unpin>(socket: &mut S) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(socket.read_u8().await.ok()?);
    }
    Some(String::from_utf8(bytes).unwrap())
}
