//! What went by on its way from a sender that is killed again and again to a receiver, and what must be true of it: each
//! series in order, and again only what was not acknowledged.

use std::collections::{HashMap, HashSet};

use promring_model::hash::hash64;
use promring_proto::remote_write::STALE_NAN_BITS;

use crate::recorder::{Recorded, What};

/// A series, as a hash of its labels, and a time in Unix milliseconds.
pub type At = (u64, i64);

/// A sample, and the bits of its value.
pub type Sample = (At, u64);

/// Bits of values by series and time.
pub type Samples = HashMap<At, u64>;

/// One request whose body went by as a whole.
#[derive(Clone, Debug)]
pub struct Passage {
    /// By which of the sender's processes.
    pub process: u32,
    /// The sender said that it had sent it before, in the same process.
    pub again: bool,
    pub samples: Vec<Sample>,
    /// The proxy was the receiver, and stored it.
    pub stored: bool,
    /// It was answered by a success. Whether the sender got to know that is another matter.
    pub acknowledged: bool,
}

/// The same for the same labels in the same order.
pub fn series<'l>(labels: impl Iterator<Item = (&'l str, &'l str)>) -> u64 {
    let pairs: Vec<String> = labels.map(|(name, value)| format!("{name}\0{value}\0")).collect();
    hash64(pairs.concat().as_bytes())
}

/// The floats of a request, staleness markers included.
pub fn samples(request: &Recorded) -> Vec<Sample> {
    let floats = request.records.iter().filter_map(|record| match record.what {
        What::Sample(bits) => {
            let labels = record.labels.iter().map(|(name, value)| (&**name, &**value));
            Some(((series(labels), record.time_ms), bits))
        }
        What::Histogram(_) | What::Exemplar { .. } => None,
    });
    floats.collect()
}

/// Adds samples but for staleness markers, which queries do not show. The same sample never has two values.
pub fn add(samples: &[Sample], to: &mut Samples) {
    for (at, bits) in samples.iter().filter(|(_, bits)| *bits != STALE_NAN_BITS) {
        let before = to.insert(*at, *bits);
        assert!(before.is_none_or(|before| before == *bits), "two values at {at:?}");
    }
}

/// Checks that each series came in order, and that what came again was not acknowledged: of what an earlier process had an
/// answer to, only what it may not have read that answer of, a request of `request_samples_max` samples a lane. Returns how
/// many samples that were acknowledged came again, over all.
pub fn check(seen: &[Passage], lanes: usize, request_samples_max: usize) -> usize {
    let mut newest: HashMap<u64, i64> = HashMap::new();
    // By which process a sample was sent last, and whether that was answered.
    let mut known: HashMap<At, (u32, bool)> = HashMap::new();
    let mut repeated: HashMap<u32, HashSet<At>> = HashMap::new();
    for passage in seen {
        for ((series, time_ms), _) in &passage.samples {
            let at = (*series, *time_ms);
            match known.get(&at) {
                None => {
                    let before = newest.insert(*series, *time_ms);
                    assert!(before < Some(*time_ms), "{time_ms} came after {before:?} of its series");
                }
                // It says that it got no answer.
                Some((process, _)) if passage.again && *process == passage.process => {}
                Some((_, false)) => {}
                Some((process, true)) => {
                    assert_ne!(*process, passage.process, "{at:?} was acknowledged, and came again");
                    repeated.entry(passage.process).or_default().insert(at);
                }
            }
            known.insert(at, (passage.process, passage.acknowledged));
        }
    }
    for (process, again) in &repeated {
        let most = lanes * request_samples_max;
        assert!(again.len() <= most, "process {process} sent {} acknowledged samples again", again.len());
    }
    repeated.values().map(HashSet::len).sum()
}

#[test]
fn what_must_not_go_by_is_found() {
    let passage = |process, again, times: &[i64], acknowledged| Passage {
        process,
        again,
        samples: times.iter().map(|time_ms| ((7, *time_ms), 0)).collect(),
        stored: false,
        acknowledged,
    };
    let good = [
        passage(0, false, &[1, 2], false),
        passage(0, true, &[1, 2], true),
        passage(0, false, &[3], true),
        passage(1, false, &[3], true),
        passage(1, false, &[4], true),
    ];
    assert_eq!(check(&good, 1, 1), 1);
    let fails = |seen: Vec<Passage>| std::panic::catch_unwind(|| check(&seen, 1, 1)).is_err();
    assert!(fails(vec![passage(0, false, &[2], true), passage(0, false, &[1], true)]), "out of order");
    assert!(fails(vec![passage(0, false, &[1], true), passage(0, false, &[1], true)]), "again");
    assert!(
        fails(vec![passage(0, false, &[1, 2], true), passage(1, false, &[1, 2], true)]),
        "too much again"
    );
}
