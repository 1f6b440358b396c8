//! Somebody who asks over a socket, from a thread of its own: what the allocator's threads do all day, and what a kubelet sees
//! of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use axum::Router;
use promring_net::server::{Admin, bind, common_routes, serve};
use promring_net::shutdown::Shutdown;

/// Between two requests: as long as a thread that is away is sure to be noticed.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks for `/livez` until it is dropped.
pub(crate) struct Probe {
    times: Arc<Mutex<Vec<Duration>>>,
}

impl Probe {
    /// Serves these routes as the product does, and asks.
    pub(crate) async fn start(routes: Router) -> Self {
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = routes.merge(common_routes(Arc::new(|| Ok(())), Admin::Off));
        tokio::spawn(serve(listener, router, Shutdown::new()));
        let times = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::downgrade(&times);
        std::thread::spawn(move || ask(address, &noted));
        Self { times }
    }

    /// How long the answers took since this was asked last.
    pub(crate) fn times(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.times.lock().unwrap())
    }
}

fn ask(address: SocketAddr, noted: &Weak<Mutex<Vec<Duration>>>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = [0; 4_096];
    while let Some(times) = noted.upgrade() {
        let asked = Instant::now();
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: bench\r\n\r\n").unwrap();
        // So short an answer comes in one piece.
        let length = stream.read(&mut answer).unwrap();
        assert!(
            answer[..length].starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer[..length])
        );
        times.lock().unwrap().push(asked.elapsed());
        drop(times);
        std::thread::sleep(PAUSE);
    }
}
