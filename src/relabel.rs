//! `promring relabel`: what each rule of a job does to given label sets.

use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};
use std::process::ExitCode;

use promring_model::columns::in_characters;
use promring_model::config::ScrapeConfig;
use promring_model::labels::{Labels, METRIC_NAME};
use promring_model::relabel::{Rules, Step};
use promring_model::target::{Assembled, DiscoveredLabels};
use promring_scraper::parse::text::label_set;

use crate::cli::RelabelArgs;
use crate::load;

/// A line of input may have this many bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Reads label sets from the command line, or from standard input, one a line, and shows what becomes of each. Empty lines
/// and those that begin with `#` are skipped.
/// Exit code 1 if any line could not be read.
pub(crate) fn run(args: &RelabelArgs) -> Result<ExitCode, String> {
    let config = load::config(&args.config)?;
    let job = config.scrape_configs.iter().find(|job| job.job_name == args.job).ok_or_else(|| {
        let known: Vec<&str> = config.scrape_configs.iter().map(|job| job.job_name.as_str()).collect();
        format!("{} has no job {:?}; it has {}", args.config.display(), args.job, known.join(", "))
    })?;
    let mut failed = false;
    let mut out = stdout().lock();
    let mut show = |number: usize, line: &[u8]| -> std::io::Result<()> {
        let Ok(text) = std::str::from_utf8(line) else {
            failed = true;
            let shown = String::from_utf8_lossy(line);
            return writeln!(out, "line {number}: not UTF-8: {}", printable(shown.trim()));
        };
        let line = text.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        match parse(line) {
            Ok(labels) if args.metric => write!(out, "{}", metric(job, &labels)),
            Ok(labels) => write!(out, "{}", target(job, &labels)),
            Err(error) => {
                failed = true;
                writeln!(out, "line {number}: {error}: {}", printable(line))
            }
        }
    };
    if args.labels.is_empty() {
        each_line(stdin().lock(), &mut show)?;
    } else {
        for (number, line) in (1..).zip(&args.labels) {
            // Who closed the pipe does not want to read on.
            let _ = show(number, line.as_bytes());
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn each_line(
    input: impl Read,
    show: &mut impl FnMut(usize, &[u8]) -> std::io::Result<()>,
) -> Result<(), String> {
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let read = read.map_err(|error| format!("standard input: {error}"))?;
        if read as u64 == LINE_BYTES_MAX {
            return Err(format!("standard input: line {number} is longer than {LINE_BYTES_MAX} bytes"));
        }
        if read == 0 || show(number, &line).is_err() {
            break;
        }
    }
    Ok(())
}

/// A label set as a JSON object or as `{a="b"}`, with or without a metric name before the brace.
fn parse(line: &str) -> Result<Labels, String> {
    match serde_json::from_str::<Labels>(line) {
        Ok(labels) => Ok(labels),
        Err(error) if looks_like_json(line) => {
            // The position is that within the line, which the caller names.
            let column = in_characters(line.as_bytes(), error.line(), error.column());
            let place = if column == 0 { String::new() } else { format!(", column {column}") };
            let error = error.to_string();
            let message = error.split(" at line ").next().unwrap_or_default();
            Err(format!("not a JSON object of texts{place}: {message}"))
        }
        Err(_) => label_set(line).map(Labels::from_pairs).map_err(str::to_owned),
    }
}

/// Whether a line begins as a JSON object does: with a text before a colon. A label set has an equals sign there, or a comma.
fn looks_like_json(line: &str) -> bool {
    let Some(text) = line.strip_prefix('{').and_then(|rest| rest.trim_start().strip_prefix('"')) else {
        return false;
    };
    let mut escaped = false;
    let end = text.find(|c: char| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    });
    end.is_some_and(|end| text[end + 1..].trim_start().starts_with(':'))
}

/// A discovered target: gets what the job gives every target first, and shows the finished target at the end.
fn target(job: &ScrapeConfig, labels: &Labels) -> String {
    let group = Labels::default();
    let discovered = DiscoveredLabels::new(job, &group, labels);
    let matters = discovered.depends_on_order();
    let mut text = format!("{}\n{}", discovered.build(), steps(&job.relabel, &discovered.trace()));
    match discovered.assemble() {
        Assembled::Target(target) => {
            let url = printable(&target.scrape_url());
            text.push_str(&format!("  target {url} {}\n", target.labels.public()));
            if let Err(error) = &target.url {
                text.push_str(&format!("  each scrape fails: {error}\n"));
            }
        }
        Assembled::Dropped { rule } => text.push_str(&format!("  dropped by relabel_configs[{rule}]\n")),
        Assembled::Invalid(error) => text.push_str(&format!("  not a target: {error}\n")),
    }
    if matters {
        text.push_str(
            "  note: a labelmap makes one label of several, and here the last in the alphabet won. A label of a target's group wins \
             over the target's own; between two of the same kind Prometheus leaves it to chance\n",
        );
    }
    text
}

/// A text from outside for a terminal, which would do what control characters say.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            printable.extend(char.escape_default());
        } else {
            printable.push(char);
        }
    }
    printable
}

