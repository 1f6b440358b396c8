//! Gauges of destinations that come and go: what they said last must not stand there for ever, as an alert would go by it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use metrics::Gauge;
use promring_model::config::RemoteWrite;

/// How many keep the gauges of a name and URL up to date: a reload that changes something else of a destination has its
/// successor begin before it ends.
static KEEPERS: Mutex<BTreeMap<Labels, usize>> = Mutex::new(BTreeMap::new());

type Labels = (String, String);

/// Somebody keeps the gauges of a destination up to date. When the last one of them is gone, so are the gauges.
pub(super) struct Shown {
    labels: Labels,
    gauges: Vec<Gauge>,
}

impl Shown {
    /// To be had before any of these gauges, which are all with the labels of the destination, is set.
    pub(super) fn new(config: &RemoteWrite, gauges: Vec<Gauge>) -> Self {
        let labels = (config.name.clone(), config.url.to_string());
        let mut keepers = KEEPERS.lock().unwrap_or_else(PoisonError::into_inner);
        *keepers.entry(labels.clone()).or_default() += 1;
        Self { labels, gauges }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let mut keepers = KEEPERS.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = keepers.get_mut(&self.labels) else { return };
        *count -= 1;
        if *count == 0 {
            keepers.remove(&self.labels);
            // Under the lock, so that nobody has begun to set them. What is not a number is not shown.
            self.gauges.iter().for_each(|gauge| gauge.set(f64::NAN));
        }
    }
}
