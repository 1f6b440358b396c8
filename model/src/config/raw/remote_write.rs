//! `remote_write`.

use super::{Ignored, List, Map, RawDuration, RawHttpClient, RawRule, Text, section};

section! {
    /// One entry of `remote_write`.
    RawRemoteWrite as "remote_write" {
        url: Text,
        remote_timeout: RawDuration,
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
        batch_send_deadline: RawDuration,
        min_backoff: RawDuration,
        max_backoff: RawDuration,
        retry_on_http_429: bool,
        sample_age_limit: RawDuration,
    }
}

section! {
    /// `metadata_config`.
    RawMetadataConfig as "metadata_config" {
        send: bool,
        send_interval: RawDuration,
        max_samples_per_send: i64,
    }
}
