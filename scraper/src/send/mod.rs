//! temp sender
use crate::queue::{LaneId, Queue, Volume, Wake};
use promring_model::config::{QueueSettings, RemoteWrite};
use promring_net::client::HttpClient;
use promring_proto::api::QueueReport;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
#[derive(Debug)]
pub struct Senders {
    tasks: std::sync::Mutex<Vec<tokio::task::JoinHandle<()>>>,
    parts: (Arc<RemoteWrite>, Arc<Queue>, HttpClient),
}
impl Senders {
    pub fn new(c: &Arc<RemoteWrite>, q: &Arc<Queue>) -> Result<Self, promring_net::client::ClientError> {
        Ok(Self { parts: (c.clone(), q.clone(), HttpClient::new(&c.http)?), tasks: Default::default() })
    }
    pub fn start(&self) {
        let (c, q, h) = &self.parts;
        let mut t = self.tasks.lock().unwrap();
        if t.is_empty() {
            for lane in q.lanes().borrow().iter() {
                t.push(tokio::spawn(run_lane(c.clone(), q.clone(), h.clone(), *lane)));
            }
        }
    }
    pub async fn finish(&self, t: Duration) {
        let until = tokio::time::Instant::now() + t;
        while tokio::time::Instant::now() < until && self.parts.1.stats().pending.samples > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for t in self.tasks.lock().unwrap().drain(..) {
            t.abort();
        }
    }
}
async fn run_lane(c: Arc<RemoteWrite>, q: Arc<Queue>, h: HttpClient, lane: LaneId) {
    let Some(mut r) = q.reader(lane) else { return };
    let mut body = vec![];
    loop {
        let Some(info) = r.peek(&mut body) else {
            if r.wait().await == Wake::Retired {
                return;
            }
            continue;
        };
        let res = h
            .connections()
            .post(c.url.clone())
            .timeout(c.remote_timeout)
            .header("Content-Encoding", "snappy")
            .header("Content-Type", "application/x-protobuf")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0")
            .body(body.clone())
            .send()
            .await;
        match res {
            Ok(r2) if r2.status().is_success() => r.ack(info.sequence),
            Ok(r2) => {
                tracing::warn!(status=%r2.status(), "refused");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(e) => {
                tracing::warn!(%e, "send");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}
pub fn open_queue(v: &Volume, r: &RemoteWrite, s: &QueueSettings, d: &Path) -> Result<Queue, String> {
    Queue::open_on(
        v,
        &d.join("queue").join(&r.name),
        &r.name,
        8.clamp(r.queue.min_shards, r.queue.max_shards),
        s,
    )
    .map_err(|e| e.to_string())
}
pub fn queue_report(r: &RemoteWrite, q: &Queue) -> QueueReport {
    let s = q.stats();
    QueueReport {
        destination: r.name.clone(),
        samples: s.pending.samples,
        bytes: s.pending.bytes,
        oldest_seconds: s.oldest_age.map_or(0, |a| a.as_secs()),
        dropped: 0,
    }
}
