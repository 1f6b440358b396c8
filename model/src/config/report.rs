//! Findings as they are gathered: positions, key paths, and a bound on their number.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Diagnostic, Severity};

/// Most findings that are kept; what comes after is counted and said in one line.
const DIAGNOSTICS_MAX: usize = 200;

/// Most findings that wait for what else is found at their place.
const WAITING_MAX: usize = 20;

/// Where a value stands: file, line, column and key path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) file: u32,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) path: PathId,
}

/// A key path. Paths share their beginnings, so that one costs an entry in a table and no text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathId(u32);

#[derive(Debug)]
enum Step {
    Key(Arc<str>),
    /// A key that a merge key brought.
    Merged(Arc<str>),
    Index(usize),
}

impl Step {
    fn key(&self) -> Option<&Arc<str>> {
        match self {
            Self::Key(key) | Self::Merged(key) => Some(key),
            Self::Index(_) => None,
        }
    }
}

/// Gathers the findings of one load.
#[derive(Debug, Default)]
pub(crate) struct Report {
    files: Vec<PathBuf>,
    /// Parent and last step of each path; [`PathId`] 0 is the root and not in here.
    paths: Vec<(PathId, Step)>,
    diagnostics: Vec<Diagnostic>,
    left_out: usize,
    errors: usize,
    /// Findings among those kept that are no errors: an error takes the place of one where there are too many.
    others: usize,
    /// Warnings that are shown in the end where no error stands at their place.
    waiting: Vec<Diagnostic>,
    /// What [`Report::push`] hands out when there are too many: it is thrown away.
    spare: Option<Diagnostic>,
}

impl Report {
    /// Registers a file; findings refer to it by the number that comes back.
    pub(crate) fn file(&mut self, path: &Path) -> u32 {
        self.files.push(path.to_owned());
        (self.files.len() - 1) as u32
    }

    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    pub(crate) fn key(&mut self, parent: PathId, key: Arc<str>) -> PathId {
        self.step(parent, Step::Key(key))
    }

    /// A key that stands in a map which a merge key brought.
    pub(crate) fn merged_key(&mut self, parent: PathId, key: Arc<str>) -> PathId {
        self.step(parent, Step::Merged(key))
    }

    /// Whether a merge key brought what this path leads to.
    pub(crate) fn is_merged(&self, path: PathId) -> bool {
        matches!(self.last_step(path), Some((_, Step::Merged(_))))
    }

    /// The key that a path ends with. `None` for an item of a list, and for the root.
    pub(crate) fn last_key(&self, path: PathId) -> Option<&str> {
        self.last_step(path).and_then(|(_, step)| step.key()).map(|key| &**key)
    }

    /// Whether a path leads through such a key, or ends with one.
    pub(crate) fn has_key(&self, path: PathId, mut is_it: impl FnMut(&str) -> bool) -> bool {
        let mut at = path;
        while let Some((parent, step)) = self.last_step(at) {
            if step.key().is_some_and(|key| is_it(key)) {
                return true;
            }
            at = *parent;
        }
        false
    }

    fn last_step(&self, path: PathId) -> Option<&(PathId, Step)> {
        (path.0 as usize).checked_sub(1).and_then(|at| self.paths.get(at))
    }

    pub(crate) fn index(&mut self, parent: PathId, index: usize) -> PathId {
        self.step(parent, Step::Index(index))
    }

    fn step(&mut self, parent: PathId, step: Step) -> PathId {
        self.paths.push((parent, step));
        PathId(self.paths.len() as u32)
    }

    /// How many paths there are.
    pub(crate) fn paths(&self) -> usize {
        self.paths.len()
    }

    /// Forgets all paths but so many. No spot below one of those forgotten may be in use any more.
    pub(crate) fn forget_paths(&mut self, kept: usize) {
        self.paths.truncate(kept);
    }

