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
pub(super) fn family(name: &str, settings: &str, steps: Vec<Step>) -> Vec<Case> {
    let jobs = steps.chunks(STEPS_MAX).enumerate();
    jobs.map(|(number, steps)| {
        let mut steps = steps.to_vec();
        steps.push(Step::new("end", TEXT, "end 1\n"));
        let job = if number == 0 { name.to_owned() } else { format!("{name}-{}", number + 1) };
        Case { family: name.to_owned(), job, settings: settings.to_owned(), steps }
    })
    .collect()
}

/// The same for steps that are names and bodies of one type.
fn bodies<B: AsRef<[u8]>>(name: &str, settings: &str, content_type: &str, steps: &[(&str, B)]) -> Vec<Case> {
    let step = |(name, body): &(&str, B)| Step::new(name, content_type, body.as_ref());
    family(name, settings, steps.iter().map(step).collect())
}
