//! Services: one target for each port, at the service's name in DNS.

use std::sync::Arc;

use serde::Deserialize;

use super::kind::{Attach, Kind, Lookup};
use super::labels::{Meta, NAMESPACE, Pairs, join_host_port, or_default};
use crate::discovery::Group;

/// Services.
#[derive(Debug)]
pub(crate) struct Services;

/// A service as it is kept.
#[derive(Debug, PartialEq)]
pub(crate) struct ServiceObject {
    /// Its target group. The group's labels are what endpoints take of it.
    pub(crate) group: Arc<Group>,
    /// `IPv4` or `IPv6` where it is a service of both: only slices of this family give targets.
    pub(crate) primary_family: Option<Box<str>>,
}

impl Kind for Services {
    const RESOURCE: &'static str = "services";
    const API: &'static str = "/api/v1";
    type Raw = Service;
    type Stored = ServiceObject;

    fn meta(raw: &Service) -> &Meta {
        &raw.metadata
    }

    fn compact(raw: Service) -> ServiceObject {
        let raw = &raw;
        let mut labels = Pairs::default();
        labels.set(NAMESPACE, raw.metadata.namespace.as_str()).object("service", &raw.metadata);
        let (meta, spec) = (&raw.metadata, &raw.spec);
        let targets = spec.ports.iter().map(|port| {
            let mut target = Pairs::default();
            let number = port.port.to_string();
            target
                .address(join_host_port(&format!("{}.{}.svc", meta.name, meta.namespace), port.port))
                .meta("service_port_name", port.name.as_str())
                .meta("service_port_number", number)
                .meta("service_port_protocol", port.protocol.as_str())
                .meta("service_type", spec.kind.as_str());
            if spec.kind == "ExternalName" {
                target.meta("service_external_name", spec.external_name.as_str());
            } else {
                target.meta("service_cluster_ip", spec.cluster_ip.as_str());
            }
            if spec.kind == "LoadBalancer" {
                target.meta("service_loadbalancer_ip", raw.load_balancer_ips());
            }
            target.pack()
        });
        let dual = matches!(spec.ip_family_policy.as_str(), "PreferDualStack" | "RequireDualStack");
        ServiceObject {
            group: Arc::new(Group {
                source: Arc::from(meta.key()),
                targets: targets.collect(),
                labels: labels.pack(),
            }),
            primary_family: spec.ip_families.first().filter(|_| dual).map(|family| family.as_str().into()),
        }
    }
}

/// The target group of a service, with what is attached.
pub(crate) fn group(service: &ServiceObject, lookup: &mut impl Lookup, attach: Attach) -> Arc<Group> {
    with_namespace(&service.group, lookup, attach)
}

/// A group with its namespace's labels, where they are to be attached.
pub(crate) fn with_namespace(group: &Arc<Group>, lookup: &mut impl Lookup, attach: Attach) -> Arc<Group> {
    let name = group.labels.get(NAMESPACE).filter(|_| attach.namespace);
    let Some(namespace) = name.and_then(|name| lookup.namespace(name)) else { return Arc::clone(group) };
    let mut pairs = Pairs::default();
    pairs.extend(group.labels.iter()).extend(namespace.iter());
    Arc::new(Group {
        source: Arc::clone(&group.source),
        labels: pairs.pack(),
        targets: group.targets.clone(),
    })
}

/// A service, trimmed.
#[derive(Debug, Deserialize)]
pub(crate) struct Service {
    metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    spec: ServiceSpec,
    #[serde(default, deserialize_with = "or_default")]
    status: ServiceStatus,
}

impl Service {
    /// The addresses that the load balancer got, else the one that was asked for.
    fn load_balancer_ips(&self) -> String {
        let ingress = &self.status.load_balancer.ingress;
        let got: Vec<&str> =
            ingress.iter().map(|point| point.ip.as_str()).filter(|ip| !ip.is_empty()).collect();
        if got.is_empty() { self.spec.load_balancer_ip.clone() } else { got.join(",") }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(default, rename = "type", deserialize_with = "or_default")]
    kind: String,
    #[serde(default, rename = "clusterIP", deserialize_with = "or_default")]
    cluster_ip: String,
    #[serde(default, deserialize_with = "or_default")]
    external_name: String,
    #[serde(default, rename = "loadBalancerIP", deserialize_with = "or_default")]
    load_balancer_ip: String,
    #[serde(default, deserialize_with = "or_default")]
    ip_family_policy: String,
    #[serde(default, deserialize_with = "or_default")]
    ip_families: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<ServicePort>,
}

#[derive(Debug, Deserialize)]
struct ServicePort {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    port: i64,
    #[serde(default, deserialize_with = "or_default")]
    protocol: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceStatus {
    #[serde(default, deserialize_with = "or_default")]
    load_balancer: LoadBalancer,
}

#[derive(Debug, Default, Deserialize)]
struct LoadBalancer {
    #[serde(default, deserialize_with = "or_default")]
    ingress: Vec<LoadBalancerIngress>,
}

#[derive(Debug, Deserialize)]
struct LoadBalancerIngress {
    #[serde(default, deserialize_with = "or_default")]
    ip: String,
}
