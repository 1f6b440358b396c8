//! Metadata by remote write 1.0: requests of their own, in intervals, best effort. They pass by the queue: what is not
//! taken within its interval is told anew with the next one, so nothing is kept for them and they hold nothing up. A pause
//! that the receiver asks for lasts as for samples, over further intervals too.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use promring_model::config::ProtobufMessage;
use promring_proto::remote_write::v1;
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer::Answer;
use super::backoff::Backoff;
use super::lane::Phase;
use super::link::Link;
use super::units::Counts;
use crate::labelsets::Shared;
use crate::queue::Encoding;

/// A request is cut at this many bytes before compression.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Sends what is known of metric families, until the senders are to end.
pub(super) async fn send_always(link: Arc<Link>, labels: Arc<Shared>, mut phase: watch::Receiver<Phase>) {
    let every = link.config.metadata.send_interval;
    let mut due = Instant::now() + every;
    let sending = async {
        loop {
            tokio::time::sleep_until(due).await;
            due = Instant::now() + every;
            // By 2.0 they go with the series.
            if link.config.protobuf_message == ProtobufMessage::V1 || link.lacks_v2() {
                let requests = requests(&labels, link.config.metadata.max_samples_per_send);
                if let Some(asked) = send(&link, &requests, due).await {
                    due = due.max(asked);
                }
            }
        }
    };
    tokio::select! {
        () = sending => {}
        // An error says that nobody can ask any more, which is an end as well.
        _ended = phase.wait_for(|phase| *phase != Phase::Run) => {}
    }
}

/// Bodies with how many families each is about.
fn requests(labels: &Shared, families_max: usize) -> Vec<(Bytes, u64)> {
    let mut requests = Vec::new();
    let (mut body, mut count) = (Vec::new(), 0);
    labels.families.for_each(labels, |family, kind, help, unit| {
        v1::push_metadata(kind, family, help, unit, &mut body);
        count += 1;
        if count >= families_max as u64 || body.len() >= REQUEST_BYTES_MAX {
            requests.extend(compressed(&body, count));
            body.clear();
            count = 0;
        }
    });
    requests.extend(compressed(&body, count));
    requests
}

fn compressed(body: &[u8], count: u64) -> Option<(Bytes, u64)> {
    // Only inputs of 4 GiB and more cannot be compressed.
    let body = snap::raw::Encoder::new().compress_vec(body).ok()?;
    (count > 0).then(|| (Bytes::from(body), count))
}

/// Sends requests one after the other, as far as they are taken before `until`. Before the time that it gives nothing is to
/// be sent.
async fn send(link: &Link, requests: &[(Bytes, u64)], until: Instant) -> Option<Instant> {
    let mut not_before = None;
    for (body, count) in requests {
        let counts = Counts { metadata: *count, ..Counts::default() };
        let sent = match not_before {
            None => send_one(link, body, &counts, until).await,
            Some(_) => Err(Unsent { why: "the receiver asked for a pause".to_owned(), not_before }),
        };
        if let Err(unsent) = sent {
            not_before = unsent.not_before;
            link.metrics.failed.add(&counts);
            if let Some(untold) = link.refusals.tell(std::time::Instant::now()) {
                tracing::warn!(
                    destination = link.config.name,
                    families = count,
                    why = unsent.why,
                    untold,
                    "metadata are not sent"
                );
            }
        }
    }
    not_before
}

/// Metadata that were not taken.
struct Unsent {
    why: String,
    /// The end of the pause that the receiver asked for, where that is later than there is time.
    not_before: Option<Instant>,
}

async fn send_one(link: &Link, body: &Bytes, counts: &Counts, until: Instant) -> Result<(), Unsent> {
    let refused = |why| Unsent { why, not_before: None };
    let mut backoff = Backoff::new(link.config.queue.min_backoff, link.config.queue.max_backoff);
    let mut attempt = 0;
    loop {
        if attempt > 0 {
            link.metrics.retried.add(counts);
        }
        let (why, after): (String, Option<Duration>) =
            match link.attempt(body.clone(), Encoding::V1, attempt).await {
                Answer::Accepted { .. } => {
                    // As Prometheus, which counts these when they are taken, and samples at each attempt.
                    link.metrics.sent.add(counts);
                    link.metrics.metadata_bytes.increment(body.len() as u64);
                    return Ok(());
                }
                Answer::Again { why, after, .. } => (why, after),
                Answer::NoV1 { why } | Answer::NoV2 { why } | Answer::Hinted { why } => {
                    return Err(refused(why));
                }
                Answer::TooLarge(refusal) | Answer::Refused(refusal, _) | Answer::Unwanted(refusal) => {
                    return Err(refused(format!("HTTP status {}: {}", refusal.status, refusal.message)));
                }
            };
        attempt += 1;
        let next = Instant::now() + backoff.pause(after);
        if next >= until {
            return Err(Unsent { why, not_before: after.map(|_| next) });
        }
        tokio::time::sleep_until(next).await;
    }
}
