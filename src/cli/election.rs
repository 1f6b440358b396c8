//! Flags of an allocator that stands for election.

use std::net::{IpAddr, SocketAddr};

use clap::Args;
use promring_allocator::ElectionOptions;
use promring_allocator::lease::LeaseOptions;
use promring_model::config::{HttpClientConfig, KubernetesAccess};

use super::security::{AccessTlsArgs, object};

/// Of the allocator: which Lease says who leads.
#[derive(Debug, Args)]
pub(crate) struct ElectionArgs {
    /// The Kubernetes Lease that says which of several allocators leads [default: there is this one alone, and it leads].
    #[arg(long, env = "PROMRING_LEASE", value_parser = object, value_name = "NAMESPACE/NAME")]
    lease: Option<(String, String)>,
    /// With --lease, this allocator's name in it [default: the host's name].
    #[arg(long, env = "PROMRING_NAME", value_name = "NAME")]
    name: Option<String>,
    /// With --lease, how scrapers and other allocators reach this one: a URL, or an IP address, to which the port of --listen is
    /// added [default: where it listens].
    #[arg(long, env = "PROMRING_ADVERTISE", value_name = "URL|IP")]
    advertise: Option<String>,
    #[command(flatten)]
    tls: AccessTlsArgs,
}

impl ElectionArgs {
    /// The election that this process, which listens on `listen`, takes part in.
    pub(crate) fn options(
        &self,
        scheme: &str,
        listen: SocketAddr,
        access: KubernetesAccess,
        host_name: impl FnOnce() -> Result<String, String>,
    ) -> Result<Option<ElectionOptions>, String> {
        let Some((namespace, name)) = self.lease.clone() else { return Ok(None) };
        let candidate = self.name.clone().map_or_else(host_name, Ok)?;
        let address = self.address(scheme, listen)?;
        let lease = LeaseOptions { namespace, name, candidate, address, access };
        let http = HttpClientConfig { tls: self.tls.config(), ..HttpClientConfig::default() };
        Ok(Some(ElectionOptions { lease, http }))
    }

    fn address(&self, scheme: &str, listen: SocketAddr) -> Result<String, String> {
        let Some(told) = &self.advertise else {
            if listen.ip().is_unspecified() {
                return Err(
                    "--lease wants to know how this allocator is reached: give --advertise".to_owned()
                );
            }
            return Ok(format!("{scheme}://{listen}"));
        };
        if let Ok(ip) = told.parse::<IpAddr>() {
            return Ok(format!("{scheme}://{}", SocketAddr::new(ip, listen.port())));
        }
        let url = super::http_url(told).map_err(|error| format!("--advertise: {told}: {error}"))?;
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }
}
