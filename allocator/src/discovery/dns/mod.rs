//! `dns_sd_configs`: targets from DNS records, looked up once an interval.

mod lookup;
mod resolv_conf;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use hickory_proto::rr::{Name, RData, RecordType};
use promring_model::config::{DnsDiscovery, DnsRecord};
use promring_model::target::ADDRESS;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::{Found, Group, Reporter};
use crate::packed::Packed;
use lookup::Resolver;

/// Where the system's name servers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Looks all names up now and then once an interval. A name that cannot be looked up keeps its targets.
pub(super) async fn run(config: DnsDiscovery, reporter: Reporter) {
    // Read anew each time: it changes with the network.
    run_with(config, reporter, || Resolver::from_file(Path::new(RESOLV_CONF))).await;
}

async fn run_with(config: DnsDiscovery, reporter: Reporter, resolver: impl Fn() -> Result<Resolver, String>) {
    let mut tick = tokio::time::interval(config.refresh_interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answered: BTreeSet<String> = BTreeSet::new();
    loop {
        tick.tick().await;
        let (upsert, failures) = match resolver() {
            Ok(resolver) => refresh(&config, &Arc::new(resolver)).await,
            Err(message) => (Vec::new(), vec![message]),
        };
        answered.extend(upsert.iter().map(|group| group.source.to_string()));
        // Until every name has been answered once, nobody can say that this is all.
        let complete = config.names.iter().all(|name| answered.contains(name));
        reporter
            .send(Found::Changes { upsert, removed: Vec::new(), complete: complete && failures.is_empty() })
            .await;
        if let Some(message) = failures.first() {
            tracing::error!(job = %reporter.job, failures = failures.len(), error = message, "dns_sd failed; the last good targets stay");
            reporter.send(Found::Failed(failures.join("; "))).await;
        }
    }
}

/// Looks every name up: the groups of those that were answered, and what went wrong with the others.
async fn refresh(config: &DnsDiscovery, resolver: &Arc<Resolver>) -> (Vec<Arc<Group>>, Vec<String>) {
    let mut lookups = JoinSet::new();
    for name in &config.names {
        let (resolver, name, config) = (Arc::clone(resolver), name.clone(), config.clone());
        lookups.spawn(async move {
            metrics::counter!("prometheus_sd_dns_lookups_total").increment(1);
            let answer = resolver.lookup(&name, record_type(config.record)).await;
            answer.map(|records| Arc::new(group(&config, &name, &records)))
        });
    }
    let (mut groups, mut failures) = (Vec::new(), Vec::new());
    while let Some(result) = lookups.join_next().await {
        match result {
            Ok(Ok(group)) => groups.push(group),
            Ok(Err(message)) => {
                metrics::counter!("prometheus_sd_dns_lookup_failures_total").increment(1);
                failures.push(message);
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    failures.sort();
    (groups, failures)
}

fn record_type(record: DnsRecord) -> RecordType {
    match record {
        DnsRecord::Srv => RecordType::SRV,
        DnsRecord::A => RecordType::A,
        DnsRecord::Aaaa => RecordType::AAAA,
        DnsRecord::Mx => RecordType::MX,
        DnsRecord::Ns => RecordType::NS,
    }
}

fn group(config: &DnsDiscovery, name: &str, records: &[RData]) -> Group {
    let port = config.port.unwrap_or(0);
    let target = |record: &RData| {
        let (address, extra): (String, Vec<(&str, String)>) = match record {
            RData::A(address) => (format!("{}:{port}", address.0), Vec::new()),
            RData::AAAA(address) => (format!("[{}]:{port}", address.0), Vec::new()),
            RData::SRV(srv) => {
                let target = srv.target.to_ascii();
                let labels = vec![
                    ("__meta_dns_srv_record_port", srv.port.to_string()),
                    ("__meta_dns_srv_record_target", target),
                ];
                (host_port(&srv.target, srv.port), labels)
            }
            RData::MX(mx) => {
                let labels = vec![("__meta_dns_mx_record_target", mx.exchange.to_ascii())];
                (host_port(&mx.exchange, port), labels)
            }
            RData::NS(ns) => (host_port(&ns.0, port), vec![("__meta_dns_ns_record_target", ns.0.to_ascii())]),
            // A CNAME on the way to the addresses, or what nobody asked for.
            _ => return None,
        };
        let own = [(ADDRESS, address), ("__meta_dns_name", name.to_owned())];
        Some(Packed::from_pairs(own.into_iter().chain(extra)))
    };
    Group {
        source: Arc::from(name),
        labels: Packed::default(),
        targets: records.iter().filter_map(target).collect(),
    }
}

/// Host and port, without the dot at the end that DNS names have.
fn host_port(name: &Name, port: u16) -> String {
    format!("{}:{port}", name.to_ascii().trim_end_matches('.'))
}

#[cfg(test)]
mod tests;
