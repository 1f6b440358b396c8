//! From the raw configuration to the validated one: defaults, inheritance, and what keys mean to each other.
//!
//! A mistake is reported and the build goes on with a default in its place, so that one run shows as many
//! mistakes as it can; the result is thrown away if there was one.

mod check;
mod discovery;
mod global;
mod http;
mod kubernetes;
mod ours;
mod paths;
pub(crate) use paths::is_pattern;
mod relabel;
mod remote_write;
mod scalars;
mod scrape;
mod urls;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::groups::SpottedGroup;
use super::raw::{Given, List, RawFile, RawScrapeConfig, RawScrapeConfigFile, Section, Text};
use super::report::{PathId, Report, Spot};
use super::{Config, ConfigSource, NameValidation, ScrapeConfig, Severity};
use crate::glob::{self, GlobError};
use crate::relabel::{Regexes, Rule, RuleSpec};
use global::Global;

/// Most files that `scrape_config_files` may name.
const FILES_MAX: usize = 10_000;

/// Most bytes that the regexes of a configuration may take when they are compiled, each once: programs of the regex engine,
/// and the texts, and the places of groups in them, of those that need no engine.
const REGEX_BYTES_MAX: usize = 128 << 20;

/// What a configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// To be run.
    Load,
    /// To be looked through by a person: files that it names are looked at, too.
    Check,
}

/// Everything that building needs to know of its surroundings.
pub(crate) struct Builder<'a> {
    pub(crate) report: &'a mut Report,
    pub(crate) source: &'a dyn ConfigSource,
    /// The directory of the file that is being built: relative paths in it begin here.
    pub(crate) dir: PathBuf,
    mode: Mode,
    /// How much work may still be done to look at targets.
    work_left: usize,
    /// There were more targets than that does for, which is said.
    targets_left_out: bool,
    /// Files of targets that were read, which jobs may share; none where there is nothing to look at.
    target_files: HashMap<PathBuf, Option<Rc<[SpottedGroup]>>>,
    /// How many bytes of them may still be kept.
    target_bytes_left: usize,
    /// Why files of secrets cannot be read; none: they can.
    secret_files: HashMap<PathBuf, Option<String>>,
    /// Compiled rules by how they are written: jobs often share them, and then share what is written in them, too. Of 1,500 jobs with
    /// twenty rules in common 6 MB are kept so, and 16 MB without.
    compiled: HashMap<(Arc<RuleSpec>, NameValidation), Rule>,
    /// Their regexes. Where these take more than [`REGEX_BYTES_MAX`], no more rules are compiled.
    regexes: Regexes,
    /// The patterns of `scrape_config_files`.
    patterns: Vec<PathBuf>,
    /// Where each job name stands that was seen so far.
    jobs: HashMap<String, Spot>,
    /// Keys that a Prometheus server needs and nobody here reads.
    server_keys: Vec<(&'static str, Spot)>,
}

/// A file that `scrape_config_files` names.
struct Included {
    file: PathBuf,
    /// Where it is named a second time.
    again: Option<Spot>,
}

