//! Handles of the scraper's own metrics: taken once, since looking one up by name costs more than a sample does.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, histogram};

use promring_model::duration::format_duration;

use crate::summaries::Summaries;

/// What target loops count.
#[derive(Clone, Debug)]
pub struct ScrapeMetrics {
    /// Scrapes made.
    pub scrapes: Counter,
    /// Scrapes that failed.
    pub failed: Counter,
    /// Samples scraped, before metric relabelling.
    pub samples: Counter,
    /// Second samples of a series in one scrape.
    pub duplicates: Counter,
    /// Samples too far in the future.
    pub out_of_bounds: Counter,
    /// Samples with a time of their own that is not after their series' last one.
    pub out_of_order: Counter,
    /// Scrapes that hit sample_limit.
    pub exceeded_sample_limit: Counter,
    /// Scrapes that hit native_histogram_bucket_limit.
    pub exceeded_bucket_limit: Counter,
    /// Scrapes whose body was longer than body_size_limit.
    pub exceeded_body_size: Counter,
    /// Native histograms scraped, after metric relabelling.
    pub histograms: Counter,
    /// Exemplars that came before the last one of their series.
    pub exemplars_out_of_order: Counter,
    /// Slots in which no scrape could begin.
    pub skipped_slots: Counter,
    /// Slots in which no scrape could begin because of the memory limit.
    pub skipped_for_memory: Counter,
    /// Scrapes that failed as they took more memory than one may have.
    pub exceeded_memory: Counter,
    /// Slots in which it was not known whether the target still was this scraper's.
    pub doubted_slots: Counter,
    /// Targets whose last owner's series could not be had.
    pub series_failed: Counter,
    /// Scrapes that hit one of the limits of labels.
    pub exceeded_label_limits: Counter,
    /// Times between scrapes, by interval.
    pub intervals: Arc<Summaries<Duration>>,
    /// What bringing an assignment into force took, by job.
    pub syncs: Arc<Summaries<String>>,
    /// Slots without a scrape because the queue has no room and drops nothing.
    pub held_back_slots: Counter,
    /// From a slot to the start of its scrape, in seconds.
    pub lateness: Histogram,
    /// From the start of a scrape to its end, in seconds.
    pub duration: Histogram,
}

impl ScrapeMetrics {
    /// Takes the handles. The recorder must be installed before.
    #[must_use]
    pub fn new() -> Self {
        describe_counter!("promring_scrapes_total", "Scrapes made.");
        describe_counter!("promring_scrapes_failed_total", "Scrapes that failed.");
        describe_counter!("promring_scrape_samples_total", "Samples scraped, before metric relabelling.");
        describe_counter!(
            "promring_scrapes_skipped_total",
            "Slots without a scrape, by reason: the one before took too long (slow), scraper.memory_limit was reached (memory), the queue was full and drops nothing (queue), or no allocator had said after a start or a pause that the target still is this scraper's (doubt)."
        );
        describe_gauge!("promring_memory_used_bytes", "Memory that counts against the limit.");
        describe_counter!(
            "promring_scrapes_exceeded_memory_total",
            "Scrapes that failed as they took more memory than scraper.memory_limit allows one."
        );
        describe_counter!(
            "promring_assignment_resumed_total",
            "Times that scraping went on with the assignment held, after a start or a pause, as no allocator answered."
        );
        describe_counter!(
            "promring_handover_series_failed_total",
            "Targets that came here without the series of their last scrape, so that one that vanished just then gets no staleness marker."
        );
        describe_counter!(
            "prometheus_target_scrape_pool_exceeded_label_limits_total",
            "Scrapes that failed by label_limit, label_name_length_limit or label_value_length_limit."
        );
        describe_gauge!("promring_memory_limit_bytes", "The memory limit in force; 0 without one.");
        describe_counter!(
            "promring_scrape_histograms_total",
            "Native histograms scraped, after metric relabelling."
        );
        describe_histogram!("promring_scrape_lateness_seconds", "From a slot to the start of its scrape.");
        describe_histogram!("promring_scrape_duration_seconds", "From the start of a scrape to its end.");
        Self {
            scrapes: counter!("promring_scrapes_total"),
            failed: counter!("promring_scrapes_failed_total"),
            samples: counter!("promring_scrape_samples_total"),
            duplicates: counter!("prometheus_target_scrapes_sample_duplicate_timestamp_total"),
            out_of_bounds: counter!("prometheus_target_scrapes_sample_out_of_bounds_total"),
            out_of_order: counter!("prometheus_target_scrapes_sample_out_of_order_total"),
            exceeded_sample_limit: counter!("prometheus_target_scrapes_exceeded_sample_limit_total"),
            skipped_slots: counter!("promring_scrapes_skipped_total", "reason" => "slow"),
            skipped_for_memory: counter!("promring_scrapes_skipped_total", "reason" => "memory"),
            exceeded_memory: counter!("promring_scrapes_exceeded_memory_total"),
            doubted_slots: counter!("promring_scrapes_skipped_total", "reason" => "doubt"),
            series_failed: counter!("promring_handover_series_failed_total"),
            exceeded_bucket_limit: counter!(
                "prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total"
            ),
            exceeded_body_size: counter!("prometheus_target_scrapes_exceeded_body_size_limit_total"),
            histograms: counter!("promring_scrape_histograms_total"),
            exemplars_out_of_order: counter!("prometheus_target_scrapes_exemplar_out_of_order_total"),
            exceeded_label_limits: counter!("prometheus_target_scrape_pool_exceeded_label_limits_total"),
            intervals: Arc::new(Summaries::new(
                "prometheus_target_interval_length_seconds",
                "Actual intervals between scrapes.",
                "interval",
                |interval| format_duration(*interval),
            )),
            syncs: Arc::new(Summaries::new(
                "prometheus_target_sync_length_seconds",
                "What bringing an assignment into force took.",
                "scrape_job",
                String::clone,
            )),
            held_back_slots: counter!("promring_scrapes_skipped_total", "reason" => "queue"),
            lateness: histogram!("promring_scrape_lateness_seconds"),
            duration: histogram!("promring_scrape_duration_seconds"),
        }
    }
}

impl Default for ScrapeMetrics {
    fn default() -> Self {
        Self::new()
    }
}
