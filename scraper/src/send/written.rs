//! What a receiver of remote write 2.0 says that it stored: `X-Prometheus-Remote-Write-*-Written`
//! (Remote-Write 2.0, "Required Written Response Headers").

use reqwest::header::HeaderMap;

use super::answer::Reason;
use super::units::Counts;

/// What was stored of a request, and why the rest was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    samples: u64,
    histograms: u64,
    exemplars: u64,
    /// Reasons that the answer names for samples and histograms, with how often.
    told: Vec<(Reason, u64)>,
}

impl Written {
    /// None: the answer has none of the fields. A field that is not there says that nothing of its kind was stored.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let field = |name: &str| -> Option<u64> { headers.get(name)?.to_str().ok()?.trim().parse().ok() };
        let samples = field("x-prometheus-remote-write-samples-written");
        let histograms = field("x-prometheus-remote-write-histograms-written");
        let exemplars = field("x-prometheus-remote-write-exemplars-written");
        samples.or(histograms).or(exemplars)?;
        Some(Self {
            samples: samples.unwrap_or(0),
            histograms: histograms.unwrap_or(0),
            exemplars: exemplars.unwrap_or(0),
            told: Vec::new(),
        })
    }

    /// Reads the reasons out of a refusal: Prometheus writes a line for each sample that it does not take.
    pub(super) fn explained_by(mut self, status: u16, message: &str) -> Self {
        let lines = message.lines().filter(|line| !line.trim().is_empty());
        for line in lines.filter(|line| !line.contains("exemplar")) {
            let reason = Reason::told(status, line);
            match self.told.iter_mut().find(|(told, _)| *told == reason) {
                Some((_, count)) => *count += 1,
                None => self.told.push((reason, 1)),
            }
        }
        self
    }

    /// Whether nothing at all was stored.
    pub(super) fn is_nothing(&self) -> bool {
        self.samples + self.histograms + self.exemplars == 0
    }

    /// What was sent and is not stored.
    pub(super) fn missing_of(&self, sent: &Counts) -> Counts {
        Counts {
            samples: sent.samples.saturating_sub(self.samples),
            histograms: sent.histograms.saturating_sub(self.histograms),
            exemplars: sent.exemplars.saturating_sub(self.exemplars),
            metadata: 0,
        }
    }

    /// What is missing, by reason. Where the answer names fewer samples than are missing, as when it breaks off, the most
    /// frequent reason counts for those that it does not name; `otherwise` where it names none. `maybe_stored` and `overtaken` as
    /// [`Reason::seen_from`] takes them.
    pub(super) fn by_reason(
        &self,
        missing: Counts,
        otherwise: Reason,
        (maybe_stored, overtaken): (bool, bool),
    ) -> Vec<(Reason, Counts)> {
        let most = self.told.iter().max_by_key(|(_, count)| *count).map_or(otherwise, |(reason, _)| *reason);
        let mut left = missing;
        let mut parts = Vec::new();
        for (reason, count) in &self.told {
            let samples = left.samples.min(*count);
            let histograms = left.histograms.min(count - samples);
            left.samples -= samples;
            left.histograms -= histograms;
            parts.push((*reason, Counts { samples, histograms, ..Counts::default() }));
        }
        parts.push((most, left));
        parts.retain(|(_, counts)| *counts != Counts::default());
        parts
            .into_iter()
            .map(|(reason, counts)| (reason.seen_from(maybe_stored, overtaken), counts))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fields: &[(&'static str, &str)]) -> Option<Written> {
        let mut headers = HeaderMap::new();
        for (kind, value) in fields {
            let name =
                format!("X-Prometheus-Remote-Write-{kind}-Written").parse::<reqwest::header::HeaderName>();
            headers.insert(name.unwrap(), value.parse().unwrap());
        }
        Written::of(&headers)
    }

    fn samples(samples: u64) -> Counts {
        Counts { samples, ..Counts::default() }
    }

    #[test]
    fn an_answer_without_any_of_the_fields_is_none_of_2_0() {
        assert_eq!(written(&[]), None);
        assert_eq!(written(&[("Samples", "many")]), None);
        assert!(written(&[("Samples", "0")]).unwrap().is_nothing());
        let some = written(&[("Histograms", "2"), ("Exemplars", " 1 ")]).unwrap();
        let sent = Counts { samples: 3, histograms: 2, exemplars: 4, metadata: 5 };
        assert_eq!(some.missing_of(&sent), Counts { samples: 3, exemplars: 3, ..Counts::default() });
        assert!(!some.is_nothing());
    }

    #[test]
    fn samples_are_missing_for_the_reasons_that_the_answer_names() {
        let message = "out of order sample for series {a=\"1\"}\nout of order exemplar for series {}\n\
                       invalid metric name or labels, got {}\nout of order sample for series {a=\"2\"}\n";
        let written = written(&[("Samples", "1")]).unwrap().explained_by(400, message);
        let expected = [(Reason::OutOfOrder, samples(2)), (Reason::Rejected, samples(1))];
        assert_eq!(written.by_reason(samples(3), Reason::Rejected, (false, false)), expected);
        // The answer broke off.
        let parts = written.by_reason(samples(10), Reason::Rejected, (true, false));
        let expected = [
            (Reason::AlreadyStored, samples(2)),
            (Reason::Rejected, samples(1)),
            (Reason::AlreadyStored, samples(7)),
        ];
        assert_eq!(parts, expected);
        let parts = written.by_reason(samples(3), Reason::Rejected, (true, true));
        assert_eq!(parts, [(Reason::LateAfterLoss, samples(2)), (Reason::Rejected, samples(1))]);
        // It names more than there are.
        assert_eq!(
            written.by_reason(samples(1), Reason::Rejected, (false, false)),
            [(Reason::OutOfOrder, samples(1))]
        );
        let silent = Written::default();
        assert_eq!(
            silent.by_reason(samples(1), Reason::NotWritten, (false, false)),
            [(Reason::NotWritten, samples(1))]
        );
        assert_eq!(silent.by_reason(samples(0), Reason::NotWritten, (false, false)), []);
    }
}
