//! Writes a tree for the regex crate.

use std::fmt::Write;

use super::{Class, ClassItem, Look, Node};

/// Every character: what an empty negated set matches, and what no set may leave out to match nothing.
const ALL: &str = "\\x{0}-\\x{10FFFF}";

pub(super) fn emit(node: &Node) -> String {
    let mut out = String::new();
    write_node(&mut out, node);
    out
}

fn write_node(out: &mut String, node: &Node) {
    match node {
        Node::Empty => out.push_str("(?:)"),
        Node::Literal { char, fold: false } => write_char(out, *char),
        Node::Literal { char, fold: true } => {
            out.push_str("(?i:");
            write_char(out, *char);
            out.push(')');
        }
        Node::Class(class) => write_class(out, class),
        Node::Any { newline: true } => out.push_str("(?s:.)"),
        Node::Any { newline: false } => out.push_str("(?-s:.)"),
        Node::Look(look) => out.push_str(match look {
            Look::TextStart => "\\A",
            Look::TextEnd => "\\z",
            Look::LineStart => "(?m:^)",
            Look::LineEnd => "(?m:$)",
            Look::WordBoundary => "(?-u:\\b)",
            Look::NotWordBoundary => "(?-u:\\B)",
        }),
        Node::Group { node, .. } => {
            out.push('(');
            write_node(out, node);
            out.push(')');
        }
        Node::Concat(nodes) => {
            for run in nodes.chunk_by(|a, b| is_folded(a) && is_folded(b)) {
                write_run(out, run);
            }
        }
        Node::Alternate(nodes) => {
            for (at, node) in nodes.iter().enumerate() {
                if at > 0 {
                    out.push('|');
                }
                write_node(out, node);
            }
        }
        Node::Repeat { min, max, greedy, node, .. } => {
            write_grouped(out, node);
            write_repeat(out, *min, *max);
            if !greedy {
                out.push('?');
            }
        }
    }
}

fn is_folded(node: &Node) -> bool {
    matches!(node, Node::Literal { fold: true, .. })
}

/// Writes nodes of a concatenation: either one, or several literals in any case, which share a group.
fn write_run(out: &mut String, run: &[Node]) {
    match run {
        [only @ Node::Alternate(_)] => write_grouped(out, only),
        [only] => write_node(out, only),
        literals => {
            out.push_str("(?i:");
            for node in literals {
                if let Node::Literal { char, .. } = node {
                    write_char(out, *char);
                }
            }
            out.push(')');
        }
    }
}

fn write_grouped(out: &mut String, node: &Node) {
    out.push_str("(?:");
    write_node(out, node);
    out.push(')');
}

fn write_repeat(out: &mut String, min: u32, max: Option<u32>) {
    // Writing to a string cannot fail.
    let _ = match (min, max) {
        (0, None) => out.write_str("*"),
        (1, None) => out.write_str("+"),
        (0, Some(1)) => out.write_str("?"),
        (min, None) => write!(out, "{{{min},}}"),
        (min, Some(max)) => write!(out, "{{{min},{max}}}"),
    };
}

fn write_class(out: &mut String, class: &Class) {
    if class.fold {
        out.push_str("(?i:");
    }
    out.push('[');
    if class.negated {
        out.push('^');
    }
    let start = out.len();
    for item in &class.items {
        match item {
            ClassItem::Range(low, high) => write_range(out, *low, *high),
            ClassItem::Table { ranges, negated: false } => write_ranges(out, ranges),
            ClassItem::Table { ranges: [], negated: true } => out.push_str(ALL),
            ClassItem::Table { ranges, negated: true } => {
                out.push_str("[^");
                write_ranges(out, ranges);
                out.push(']');
            }
            ClassItem::Property { name, negated } => {
                out.push_str(if *negated { "\\P{" } else { "\\p{" });
                out.push_str(name);
                out.push('}');
            }
        }
    }
    if out.len() == start {
        // Nothing is left in it. An empty set cannot be written as such.
        out.truncate(start - usize::from(class.negated));
        if !class.negated {
            out.push('^');
        }
        out.push_str(ALL);
    }
    out.push(']');
    if class.fold {
        out.push(')');
    }
}

fn write_ranges(out: &mut String, ranges: &[(char, char)]) {
    ranges.iter().for_each(|&(low, high)| write_range(out, low, high));
}

fn write_range(out: &mut String, low: char, high: char) {
    write_char(out, low);
    if low != high {
        out.push('-');
        write_char(out, high);
    }
}

fn write_char(out: &mut String, char: char) {
    if char.is_ascii_alphanumeric() || char == '_' || !char.is_ascii() {
        out.push(char);
    } else {
        let _ = write!(out, "\\x{:02X}", u32::from(char));
    }
}
