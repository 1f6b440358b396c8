//! Files that are something else than a Prometheus configuration, named for what they are.

use super::report::{PathId, Report, Spot};
use super::yaml::{self, Document, Kind, Node, NodeId, Resolved, Tree, resolve};

/// Reports a file that is recognised as something else. True: it was.
pub(crate) fn is_foreign(report: &mut Report, file: u32, tree: &Tree, root: NodeId) -> bool {
    let node = tree.node(root);
    let Some((message, hint)) = recognise(tree, node) else { return false };
    let spot = Spot { file, line: node.line, column: node.column, path: PathId::default() };
    report.error(spot, message).hint(hint);
    true
}

/// The first document of a file is empty, as Helm prints it where a template begins with a comment and `---`. What stands behind
/// it nobody reads; names it, where it is recognised.
pub(crate) fn name_unread(report: &mut Report, file: u32, bytes: &[u8], mut document: Document) {
    let mut rest = bytes;
    let mut above = 0;
    for _ in 0..EMPTY_DOCUMENTS_MAX {
        let Some(line) = document.unread else { return };
        let before = line.saturating_sub(1);
        let skipped =
            rest.split_inclusive(|byte| *byte == b'\n').take(before as usize).map(<[u8]>::len).sum();
        (rest, above) = (&rest[skipped..], above + before);
        document = yaml::parse(rest);
        let Some(root) = document.root.map(|root| document.tree.node(root)) else { continue };
        if matches!(&root.kind, Kind::Scalar(scalar) if resolve(scalar) == Resolved::Null) {
            continue;
        }
        if let Some((message, hint)) = recognise(&document.tree, root) {
            let line = above + root.line;
            let spot = Spot { file, line, column: root.column, path: PathId::default() };
            report.warning(spot, format!("the first document is empty; the next: {message}")).hint(hint);
        }
        return;
    }
}

/// So many empty documents are passed over.
const EMPTY_DOCUMENTS_MAX: usize = 16;

fn recognise(tree: &Tree, root: &Node) -> Option<(String, &'static str)> {
    match &root.kind {
        Kind::Sequence(items) => {
            let first = tree.node(*items.first()?);
            if text(tree, first, "job_name").is_some() {
                let hint = "put this list under the key scrape_configs";
                return Some(("this is a list of jobs without the key scrape_configs".to_owned(), hint));
            }
            if let Some((version, kind)) = version_and_kind(tree, first) {
                return Some(resource(version, kind, true));
            }
            value(tree, first, "targets")?;
            let hint = "name this file under file_sd_configs: [{files: […]}] of a job";
            Some((
                "this is a list of target groups for file_sd_configs, not a configuration".to_owned(),
                hint,
            ))
        }
        Kind::Mapping(_) => manifest(tree, root).or_else(|| other_config(tree, root)),
        Kind::Scalar(_) | Kind::Broken => None,
    }
}

/// Reports a file of Grafana Alloy, whose language is no YAML: some of it is a text to YAML, and the rest a mistake at the first colon.
/// True: it is one.
pub(crate) fn is_alloy(report: &mut Report, file: u32, bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').position(|line| {
        let line = line.trim_ascii();
        COMPONENTS.iter().any(|begin| line.starts_with(begin.as_bytes()))
            && line.contains(&b'"')
            && line.ends_with(b"{")
    });
    let Some(line) = line else { return false };
    let spot = Spot { file, line: line as u32 + 1, column: 1, path: PathId::default() };
    let hint = "promring reads a Prometheus configuration: write each prometheus.scrape as an entry of scrape_configs, rules of discovery.relabel as its relabel_configs, and the endpoint of prometheus.remote_write as remote_write";
    report.error(spot, "this is a configuration of Grafana Alloy").hint(hint);
    true
}

/// What the components of Alloy that have to do with metrics begin with.
const COMPONENTS: [&str; 6] = ["prometheus.", "discovery.", "otelcol.", "mimir.", "remote.", "local."];

fn manifest(tree: &Tree, root: &Node) -> Option<(String, &'static str)> {
    let (version, kind) = version_and_kind(tree, root)?;
    // `kubectl get -o yaml` prints a List of all kinds, and the API has a list of its own for each.
    let Some(kind_of_items) = kind.strip_suffix("List") else { return Some(resource(version, kind, false)) };
    let first = match value(tree, root, "items").map(|items| &items.kind) {
        Some(Kind::Sequence(items)) => {
            items.first().and_then(|item| version_and_kind(tree, tree.node(*item)))
        }
        _ => None,
    };
    let named = (version, kind_of_items);
    Some(match first.or(Some(named).filter(|_| !kind_of_items.is_empty())) {
        Some((version, kind)) => resource(version, kind, true),
        None => resource(version, kind, false),
    })
}