/// A series, with the labels that it has after it was merged with its target's. Which of them are the target's is not known
/// here, and said where it matters.
fn metric(job: &ScrapeConfig, labels: &Labels) -> String {
    let trace = job.metric_relabel.trace(labels);
    let mut text = format!("{labels}\n{}", steps(&job.metric_relabel, &trace));
    match trace.last() {
        Some(step) if step.dropped => {
            text.push_str(&format!("  dropped by metric_relabel_configs[{}]\n", step.rule));
        }
        Some(step) => {
            text.push_str(&format!("  series {}\n", step.after));
            if step.after.is_empty() {
                text.push_str("  note: no label is left, so that the series is dropped\n");
            } else if labels.get(METRIC_NAME).is_some() && step.after.get(METRIC_NAME).is_none() {
                text.push_str(
                    "  note: the metric's name is gone: a scrape with such a series fails as a whole\n",
                );
            }
        }
        None => text.push_str(&format!("  series {labels}\n")),
    }
    let names: Vec<&str> = labels.iter().map(|(name, _)| name).collect();
    let forwards = || job.metric_relabel.trace_after(labels, names.iter().copied());
    let backwards = || job.metric_relabel.trace_after(labels, names.iter().rev().copied());
    if job.metric_relabel.ask_for_order() && (forwards() != trace || backwards() != trace) {
        text.push_str(
            "  note: a labelmap makes one label of several, and which one wins depends on which are the target's: here all were \
             taken for exposed ones. In a scrape a label of the target wins over an exposed one, and exported_... over both\n",
        );
    }
    text
}

fn steps(rules: &Rules, trace: &[Step]) -> String {
    let mut text = String::new();
    for (step, rule) in trace.iter().zip(rules.iter()) {
        text.push_str(&format!("  [{}] {rule}\n", step.rule));
        text.push_str(&effect(step));
    }
    text
}

fn effect(step: &Step) -> String {
    let input = step.input.as_ref().map(|input| format!(" (input {input:?})")).unwrap_or_default();
    if step.dropped {
        return format!("      drops it{input}\n");
    }
    if step.changes.is_empty() {
        return format!("      changes nothing{input}\n");
    }
    step.changes
        .iter()
        .map(|change| match (&change.before, &change.after) {
            (None, Some(after)) => format!("      + {}={after:?}{input}\n", change.name),
            (Some(before), None) => format!("      - {}={before:?}{input}\n", change.name),
            (before, after) => {
                let text = |value: &Option<String>| value.clone().unwrap_or_default();
                format!("      ~ {}={:?} was {:?}{input}\n", change.name, text(after), text(before))
            }
        })
        .collect()
}
