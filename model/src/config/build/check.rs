//! Whether static targets and those of files become targets once they are relabelled, and whether files that
//! the configuration names are there.

use std::path::Path;
use std::rc::Rc;

use super::{Builder, Mode, paths};
use crate::config::groups::SpottedGroup;
use crate::config::masked;
use crate::config::raw::{Given, RawScrapeConfig};
use crate::config::report::Spot;
use crate::config::{Discovery, ScrapeConfig, Severity, groups};
use crate::labels::Labels;
use crate::target::{ADDRESS, Assembled, DiscoveredLabels, shown_host};

/// Most steps that are done to look at targets ([`Rules::steps`](crate::relabel::Rules::steps)). It does for 50,000 targets
/// and 200 rules; what is wrong with more of them is most often the same.
pub(super) const WORK_MAX: usize = 10_000_000;

/// Most targets that are looked at, whatever becomes of them.
const TARGETS_MAX: usize = 50_000;

/// Most bytes of files of targets that are kept for other jobs that name them.
pub(super) const TARGET_BYTES_KEPT_MAX: usize = 64 << 20;

impl Builder<'_> {
    /// Relabels the static targets of a job. A Prometheus server takes a file with a target that cannot be
    /// scraped and its promtool refuses it, so this is a warning when loading and an error when checking.
    pub(super) fn static_targets(&mut self, job: &ScrapeConfig, raw: &RawScrapeConfig) {
        let groups = job.discovery.iter().find_map(|found| match found {
            Discovery::Static(groups) => Some(groups),
            _ => None,
        });
        let raw_groups = self.items(&raw.static_configs).iter().filter_map(Given::get);
        let severity = match self.mode {
            Mode::Load => Severity::Warning,
            Mode::Check => Severity::Error,
        };
        for (group, raw_group) in groups.into_iter().flatten().zip(raw_groups) {
            let spots = self.items(&raw_group.targets).iter().filter_map(|target| match target {
                Given::Is(_, spot) | Given::Null(spot) => Some(*spot),
                Given::Absent | Given::Broken(_) => None,
            });
            for (target, spot) in group.targets.iter().zip(spots) {
                self.target(job, &group.labels, target, spot, severity);
            }
        }
    }

    fn target(&mut self, job: &ScrapeConfig, group: &Labels, own: &Labels, spot: Spot, severity: Severity) {
        let steps = |labels: &Labels| {
            let longest = labels.iter().map(|(_, value)| value.len()).max().unwrap_or_default();
            job.relabel.steps(longest).max(WORK_MAX / TARGETS_MAX)
        };
        let needed = steps(group).max(steps(own));
        let Some(left) = self.work_left.checked_sub(needed) else {
            self.not_all_targets(spot);
            return;
        };
        self.work_left = left;
        let assembled = DiscoveredLabels::new(job, group, own).assemble();
        if let Assembled::Target(target) = &assembled {
            // Rules can make long labels of short ones.
            self.work_left = self.work_left.saturating_sub(steps(&target.labels).saturating_sub(needed));
        }
        let (severity, message) = match assembled {
            Assembled::Invalid(error) => (severity, format!("this target cannot be scraped: {error}")),
            // Prometheus takes it, and so do we; nobody wants it.
            Assembled::Target(target) => match target.url {
                Ok(_) => return,
                Err(error) => (Severity::Warning, format!("each scrape of this target fails: {error}")),
            },
            Assembled::Dropped { .. } => return,
        };
        let address = own.get(ADDRESS).unwrap_or_default();
        let shown = masked::value(address);
        let message = if shown == address {
            message
        } else {
            message.replace(address, &shown).replace(&shown_host(address), &shown)
        };
        let finding = self.report.push(severity, spot, without_query(&message)).value(&shown);
        if !job.relabel.is_empty() {
            finding.hint("promring relabel shows what each rule makes of it");
        }
    }

    /// Says once that there were more targets than are looked at, and looks at no more.
    fn not_all_targets(&mut self, spot: Spot) {
        self.work_left = 0;
        if !std::mem::replace(&mut self.targets_left_out, true) {
            self.report
                .remark(spot, "from here on targets are not looked at any more: there are too many, or too many rules for them")
                .hint("what is wrong with one of them shows when promring runs: on the page of targets, and in /api/v1/targets");
        }
    }

    /// Reads the files of `file_sd_configs` as far as they are there.
    pub(super) fn target_files(&mut self, job: &ScrapeConfig, raw: &RawScrapeConfig) {
        for sd in self.items(&raw.file_sd_configs).iter().filter_map(Given::get) {
            for item in self.items(&sd.files) {
                let Given::Is(pattern, spot) = item else { continue };
                let Ok(files) = self.source.glob(&paths::join(&self.dir, pattern)) else { continue };
                if files.is_empty() {
                    self.report
                        .warning(*spot, "no such file here")
                        .value(pattern)
                        .hint("it is read as soon as it is there; relative paths begin where this file lies");
                }
                for file in files {
                    self.target_file(job, &file, *spot);
                }
            }
        }
    }

    fn target_file(&mut self, job: &ScrapeConfig, file: &Path, named_at: Spot) {
        let groups = match self.target_files.get(file) {
            Some(groups) => groups.clone(),
            None => self.read_target_file(file, named_at),
        };
        for group in groups.iter().flat_map(|groups| &**groups) {
            for (target, spot) in &group.targets {
                self.target(job, &group.labels, target, *spot, Severity::Error);
            }
        }
    }

    /// Reads a file of targets, and keeps it for other jobs unless it is too large.
    fn read_target_file(&mut self, file: &Path, named_at: Spot) -> Option<Rc<[SpottedGroup]>> {
        self.target_files.insert(file.to_owned(), None);
        let bytes = match self.source.read_targets(file) {
            Ok(bytes) => bytes,
            Err(reason) => {
                self.report
                    .error(named_at, format!("{} cannot be read: {reason}", file.display()))
                    .hint("look whether it is a file, and whether it may be read");
                return None;
            }
        };
        let groups: Rc<[SpottedGroup]> = groups::read(self.report, file, &bytes)?.into();
        if let Some(left) = self.target_bytes_left.checked_sub(bytes.len()) {
            self.target_bytes_left = left;
            self.target_files.insert(file.to_owned(), Some(Rc::clone(&groups)));
        }
        Some(groups)
    }

    /// Warns of a file that is not here. It may well be there where promring runs.
    pub(super) fn file_is_here(&mut self, path: &Path, spot: Spot) {
        if self.mode != Mode::Check {
            return;
        }
        // Jobs often share a file of a secret.
        if !self.secret_files.contains_key(path) {
            self.secret_files.insert(path.to_owned(), self.source.read(path).err());
        }
        if let Some(Some(reason)) = self.secret_files.get(path) {
            self.report
                .warning(spot, format!("{} cannot be read here: {reason}", path.display()))
                .hint("it must be there where promring runs; relative paths begin where this file lies");
        }
    }
}

/// A message without the parameters of the URL in it: one may be a token.
fn without_query(message: &str) -> String {
    let cut = message.split_once('?').and_then(|(before, rest)| Some((before, rest.split_once('"')?.1)));
    cut.map_or_else(|| message.to_owned(), |(before, after)| format!("{before}?…\"{after}"))
}
