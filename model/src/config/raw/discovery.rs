//! Service discoveries that promring has.

use super::{List, Map, RawDuration, RawHttpClient, Text, section};

section! {
    /// One entry of `static_configs`.
    RawTargetGroup as "static_config" {
        targets: List<Text>,
        labels: Map<Text>,
    }
}

section! {
    /// One entry of `file_sd_configs`.
    RawFileSd as "file_sd_config" {
        files: List<Text>,
        refresh_interval: RawDuration,
    }
}

section! {
    /// One entry of `http_sd_configs`.
    RawHttpSd as "http_sd_config" {
        url: Text,
        refresh_interval: RawDuration,
    }
    inline { http: RawHttpClient, }
}

section! {
    /// One entry of `dns_sd_configs`.
    RawDns as "dns_sd_config" {
        names: List<Text>,
        refresh_interval: RawDuration,
        r#type: Text,
        port: i64,
    }
}

section! {
    /// One entry of `kubernetes_sd_configs`.
    RawKubernetes as "kubernetes_sd_config" {
        api_server: Text,
        role: Text,
        kubeconfig_file: Text,
        namespaces: RawNamespaces,
        selectors: List<RawSelector>,
        attach_metadata: RawAttach,
    }
    inline { http: RawHttpClient, }
}

section! {
    /// `namespaces`.
    RawNamespaces as "namespaces" {
        own_namespace: bool,
        names: List<Text>,
    }
}

section! {
    /// One entry of `selectors`.
    RawSelector as "selector" {
        role: Text,
        label: Text,
        field: Text,
    }
}

section! {
    /// `attach_metadata`.
    RawAttach as "attach_metadata" {
        node: bool,
        namespace: bool,
        deployment: bool,
        job: bool,
        cronjob: bool,
    }
}
