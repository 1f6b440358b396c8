//! The expositions: every odd case, each a step of its own.

mod answers;
mod formats;
mod labels;
mod limits;
mod openmetrics;
mod protobuf;
mod random;
mod staleness;
mod text;

use super::script::{Case, Ending, Step};

pub(super) use random::random;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Steps of one job: more would make the test longer, and jobs run at once.
const STEPS_MAX: usize = 11;

/// All of them. `now_ms`: explicit timestamps are about here.
pub(super) fn all(now_ms: i64) -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(text::cases());
    cases.extend(openmetrics::cases(now_ms));
    cases.extend(protobuf::cases(now_ms));
    cases.extend(formats::cases());
    cases.extend(labels::cases());
    cases.extend(limits::cases());
    cases.extend(staleness::cases(now_ms));
    cases.extend(answers::cases());
    cases
}

/// A family of steps, cut into jobs that run at once. Each job ends with a plain body.
pub(super) fn family(name: &str, settings: &str, mut steps: Vec<Step>) -> Vec<Case> {
    let mut cases = Vec::new();
    while !steps.is_empty() {
        let rest = steps.split_off(STEPS_MAX.min(steps.len()));
        steps.push(Step::new("end", TEXT, "end 1\n"));
        let job = if cases.is_empty() { name.to_owned() } else { format!("{name}-{}", cases.len() + 1) };
        cases.push(Case { family: name.to_owned(), job, settings: settings.to_owned(), steps });
        steps = rest;
    }
    cases
}

/// The same for steps that are names and bodies of one type.
fn bodies<B: AsRef<[u8]>>(name: &str, settings: &str, content_type: &str, steps: &[(&str, B)]) -> Vec<Case> {
    let step = |(name, body): &(&str, B)| Step::new(name, content_type, body.as_ref());
    family(name, settings, steps.iter().map(step).collect())
}
