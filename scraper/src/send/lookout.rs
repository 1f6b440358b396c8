//! What lies aside when a sender begins, as an earlier process or configuration has left it there: its series are known before
//! anything is sent, so that what follows of them does not overtake it (docs/adr/0021).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OnceCell, watch};

use super::lane::{LaneSender, Phase};
use super::link::Link;
use super::units::take_apart;
use crate::queue::{LaneId, Queue};

/// Lanes aside that were looked through, or are being so: each once for a destination.
#[derive(Debug, Default)]
pub(super) struct Lookout(Mutex<HashMap<LaneId, Arc<OnceCell<()>>>>);

impl Lookout {
    fn of(&self, lane: LaneId) -> Arc<OnceCell<()>> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(lane).or_default())
    }
}

impl LaneSender {
    /// Returns when all is known that lies aside and may be of the lane's series: that is all that lies there, as the number of lanes
    /// may have been another one. False: the sender is to end.
    pub(super) async fn look_aside(&mut self) -> bool {
        let lanes = if self.is_aside() { vec![self.reader.lane()] } else { self.queue.lanes_aside() };
        for lane in lanes {
            let (link, queue) = (Arc::clone(&self.link), Arc::clone(&self.queue));
            // Nobody has the queue any more when the sender ends, so that it may be opened again.
            look_once(link, queue, lane, self.phase.clone()).await;
        }
        !self.is_to_end()
    }
}

async fn look_once(link: Arc<Link>, queue: Arc<Queue>, lane: LaneId, phase: watch::Receiver<Phase>) {
    let cell = link.lookout.of(lane);
    let look = async || {
        let destination = link.config.name.clone();
        let looking = Arc::clone(&link);
        // It takes the time of reading and decoding all of it.
        let looked = tokio::task::spawn_blocking(move || look_through(&looking, &queue, lane, &phase)).await;
        if let Err(error) = looked {
            tracing::error!(destination, ?lane, %error, "what lies aside could not be looked through");
        }
    };
    cell.get_or_init(look).await;
}

fn look_through(link: &Link, queue: &Queue, lane: LaneId, phase: &watch::Receiver<Phase>) {
    let (series, now) = (&link.refused_series, Instant::now());
    let mut unknown = 0_u64;
    let whole = queue.look_through(lane, |info, body| {
        // What cannot be decoded is given up in its turn.
        for unit in take_apart(info.encoding(), body).unwrap_or_default() {
            let known = series.found_aside(&unit, (lane, info.sequence), now);
            unknown += u64::from(!known);
        }
        *phase.borrow() < Phase::Yield
    });
    series.resume(lane, &queue.sent_ahead(lane), now);
    if unknown > 0 || !whole {
        tracing::warn!(
            destination = link.config.name,
            ?lane,
            unknown,
            whole,
            "not all series that lie aside are known: what follows of them may overtake it"
        );
    }
}
