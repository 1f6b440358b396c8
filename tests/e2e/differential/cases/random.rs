//! Expositions made by chance: good lines with a byte changed here and there.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{Case, OPENMETRICS, Step, TEXT, family};

/// Lines that all have a meaning.
const LINES: &[&str] = &[
    "a 1",
    "a{x=\"1\"} 2.5",
    "b{x=\"1\",y=\"\"} -3e2",
    // Under another type than before, Prometheus knows the text of a series and takes it for the same; so each is new.
    "# TYPE c histogram\nc_bucket{le=\"1\",step=\"STEP\"} 1\nc_bucket{le=\"+Inf\",step=\"STEP\"} +Inf",
    "# TYPE s summary\ns{quantile=\"0.90\",step=\"STEP\"} NaN",
    "# TYPE u gauge",
    "# HELP b Some \\\\ text.",
    "v{z=\"}\"} 1",
    // With the first two one series, where x is dropped.
    "a{x=\"2\"} 3\na{x=\"3\"} 4",
    "{\"d.e\",\"f g\"=\"é\"} 4",
    "h:i_total 5",
    "job_x{job=\"j\",instance=\"i\"} 6",
    "k{l=\"\\\"m\\\\\"} 7",
];

/// Half of the jobs make one series of several texts.
const INTO_ONE: &str = "metric_relabel_configs: [{regex: x, action: labeldrop}]";

/// Bytes that mean something somewhere.
const BYTES: &[u8] = b" \t\n\r\"\\{}=,#:._-+eExX019aINn\xc3\xff";

/// `jobs` jobs of `steps` steps each.
pub(in super::super) fn random(seed: u64, jobs: usize, steps: usize) -> Vec<Case> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut cases = Vec::new();
    for job in 0..jobs {
        let open = job % 2 == 1;
        let step = |number: usize, random: &mut SmallRng| {
            let body = loop {
                let body = body(open, number, random);
                if !differs(&body) {
                    break body;
                }
            };
            Step::new(&format!("{number}"), if open { OPENMETRICS } else { TEXT }, body)
        };
        let steps: Vec<Step> = (0..steps).map(|number| step(number, &mut random)).collect();
        let mut case = Case {
            family: format!("random-{job}"),
            job: format!("random-{job}"),
            settings: if job % 4 < 2 { String::new() } else { INTO_ONE.to_owned() },
            steps,
        };
        case.steps.extend(family("", "", vec![Step::new("", TEXT, "")]).remove(0).steps.pop());
        cases.push(case);
    }
    cases
}

fn body(open: bool, step: usize, random: &mut SmallRng) -> Vec<u8> {
    let mut body = Vec::new();
    // None twice: what counts of two is seen elsewhere.
    let mut lines = LINES.to_vec();
    for _ in 0..random.random_range(1..8) {
        let line = lines.swap_remove(random.random_range(0..lines.len())).replace("STEP", &step.to_string());
        body.extend_from_slice(line.as_bytes());
        body.push(b'\n');
    }
    if open {
        body.extend_from_slice(b"# EOF\n");
    }
    for _ in 0..random.random_range(0..3) {
        let at = random.random_range(0..body.len());
        let byte = BYTES[random.random_range(0..BYTES.len())];
        match random.random_range(0..4) {
            0 => body[at] = byte,
            1 => body.insert(at, byte),
            2 => drop(body.remove(at)),
            _ => {
                let other = random.random_range(0..body.len());
                body.swap(at, other);
            }
        }
        if body.is_empty() {
            body.push(byte);
        }
    }
    body
}

/// What is in the list of divergences already: space before a name, a quoted text that goes on in the next line after a
/// brace, and times that come and go.
fn differs(body: &[u8]) -> bool {
    body.split(|byte| *byte == b'\n').any(|line| {
        // Where the value stands right behind the brace too.
        let (after_labels, words_max) = match line.iter().rposition(|byte| *byte == b'}') {
            Some(at) => (&line[at + 1..], 1),
            None => (line, 2),
        };
        let words =
            after_labels.split(|byte| [b' ', b'\t'].contains(byte)).filter(|word| !word.is_empty()).count();
        if words > words_max && !line.starts_with(b"#") {
            return true;
        }
        let quotes = line.iter().filter(|byte| **byte == b'"').count();
        line.starts_with(b" ") || line.starts_with(b"\t") || (quotes % 2 == 1 && line.contains(&b'}'))
    })
}
