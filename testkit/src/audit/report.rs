//! The result: what was found on the way, and what is missing at the end.

use std::collections::BTreeMap;

use promring_model::labels::Labels;

use super::coverage::{NOTHING, Span, missing, subtract};
use super::findings::{Finding, GAP_TARGETS_MAX, Kind, Log, Report, TargetGaps};
use super::{Audit, NO_TARGET, TIME_MS_MAX, Target, finding};

/// Different gaps that are told apart for examples; further ones are counted only.
const GAPS_TOLD_APART_MAX: usize = 10_000;

/// What is missing of one series.
struct Missing {
    /// Slots that had to have a sample.
    required: u64,
    /// Those that have none.
    spans: Vec<Span>,
}

impl Audit {
    /// How many required slots up to `as_of_ms` have no sample so far: [`Report`]'s count of gaps, and cheaper.
    /// Give it the present less the time that samples may be under way.
    #[must_use]
    pub fn gaps(&self, as_of_ms: i64) -> u64 {
        let gaps = |target: &Target| -> u64 {
            let wanted = self.wanted(target, as_of_ms);
            let interval_ms = target.slots.interval_ms();
            let count = |&number: &u32| -> u64 {
                self.missing(number, target, wanted).spans.iter().map(|span| span.slots(interval_ms)).sum()
            };
            target.series.iter().map(count).sum()
        };
        self.targets.iter().map(gaps).sum()
    }

    /// The result so far, requiring slots up to `as_of_ms` (Unix milliseconds) or the window's end, whichever is
    /// earlier.
    #[must_use]
    pub fn report(&self, as_of_ms: i64) -> Report {
        let mut log = self.log.clone();
        let mut gap_log = GapLog::default();
        let mut slots = 0;
        for target in &self.targets {
            slots += self.report_target(target, as_of_ms, &mut log, &mut gap_log);
        }
        self.report_unexpected(&mut log);
        gap_log.examples(&mut log);
        let (from_ms, to_ms) = self.window.unwrap_or((as_of_ms, as_of_ms));
        let (targets, series) = self.expected();
        let mut gaps = gap_log.targets;
        gaps.sort_by_key(|target| std::cmp::Reverse(target.slots));
        gaps.truncate(GAP_TARGETS_MAX);
        Report {
            from_ms,
            to_ms: to_ms.min(as_of_ms),
            targets: targets as u64,
            series: series as u64,
            slots,
            counts: log.counts,
            findings: log.examples,
            gaps,
        }
    }

    /// The slots that a target has to have samples in, apart from absences.
    fn wanted(&self, target: &Target, as_of_ms: i64) -> Span {
        let Some((from_ms, to_ms)) = self.window else { return NOTHING };
        let from_ms = from_ms.max(target.from_ms).max(-TIME_MS_MAX);
        // With no end given, what has come is the end.
        let to_ms = match to_ms.min(as_of_ms) {
            to_ms if to_ms > TIME_MS_MAX => self.totals.latest_ms,
            to_ms => to_ms.max(-TIME_MS_MAX),
        };
        Span { first: target.slots.next_after(from_ms.min(TIME_MS_MAX)), last: target.slots.slot_at(to_ms) }
    }

    fn missing(&self, number: u32, target: &Target, wanted: Span) -> Missing {
        let interval_ms = target.slots.interval_ms();
        let state = &self.states[number as usize];
        let holes = self.holes.get(&number).map_or(&[][..], Vec::as_slice);
        let mut required = vec![wanted];
        let mut spans = missing(state.span, holes, wanted, interval_ms);
        if !target.absences.is_empty() || state.has_absence {
            for absence in self.absences_of(number, state) {
                let exempt = absence.exempt(target.slots);
                required = subtract(required, exempt, interval_ms);
                spans = subtract(spans, exempt, interval_ms);
            }
        }
        Missing { required: required.into_iter().map(|span| span.slots(interval_ms)).sum(), spans }
    }