    /// A path as text: `scrape_configs[2].relabel_configs[0].regex`.
    pub(crate) fn path(&self, path: PathId) -> String {
        let mut steps = Vec::new();
        let mut at = path;
        while let Some((parent, step)) = self.last_step(at) {
            steps.push(step);
            at = *parent;
        }
        let mut text = String::new();
        for step in steps.into_iter().rev() {
            match step {
                Step::Key(key) | Step::Merged(key) if !is_plain(key) => {
                    text.push_str(&format!("[{:?}]", without_value(key)));
                }
                Step::Key(key) | Step::Merged(key) if text.is_empty() => text.push_str(key),
                Step::Key(key) | Step::Merged(key) => {
                    text.push('.');
                    text.push_str(key);
                }
                Step::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }

    pub(crate) fn error(&mut self, spot: Spot, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, spot, message)
    }

    pub(crate) fn warning(&mut self, spot: Spot, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Warning, spot, message)
    }

    pub(crate) fn remark(&mut self, spot: Spot, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Remark, spot, message)
    }

    /// Whether there was an error so far; those that were left out count too.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether an error was found at this path or below it.
    pub(crate) fn has_error_below(&self, path: PathId) -> bool {
        if self.errors == 0 {
            return false;
        }
        let path = self.path(path);
        let below = |found: &Diagnostic| found.severity == Severity::Error && found.path.starts_with(&path);
        self.diagnostics.iter().any(below)
    }

    /// Whether further errors are only counted; hints for them need not be sought.
    pub(crate) fn is_full(&self) -> bool {
        self.diagnostics.len() >= DIAGNOSTICS_MAX && self.others == 0
    }

    /// How many errors there were so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    pub(crate) fn push(
        &mut self,
        severity: Severity,
        spot: Spot,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        let diagnostic = self.diagnostic(severity, spot, &message.into());
        self.keep(diagnostic)
    }

    /// A warning that is shown only where no error stands at its place in the end, and once for each place, however often
    /// aliases lead there. `None`: it is not kept.
    pub(crate) fn warning_unless_error(
        &mut self,
        spot: Spot,
        message: impl Into<String>,
    ) -> Option<&mut Diagnostic> {
        let warning = self.diagnostic(Severity::Warning, spot, &message.into());
        if self.waiting.iter().any(|other| is_same_place(other, &warning)) {
            return None;
        }
        if self.waiting.len() >= WAITING_MAX {
            self.left_out += 1;
            return None;
        }
        self.waiting.push(warning);
        self.waiting.last_mut()
    }

    fn diagnostic(&self, severity: Severity, spot: Spot, message: &str) -> Diagnostic {
        Diagnostic {
            severity,
            file: self.files.get(spot.file as usize).cloned().unwrap_or_default(),
            line: spot.line as usize,
            column: spot.column as usize,
            path: self.path(spot.path),
            value: None,
            message: super::diagnostic::text(message),
            hint: None,
        }
    }

    fn keep(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        let is_error = diagnostic.severity == Severity::Error;
        self.errors += usize::from(is_error);
        if self.diagnostics.len() >= DIAGNOSTICS_MAX {
            self.left_out += 1;
            let replaceable = |found: &Diagnostic| found.severity != Severity::Error;
            let at = match is_error && self.others > 0 {
                true => self.diagnostics.iter().rposition(replaceable),
                false => None,
            };
            let Some(at) = at else { return self.spare.insert(diagnostic) };
            self.others -= 1;
            self.diagnostics[at] = diagnostic;
            return &mut self.diagnostics[at];
        }
        self.others += usize::from(!is_error);
        let at = self.diagnostics.len();
        self.diagnostics.push(diagnostic);
        &mut self.diagnostics[at]
    }

    /// The findings in the order of files and lines, and the files that were read.
    pub(crate) fn finish(mut self) -> (Vec<Diagnostic>, Vec<PathBuf>) {
        for warning in std::mem::take(&mut self.waiting) {
            let is_refused =
                |found: &Diagnostic| found.severity == Severity::Error && is_same_place(found, &warning);
            if !self.diagnostics.iter().any(is_refused) {
                self.keep(warning);
            }
        }
        let order = |file: &Path| self.files.iter().position(|known| known == file);
        self.diagnostics.sort_by_cached_key(|found| (order(&found.file), found.line, found.column));
        if let Some(last) = self.diagnostics.last().filter(|_| self.left_out > 0) {
            let severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
            let message = format!("{} more findings are not shown; repair these first", self.left_out);
            let file = last.file.clone();
            let (path, value, hint) = (String::new(), None, None);
            self.diagnostics.push(Diagnostic {
                severity,
                file,
                line: 0,
                column: 0,
                path,
                value,
                message,
                hint,
            });
        }
        (self.diagnostics, self.files)
    }
}

