//! What all kinds of objects have in common: metadata, and the labels made of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;

use promring_model::target::ADDRESS;
use serde::{Deserialize, Deserializer};

use crate::packed::Packed;

/// Begins every label of this discovery.
pub(crate) const PREFIX: &str = "__meta_kubernetes_";
/// The namespace of whatever the target is.
pub(crate) const NAMESPACE: &str = "__meta_kubernetes_namespace";

/// The part of an object's metadata that anything here is made of. Everything else, `managedFields` above all, is
/// skipped while the JSON is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meta {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) namespace: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) uid: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) resource_version: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) owner_references: Vec<Owner>,
    #[serde(default)]
    pub(crate) deletion_timestamp: Option<serde::de::IgnoredAny>,
}

/// An object that another one belongs to.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Owner {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(default, deserialize_with = "or_default")]
    controller: bool,
}

impl Meta {
    /// What the object is known by among those of its kind: `NAMESPACE/NAME`, or `NAME` outside of namespaces.
    pub(crate) fn key(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }

    /// The object that made this one and looks after it.
    pub(crate) fn controller(&self) -> Option<&Owner> {
        self.owner_references.iter().find(|owner| owner.controller)
    }
}

/// Null means the same as an absent key.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Labels while they are gathered. Of a name set twice the last value counts, and an empty value means no label.
#[derive(Debug, Default)]
pub(crate) struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Pairs<'a> {
    /// Sets `__meta_kubernetes_NAME`.
    pub(crate) fn meta(&mut self, name: impl Display, value: impl Into<Cow<'a, str>>) -> &mut Self {
        self.0.push((format!("{PREFIX}{name}").into(), value.into()));
        self
    }

    /// Sets the label of this whole name.
    pub(crate) fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) -> &mut Self {
        self.0.push((name.into(), value.into()));
        self
    }

    /// Sets `__address__`.
    pub(crate) fn address(&mut self, address: impl Into<Cow<'a, str>>) -> &mut Self {
        self.set(ADDRESS, address)
    }

    /// Sets these labels.
    pub(crate) fn extend(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> &mut Self {
        self.0.extend(labels.map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Sets what every kind has: name, labels and annotations.
    pub(crate) fn object(&mut self, kind: &str, meta: &'a Meta) -> &mut Self {
        self.meta(format_args!("{kind}_name"), meta.name.as_str()).labels_and_annotations(kind, meta)
    }

    /// Sets labels and annotations, and of each that it is present: an empty value is no label.
    pub(crate) fn labels_and_annotations(&mut self, kind: &str, meta: &'a Meta) -> &mut Self {
        for (what, entries) in [("label", &meta.labels), ("annotation", &meta.annotations)] {
            for (name, value) in entries {
                let name = sanitize(name);
                self.meta(format_args!("{kind}_{what}_{name}"), value.as_str());
                self.meta(format_args!("{kind}_{what}present_{name}"), "true");
            }
        }
        self
    }

    /// The finished set.
    pub(crate) fn pack(self) -> Packed {
        Packed::from_pairs(self.0)
    }
}

/// A name as part of a label name: every character but `[a-zA-Z0-9_]` becomes `_`.
pub(crate) fn sanitize(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// `HOST:PORT`, an IPv6 address in brackets.
pub(crate) fn join_host_port(host: &str, port: impl Display) -> String {
    if host.contains([':', '%']) { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_become_labels_and_presence() {
        let meta: Meta = serde_json::from_str(
            r#"{"name": "n", "labels": {"app.kubernetes.io/name": "x", "empty": ""}, "annotations": {"a-ö": "1"},
                "managedFields": [{"deep": {"er": [1, 2]}}], "ownerReferences": null}"#,
        )
        .unwrap();
        let mut pairs = Pairs::default();
        pairs.object("pod", &meta);
        let expected = [
            ("__meta_kubernetes_pod_annotation_a__", "1"),
            ("__meta_kubernetes_pod_annotationpresent_a__", "true"),
            ("__meta_kubernetes_pod_label_app_kubernetes_io_name", "x"),
            ("__meta_kubernetes_pod_labelpresent_app_kubernetes_io_name", "true"),
            ("__meta_kubernetes_pod_labelpresent_empty", "true"),
            ("__meta_kubernetes_pod_name", "n"),
        ];
        assert_eq!(pairs.pack().iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn ipv6_addresses_stand_in_brackets() {
        assert_eq!(join_host_port("10.0.0.1", 80), "10.0.0.1:80");
        assert_eq!(join_host_port("fd00::1", 80), "[fd00::1]:80");
    }
}
