//! Remarks on the labels that a relabelling rule reads.

use std::cell::LazyCell;

use super::rules::{NEIGHBOURS_MAX, Stage, Written, action};
use crate::config::raw::{Given, RawRule, RawScrapeConfig};
use crate::config::report::Report;

/// Labels that are not there yet, or no more, when this rule runs.
pub(super) fn labels_of_another_stage(
    report: &mut Report,
    rule: &RawRule,
    stage: Stage,
    earlier: &[Written<'_>],
) {
    if action(rule).starts_with("label") {
        return;
    }
    let sources = rule.source_labels.get().map_or(&[][..], |list| &**list);
    let may_set_instance = LazyCell::new(|| may_set_instance(earlier));
    for source in sources {
        let Given::Is(name, spot) = source else { continue };
        if earlier.iter().any(|earlier| sets(earlier.raw, name)) {
            continue;
        }
        match stage {
            Stage::Target { .. } if &**name == "__name__" => {
                report
                    .warning(*spot, "targets have no metric name yet, so this is always empty")
                    .value(name)
                    .hint("move the rule to metric_relabel_configs, where samples are relabelled");
            }
            Stage::Target { with_instance: false } if &**name == "instance" && !*may_set_instance => {
                report
                    .warning(
                        *spot,
                        "instance is not set yet, so this is always empty: only after these rules it becomes what __address__ is then",
                    )
                    .value(name)
                    .hint("use __address__ here");
            }
            Stage::Metric | Stage::Write if is_of_targets(name) => {
                report
                    .warning(
                        *spot,
                        "samples do not have the labels of discovery any more, so this is always empty",
                    )
                    .value(name)
                    .hint("copy it to a label without __ in relabel_configs, and use that here");
            }
            Stage::Target { .. } => {
                if let Some(made) = as_discovery_makes_it(name) {
                    report
                        .warning(*spot, "discovery makes no label of this name, so this is always empty")
                        .value(name)
                        .hint(format!("write {made}"));
                }
            }
            Stage::Metric | Stage::Write => {}
        }
    }
}

/// Whether a target of this job may come with a label `instance` of its own. Discovery on Kubernetes and in DNS sets none;
/// what files and answers hold is not known here.
pub(crate) fn may_come_with_instance(job: &RawScrapeConfig) -> bool {
    let groups = job.static_configs.get().map_or(&[][..], |list| &**list);
    let mut labels = groups.iter().filter_map(|group| group.get()?.labels.get());
    job.file_sd_configs.spot().is_some()
        || job.http_sd_configs.spot().is_some()
        || labels.any(|labels| labels.iter().any(|pair| &*pair.name == "instance"))
}

/// Whether a rule sets this label, and says so in as many words.
fn sets(rule: &RawRule, label: &str) -> bool {
    rule.target_label.get().is_some_and(|target| **target == *label)
}

/// Whether one of these rules may set `instance` by a name that it makes of others, or one that is not looked at may.
fn may_set_instance(earlier: &[Written<'_>]) -> bool {
    let makes_names = |rule: &RawRule| {
        action(rule) == "labelmap" || rule.target_label.get().is_some_and(|target| target.contains('$'))
    };
    earlier.len() >= NEIGHBOURS_MAX || earlier.iter().any(|earlier| makes_names(earlier.raw))
}

/// How discovery on Kubernetes writes a name that it does not make as it stands: all but ASCII letters and digits are
/// underscores, and `label` and `annotation` are in the singular.
fn as_discovery_makes_it(name: &str) -> Option<String> {
    let (object, rest) = name.strip_prefix("__meta_kubernetes_")?.split_once('_')?;
    let mut rest = rest.to_owned();
    for of in ["label", "annotation"] {
        if let Some(key) = rest.strip_prefix(of).and_then(|rest| rest.strip_prefix("s_")) {
            rest = format!("{of}_{key}");
        }
    }
    let sanitized = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let made = format!("__meta_kubernetes_{object}_{}", rest.chars().map(sanitized).collect::<String>());
    (made != name).then_some(made)
}

/// Whether only targets have such a label.
fn is_of_targets(name: &str) -> bool {
    name.starts_with("__meta_")
        || name.starts_with("__param_")
        || matches!(name, "__address__" | "__scheme__" | "__metrics_path__")
}
