//! The series that promring writes about each scrape, and what is said of them: Prometheus's words.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportSeries {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// What it counts.
    pub unit: &'static str,
}

/// All of them; those from [`EXTRA_FROM`] on are written with `extra_scrape_metrics` only.
pub const REPORT_SERIES: [ReportSeries; 8] = [
    ReportSeries {
        name: "up",
        help: "Health of the scrape target. 1 means the target is healthy, 0 if the scrape failed.",
        unit: "targets",
    },
    ReportSeries {
        name: "scrape_duration_seconds",
        help: "Duration of the last scrape in seconds.",
        unit: "seconds",
    },
    ReportSeries { name: "scrape_samples_scraped", help: "Number of samples last scraped.", unit: "samples" },
    ReportSeries {
        name: "scrape_samples_post_metric_relabeling",
        help: "Number of samples remaining after metric relabeling was applied.",
        unit: "samples",
    },
    ReportSeries {
        name: "scrape_series_added",
        help: "Number of series in the last scrape.",
        unit: "series",
    },
    ReportSeries {
        name: "scrape_timeout_seconds",
        help: "The configured scrape timeout for a target.",
        unit: "seconds",
    },
    ReportSeries {
        name: "scrape_sample_limit",
        help: "The configured sample limit for a target. Returns zero if there is no limit configured.",
        unit: "samples",
    },
    ReportSeries {
        name: "scrape_body_size_bytes",
        help: "The uncompressed size of the last scrape response, if successful. Scrapes failing because \
               body_size_limit is exceeded report -1, other scrape failures report 0.",
        unit: "bytes",
    },
];

/// Place of the first one that is written with `extra_scrape_metrics` only.
pub const EXTRA_FROM: usize = 5;
