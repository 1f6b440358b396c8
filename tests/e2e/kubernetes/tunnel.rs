//! A way to the API server that can be cut.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on. Ends with the runtime that it was started in.
pub(super) struct Tunnel {
    address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy)]
struct State {
    /// How often everything was cut.
    cuts: usize,
    closed: bool,
}

impl Tunnel {
    /// A tunnel to this URL.
    pub(super) async fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State { cuts: 0, closed: false });
        let (to, states) = (to.trim_start_matches("https://").to_owned(), state.subscribe());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (to, mut states) = (to.clone(), states.clone());
                let begun = *states.borrow_and_update();
                if begun.closed {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(&to).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = states.wait_for(|now| now.cuts > begun.cuts) => {}
                    }
                });
            }
        });
        Self { address, state }
    }

    /// The URL at this end.
    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Cuts all connections; new ones come about.
    pub(super) fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Cuts all connections, and lets new ones in or not.
    pub(super) fn set_closed(&self, closed: bool) {
        self.state.send_modify(|state| *state = State { cuts: state.cuts + 1, closed });
    }
}
