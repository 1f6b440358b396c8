//! An exposition whose text is laid out once and shared by all exporters of a kind: a scrape copies the text
//! and writes the values in between. A thousand series take tens of microseconds and no allocation.

use std::ops::Range;

use promring_model::labels::{Labels, METRIC_NAME};

use super::Exposed;
use super::motion::{Moment, Motion};

/// A label's value in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LabelText {
    /// The same at every exporter of the kind.
    Text(String),
    /// What tells exporters apart.
    Own(Own),
}

/// A label value that every exporter has its own of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// The address of the pod that it pretends to be.
    PodIp,
    /// A number that it pretends to have drawn at its start.
    InstanceId,
    /// The service that it belongs to.
    Service,
}

impl From<&str> for LabelText {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for LabelText {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// A metric family.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) metric_type: &'static str,
    pub(super) series: Vec<Series>,
}

/// One series of a family.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// `_bucket`, `_sum`, `_count` or nothing.
    pub(super) suffix: &'static str,
    pub(super) labels: Vec<(&'static str, LabelText)>,
    pub(super) motion: Motion,
}

/// What an exporter calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pod_ip: String,
    pub(super) instance_id: String,
    pub(super) service: String,
    /// Unix milliseconds.
    pub(super) start_ms: i64,
    pub(super) seed: u64,
}

impl Identity {
    fn own(&self, own: Own) -> &str {
        match own {
            Own::PodIp => &self.pod_ip,
            Own::InstanceId => &self.instance_id,
            Own::Service => &self.service,
        }
    }
}

