//! `scrape_configs` and relabelling rules.

use super::{
    At, FromNode, Given, Ignored, List, Map, RawDns, RawFileSd, RawHttpClient, RawHttpSd, RawKubernetes,
    RawScrapeShared, RawTargetGroup, Reader, Text, section,
};

section! {
    /// One entry of `scrape_configs`.
    RawScrapeConfig as "scrape_config" {
        job_name: Text,
        honor_labels: bool,
        honor_timestamps: bool,
        track_timestamps_staleness: bool,
        params: Map<List<Text>>,
        metrics_path: Text,
        scheme: Text,
        fallback_scrape_protocol: Text,
        enable_compression: bool,
        native_histogram_bucket_limit: u64,
        native_histogram_min_bucket_factor: f64,
        relabel_configs: List<RawRule>,
        metric_relabel_configs: List<RawRule>,
        static_configs: List<RawTargetGroup>,
        file_sd_configs: List<RawFileSd>,
        http_sd_configs: List<RawHttpSd>,
        dns_sd_configs: List<RawDns>,
        kubernetes_sd_configs: List<RawKubernetes>,
    }
    inline { shared: RawScrapeShared, http: RawHttpClient, other_sd: OtherDiscoveries, }
}

section! {
    /// One relabelling rule.
    RawRule as "relabel_config" {
        source_labels: List<Text>,
        separator: Text,
        target_label: Text,
        regex: Text,
        modulus: u64,
        replacement: Text,
        action: Text,
    }
}

/// Service discoveries of Prometheus that promring does not have.
pub(crate) const OTHER_DISCOVERIES: [&str; 32] = [
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "ecs_sd_configs",
    "elasticache_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "ionos_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "msk_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "oci_sd_configs",
    "openstack_sd_configs",
    "outscale_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "rds_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
];

/// Which of [`OTHER_DISCOVERIES`] a job uses. Their content is not read.
#[derive(Clone, Debug, Default)]
pub(crate) struct OtherDiscoveries(pub(crate) Vec<(&'static str, Given<Ignored>)>);

impl super::Section for OtherDiscoveries {
    const NAME: &'static str = "scrape_config";

    /// None: nobody who mistypes a key means one of these.
    fn keys() -> Vec<&'static str> {
        Vec::new()
    }

    fn set(&mut self, key: &str, reader: &mut Reader<'_>, at: At) -> bool {
        let Some(name) = OTHER_DISCOVERIES.iter().find(|name| **name == key) else { return false };
        let given = reader.given(at);
        self.0.push((name, given));
        true
    }
}

impl FromNode for OtherDiscoveries {
    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self> {
        reader.section(at)
    }
}
