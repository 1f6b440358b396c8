//! Endpoint slices: as endpoints, in pieces of a hundred, with conditions and zones.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::container_ports::Backings;
use super::endpoints::Reference;
use super::kind::{Attach, Kind, Lookup};
use super::labels::{Meta, NAMESPACE, Pairs, join_host_port, or_default, sanitize};
use super::node;
use crate::discovery::Group;
use crate::packed::Packed;

/// The label that names a slice's service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Endpoint slices.
#[derive(Debug)]
pub(crate) struct EndpointSlices;

/// A slice as it is kept.
#[derive(Debug, PartialEq)]
pub(crate) struct SliceObject {
    key: Box<str>,
    namespace: Box<str>,
    /// `NAMESPACE/NAME` of the service that it belongs to.
    service: Option<Box<str>>,
    labels: Packed,
    address_type: String,
    endpoints: Vec<Endpoint>,
    ports: Vec<Port>,
}

impl Kind for EndpointSlices {
    const RESOURCE: &'static str = "endpointslices";
    const API: &'static str = "/apis/discovery.k8s.io/v1";
    type Raw = EndpointSlice;
    type Stored = SliceObject;

    fn meta(raw: &EndpointSlice) -> &Meta {
        &raw.metadata
    }

    fn compact(raw: EndpointSlice) -> SliceObject {
        let mut labels = Pairs::default();
        labels
            .set(NAMESPACE, raw.metadata.namespace.as_str())
            .meta("endpointslice_address_type", raw.address_type.as_str())
            .object("endpointslice", &raw.metadata);
        let service = raw.metadata.labels.get(SERVICE_NAME);
        SliceObject {
            key: raw.metadata.key().into(),
            service: service.map(|name| format!("{}/{name}", raw.metadata.namespace).into()),
            labels: labels.pack(),
            namespace: raw.metadata.namespace.into(),
            address_type: raw.address_type,
            endpoints: raw.endpoints,
            ports: raw.ports,
        }
    }
}

/// The target group of a slice. Of a service with both families only the slices of the first give targets: those of
/// the other lead to the same pods.
pub(crate) fn group(slice: &SliceObject, lookup: &mut impl Lookup, attach: Attach) -> Group {
    let service = slice.service.as_deref().and_then(|key| lookup.service(key));
    let namespace = attach.namespace.then(|| lookup.namespace(&slice.namespace)).flatten();
    let mut labels = Pairs::default();
    labels.extend(slice.labels.iter());
    if let Some(service) = &service {
        labels.extend(service.group.labels.iter());
    }
    if let Some(namespace) = &namespace {
        labels.extend(namespace.iter());
    }
    let primary = service.as_ref().and_then(|service| service.primary_family.as_deref());
    let targets = match primary {
        Some(primary) if primary != slice.address_type => Vec::new(),
        _ => targets(slice, lookup, attach),
    };
    Group { source: Arc::from(&*slice.key), labels: labels.pack(), targets: targets.into_boxed_slice() }
}

fn targets(slice: &SliceObject, lookup: &mut impl Lookup, attach: Attach) -> Vec<Packed> {
    let mut backings = Backings::default();
    let mut targets = Vec::new();
    for endpoint in &slice.endpoints {
        let node = endpoint.node().filter(|_| attach.node).and_then(|name| lookup.node(name));
        for port in &slice.ports {
            for address in &endpoint.addresses {
                let mut target = Pairs::default();
                match port.port {
                    Some(number) => target
                        .address(join_host_port(address, number))
                        .meta("endpointslice_port", number.to_string()),
                    None => target.address(address.as_str()),
                };
                port.labels(&mut target);
                endpoint.labels(&mut target);
                if let Some(node) = &node {
                    target.extend(node::attached(node));
                }
                let pod = endpoint.target_ref.as_ref().and_then(Reference::pod);
                targets.push(backings.join(target, pod, port.port, None, lookup, attach));
            }
        }
    }
    targets.extend(backings.uncovered());
    targets
}

/// An endpoint slice, trimmed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointSlice {
    metadata: Meta,
    #[serde(default, deserialize_with = "or_default")]
    address_type: String,
    #[serde(default, deserialize_with = "or_default")]
    endpoints: Vec<Endpoint>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<Port>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    conditions: Conditions,
    #[serde(default, deserialize_with = "or_default")]
    hostname: String,
    #[serde(default)]
    node_name: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    zone: String,
    #[serde(default)]
    target_ref: Option<Reference>,
    #[serde(default, deserialize_with = "or_default")]
    deprecated_topology: BTreeMap<String, String>,
}

impl Endpoint {
    /// The node that it is, or that it is on.
    fn node(&self) -> Option<&str> {
        match &self.target_ref {
            Some(referred) if referred.kind == "Node" => Some(&referred.name),
            _ => self.node_name.as_deref(),
        }
    }

    fn labels<'a>(&'a self, target: &mut Pairs<'a>) {
        let text = |condition: Option<bool>| match condition {
            Some(true) => "true",
            Some(false) => "false",
            None => "",
        };
        target
            .meta("endpointslice_endpoint_conditions_ready", text(self.conditions.ready))
            .meta("endpointslice_endpoint_conditions_serving", text(self.conditions.serving))
            .meta("endpointslice_endpoint_conditions_terminating", text(self.conditions.terminating))
            .meta("endpointslice_endpoint_hostname", self.hostname.as_str())
            .meta("endpointslice_endpoint_node_name", self.node_name.as_deref().unwrap_or_default())
            .meta("endpointslice_endpoint_zone", self.zone.as_str());
        if let Some(referred) = &self.target_ref {
            target
                .meta("endpointslice_address_target_kind", referred.kind.as_str())
                .meta("endpointslice_address_target_name", referred.name.as_str());
        }
        for (name, value) in &self.deprecated_topology {
            let name = sanitize(name);
            target
                .meta(format_args!("endpointslice_endpoint_topology_{name}"), value.as_str())
                .meta(format_args!("endpointslice_endpoint_topology_present_{name}"), "true");
        }
    }
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default)]
    port: Option<i64>,
    #[serde(default, deserialize_with = "or_default")]
    protocol: String,
    #[serde(default, deserialize_with = "or_default")]
    app_protocol: String,
}

impl Port {
    fn labels<'a>(&'a self, target: &mut Pairs<'a>) {
        target
            .meta("endpointslice_port_name", self.name.as_str())
            .meta("endpointslice_port_protocol", self.protocol.as_str())
            .meta("endpointslice_port_app_protocol", self.app_protocol.as_str());
    }
}