/// Builds the configuration of a file, and reads the files that it includes. With it come the patterns of these.
pub(crate) fn build(
    report: &mut Report,
    source: &dyn ConfigSource,
    path: &Path,
    raw: &RawFile,
    mode: Mode,
) -> (Config, Vec<PathBuf>) {
    let dir = paths::directory(path);
    let mut builder = Builder {
        report,
        source,
        dir,
        mode,
        work_left: check::WORK_MAX,
        targets_left_out: false,
        target_files: HashMap::new(),
        target_bytes_left: check::TARGET_BYTES_KEPT_MAX,
        secret_files: HashMap::new(),
        compiled: HashMap::new(),
        regexes: Regexes::default(),
        patterns: Vec::new(),
        jobs: HashMap::new(),
        server_keys: Vec::new(),
    };
    builder.find_server_keys(raw);
    let global = builder.global(&raw.global);
    let external_labels = builder.external_labels(&raw.global, &global);
    let scrape_configs = builder.jobs(&raw.scrape_configs, &global);
    let remote_write = builder.remote_writes(&raw.remote_write, &global);
    let allocator = builder.allocator(&raw.allocator);
    let scraper = builder.scraper(&raw.scraper, remote_write.len());
    let mut config = Config { external_labels, scrape_configs, remote_write, allocator, scraper };
    for Included { file, again } in builder.included(&raw.scrape_config_files) {
        builder.dir = paths::directory(&file);
        let Some(included) = super::read::<RawScrapeConfigFile>(builder.report, source, &file) else {
            continue;
        };
        config.scrape_configs.extend(builder.jobs(&included.scrape_configs, &global));
        if let Some(spot) = again.filter(|_| !builder.items(&included.scrape_configs).is_empty()) {
            builder
                .report
                .error(spot, format!("this names {} a second time, and its jobs with it", file.display()))
                .hint("remove one of the two");
        }
    }
    builder.report_server_keys();
    (config, builder.patterns)
}

