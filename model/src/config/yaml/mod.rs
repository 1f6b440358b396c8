//! YAML as a tree with positions. No type is known here: what a value must be is for `raw` to say.

mod dialect;
mod parse;
mod scalar;
mod syntax;

use std::sync::Arc;

use super::report::{Report, Spot};

pub(crate) use parse::parse;
pub(crate) use scalar::{Core, Resolved, resolve};

/// Most nodes of one file.
const NODES_MAX: usize = 2_000_000;
/// Most collections inside each other. The deepest path of the configuration has eight.
const DEPTH_MAX: usize = 64;

/// Names a node of a [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

/// One value of the file, at a 1-based line and column.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Scalar(Scalar),
    Sequence(Vec<NodeId>),
    Mapping(Vec<(NodeId, NodeId)>),
    /// An alias that leads nowhere or into itself: reported by the parser, not to be reported again.
    Broken,
}

#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    /// After escapes and folding.
    pub(crate) text: Arc<str>,
    /// Without quotes, so that `5` is a number and `yes` a boolean.
    pub(crate) plain: bool,
    /// The tag of a known type that was written before it.
    pub(crate) tag: Option<Core>,
}

/// All nodes of one file. An alias is the node that its anchor names, so aliases cost nothing here,
/// however often they multiply.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId((self.nodes.len() - 1) as u32)
    }
}

/// A file as far as it is YAML.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) tree: Tree,
    /// `None` for an empty file, and for one that is no YAML (which `problems` says).
    pub(crate) root: Option<NodeId>,
    /// What is wrong with it as YAML.
    pub(crate) problems: Vec<Problem>,
    /// The line of what stands behind the first document, which nobody reads.
    pub(crate) unread: Option<u32>,
}

/// Reports what is wrong with a file as YAML; `whole` stands for the file.
pub(crate) fn report_problems(report: &mut Report, whole: Spot, document: &Document) {
    for problem in &document.problems {
        let spot = Spot { line: problem.line, column: problem.column, ..whole };
        let finding = report.error(spot, problem.message.clone());
        if let Some(hint) = &problem.hint {
            finding.hint(hint.clone());
        }
    }
    if let Some(line) = document.unread {
        report
            .warning(
                Spot { line, column: 1, ..whole },
                "only the first document of a file is read, which ends before this",
            )
            .hint("put everything into one document, without ---, and without braces around a part of it");
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}
