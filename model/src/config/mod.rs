//! The configuration: a raw type that mirrors the file, and the validated types that everything else uses.
//!
//! [`load`] goes in steps: bytes, a tree with positions (`yaml`), the raw type (`raw`), the validated one
//! (`build`). Each step reports what it finds and goes on as far as it can, so that one run shows many mistakes.

mod build;
mod diagnostic;
mod expand;
mod foreign;
mod groups;
mod hash;
mod hints;
mod masked;
mod raw;
mod remarks;
mod report;
mod secret;
mod selector;
mod source;
mod types;
mod written;
mod yaml;

use std::path::{Path, PathBuf};

pub use diagnostic::{Diagnostic, Severity};
pub use groups::{GroupsOfFile, target_groups, target_groups_json};
pub use secret::{Secret, ServerUrl};
pub use source::{ConfigSource, FILE_BYTES_MAX, TARGETS_BYTES_MAX};
pub use types::*;
pub use written::Written;

use build::Mode;
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
    /// The patterns of `scrape_config_files`: a file that newly matches one is a change, too.
    pub patterns: Vec<PathBuf>,
}

/// Reads and validates a configuration file and the files that it includes.
///
/// Relative paths in a file are relative to the directory of that file. The meaning is Prometheus's; where it
/// is not, docs/configuration.md says so.
#[must_use]
pub fn load(path: &Path, source: &dyn ConfigSource) -> Loaded {
    with_mode(path, source, Mode::Load)
}

/// Does what [`load`] does and looks further, for a person: at the targets of files, and for files that should
/// be there. A static target that cannot be scraped is an error here and a warning there, as it is with
/// Prometheus's promtool and its server.
#[must_use]
pub fn check(path: &Path, source: &dyn ConfigSource) -> Loaded {
    with_mode(path, source, Mode::Check)
}

fn with_mode(path: &Path, source: &dyn ConfigSource, mode: Mode) -> Loaded {
    let mut report = Report::default();
    let (config, patterns) = match read::<RawFile>(&mut report, source, path) {
        Some(raw) => {
            let (config, patterns) = build::build(&mut report, source, path, &raw, mode);
            (Some(config).filter(|_| !report.has_errors()), patterns)
        }
        None => (None, Vec::new()),
    };
    let (diagnostics, files) = report.finish();
    Loaded { config, diagnostics, files, patterns }
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
            let hint = if reason.contains("larger than") {
                "spread it over several files: scrape_config_files for jobs, file_sd_configs for long lists of targets"
            } else {
                "look whether the path is right, and whether the file may be read"
            };
            report.error(whole, format!("cannot be read: {reason}")).hint(hint);
            return None;
        }
    };
    let document = yaml::parse(&bytes);
    let root = document.root.map(|root| &document.tree.node(root).kind);
    let may_be_yaml = document.problems.is_empty() && !matches!(root, Some(yaml::Kind::Scalar(_)));
    if !may_be_yaml && foreign::is_alloy(report, file, &bytes) {
        return None;
    }
    yaml::report_problems(report, whole, &document);
    let Some(root) = document.root else {
        // An empty file means all defaults, unless it is empty because it is no YAML.
        let is_empty = document.problems.is_empty();
        foreign::name_unread(report, file, &bytes, document);
        return is_empty.then(S::default);
    };
    if foreign::is_foreign(report, file, &document.tree, root) {
        return None;
    }
    let at = At { node: root, path: PathId::default() };
    match Reader::new(report, &document.tree, file).given(at) {
        Given::Is(section, _) => Some(section),
        Given::Absent | Given::Null(_) => {
            foreign::name_unread(report, file, &bytes, document);
            Some(S::default())
        }
        Given::Broken(_) => None,
    }
}
