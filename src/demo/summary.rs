//! What the demo prints: a line while it runs, and a summary at its end.

use promring_model::duration::format_duration;
use promring_testkit::audit::Report;
use promring_testkit::receiver::Summary;

use crate::cli::DemoArgs;

/// Findings that the summary shows.
const FINDINGS_SHOWN_MAX: usize = 20;

/// One line of how it goes.
pub(super) fn live_line(summary: &Summary, targets: usize, each: &[usize], queued: u64) -> String {
    let each: Vec<String> = each.iter().map(ToString::to_string).collect();
    format!(
        "targets {targets} | scrapers {} ({}) | {:.0} samples/s | queue {queued} | gaps {} | duplicates {} | out of order {}",
        each.len(),
        each.join("+"),
        summary.samples_per_second,
        summary.gaps,
        summary.duplicates,
        summary.out_of_order,
    )
}

/// What was audited and what was found.
pub(super) fn text(report: &Report, summary: &Summary, reason: &str, args: &DemoArgs) -> String {
    let counts = &report.counts;
    let mut text = format!(
        "\
ended: {reason}
  targets        {} (every {}), on {} scrapers
  series         {}
  samples        {} received, in {} requests, {} bytes on the wire
  audited slots  {} in {:.1} s
  gaps           {} ({} whole series, {} whole targets)
  duplicates     {}
  out of order   {}
  markers        {} stray, {} missing
  unexpected     {} series, {} values",
        report.targets,
        format_duration(args.interval),
        args.scrapers,
        report.series,
        summary.samples,
        summary.received.requests,
        summary.received.bytes,
        report.slots,
        (report.to_ms - report.from_ms) as f64 / 1_000.0,
        counts.gaps,
        counts.missing_series,
        counts.missing_targets,
        counts.duplicates,
        counts.out_of_order,
        counts.stray_markers,
        counts.missing_markers,
        counts.unexpected_series,
        counts.unexpected_values,
    );
    for finding in report.findings.iter().take(FINDINGS_SHOWN_MAX) {
        text.push_str(&format!("\n  {:?} {}: {}", finding.kind, finding.labels, finding.detail));
    }
    text.push_str(if counts.is_clean() {
        "\nOK: every series has exactly one sample a slot"
    } else {
        "\nFAILED: the audit found what is listed above"
    });
    text
}
