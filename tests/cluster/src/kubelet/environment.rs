//! A container's environment variables, and the `$(NAME)` in its command.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret};
use kube::{Api, ResourceExt};

use super::pod::Running;
use crate::control_plane::API_PORT;
use crate::network::BRIDGE;

/// All variables of a container.
///
/// # Errors
/// Where one refers to what is not there.
pub(super) async fn variables(
    pod: &Running,
    container: &Container,
    address: Ipv4Addr,
) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::from(
        [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("HOSTNAME", pod.name.clone()),
            ("KUBERNETES_SERVICE_HOST", BRIDGE.to_string()),
            ("KUBERNETES_SERVICE_PORT", API_PORT.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    if container.env_from.is_some() {
        return Err("envFrom is not supported by this kubelet".to_owned());
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value {
            Some(value) => Some(expand(value, &variables)),
            None => referred(pod, variable, address).await?,
        };
        if let Some(value) = value {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

/// Replaces `$(NAME)` by the variable's value, and `$$` by a dollar sign; unknown names stay as they are.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded += &rest[..at];
        let after = &rest[at + 1..];
        let name = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((value, after)) =
            name.and_then(|(name, after)| Some((variables.get(name)?, after)))
        {
            expanded += value;
            rest = after;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded + rest
}

/// A field of the pod as the downward API names it; None for one that this kubelet does not know.
pub(super) fn field(pod: &Pod, path: &str, address: Option<Ipv4Addr>) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
    if let Some(key) = keyed("metadata.labels") {
        return Some(pod.labels().get(key).cloned().unwrap_or_default());
    }
    if let Some(key) = keyed("metadata.annotations") {
        return Some(pod.annotations().get(key).cloned().unwrap_or_default());
    }
    match path {
        "metadata.name" => Some(pod.name_any()),
        "metadata.namespace" => pod.namespace(),
        "metadata.uid" => pod.uid(),
        "spec.nodeName" => spec.node_name.clone(),
        "spec.serviceAccountName" => spec.service_account_name.clone(),
        "status.podIP" => address.map(|address| address.to_string()),
        "status.hostIP" => Some(BRIDGE.to_string()),
        _ => None,
    }
}

async fn referred(pod: &Running, variable: &EnvVar, address: Ipv4Addr) -> Result<Option<String>, String> {
    let Some(source) = &variable.value_from else { return Ok(Some(String::new())) };
    if let Some(reference) = &source.field_ref {
        let value = field(&pod.pod, &reference.field_path, Some(address));
        return value.map(Some).ok_or_else(|| format!("unknown field {}", reference.field_path));
    }
    let client = pod.shared.client.clone();
    let (found, what, optional) = if let Some(reference) = &source.config_map_key_ref {
        let maps: Api<ConfigMap> = Api::namespaced(client, &pod.namespace);
        let map = maps.get_opt(&reference.name).await.map_err(|error| error.to_string())?;
        let value = map.and_then(|map| map.data).and_then(|data| data.get(&reference.key).cloned());
        (value, format!("{}/{}", reference.name, reference.key), reference.optional)
    } else if let Some(reference) = &source.secret_key_ref {
        let secrets: Api<Secret> = Api::namespaced(client, &pod.namespace);
        let secret = secrets.get_opt(&reference.name).await.map_err(|error| error.to_string())?;
        let value = secret.and_then(|secret| secret.data).and_then(|data| data.get(&reference.key).cloned());
        let value = value.map(|value| String::from_utf8_lossy(&value.0).into_owned());
        (value, format!("{}/{}", reference.name, reference.key), reference.optional)
    } else {
        return Err(format!("the source of {} is not supported by this kubelet", variable.name));
    };
    match found {
        None if optional != Some(true) => Err(format!("{what} is not there")),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_variables_are_expanded_and_nothing_else_is() {
        let variables = BTreeMap::from([("NAME".to_owned(), "app-0".to_owned())]);
        for (text, wanted) in [
            ("http://$(NAME).app:1", "http://app-0.app:1"),
            ("$$(NAME) $(OTHER) $NAME $", "$(NAME) $(OTHER) $NAME $"),
            ("$(NAME", "$(NAME"),
        ] {
            assert_eq!(expand(text, &variables), wanted);
        }
    }
}
