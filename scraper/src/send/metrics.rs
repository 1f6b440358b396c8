//! Metrics of one destination: Prometheus's names where the meaning is Prometheus's, our own for the rest.

use std::sync::atomic::{AtomicI64, Ordering};

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use promring_model::config::RemoteWrite;

use super::answer::Reason;
use super::shown::Shown;
use super::units::Counts;
use crate::queue::{Beside, DropReason, Queue, QueueStats, SetKind};

/// Handles, taken once. The recorder must be installed before.
pub(super) struct SendMetrics {
    pub(super) sent: Kinds,
    pub(super) failed: Kinds,
    pub(super) retried: Kinds,
    pub(super) too_old: Kinds,
    /// Native histograms that 1.0 cannot carry.
    pub(super) dropped_custom: Counter,
    pub(super) bytes: Counter,
    pub(super) metadata_bytes: Counter,
    pub(super) duration_seconds: Histogram,
    highest_sent_seconds: Gauge,
    highest_sent_ms: AtomicI64,
    /// 1: the receiver does not speak 2.0.
    pub(super) fallback: Gauge,
    refused: [Counter; Reason::ALL.len()],
    queue: QueueMetrics,
    /// Dropped with all of this.
    _shown: Shown,
}

/// One counter for each kind of thing that a request holds.
pub(super) struct Kinds {
    samples: Counter,
    histograms: Counter,
    exemplars: Counter,
    metadata: Option<Counter>,
}

struct QueueMetrics {
    samples_pending: Gauge,
    histograms_pending: Gauge,
    exemplars_pending: Gauge,
    metadata_pending: Gauge,
    lanes: Gauge,
    highest_seconds: Gauge,
    records: Gauge,
    bytes: Gauge,
    aside_samples: Gauge,
    aside_bytes: Gauge,
    disk_bytes: Gauge,
    memory_bytes: Gauge,
    unread: Gauge,
    oldest_age_seconds: Gauge,
    dropped: [Counter; DropReason::ALL.len()],
    enqueued_samples: Counter,
    enqueued_bytes: Counter,
    corrupt_records: Counter,
    torn_tails: Counter,
    lost_cursors: Counter,
    write_errors: Counter,
    read_errors: Counter,
    sync_errors: Counter,
    syncs: Counter,
}

/// Adds `remote_name` and `url` to the labels of a metric.
macro_rules! of {
    ($kind:ident, $config:expr, $name:expr $(, $label:expr => $value:expr)*) => {
        $kind!($name, "remote_name" => $config.name.clone(), "url" => $config.url.to_string() $(, $label => $value)*)
    };
}

impl SendMetrics {
    pub(super) fn new(config: &RemoteWrite) -> Self {
        describe();
        let queue = QueueMetrics::new(config);
        let fallback = of!(gauge, config, "promring_remote_write_fallback");
        let highest_sent_seconds =
            of!(gauge, config, "prometheus_remote_storage_queue_highest_sent_timestamp_seconds");
        let settings = [
            (
                of!(gauge, config, "prometheus_remote_storage_max_samples_per_send"),
                config.queue.max_samples_per_send,
            ),
            (of!(gauge, config, "prometheus_remote_storage_shards_min"), config.queue.min_shards),
            (of!(gauge, config, "prometheus_remote_storage_shards_max"), config.queue.max_shards),
            (of!(gauge, config, "prometheus_remote_storage_shards_desired"), super::lanes(config)),
        ];
        let mut gauges = queue.gauges();
        gauges.extend([fallback.clone(), highest_sent_seconds.clone()]);
        gauges.extend(settings.iter().map(|(gauge, _)| gauge.clone()));
        let shown = Shown::new(config, gauges);
        fallback.set(0.0);
        settings.iter().for_each(|(gauge, value)| gauge.set(*value as f64));
        Self {
            _shown: shown,
            fallback,
            sent: Kinds::new(config, "total", None),
            failed: Kinds::new(config, "failed_total", None),
            retried: Kinds::new(config, "retried_total", None),
            too_old: Kinds::new(config, "dropped_total", Some("too_old")),
            dropped_custom: dropped_custom(config),
            bytes: of!(counter, config, "prometheus_remote_storage_bytes_total"),
            metadata_bytes: of!(counter, config, "prometheus_remote_storage_metadata_bytes_total"),
            duration_seconds: of!(histogram, config, "prometheus_remote_storage_sent_batch_duration_seconds"),
            highest_sent_seconds,
            highest_sent_ms: AtomicI64::new(i64::MIN),
            refused: Reason::ALL.map(|reason| {
                of!(counter, config, "promring_remote_write_refused_samples_total", "reason" => reason.as_str())
            }),
            queue,
        }
    }