impl Builder<'_> {
    fn jobs(&mut self, raw: &Given<List<RawScrapeConfig>>, global: &Global) -> Vec<Arc<ScrapeConfig>> {
        let mut jobs = Vec::new();
        for item in self.items(raw) {
            match item {
                Given::Is(job, spot) => {
                    let built = self.job(job, *spot, global);
                    // Of a file with an error nothing is used.
                    jobs.extend(built.filter(|_| !self.report.has_errors()).map(Arc::new));
                }
                Given::Null(spot) => self.empty_item(*spot, RawScrapeConfig::NAME),
                Given::Absent | Given::Broken(_) => {}
            }
        }
        jobs
    }

    /// Takes note of a job's name; a second one of the same name is an error. `named`: where the name stands, which is
    /// elsewhere where an alias or a merge key brought it.
    fn job_name_is_free(&mut self, name: &str, named: Spot, job: Spot) {
        let is_merged = self.report.is_merged(named.path);
        let is_within = (named.line, named.column) >= (job.line, job.column);
        let spot = if is_within && !is_merged { named } else { Spot { path: named.path, ..job } };
        let Some(first) = self.jobs.get(name).copied() else {
            self.jobs.insert(name.to_owned(), spot);
            return;
        };
        let files = self.report.files();
        let place = match files.get(first.file as usize) {
            Some(file) if first.file != spot.file => format!("{}:{}", file.display(), first.line),
            _ => format!("line {}", first.line),
        };
        let (message, hint) = if is_merged {
            (
                format!(
                    "a second job of the name {name}, which the merge key (<<) brought here from line {}; the first stands at {place}",
                    named.line
                ),
                "write a job_name of its own here, behind the merge key",
            )
        } else if (first.file, first.line, first.column) == (spot.file, spot.line, spot.column) {
            (
                format!("a second job of the name {name}: this item is an alias of the whole job at {place}"),
                "merge it into a job with a name of its own: <<: *ALIAS, and job_name behind it",
            )
        } else {
            (
                format!("a second job of the name {name}; the first stands at {place}"),
                "give each job a name of its own, or put the targets of both under one job",
            )
        };
        self.report.error(spot, message).value(name).hint(hint);
    }

    /// The files that the patterns of `scrape_config_files` match, each once.
    fn included(&mut self, raw: &Given<List<Text>>) -> Vec<Included> {
        let mut files: Vec<Included> = Vec::new();
        let mut known: HashMap<PathBuf, usize> = HashMap::new();
        // Which files a pattern matches; none once it was found a second time.
        let mut searched: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        for item in self.items(raw) {
            let Given::Is(pattern, spot) = item else { continue };
            let Some(path) = self.pattern(pattern, *spot) else { continue };
            let found = match searched.get_mut(&path) {
                Some(found) => std::mem::take(found),
                None => {
                    let found = self.source.glob(&path).unwrap_or_else(|reason| {
                        self.report
                            .error(*spot, format!("cannot be searched: {reason}"))
                            .value(pattern)
                            .hint("look whether the directory is there and may be read");
                        Vec::new()
                    });
                    searched.insert(path.clone(), found.clone());
                    self.patterns.push(path);
                    found
                }
            };
            for file in found {
                match known.get(&file) {
                    Some(at) => drop(files[*at].again.get_or_insert(*spot)),
                    None => {
                        known.insert(file.clone(), files.len());
                        files.push(Included { file, again: None });
                    }
                }
            }
            if files.len() > FILES_MAX || self.patterns.len() > FILES_MAX {
                self.report
                    .error(*spot, format!("up to here more than {FILES_MAX} files or patterns"))
                    .hint("write patterns that match fewer, or put several jobs into one file");
                files.truncate(FILES_MAX);
                break;
            }
        }
        files
    }

    /// The path of a pattern of `scrape_config_files`. `None` where it is none, which is reported.
    fn pattern(&mut self, pattern: &str, spot: Spot) -> Option<PathBuf> {
        if pattern.is_empty() {
            self.report.warning(spot, "an empty pattern matches no file").hint("remove it");
            return None;
        }
        if !paths::is_pattern(pattern) {
            self.report
                .error(spot, "a pattern may hold asterisks in the last element of the path only")
                .value(pattern)
                .hint("write a directory and a pattern in it, such as jobs/*.yml");
            return None;
        }
        if let Err(error) = glob::check(pattern) {
            self.bad_pattern(spot, pattern, error, Severity::Error);
            return None;
        }
        Some(paths::join(&self.dir, pattern))
    }

    /// Reports a pattern of file names that cannot be used.
    fn bad_pattern(&mut self, spot: Spot, pattern: &str, error: GlobError, severity: Severity) {
        let hint = match error {
            GlobError::OpenBracket => "close the bracket: [a-z]; for a bracket in a name write \\[",
            GlobError::BadSet => {
                "name characters or a range in brackets: [a-z] or [^a-z]; write \\- and \\] for themselves"
            }
            GlobError::LastBackslash => "write \\\\ for a backslash in a name, or remove it",
        };
        self.report
            .push(severity, spot, format!("not a pattern of file names: {error}"))
            .value(pattern)
            .hint(hint);
    }

    /// Takes note of the keys of a Prometheus server outside of jobs.
    fn find_server_keys(&mut self, raw: &RawFile) {
        let mut found = vec![
            ("runtime", raw.runtime.spot()),
            ("alerting", raw.alerting.spot()),
            ("rule_files", raw.rule_files.spot()),
            ("storage", raw.storage.spot()),
            ("tracing", raw.tracing.spot()),
            ("remote_read", raw.remote_read.spot()),
            ("otlp", raw.otlp.spot()),
        ];
        if let Some(global) = raw.global.get() {
            found.extend([
                ("global.evaluation_interval", global.evaluation_interval.spot()),
                ("global.rule_query_offset", global.rule_query_offset.spot()),
                ("global.query_log_file", global.query_log_file.spot()),
                ("global.scrape_failure_log_file", global.shared.scrape_failure_log_file.spot()),
            ]);
        }
        self.server_keys.extend(found.into_iter().filter_map(|(name, spot)| Some((name, spot?))));
    }

    /// One warning names all keys of a Prometheus server, each once.
    fn report_server_keys(&mut self) {
        let mut found = std::mem::take(&mut self.server_keys);
        found.sort_by_key(|(_, spot)| (spot.file, spot.line, spot.column));
        let Some((_, first)) = found.first() else { return };
        let spot = Spot { path: PathId::default(), ..*first };
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in &found {
            if !names.contains(name) {
                names.push(name);
            }
        }
        self.report
            .warning(
                spot,
                format!("without effect here, as they belong to a Prometheus server: {}", names.join(", ")),
            )
            .hint("they may stay; alerting and recording rules run where the samples are sent to, and failed scrapes are in the log and on the page of targets");
    }
}
