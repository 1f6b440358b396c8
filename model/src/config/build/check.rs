//! Whether static targets and those of files become targets once they are relabelled, and whether files that
//! the configuration names are there.

use std::path::Path;

use super::{Builder, Mode, paths};
use crate::config::masked;
use crate::config::raw::{Given, RawScrapeConfig};
use crate::config::report::Spot;
use crate::config::{Discovery, ScrapeConfig, Severity, groups};
use crate::labels::Labels;
use crate::target::{ADDRESS, Assembled, DiscoveredLabels, shown_host};

/// Most targets that are looked at; what is wrong with more of them is most often the same.
pub(super) const TARGETS_MAX: usize = 50_000;

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
        let Some(left) = self.targets_left.checked_sub(1) else { return };
        self.targets_left = left;
        let (severity, message) = match DiscoveredLabels::new(job, group, own).assemble() {
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
        let bytes = match self.source.read_targets(file) {
            Ok(bytes) => bytes,
            Err(reason) => {
                self.report
                    .error(named_at, format!("{} cannot be read: {reason}", file.display()))
                    .hint("look whether it is a file, and whether it may be read");
                return;
            }
        };
        let Some(groups) = groups::read(self.report, file, &bytes) else { return };
        for group in groups {
            for (target, spot) in &group.targets {
                self.target(job, &group.labels, target, *spot, Severity::Error);
            }
        }
    }

    /// Warns of a file that is not here. It may well be there where promring runs.
    pub(super) fn file_is_here(&mut self, path: &Path, spot: Spot) {
        if self.mode == Mode::Check
            && let Err(reason) = self.source.read(path)
        {
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