    /// Counts what a receiver refused for good. What it had stored already is no failure.
    pub(super) fn refused(&self, reason: Reason, counts: &Counts) {
        if let Some(counter) = self.refused.get(reason as usize) {
            counter.increment(counts.points());
        }
        if reason != Reason::AlreadyStored {
            self.failed.add(counts);
        }
    }

    /// A request was accepted, or refused for good, whose newest sample has this time. Lanes are not equally far.
    pub(super) fn answered_up_to(&self, newest_ms: i64) {
        if self.highest_sent_ms.fetch_max(newest_ms, Ordering::Relaxed) < newest_ms {
            self.highest_sent_seconds.set(newest_ms as f64 / 1000.0);
        }
    }

    /// Brings what the queue says up to date.
    pub(super) fn update(&self, queue: &Queue) {
        let (now, before) = queue.publish_stats();
        self.queue.update(&now, &before);
    }
}

impl Kinds {
    fn new(config: &RemoteWrite, suffix: &str, reason: Option<&'static str>) -> Self {
        let counter = |kind: &str| {
            let name = format!("prometheus_remote_storage_{kind}_{suffix}");
            match reason {
                None => of!(counter, config, name),
                Some(reason) => of!(counter, config, name, "reason" => reason),
            }
        };
        Self {
            samples: counter("samples"),
            histograms: counter("histograms"),
            exemplars: counter("exemplars"),
            // Prometheus has no metadata that are dropped.
            metadata: reason.is_none().then(|| counter("metadata")),
        }
    }

    pub(super) fn add(&self, counts: &Counts) {
        self.samples.increment(counts.samples);
        self.histograms.increment(counts.histograms);
        self.exemplars.increment(counts.exemplars);
        if let Some(metadata) = &self.metadata {
            metadata.increment(counts.metadata);
        }
    }
}

impl QueueMetrics {
    fn new(config: &RemoteWrite) -> Self {
        Self {
            samples_pending: of!(gauge, config, "prometheus_remote_storage_samples_pending"),
            histograms_pending: of!(gauge, config, "prometheus_remote_storage_histograms_pending"),
            exemplars_pending: of!(gauge, config, "prometheus_remote_storage_exemplars_pending"),
            metadata_pending: of!(gauge, config, "prometheus_remote_storage_metadata_pending"),
            lanes: of!(gauge, config, "prometheus_remote_storage_shards"),
            highest_seconds: of!(gauge, config, "prometheus_remote_storage_queue_highest_timestamp_seconds"),
            records: of!(gauge, config, "promring_queue_records"),
            bytes: of!(gauge, config, "promring_queue_bytes"),
            aside_samples: of!(gauge, config, "promring_queue_aside_samples"),
            aside_bytes: of!(gauge, config, "promring_queue_aside_bytes"),
            disk_bytes: of!(gauge, config, "promring_queue_disk_bytes"),
            memory_bytes: of!(gauge, config, "promring_queue_memory_bytes"),
            unread: of!(gauge, config, "promring_queue_unread"),
            oldest_age_seconds: of!(gauge, config, "promring_queue_oldest_age_seconds"),
            dropped: DropReason::ALL.map(|reason| {
                of!(counter, config, "promring_queue_dropped_samples_total", "reason" => reason.as_str())
            }),
            enqueued_samples: of!(counter, config, "promring_queue_enqueued_samples_total"),
            enqueued_bytes: of!(counter, config, "promring_queue_enqueued_bytes_total"),
            corrupt_records: of!(counter, config, "promring_queue_corrupt_records_total"),
            torn_tails: of!(counter, config, "promring_queue_torn_tails_total"),
            lost_cursors: of!(counter, config, "promring_queue_lost_cursors_total"),
            write_errors: of!(counter, config, "promring_queue_write_errors_total"),
            read_errors: of!(counter, config, "promring_queue_read_errors_total"),
            sync_errors: of!(counter, config, "promring_queue_sync_errors_total"),
            syncs: of!(counter, config, "promring_queue_syncs_total"),
        }
    }