    /// Reports what a target lacks, and returns how many slots had to have a sample.
    fn report_target(&self, target: &Target, as_of_ms: i64, log: &mut Log, gap_log: &mut GapLog) -> u64 {
        let interval_ms = target.slots.interval_ms();
        let wanted = self.wanted(target, as_of_ms);
        let results: Vec<(u32, Missing)> =
            target.series.iter().map(|&number| (number, self.missing(number, target, wanted))).collect();
        let count = |missing: &Missing| missing.spans.iter().map(|span| span.slots(interval_ms)).sum::<u64>();
        let required: u64 = results.iter().map(|(_, missing)| missing.required).sum();
        let gone: u64 = results.iter().map(|(_, missing)| count(missing)).sum();
        for &(number, _) in &results {
            self.report_markers(number, target, as_of_ms, log);
        }
        log.counts.gaps += gone;
        if gone > 0 {
            gap_log.targets.push(target_gaps(&target.labels, &results, interval_ms));
        }
        if required > 0 && gone == required {
            log.add(Kind::MissingTarget, 1, || {
                let why = format!("no sample of its {} series, {gone} slots", results.len());
                span_finding(Kind::MissingTarget, &target.labels, wanted, why)
            });
            return required;
        }
        for (number, missing) in &results {
            if missing.required > 0 && count(missing) == missing.required {
                log.add(Kind::MissingSeries, 1, || {
                    let why = format!("no sample of it, {} slots", missing.required);
                    span_finding(Kind::MissingSeries, &self.store.labels(*number), wanted, why)
                });
                continue;
            }
            for span in &missing.spans {
                gap_log.add(&target.labels, *span, || self.store.labels(*number));
            }
        }
        required
    }

    /// Reports planned absences whose marker should have come.
    fn report_markers(&self, number: u32, target: &Target, as_of_ms: i64, log: &mut Log) {
        let state = &self.states[number as usize];
        let Some((from_ms, to_ms)) = self.window else { return };
        let interval_ms = target.slots.interval_ms();
        // A series that never was needs no end.
        if (target.absences.is_empty() && !state.has_absence) || state.span.is_empty() {
            return;
        }
        let markers = self.markers.get(&number).map_or(&[][..], Vec::as_slice);
        for absence in self.absences_of(number, state) {
            let due = absence.marker_due_ms(interval_ms).is_some_and(|due_ms| due_ms <= to_ms.min(as_of_ms));
            let lived = absence.from_ms > from_ms && state.span.first <= absence.from_ms;
            let came = markers.iter().any(|&slot| absence.explains_marker(slot, interval_ms));
            if due && lived && !came {
                log.add(Kind::MissingMarker, 1, || {
                    let why = "it ended without a staleness marker".to_owned();
                    finding(Kind::MissingMarker, self.store.labels(number), absence.from_ms, why)
                });
            }
        }
    }

    /// Reports series that arrived and that nobody expects, once somebody expects anything.
    fn report_unexpected(&self, log: &mut Log) {
        if self.targets.is_empty() {
            return;
        }
        for (number, state) in (0..).zip(&self.states) {
            if state.target == NO_TARGET {
                log.add(Kind::UnexpectedSeries, 1, || {
                    let why = format!("nobody expects it; {} samples so far", state.samples);
                    finding(Kind::UnexpectedSeries, self.store.labels(number), state.last_ms, why)
                });
            }
        }
    }
}

fn target_gaps(labels: &Labels, results: &[(u32, Missing)], interval_ms: i64) -> TargetGaps {
    let spans = || results.iter().flat_map(|(_, missing)| &missing.spans);
    TargetGaps {
        labels: labels.clone(),
        slots: spans().map(|span| span.slots(interval_ms)).sum(),
        series: results.iter().filter(|(_, missing)| !missing.spans.is_empty()).count() as u64,
        first_ms: spans().map(|span| span.first).min().unwrap_or_default(),
        last_ms: spans().map(|span| span.last).max().unwrap_or_default(),
        longest_ms: spans()
            .map(|span| span.slots(interval_ms) as i64 * interval_ms)
            .max()
            .unwrap_or_default(),
    }
}

fn span_finding(kind: Kind, labels: &Labels, span: Span, detail: String) -> Finding {
    Finding { kind, labels: labels.clone(), from_ms: span.first, to_ms: span.last, detail }
}

/// Gaps while they are gathered: the same gap in a hundred series of a target is one example.
#[derive(Default)]
struct GapLog {
    targets: Vec<TargetGaps>,
    /// By target and span: how many series, and the labels of the first.
    alike: BTreeMap<(Labels, i64, i64), (u64, Labels)>,
}

impl GapLog {
    fn add(&mut self, target: &Labels, span: Span, series: impl FnOnce() -> Labels) {
        let key = (target.clone(), span.first, span.last);
        if let Some((count, _)) = self.alike.get_mut(&key) {
            *count += 1;
        } else if self.alike.len() < GAPS_TOLD_APART_MAX {
            self.alike.insert(key, (1, series()));
        }
    }

    fn examples(&self, log: &mut Log) {
        for ((target, first, last), (count, series)) in &self.alike {
            let span = Span { first: *first, last: *last };
            let example = || {
                if *count == 1 {
                    span_finding(Kind::Gap, series, span, "no sample".to_owned())
                } else {
                    span_finding(Kind::Gap, target, span, format!("no sample of {count} series"))
                }
            };
            // Their slots are counted already.
            log.add(Kind::Gap, 0, example);
        }
    }
}
