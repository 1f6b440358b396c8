//! Target groups in files of their own, as `file_sd_configs` reads them, and in answers to `http_sd_configs`.

mod json;

use std::path::Path;

use super::raw::{At, Given, List, RawTargetGroup, Reader};
use super::report::{PathId, Report, Spot};
use super::{Diagnostic, remarks, yaml};
use crate::labels::Labels;
use crate::target::{ADDRESS, TargetGroup};

/// A group whose targets know where they stand.
pub(crate) struct SpottedGroup {
    pub(crate) labels: Labels,
    pub(crate) targets: Vec<(Labels, Spot)>,
}

/// What a good file of target groups says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupsOfFile {
    /// Their sources are `PATH:0`, `PATH:1` and so on; `__meta_filepath` is for discovery to add.
    pub groups: Vec<TargetGroup>,
    /// What in the file has no effect.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a file of target groups: JSON or YAML by the end of its name. YAML may have
/// [`FILE_BYTES_MAX`](super::FILE_BYTES_MAX); JSON is for the caller to bound ([`TARGETS_BYTES_MAX`](super::TARGETS_BYTES_MAX)).
///
/// # Errors
/// What is wrong with the file, with lines and hints; there is one error at least.
pub fn target_groups(path: &Path, bytes: &[u8]) -> Result<GroupsOfFile, Vec<Diagnostic>> {
    let mut report = Report::default();
    let groups = read(&mut report, path, bytes);
    let groups = groups.filter(|_| !report.has_errors());
    let warnings = report.finish().0;
    let Some(groups) = groups else { return Err(warnings) };
    let source = |index| format!("{}:{index}", path.display());
    let groups = groups.into_iter().enumerate().map(|(index, group)| TargetGroup {
        source: source(index),
        labels: group.labels,
        targets: group.targets.into_iter().map(|(target, _)| target).collect(),
    });
    Ok(GroupsOfFile { groups: groups.collect(), warnings })
}

/// Reads target groups in JSON, as `http_sd_configs` gets them. The groups' sources are `NAME:0`, `NAME:1`, ….
///
/// # Errors
/// What is wrong with it, with line and column.
pub fn target_groups_json(name: &str, bytes: &[u8]) -> Result<Vec<TargetGroup>, String> {
    let read = json::Groups::read(bytes).map_err(|json::Problem { line, column, message }| {
        if line == 0 { message } else { format!("line {line}, column {column}: {message}") }
    })?;
    let group = |(index, group): (usize, json::Group)| TargetGroup {
        source: format!("{name}:{index}"),
        labels: group.labels,
        targets: group.targets.into_iter().map(|(target, _)| target).collect(),
    };
    Ok(read.groups.into_iter().enumerate().map(group).collect())
}

/// Reads a file of target groups into a report. `None` where there is nothing to go on with.
pub(crate) fn read(report: &mut Report, path: &Path, bytes: &[u8]) -> Option<Vec<SpottedGroup>> {
    let file = report.file(path);
    let whole = Spot { file, line: 0, column: 0, path: PathId::default() };
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match &*ending {
        "json" => read_json(report, whole, bytes),
        "yml" | "yaml" => read_yaml(report, whole, bytes),
        _ => {
            report
                .error(whole, "a file of targets ends in .json, .yml or .yaml")
                .hint("rename the file: the end of its name says how it is read");
            None
        }
    }
}

fn read_json(report: &mut Report, whole: Spot, bytes: &[u8]) -> Option<Vec<SpottedGroup>> {
    let spot = |(line, column): (usize, usize)| Spot { line: line as u32, column: column as u32, ..whole };
    match json::Groups::read(bytes) {
        Ok(mut read) => {
            let groups = std::mem::take(&mut read.groups);
            let mut spotted = |(target, at): (Labels, usize)| {
                let spot = spot(read.place(at));
                remarks::unexpanded(report, spot, target.get(ADDRESS).unwrap_or_default());
                (target, spot)
            };
            let groups = groups.into_iter().map(|group| SpottedGroup {
                labels: group.labels,
                targets: group.targets.into_iter().map(&mut spotted).collect(),
            });
            Some(groups.collect())
        }
        Err(json::Problem { line, column, message }) => {
            report
                .error(spot((line, column)), format!("not a list of target groups: {message}"))
                .hint("write [{\"targets\": [\"HOST:PORT\"], \"labels\": {\"NAME\": \"VALUE\"}}]");
            None
        }
    }
}