    fn gauges(&self) -> Vec<Gauge> {
        let all = [
            &self.samples_pending,
            &self.histograms_pending,
            &self.exemplars_pending,
            &self.metadata_pending,
            &self.lanes,
            &self.highest_seconds,
            &self.records,
            &self.bytes,
            &self.aside_samples,
            &self.aside_bytes,
            &self.disk_bytes,
            &self.memory_bytes,
            &self.unread,
            &self.oldest_age_seconds,
        ];
        all.into_iter().cloned().collect()
    }

    fn update(&self, stats: &QueueStats, before: &QueueStats) {
        let Beside { histograms, exemplars, metadata } = stats.pending.beside;
        self.samples_pending.set(stats.pending.samples.saturating_sub(histograms) as f64);
        self.histograms_pending.set(histograms as f64);
        self.exemplars_pending.set(exemplars as f64);
        self.metadata_pending.set(metadata as f64);
        let sets = stats.sets.iter().filter(|set| set.kind != SetKind::Aside);
        self.lanes.set(sets.map(|set| set.lanes.len()).sum::<usize>() as f64);
        if let Some(newest_ms) = stats.newest_sample_ms {
            self.highest_seconds.set(newest_ms as f64 / 1000.0);
        }
        self.records.set(stats.pending.records as f64);
        self.bytes.set(stats.pending.bytes as f64);
        self.aside_samples.set(stats.aside.samples as f64);
        self.aside_bytes.set(stats.aside.bytes as f64);
        self.disk_bytes.set(stats.disk_bytes as f64);
        self.memory_bytes.set(stats.memory_bytes as f64);
        self.unread.set(if stats.unread { 1.0 } else { 0.0 });
        self.oldest_age_seconds.set(stats.oldest_age.unwrap_or_default().as_secs_f64());
        for (counter, reason) in self.dropped.iter().zip(DropReason::ALL) {
            counter.increment(stats.dropped(reason) - before.dropped(reason));
        }
        self.enqueued_samples.increment(stats.enqueued_samples - before.enqueued_samples);
        self.enqueued_bytes.increment(stats.enqueued_bytes - before.enqueued_bytes);
        self.corrupt_records.increment(stats.corrupt_records - before.corrupt_records);
        self.torn_tails.increment(stats.torn_tails - before.torn_tails);
        self.lost_cursors.increment(stats.lost_cursors - before.lost_cursors);
        self.write_errors.increment(stats.write_errors - before.write_errors);
        self.read_errors.increment(stats.read_errors - before.read_errors);
        self.sync_errors.increment(stats.sync_errors - before.sync_errors);
        self.syncs.increment(stats.syncs - before.syncs);
    }
}

/// Counts native histograms with bounds of their own that are not sent, since remote write 1.0 cannot carry them.
pub(crate) fn dropped_custom(config: &RemoteWrite) -> Counter {
    let name = "prometheus_remote_storage_histograms_dropped_total";
    of!(counter, config, name, "reason" => "nhcb_in_rw1_not_supported")
}