/// What a resource is, or a list of them, and what to do instead of giving it here.
fn resource(version: &str, kind: &str, is_list: bool) -> (String, &'static str) {
    let group = version.split('/').next().unwrap_or_default();
    let operator = group == "monitoring.coreos.com" || group == "monitoring.rhobs";
    let hint = match (operator, kind) {
        (true, "ServiceMonitor" | "PodMonitor" | "Probe" | "ScrapeConfig") => {
            "promring does not read prometheus-operator's resources yet; write a job with kubernetes_sd_configs instead"
        }
        (true, "PrometheusRule") => "rules run where the samples are sent to; promring evaluates none",
        (true, _) => {
            "promring does not read prometheus-operator's resources yet; write a Prometheus configuration instead"
        }
        (false, "OpenTelemetryCollector") => {
            "take out what stands under spec.config.receivers.prometheus.config, as a file of its own, with $ for each $$"
        }
        (false, _) if group == "operator.victoriametrics.com" => {
            "promring does not read the VictoriaMetrics operator's resources; write a job with kubernetes_sd_configs instead"
        }
        (false, "ConfigMap" | "Secret") => "check the file that stands under its key data, not the manifest",
        (false, _) => "promring reads a Prometheus configuration",
    };
    let whose = if operator { "prometheus-operator" } else { "Kubernetes" };
    let kind = format!("{} {kind}", if kind.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" });
    let what = if is_list { format!("a list whose first item is {kind}") } else { kind };
    (format!("this is {what} of {whose} ({version}), not a Prometheus configuration"), hint)
}

fn version_and_kind<'t>(tree: &'t Tree, map: &Node) -> Option<(&'t str, &'t str)> {
    Some((text(tree, map, "apiVersion")?, text(tree, map, "kind")?))
}

fn other_config(tree: &Tree, root: &Node) -> Option<(String, &'static str)> {
    // `{{ .Values.x }}` is a map whose key is a map.
    if let Kind::Mapping(pairs) = &root.kind
        && pairs
            .iter()
            .any(|(key, _)| matches!(&tree.node(*key).kind, Kind::Mapping(inner) if !inner.is_empty()))
    {
        return Some(("this looks like an unrendered template ({{ … }})".to_owned(), "render it first"));
    }
    let has = |key| value(tree, root, key).is_some();
    if has("scrape_configs") || has("global") {
        return None;
    }
    if has("receivers") && ["service", "exporters", "processors"].into_iter().any(has) {
        let hint = "take out what stands under receivers.prometheus.config, as a file of its own, with $ for each $$; write the endpoint of exporters.prometheusremotewrite as remote_write: [{url: …}]";
        return Some(("this is a configuration of the OpenTelemetry Collector".to_owned(), hint));
    }
    let of_agent = ["metrics", "prometheus"]
        .into_iter()
        .filter_map(|key| value(tree, root, key))
        .any(|part| ["configs", "wal_directory"].iter().any(|key| value(tree, part, key).is_some()));
    if of_agent {
        let hint = "its jobs stand under metrics.configs: write scrape_configs and remote_write at the top of a file, and global beside them";
        return Some(("this is a configuration of the Grafana Agent".to_owned(), hint));
    }
    let of_chart = |map: &Node| {
        ["serverFiles", "prometheusSpec", "additionalScrapeConfigs", "extraScrapeConfigs"]
            .iter()
            .any(|key| value(tree, map, key).is_some())
    };
    if of_chart(root) || value(tree, root, "prometheus").is_some_and(of_chart) {
        let hint = "check the file that the chart makes of them: what stands under scrape_configs, serverFiles or additionalScrapeConfigs";
        return Some((
            "these are the values of a Helm chart, not a Prometheus configuration".to_owned(),
            hint,
        ));
    }
    if has("groups") {
        let hint = "rules run where the samples are sent to; promring evaluates none";
        return Some(("this is a file of alerting or recording rules".to_owned(), hint));
    }
    if has("route") && has("receivers") {
        return Some((
            "this is a configuration of the Alertmanager".to_owned(),
            "promring reads a Prometheus configuration",
        ));
    }
    if let Some(modules) = value(tree, root, "modules") {
        let Kind::Mapping(pairs) = &modules.kind else { return None };
        let is_prober = |module: &Node| value(tree, module, "prober").is_some();
        let blackbox = pairs.iter().any(|(_, module)| is_prober(tree.node(*module)));
        let whose = if blackbox { "the blackbox exporter" } else { "an exporter" };
        let hint = "give it to the exporter; a job names one of its modules: params: {module: [NAME]}";
        return Some((format!("this is a configuration of {whose}"), hint));
    }
    if has("server") && has("clients") && has("positions") {
        return Some((
            "this is a configuration of promtail".to_owned(),
            "promring reads a Prometheus configuration",
        ));
    }
    None
}

fn value<'t>(tree: &'t Tree, map: &Node, key: &str) -> Option<&'t Node> {
    let Kind::Mapping(pairs) = &map.kind else { return None };
    pairs.iter().find_map(|(name, value)| match &tree.node(*name).kind {
        Kind::Scalar(scalar) if *scalar.text == *key => Some(tree.node(*value)),
        _ => None,
    })
}

fn text<'t>(tree: &'t Tree, map: &Node, key: &str) -> Option<&'t str> {
    match &value(tree, map, key)?.kind {
        Kind::Scalar(scalar) => Some(&scalar.text),
        _ => None,
    }
}
