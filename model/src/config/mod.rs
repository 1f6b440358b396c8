//! The configuration: a raw type that mirrors the file, and the validated types that everything else uses.
//!
//! [`load`] goes in steps: bytes, a tree with positions (`yaml`), the raw type (`raw`), the validated one
//! (`build`). Each step reports what it finds and goes on as far as it can, so that one run shows many mistakes.

mod build;
mod diagnostic;
mod expand;
mod foreign;
mod hash;
mod hints;
mod raw;
mod remarks;
mod report;
mod secret;
mod selector;
mod source;
mod types;
mod yaml;

use std::path::{Path, PathBuf};

pub use diagnostic::{Diagnostic, Severity};
pub use secret::Secret;
pub use source::{ConfigSource, FILE_BYTES_MAX};
pub use types::*;

use raw::{At, Given, RawFile, Reader, Section};
use report::{PathId, Report, Spot};

/// What came of a configuration file.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; `None` if and only if there is an error among the diagnostics.
    pub config: Option<Config>,
    /// Errors, warnings and remarks, in the order of the files and their lines.
    pub diagnostics: Vec<Diagnostic>,
    /// Every file that was read or should have been: the file itself and those of `scrape_config_files`.
    /// Whoever reloads on a change watches these.
    pub files: Vec<PathBuf>,
}

/// Reads and validates a configuration file and the files that it includes.
///
/// Relative paths in a file are relative to the directory of that file. The meaning is Prometheus's; where it
/// is not, docs/configuration.md says so.
#[must_use]
pub fn load(path: &Path, source: &dyn ConfigSource) -> Loaded {
    let mut report = Report::default();
    let config = read::<RawFile>(&mut report, source, path)
        .map(|raw| build::build(&mut report, source, path, &raw))
        .filter(|_| !report.has_errors());
    let (diagnostics, files) = report.finish();
    Loaded { config, diagnostics, files }
}

/// Reads one file as a section of this type. `None` where it cannot be, after a report of that.
fn read<S: Section + raw::FromNode>(
    report: &mut Report,
    source: &dyn ConfigSource,
    path: &Path,
) -> Option<S> {
    let file = report.file(path);
    let whole = Spot { file, line: 0, column: 0, path: PathId::default() };
    let bytes = match source.read(path) {
        Ok(bytes) => bytes,
        Err(reason) => {
            report.error(whole, format!("cannot be read: {reason}"));
            return None;
        }
    };
    let document = yaml::parse(&bytes);
    for problem in &document.problems {
        let spot = Spot { line: problem.line, column: problem.column, ..whole };
        let finding = report.error(spot, problem.message.clone());
        if let Some(hint) = &problem.hint {
            finding.hint(hint.clone());
        }
    }
    if let Some(line) = document.second_document {
        report
            .warning(Spot { line, column: 1, ..whole }, "only the first document of a file is read")
            .hint("put everything into one document, without --- between");
    }
    let Some(root) = document.root else {
        // An empty file means all defaults, unless it is empty because it is no YAML.
        return document.problems.is_empty().then(S::default);
    };
    if foreign::is_foreign(report, file, &document.tree, root) {
        return None;
    }
    let at = At { node: root, path: PathId::default() };
    match Reader::new(report, &document.tree, file).given(at) {
        Given::Is(section, _) => Some(section),
        Given::Absent | Given::Null(_) => Some(S::default()),
        Given::Broken(_) => None,
    }
}