fn is_same_place(one: &Diagnostic, other: &Diagnostic) -> bool {
    (one.line, one.column) == (other.line, other.column) && one.file == other.file
}

/// Characters of a free key that a path shows.
const KEY_CHARS_MAX: usize = 64;

/// A key as it is shown. Without the blank behind its colon a key holds its value, which may be a secret.
pub(crate) fn without_value(key: &str) -> String {
    let end = key.find(|c: char| matches!(c, ':' | '=') || c.is_whitespace()).unwrap_or(key.len());
    let mut shown: String = key[..end].chars().take(KEY_CHARS_MAX).collect();
    if shown.len() < key.len() {
        shown.push('…');
    }
    shown
}

/// Whether a key can stand in a path without quotes.
fn is_plain(key: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-/".contains(&b);
    !key.is_empty() && key.len() <= KEY_CHARS_MAX && key.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_a_user_would_write_them() {
        let mut report = Report::default();
        let jobs = report.key(PathId::default(), "scrape_configs".into());
        let job = report.index(jobs, 2);
        let rules = report.key(job, "relabel_configs".into());
        assert_eq!(report.path(rules), "scrape_configs[2].relabel_configs");
        assert_eq!(report.path(PathId::default()), "");
        let odd = report.key(job, "a.b".into());
        assert_eq!(report.path(odd), "scrape_configs[2][\"a.b\"]");
    }

    #[test]
    fn findings_come_in_the_order_of_the_file_and_their_number_is_bounded() {
        let mut report = Report::default();
        let file = report.file(Path::new("a.yml"));
        for line in (1..=1_000).rev() {
            report.error(Spot { file, line, column: 1, path: PathId::default() }, "no");
        }
        let (diagnostics, _) = report.finish();
        assert_eq!(diagnostics.len(), DIAGNOSTICS_MAX + 1);
        assert_eq!(diagnostics[0].line, 801);
        assert!(diagnostics.last().unwrap().message.starts_with("800 more"));
    }

    #[test]
    fn a_warning_that_waits_is_shown_once_where_no_error_is_and_their_number_is_bounded() {
        let mut report = Report::default();
        let file = report.file(Path::new("a.yml"));
        let spot = |line| Spot { file, line, column: 1, path: PathId::default() };
        for line in (1..=30).chain(1..=15) {
            report.warning_unless_error(spot(line), "hm");
        }
        report.error(spot(1), "no");
        let (diagnostics, _) = report.finish();
        let lines: Vec<_> = diagnostics.iter().map(|found| (found.line, found.severity)).collect();
        assert_eq!(lines[..2], [(1, Severity::Error), (2, Severity::Warning)]);
        assert_eq!(lines.len(), WAITING_MAX + 1, "and one line for the rest");
        assert!(diagnostics.last().unwrap().message.starts_with("10 more"));
    }

    #[test]
    fn an_error_is_shown_however_many_warnings_come_before_it() {
        let mut report = Report::default();
        let file = report.file(Path::new("a.yml"));
        for line in 1..=300 {
            report.warning(Spot { file, line, column: 1, path: PathId::default() }, "hm");
        }
        assert!(!report.is_full(), "there is room for errors");
        let spot = Spot { file, line: 999, column: 1, path: PathId::default() };
        report.error(spot, "no").hint("write another");
        let (diagnostics, _) = report.finish();
        let errors: Vec<_> = diagnostics.iter().filter(|found| found.line == 999).collect();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].hint.as_deref(), Some("write another"));
        assert_eq!(diagnostics.len(), DIAGNOSTICS_MAX + 1);
        assert!(diagnostics.last().unwrap().message.starts_with("101 more"));
    }
}