/// Text up to a point, and what stands there.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// Where the text before it ends.
    end: u32,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    /// Nothing: a comment ends here.
    Nothing,
    Own(Own),
    /// The value of the series with this number, and the end of the line.
    Value(u32),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Template {
    text: String,
    pieces: Vec<Piece>,
    /// The pieces of each series.
    lines: Vec<Range<u32>>,
    motions: Vec<Motion>,
    /// Labels of each series, `__name__` among them.
    labels: Vec<Vec<(&'static str, LabelText)>>,
}

impl Template {
    /// The exposition of these families.
    pub(super) fn new(families: Vec<Family>) -> Self {
        let mut template = Self {
            text: String::new(),
            pieces: Vec::new(),
            lines: Vec::new(),
            motions: Vec::new(),
            labels: Vec::new(),
        };
        for family in families {
            template.push_family(family);
        }
        template
    }

    /// How many series it has.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// What the exporter of this identity shows, in the order of the text.
    pub(super) fn exposed(&self, identity: &Identity) -> Vec<Exposed> {
        let labels = |labels: &[(&'static str, LabelText)]| {
            Labels::from_pairs(labels.iter().map(|(name, value)| match value {
                LabelText::Text(text) => (*name, text.as_str()),
                LabelText::Own(own) => (*name, identity.own(*own)),
            }))
        };
        self.labels
            .iter()
            .zip(&self.motions)
            .map(|(pairs, motion)| Exposed { labels: labels(pairs), monotone: motion.is_monotone() })
            .collect()
    }

    /// What the series with this number shows at a moment.
    pub(super) fn value(&self, number: u32, identity: &Identity, now_ms: i64) -> Option<f64> {
        let motion = self.motions.get(number as usize)?;
        Some(motion.at(&Moment::new(now_ms, identity.start_ms, identity.seed), number).value())
    }

    /// Lowest and highest value that the series with this number shows in a span of time.
    pub(super) fn bounds(
        &self,
        number: u32,
        identity: &Identity,
        from_ms: i64,
        to_ms: i64,
    ) -> Option<(f64, f64)> {
        let motion = self.motions.get(number as usize)?;
        let moment = |time_ms| Moment::new(time_ms, identity.start_ms, identity.seed);
        Some(motion.bounds(&moment(from_ms), &moment(to_ms), number))
    }

    /// Appends the whole text as it stands at a moment, without the series whose numbers are in `hidden` (sorted).
    pub(super) fn render(&self, identity: &Identity, now_ms: i64, hidden: &[u32], out: &mut Vec<u8>) {
        let moment = Moment::new(now_ms, identity.start_ms, identity.seed);
        let mut at = 0;
        for number in hidden {
            let Some(line) = self.lines.get(*number as usize) else { continue };
            self.render_pieces(at..line.start as usize, identity, &moment, out);
            at = line.end as usize;
        }
        self.render_pieces(at..self.pieces.len(), identity, &moment, out);
    }

    fn render_pieces(&self, range: Range<usize>, identity: &Identity, moment: &Moment, out: &mut Vec<u8>) {
        let mut start = if range.start == 0 { 0 } else { self.pieces[range.start - 1].end as usize };
        for piece in &self.pieces[range] {
            out.extend_from_slice(&self.text.as_bytes()[start..piece.end as usize]);
            start = piece.end as usize;
            match piece.then {
                Then::Nothing => {}
                Then::Own(own) => out.extend_from_slice(identity.own(own).as_bytes()),
                Then::Value(number) => {
                    self.motions[number as usize].at(moment, number).write(out);
                    out.push(b'\n');
                }
            }
        }
    }

    fn push_family(&mut self, family: Family) {
        for part in [
            "# HELP ",
            family.name,
            " ",
            family.help,
            "\n# TYPE ",
            family.name,
            " ",
            family.metric_type,
            "\n",
        ] {
            self.text.push_str(part);
        }
        self.push_piece(Then::Nothing);
        for series in family.series {
            self.push_series(family.name, series);
        }
    }

    fn push_series(&mut self, family: &str, series: Series) {
        let first = self.pieces.len() as u32;
        let number = self.lines.len() as u32;
        self.text.push_str(family);
        self.text.push_str(series.suffix);
        for (at, (name, value)) in series.labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            match value {
                LabelText::Text(text) => push_escaped(text, &mut self.text),
                LabelText::Own(own) => self.push_piece(Then::Own(*own)),
            }
            self.text.push('"');
        }
        self.text.push_str(if series.labels.is_empty() { " " } else { "} " });
        self.push_piece(Then::Value(number));
        self.lines.push(first..self.pieces.len() as u32);
        self.motions.push(series.motion);
        let mut labels = series.labels;
        labels.push((METRIC_NAME, format!("{family}{}", series.suffix).into()));
        self.labels.push(labels);
    }

    fn push_piece(&mut self, then: Then) {
        self.pieces.push(Piece { end: self.text.len() as u32, then });
    }
}

/// Appends a label's value as the text format wants it.
fn push_escaped(value: &str, out: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            pod_ip: "10.0.0.7".into(),
            instance_id: "i-1".into(),
            service: "shop".into(),
            start_ms: 1_000,
            seed: 512,
        }
    }

    fn template() -> Template {
        let constant = |labels, value| Series { suffix: "", labels, motion: Motion::Constant(value) };
        Template::new(vec![
            Family {
                name: "a",
                help: "First.",
                metric_type: "gauge",
                series: vec![
                    constant(vec![("x", "q\"\\\n".into()), ("pod_ip", LabelText::Own(Own::PodIp))], 1),
                    constant(vec![("x", "2".into())], 2),
                ],
            },
            Family {
                name: "b",
                help: "Second.",
                metric_type: "gauge",
                series: vec![constant(Vec::new(), 3)],
            },
        ])
    }

    fn render(hidden: &[u32]) -> String {
        let mut out = Vec::new();
        template().render(&identity(), 2_000, hidden, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_and_own_labels_stand_where_they_belong() {
        assert_eq!(
            render(&[]),
            "# HELP a First.\n# TYPE a gauge\na{x=\"q\\\"\\\\\\n\",pod_ip=\"10.0.0.7\"} 1\na{x=\"2\"} 2\n\
             # HELP b Second.\n# TYPE b gauge\nb 3\n"
        );
    }

    #[test]
    fn hidden_series_are_left_out_and_their_comments_stay() {
        assert_eq!(
            render(&[0, 2]),
            "# HELP a First.\n# TYPE a gauge\na{x=\"2\"} 2\n# HELP b Second.\n# TYPE b gauge\n"
        );
        assert_eq!(render(&[1]).lines().count(), 6);
        assert_eq!(render(&[0, 1, 2]).lines().count(), 4);
    }

    #[test]
    fn the_list_of_series_is_known_without_rendering() {
        let exposed = template().exposed(&identity());
        let texts: Vec<String> = exposed.iter().map(|series| series.labels.to_string()).collect();
        assert_eq!(texts[0], "{__name__=\"a\", pod_ip=\"10.0.0.7\", x=\"q\\\"\\\\\\n\"}");
        assert_eq!(texts[2], "{__name__=\"b\"}");
    }
}
