//! `kubernetes_sd_configs`.

use super::Builder;
use super::http::{HttpDefaults, filled};
use super::paths;
use crate::config::raw::{Given, List, RawAttach, RawKubernetes, RawSelector, Section, Text};
use crate::config::report::Spot;
use crate::config::{
    HttpClientConfig, KubernetesAccess, KubernetesAttach, KubernetesDiscovery, KubernetesRole,
    KubernetesSelector, selector,
};

use KubernetesRole::{EndpointSlice, Endpoints, Ingress, Node, Pod, Service};

impl Builder<'_> {
    pub(super) fn kubernetes_sd(&mut self, raw: &RawKubernetes, spot: Spot) -> Option<KubernetesDiscovery> {
        let role = self.kubernetes_role(&raw.role, spot);
        let access = self.kubernetes_access(raw, spot);
        let namespaces = raw.namespaces.get();
        let own_namespace = namespaces.is_some_and(|raw| self.bool(&raw.own_namespace, false));
        if own_namespace {
            let own_spot = namespaces.and_then(|raw| raw.own_namespace.spot()).unwrap_or(spot);
            for (key, given) in [("api_server", &raw.api_server), ("kubeconfig_file", &raw.kubeconfig_file)] {
                if filled(given).is_some() {
                    self.report
                        .error(own_spot, format!("own_namespace and {key} exclude each other"))
                        .hint("list the namespace under namespaces.names");
                }
            }
        }
        let names = namespaces.map(|raw| self.texts(&raw.names)).unwrap_or_default();
        let attach = self.attach(&raw.attach_metadata);
        let role = role?;
        let selectors = self.selectors(&raw.selectors, role);
        Some(KubernetesDiscovery {
            role,
            access: access?,
            namespaces: names,
            own_namespace,
            selectors,
            attach,
        })
    }

    fn kubernetes_role(&mut self, raw: &Given<Text>, section: Spot) -> Option<KubernetesRole> {
        match raw {
            Given::Is(text, spot) => {
                let choices = KubernetesRole::ALL.map(|role| (role.as_str(), role));
                self.one_of(*spot, text, &choices, "Kubernetes role")
            }
            Given::Broken(_) => None,
            other => {
                self.report
                    .error(other.spot().unwrap_or(section), "kubernetes_sd_config without role")
                    .hint("add role: pod (or service, endpoints, endpointslice, node, ingress)");
                None
            }
        }
    }

    fn kubernetes_access(&mut self, raw: &RawKubernetes, spot: Spot) -> Option<KubernetesAccess> {
        let http = self.http_client(&raw.http, HttpDefaults::SCRAPE, spot);
        let standard = HttpClientConfig { follow_redirects: true, enable_http2: true, ..Default::default() };
        // An empty proxy_url counts as one here, as it does in Prometheus, and so do empty maps of headers.
        let proxy = &raw.http.proxy;
        let custom = http != standard
            || proxy.proxy_url.get().is_some()
            || proxy.proxy_connect_header.get().is_some()
            || raw.http.http_headers.get().is_some();
        let (server, kubeconfig) = (filled(&raw.api_server), filled(&raw.kubeconfig_file));
        self.at_most_one(
            &[("api_server", server), ("kubeconfig_file", kubeconfig)],
            "name the API server in one way only",
        );
        if let (Some(_), Some(file)) = (kubeconfig, raw.kubeconfig_file.get()) {
            if custom {
                self.report
                    .error(spot, "HTTP client settings beside kubeconfig_file")
                    .hint("put credentials and TLS into the kubeconfig file");
            }
            let path = paths::join(&self.dir, file);
            self.file_is_here(&path, raw.kubeconfig_file.spot().unwrap_or(spot));
            return Some(KubernetesAccess::Kubeconfig(path));
        }
        if let (Some(url_spot), Some(text)) = (server, raw.api_server.get()) {
            let url = self.http_url(text, url_spot)?;
            return Some(KubernetesAccess::Server { url, http: Box::new(http) });
        }
        if custom && !raw.api_server.is_broken() {
            self.report
                .error(spot, "HTTP client settings without api_server")
                .hint("within the cluster none are needed: remove them; these settings are for the API server, those for the targets belong to the job");
        }
        Some(KubernetesAccess::InCluster)
    }

    fn selectors(&mut self, raw: &Given<List<RawSelector>>, role: KubernetesRole) -> Vec<KubernetesSelector> {
        let mut selectors: Vec<KubernetesSelector> = Vec::new();
        for item in self.items(raw) {
            let (item, spot) = match item {
                Given::Is(item, spot) => (item, *spot),
                Given::Null(spot) => {
                    self.empty_item(*spot, RawSelector::NAME);
                    continue;
                }
                Given::Absent | Given::Broken(_) => continue,
            };
            let Some(of) = self.kubernetes_role(&item.role, spot) else { continue };
            let role_spot = item.role.spot().unwrap_or(spot);
            let allowed = selectable(role);
            if !allowed.contains(&of) {
                let names: Vec<&str> = allowed.iter().map(|role| role.as_str()).collect();
                self.report
                    .error(
                        role_spot,
                        format!("the role {} cannot be narrowed by this selector", role.as_str()),
                    )
                    .value(of.as_str())
                    .hint(format!("it takes selectors of: {}", names.join(", ")));
            }
            if selectors.iter().any(|known| known.role == of) {
                self.report
                    .error(role_spot, "a second selector of this role")
                    .value(of.as_str())
                    .hint("join both with a comma in one selector");
            }
            let (label, field) = (self.text(&item.label, ""), self.text(&item.field, ""));
            for (given, problem) in [
                (&item.label, selector::label_problem(&label)),
                (&item.field, selector::field_problem(&field)),
            ] {
                if let (Some(problem), Given::Is(text, spot)) = (problem, given) {
                    self.report.error(*spot, problem.message).value(text).hint(problem.hint);
                }
            }
            selectors.push(KubernetesSelector { role: of, label, field });
        }
        selectors
    }

    fn attach(&mut self, raw: &Given<RawAttach>) -> KubernetesAttach {
        let Some(raw) = raw.get() else { return KubernetesAttach::default() };
        KubernetesAttach {
            node: self.bool(&raw.node, false),
            namespace: self.bool(&raw.namespace, false),
            deployment: self.bool(&raw.deployment, false),
            job: self.bool(&raw.job, false),
            cronjob: self.bool(&raw.cronjob, false),
        }
    }
}

/// The roles whose objects a discovery of this role watches, and which selectors may therefore narrow.
fn selectable(role: KubernetesRole) -> &'static [KubernetesRole] {
    match role {
        Pod => &[Pod, Node],
        Service => &[Service],
        Endpoints => &[Pod, Service, Endpoints],
        EndpointSlice => &[Pod, Service, EndpointSlice],
        Node => &[Node],
        Ingress => &[Ingress],
    }
}
