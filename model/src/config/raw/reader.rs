//! The walk over a file's tree: one typed step at a time, with every finding where it belongs.

use std::collections::HashMap;
use std::sync::Arc;

use super::{FromNode, Given, Section};
use crate::config::hints::Wanted;
use crate::config::report::{PathId, Report, Spot, without_value};
use crate::config::yaml::{Kind, NodeId, Resolved, Scalar, Tree, resolve};
use crate::config::{hints, masked, remarks};

/// Steps that a walk may take beyond one for each node of the file. Without aliases it takes one a node;
/// a few hundred bytes of nested aliases can stand for billions.
const EXTRA_STEPS_MAX: usize = 500_000;
/// Bytes of a value that count as one more step, so that many copies of a long text, or of a section with many
/// keys, are bounded too.
const BYTES_A_STEP: usize = 256;

/// A node to be read, and the key path that led there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) node: NodeId,
    pub(crate) path: PathId,
}

/// Walks over one file.
pub(crate) struct Reader<'a> {
    pub(crate) report: &'a mut Report,
    tree: &'a Tree,
    file: u32,
    steps_left: usize,
    exhausted: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(report: &'a mut Report, tree: &'a Tree, file: u32) -> Self {
        Self { report, tree, file, steps_left: tree.len() + EXTRA_STEPS_MAX, exhausted: false }
    }

    pub(crate) fn kind(&self, at: At) -> &'a Kind {
        &self.tree.node(at.node).kind
    }

    pub(crate) fn spot(&self, at: At) -> Spot {
        let node = self.tree.node(at.node);
        Spot { file: self.file, line: node.line, column: node.column, path: at.path }
    }

    /// Reads what a key says.
    pub(crate) fn given<T: FromNode>(&mut self, at: At) -> Given<T> {
        let spot = self.spot(at);
        if !self.step(at, spot, size_of::<T>()) {
            return Given::Broken(spot);
        }
        match self.kind(at) {
            Kind::Broken => Given::Broken(spot),
            Kind::Scalar(scalar) if resolve(scalar) == Resolved::Null => Given::Null(spot),
            _ => T::from_node(self, at).map_or(Given::Broken(spot), |value| Given::Is(value, spot)),
        }
    }

    /// Reads what a key says into its field, where a merge key may have brought something. Prometheus fills maps up then, but for
    /// those that it begins anew.
    pub(crate) fn give<T: FromNode>(&mut self, field: &mut Given<T>, key: &str, at: At) {
        let spot = self.spot(at);
        if let Given::Is(value, before) = field
            && matches!(self.kind(at), Kind::Mapping(_))
            && !BEGUN_ANEW.contains(&key)
        {
            if !self.step(at, spot, size_of::<T>()) {
                *field = Given::Broken(spot);
                return;
            }
            if value.fill_up(self, at).is_some() {
                *before = spot;
                return;
            }
        }
        *field = self.given(at);
    }

    /// The scalar here; a list or a map is reported, with `wanted` for what should be here.
    pub(crate) fn scalar(&mut self, at: At, wanted: &str) -> Option<&'a Scalar> {
        match self.kind(at) {
            Kind::Scalar(scalar) => Some(scalar),
            other => {
                self.mismatch(at, wanted, other, Wanted::Text);
                None
            }
        }
    }

    /// Reports a scalar that is not what its key wants.
    pub(crate) fn refuse(&mut self, at: At, message: &str, text: &str, hint: impl Into<String>) {
        let hint = remarks::variable_hint(text).map_or_else(|| hint.into(), str::to_owned);
        let spot = self.spot(at);
        self.report.error(spot, message).value(text).hint(hint);
    }

    /// Reads a map whose keys are known.
    pub(crate) fn section<S: Section>(&mut self, at: At) -> Option<S> {
        let mut section = S::default();
        self.fill_section(&mut section, at).then_some(section)
    }

    /// Reads a map whose keys are known over what is there.
    pub(crate) fn fill_section<S: Section>(&mut self, section: &mut S, at: At) -> bool {
        self.fill(section, at, at.path, 0)
    }

    fn fill<S: Section>(&mut self, section: &mut S, at: At, path: PathId, merges: usize) -> bool {
        let kind = self.kind(at);
        let Kind::Mapping(pairs) = kind else {
            self.mismatch(at, &format!("a map ({})", S::NAME), kind, Wanted::Section(S::NAME));
            return false;
        };
        let mut seen: HashMap<&str, u32> = HashMap::with_capacity(pairs.len());
        for (key_node, value_node) in pairs {
            let Some(key) = self.key(At { node: *key_node, path }) else { continue };
            if is_merge(key) {
                for merged in self.merged(At { node: *value_node, path }, merges) {
                    self.fill(section, merged, path, merges + 1);
                }
                continue;
            }
            let key_spot = self.spot(At { node: *key_node, path });
            if let Some(first) = seen.insert(&key.text, key_spot.line) {
                let path = self.report.key(path, key.text.clone());
                self.duplicate(Spot { path, ..key_spot }, &key.text, first);
                continue;
            }
            let name = key.text.clone();
            let step = if merges > 0 { Report::merged_key } else { Report::key };
            let value = At { node: *value_node, path: step(self.report, path, name) };
            if !section.set(&key.text, self, value) {
                let spot = Spot { path: value.path, ..key_spot };
                hints::unknown_key(
                    self.report,
                    spot,
                    S::NAME,
                    &S::keys(),
                    &key.text,
                    self.tree.node(value.node),
                );
            }
        }
        true
    }

    /// The pairs of a map whose keys are free, merge keys resolved, behind those that are there.
    pub(crate) fn fill_pairs<T: FromNode>(&mut self, pairs: &mut Vec<Pair<T>>, at: At, wanted: &str) -> bool {
        let mut seen = pairs.iter().map(|pair| (pair.name.clone(), pair.spot.line)).collect();
        self.fill_pairs_of(pairs, &mut seen, at, at.path, wanted, 0)
    }

    fn fill_pairs_of<T: FromNode>(
        &mut self,
        out: &mut Vec<Pair<T>>,
        seen: &mut HashMap<Arc<str>, u32>,
        at: At,
        path: PathId,
        wanted: &str,
        merges: usize,
    ) -> bool {
        let kind = self.kind(at);
        let Kind::Mapping(pairs) = kind else {
            self.mismatch(at, wanted, kind, Wanted::Map);
            return false;
        };
        for (key_node, value_node) in pairs {
            let Some(key) = self.key(At { node: *key_node, path }) else { continue };
            if is_merge(key) {
                for merged in self.merged(At { node: *value_node, path }, merges) {
                    self.fill_pairs_of(out, seen, merged, path, wanted, merges + 1);
                }
                continue;
            }
            let name = key.text.clone();
            let value = At { node: *value_node, path: self.report.key(path, name.clone()) };
            let spot = Spot { path: value.path, ..self.spot(At { node: *key_node, path }) };
            // Prometheus refuses a free key that a merge brought and that is written again, too.
            if let Some(first) = seen.insert(name.clone(), spot.line) {
                self.duplicate(spot, &name, first);
                // Merge keys can bring it any number of times.
                if !self.step(value, spot, 0) {
                    return false;
                }
                continue;
            }
            let given = self.given(value);
            if let (Given::Null(_), true) = (&given, key.plain) {
                hints::joined_name(self.report, spot, &name, self.kind(value));
            }
            out.push(Pair { name, spot, value: given });
        }
        true
    }

    /// The key of a pair: any scalar but null.
    fn key(&mut self, at: At) -> Option<&'a Scalar> {
        match self.kind(at) {
            Kind::Scalar(scalar) if resolve(scalar) == Resolved::Null => {
                let spot = self.spot(at);
                self.report
                    .error(spot, "a key is missing")
                    .hint("write a name before the colon, or quote it");
                None
            }
            Kind::Scalar(scalar) => Some(scalar),
            Kind::Broken => None,
            Kind::Sequence(_) | Kind::Mapping(_) => {
                let spot = self.spot(at);
                self.report
                    .error(spot, "a list or a map cannot be a key")
                    .hint("put quotes around a value that begins with { or [");
                None
            }
        }
    }

    /// What a merge key brings: a map, or a list of maps of which the first wins, so it comes last.
    fn merged(&mut self, at: At, merges: usize) -> Vec<At> {
        let spot = self.spot(at);
        // Each level is a merge key within a merged map; the tree has no cycles, but it can have many levels.
        if merges >= MERGES_MAX || !self.step(at, spot, 0) {
            return Vec::new();
        }
        match self.kind(at) {
            Kind::Mapping(_) => vec![at],
            Kind::Sequence(items) => {
                items.iter().rev().map(|item| At { node: *item, path: at.path }).collect()
            }
            Kind::Broken => Vec::new(),
            Kind::Scalar(_) => {
                self.report
                    .error(spot, "a merge key (<<) takes a map or a list of maps")
                    .hint("give it an alias of a map: <<: *name");
                Vec::new()
            }
        }
    }

    fn duplicate(&mut self, spot: Spot, key: &str, first_line: u32) {
        self.report
            .error(
                spot,
                format!(
                    "the key {} stands here a second time; the first is on line {first_line}",
                    without_value(key)
                ),
            )
            .hint("merge the two, or remove one");
    }

    /// Reports a node of the wrong kind.
    fn mismatch(&mut self, at: At, wanted: &str, found: &Kind, what: Wanted) {
        let spot = self.spot(at);
        let hint = hints::mismatch(self.tree, what, found, !masked::is_hidden(self.report, at.path));
        let found = match found {
            // Reported when it was parsed.
            Kind::Broken => return,
            Kind::Scalar(_) => "a single value",
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a map",
        };
        let finding = self.report.error(spot, format!("this must be {wanted}, and is {found}"));
        if let Some(hint) = hint {
            finding.hint(hint);
        }
    }

    /// Whether the walk has come to its end before its time.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// Counts a step to a value of this size. False when there were too many, which is reported once.
    fn step(&mut self, at: At, spot: Spot, bytes: usize) -> bool {
        let bytes = match self.kind(at) {
            Kind::Scalar(scalar) => scalar.text.len(),
            _ => bytes,
        };
        let cost = 1 + bytes / BYTES_A_STEP;
        if self.steps_left >= cost {
            self.steps_left -= cost;
            return true;
        }
        if !self.exhausted {
            self.exhausted = true;
            self.steps_left = 0;
            self.report
                .error(spot, "this file stands for too many values")
                .hint("each use of an alias counts as much as writing its value again");
        }
        false
    }
}

/// Keys whose maps take the place of those that a merge key brought, as Prometheus decodes them into a new one.
const BEGUN_ANEW: [&str; 3] = ["global", "external_labels", "namespaces"];

/// Most merge keys inside merged maps.
const MERGES_MAX: usize = 16;

/// One pair of a map whose keys are free.
#[derive(Clone, Debug)]
pub(crate) struct Pair<T> {
    pub(crate) name: Arc<str>,
    /// Where the key stands.
    pub(crate) spot: Spot,
    pub(crate) value: Given<T>,
}

fn is_merge(key: &Scalar) -> bool {
    key.plain && &*key.text == "<<"
}