fn describe() {
    for (kind, what) in [
        ("samples", "Float samples"),
        ("histograms", "Native histograms"),
        ("exemplars", "Exemplars"),
        ("metadata", "Metadata entries"),
    ] {
        let name = |suffix: &str| format!("prometheus_remote_storage_{kind}_{suffix}");
        describe_counter!(name("total"), format!("{what} sent, each attempt counted."));
        describe_counter!(name("failed_total"), format!("{what} that the receiver refused for good."));
        describe_counter!(name("retried_total"), format!("{what} sent again."));
        describe_counter!(name("dropped_total"), format!("{what} not sent, by reason."));
        describe_gauge!(name("pending"), format!("{what} in the queue that are not acknowledged."));
    }
    describe_gauge!(
        "prometheus_remote_storage_shards",
        "Lanes of the queue, those of fences included, and those that are being replaced."
    );
    describe_gauge!("prometheus_remote_storage_shards_desired", "Lanes that the configuration asks for.");
    describe_gauge!("prometheus_remote_storage_shards_min", "min_shards of the configuration.");
    describe_gauge!("prometheus_remote_storage_shards_max", "max_shards of the configuration.");
    describe_gauge!(
        "prometheus_remote_storage_max_samples_per_send",
        "max_samples_per_send of the configuration."
    );
    describe_counter!(
        "prometheus_remote_storage_bytes_total",
        "Bytes of bodies, after compression, of requests that were answered for good."
    );
    describe_counter!(
        "prometheus_remote_storage_metadata_bytes_total",
        "Bytes of bodies of metadata by remote write 1.0, after compression, that were taken."
    );
    describe_histogram!(
        "prometheus_remote_storage_sent_batch_duration_seconds",
        "How long an attempt took, from connecting to the head of the answer."
    );
    describe_gauge!(
        "prometheus_remote_storage_queue_highest_timestamp_seconds",
        "The newest time of a sample that was enqueued."
    );
    describe_gauge!(
        "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
        "The newest time of a sample that was accepted, or refused for good."
    );
    describe_histogram!(
        "promring_queue_fsync_duration_seconds",
        "How long a sync of a file or directory took."
    );
    describe_counter!(
        "promring_remote_write_refused_samples_total",
        "Samples that the receiver refused for good, by reason; already_stored is no loss, late_after_loss is what came after other scrapers had gone on."
    );
    describe_gauge!(
        "promring_remote_write_fallback",
        "1 if the receiver does not seem to speak remote write 2.0, so that it is sent 1.0 instead."
    );
    describe_gauge!("promring_queue_records", "Records in the queue that are not acknowledged.");
    describe_gauge!("promring_queue_bytes", "Bytes in the queue that are not acknowledged.");
    describe_gauge!(
        "promring_queue_aside_samples",
        "Samples that the receiver has refused before and that are not asked for alone yet; nothing waits for them."
    );
    describe_gauge!("promring_queue_aside_bytes", "Bytes of these.");
    describe_gauge!("promring_queue_disk_bytes", "Bytes of the queue's segments.");
    describe_gauge!("promring_queue_memory_bytes", "Bytes that wait in memory because the disk takes none.");
    describe_gauge!(
        "promring_queue_unread",
        "1 if the queue's directory could not be read yet, so that what it holds is not counted or sent."
    );
    describe_gauge!("promring_queue_oldest_age_seconds", "How long the oldest record has waited.");
    describe_counter!("promring_queue_dropped_samples_total", "Samples that the queue dropped, by reason.");
    describe_counter!("promring_queue_enqueued_samples_total", "Samples appended to the queue.");
    describe_counter!("promring_queue_enqueued_bytes_total", "Bytes of bodies appended to the queue.");
    describe_counter!("promring_queue_corrupt_records_total", "Damaged records that were skipped.");
    describe_counter!("promring_queue_torn_tails_total", "Segments of which a torn tail was cut off.");
    describe_counter!("promring_queue_lost_cursors_total", "Lanes that began again at their oldest record.");
    describe_counter!("promring_queue_write_errors_total", "Writes that the disk refused.");
    describe_counter!("promring_queue_read_errors_total", "Reads that the disk refused.");
    describe_counter!("promring_queue_sync_errors_total", "Syncs that failed.");
    describe_counter!("promring_queue_syncs_total", "Syncs of files and directories.");
}