fn read_yaml(report: &mut Report, whole: Spot, bytes: &[u8]) -> Option<Vec<SpottedGroup>> {
    let document = yaml::parse(bytes);
    yaml::report_problems(report, whole, &document);
    let Some(root) = document.root else {
        return document.problems.is_empty().then(Vec::new);
    };
    let at = At { node: root, path: PathId::default() };
    let list: Given<List<RawTargetGroup>> = Reader::new(report, &document.tree, whole.file).given(at);
    let list = match &list {
        Given::Is(list, _) => list,
        Given::Absent | Given::Null(_) => return Some(Vec::new()),
        Given::Broken(_) => return None,
    };
    let items = match &document.tree.node(root).kind {
        yaml::Kind::Sequence(items) => items.as_slice(),
        _ => &[],
    };
    // Prometheus takes these two for a group, and the other forms of null for none.
    let is_group = |id: &yaml::NodeId| match &document.tree.node(*id).kind {
        yaml::Kind::Scalar(scalar) => matches!(&*scalar.text, "Null" | "NULL"),
        _ => false,
    };
    let mut groups = Vec::new();
    for (item, id) in list.iter().zip(items) {
        match item {
            Given::Is(group, _) => groups.push(spotted(report, group)),
            Given::Null(_) if is_group(id) => {
                groups.push(SpottedGroup { labels: Labels::default(), targets: Vec::new() });
            }
            Given::Null(spot) => {
                report.error(*spot, "an empty target group").hint("remove the dash");
            }
            Given::Absent | Given::Broken(_) => {}
        }
    }
    Some(groups)
}

/// A group of the raw configuration.
pub(crate) fn spotted(report: &mut Report, raw: &RawTargetGroup) -> SpottedGroup {
    let mut targets = Vec::new();
    for item in raw.targets.get().map_or(&[][..], |list| &**list) {
        match item {
            Given::Is(address, spot) => targets.push((Labels::from_pairs([(ADDRESS, &**address)]), *spot)),
            // Prometheus takes it, as one without an address.
            Given::Null(spot) => targets.push((Labels::from_pairs([(ADDRESS, "")]), *spot)),
            Given::Absent | Given::Broken(_) => {}
        }
    }
    let mut pairs = Vec::new();
    for pair in raw.labels.get().map_or(&[][..], |map| &**map) {
        if pair.name.is_empty() {
            report
                .error(pair.spot, "a label without a name")
                .hint("write a name before the colon, or remove the label");
        }
        pairs.push((pair.name.clone(), pair.value.get().cloned().unwrap_or_else(|| "".into())));
    }
    SpottedGroup { labels: Labels::from_pairs(pairs), targets }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_replaced_in_json_as_go_does() {
        let bytes = [b"[{\"targets\": [\"a".as_slice(), b"\xff", b"\"]}]"].concat();
        let groups = target_groups_json("n", &bytes).unwrap();
        assert_eq!(groups[0].targets[0].get(ADDRESS), Some("a\u{fffd}"));
    }

    fn read(name: &str, text: &str) -> Result<Vec<TargetGroup>, String> {
        target_groups(Path::new(name), text.as_bytes())
            .map(|file| file.groups)
            .map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let json =
            read("t.json", r#"[{"targets": ["a:1", "b:2"], "labels": {"env": "x"}}, {"targets": ["c:3"]}]"#);
        let yaml = read("t.json", "[]")
            .and_then(|_| read("t.yml", "- targets: [a:1, b:2]\n  labels: {env: x}\n- targets: ['c:3']\n"));
        let (json, yaml) = (json.unwrap(), yaml.unwrap());
        assert_eq!(json[0].source, "t.json:0");
        assert_eq!(json[1].source, "t.json:1");
        assert_eq!(json[0].targets[1].get(ADDRESS), Some("b:2"));
        assert_eq!(json[0].labels.get("env"), Some("x"));
        for (json, yaml) in json.iter().zip(&yaml) {
            assert_eq!((&json.labels, &json.targets), (&yaml.labels, &yaml.targets));
        }
    }
}
