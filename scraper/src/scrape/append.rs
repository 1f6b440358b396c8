//! Handing the samples of a scrape to the sink, in turns: a large scrape does not keep a lane for itself.

use std::time::Duration;

use crate::labelsets::Shared;
use crate::payload::Outgoing;
use crate::sink::{Lanes, Sink, Way};

/// Samples that are appended before others that use the lane get their turn: about a millisecond.
const TURN_SAMPLES: usize = 8_192;

/// Who waits for the lane, or for new strings, gets it in this time. Letting go and taking again at once would leave
/// them asleep.
const PAUSE: Duration = Duration::from_micros(50);

/// The way of one target's samples to the sink.
#[derive(Debug)]
pub(super) struct Appender<'s> {
    sink: &'s Sink,
    way: Way,
    /// What follows goes to the target's own lane all the same.
    together: bool,
    labels: &'s Shared,
    open: Option<Lanes<'s>>,
    left: usize,
}

impl<'s> Appender<'s> {
    pub(super) fn new(sink: &'s Sink, way: Way, labels: &'s Shared) -> Self {
        Self { sink, way, together: false, labels, open: None, left: TURN_SAMPLES }
    }

    /// See [`Lanes::keep_together`].
    pub(super) fn keep_together(&mut self) {
        self.together = true;
        if let Some(lanes) = &mut self.open {
            lanes.keep_together();
        }
    }

    /// See [`Lanes::flush`]. What follows goes behind it.
    pub(super) fn flush(mut self) {
        self.lanes().flush();
    }

    fn lanes(&mut self) -> &mut Lanes<'s> {
        let Self { sink, way, together, labels, open, .. } = self;
        open.get_or_insert_with(|| {
            let mut lanes = sink.lanes(*way, labels);
            if *together {
                lanes.keep_together();
            }
            lanes
        })
    }

    pub(super) fn push(&mut self, outgoing: &Outgoing<'_>) {
        if self.left == 0 {
            self.open = None;
            std::thread::sleep(PAUSE);
            self.left = TURN_SAMPLES;
        }
        self.left -= 1;
        self.lanes().push(outgoing);
    }
}
