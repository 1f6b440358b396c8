//! `remote_write`.

use std::time::Duration;

use super::{Ignored, List, Map, RawHttpClient, RawRule, Text, section};

section! {
    /// One entry of `remote_write`.
    RawRemoteWrite as "remote_write" {
        url: Text,
        remote_timeout: Duration,
        headers: Map<Text>,
        write_relabel_configs: List<RawRule>,
        name: Text,
        send_exemplars: bool,
        send_native_histograms: bool,
        protobuf_message: Text,
        queue_config: Box<RawQueueConfig>,
        metadata_config: Box<RawMetadataConfig>,
        // Without effect here.
        round_robin_dns: bool,
        failed_request_logging: bool,
        // What promring does not have.
        sigv4: Ignored,
        azuread: Ignored,
        google_iam: Ignored,
    }
    inline { http: RawHttpClient, }
}

section! {
    /// `queue_config`.
    RawQueueConfig as "queue_config" {
        capacity: i64,
        max_shards: i64,
        min_shards: i64,
        max_samples_per_send: i64,
        batch_send_deadline: Duration,
        min_backoff: Duration,
        max_backoff: Duration,
        retry_on_http_429: bool,
        sample_age_limit: Duration,
    }
}

section! {
    /// `metadata_config`.
    RawMetadataConfig as "metadata_config" {
        send: bool,
        send_interval: Duration,
        max_samples_per_send: i64,
    }
}
