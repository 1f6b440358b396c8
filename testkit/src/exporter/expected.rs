//! What has to arrive of exporters, for the audit.

use std::sync::Arc;

use promring_model::config::ScrapeConfig;
use promring_model::labels::Labels;
use promring_model::target::ADDRESS;

use super::{Exporter, Fleet, Shared};
use crate::audit::{Audit, ExpectError, ExpectedTarget, Shows};

impl Exporter {
    /// What has to arrive of this exporter where it is discovered as [`Fleet::targets`] says and scraped by this
    /// job. None: relabelling drops it.
    ///
    /// # Errors
    /// Where relabelling makes no target of it, or its scrapes cannot succeed.
    pub fn expected(
        &self,
        config: &ScrapeConfig,
        external_labels: &Labels,
    ) -> Result<Option<ExpectedTarget>, ExpectError> {
        let own = Labels::from_pairs([(ADDRESS, self.address().to_string())]);
        let target =
            ExpectedTarget::new(config, external_labels, self.target_labels(), &own, &self.exposed())?;
        let shows: Arc<dyn Shows> = self.shared.clone();
        Ok(target.map(|target| ExpectedTarget { shows: Some(shows), ..target }))
    }
}

impl Fleet {
    /// Makes the audit expect all exporters, as targets of this job. Returns how many relabelling keeps.
    ///
    /// # Errors
    /// Where relabelling makes no target of one, or two would write the same series.
    pub fn expect(
        &self,
        audit: &mut Audit,
        config: &ScrapeConfig,
        external_labels: &Labels,
    ) -> Result<usize, ExpectError> {
        let mut kept = 0;
        // One after the other, as what is expected of a target takes more memory before the audit has it than after.
        for exporter in self.exporters() {
            if let Some(target) = exporter.expected(config, external_labels)? {
                audit.expect(target)?;
                kept += 1;
            }
        }
        Ok(kept)
    }
}

impl Shows for Shared {
    fn bounds(&self, series: u32, from_ms: i64, to_ms: i64) -> Option<(f64, f64)> {
        self.template.bounds(series, &self.identity, from_ms, to_ms)
    }
}
