//! Exemplars, which are checked with their sample and taken apart only by who wants them.

use promring_model::hash::hash64;

use super::lex::{Dialect, Piece, Pieces};
use super::number::{parse_float, parse_timestamp_seconds};
use super::protobuf::{NativeExemplars, exemplar_of, read_exemplar};
use super::series::Pairs;

/// Runes that an exemplar's label names and values may have together. Prometheus parses a longer one and then
/// does not store it; the scrape goes on.
pub const EXEMPLAR_LABEL_RUNES_MAX: usize = 128;

/// One exemplar.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar<'b> {
    /// Labels in the order of the body.
    pub labels: Pairs<'b>,
    /// The value; NaNs are normalised.
    pub value: f64,
    /// Unix milliseconds.
    pub timestamp_ms: Option<i64>,
}

impl Exemplar<'_> {
    /// Whether Prometheus would store it: its labels are short enough, each has a name, and none stands twice. A label with an
    /// empty value is none.
    #[must_use]
    pub fn is_storable(&self) -> bool {
        let mut runes = 0;
        for (at, (name, value)) in self.labels.iter().enumerate().filter(|(_, (_, value))| !value.is_empty())
        {
            runes += name.chars().count() + value.chars().count();
            // At most as many labels as runes are ever compared.
            if runes > EXEMPLAR_LABEL_RUNES_MAX
                || name.is_empty()
                || self.labels[..at].iter().any(|(other, value)| other == name && !value.is_empty())
            {
                return false;
            }
        }
        true
    }
}

/// The exemplars of one sample, as the body has them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Exemplars<'b>(Source<'b>);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Source<'b> {
    #[default]
    None,
    /// What follows `# {` in OpenMetrics, checked.
    Text(&'b str),
    /// A protobuf message, checked.
    Message(&'b [u8]),
    Native(NativeExemplars<'b>),
}

impl<'b> Exemplars<'b> {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Source::None)
    }

    /// A hash of the bytes that they stand in.
    #[must_use]
    pub fn identity(&self) -> u64 {
        match &self.0 {
            Source::None => 0,
            Source::Text(text) => hash64(text.as_bytes()),
            Source::Message(message) => hash64(message),
            Source::Native(exemplars) => hash64(exemplars.bytes()),
        }
    }

    /// What follows `# {` in a line of OpenMetrics.
    pub(super) fn text(text: &'b [u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| "the exemplar is not UTF-8")?;
        if text.contains('\0') {
            return Err("the exemplar holds a NUL");
        }
        read_text(text, |_, _| {})?;
        Ok(Self(Source::Text(text)))
    }

    /// One message of `Exemplar`.
    pub(super) fn message(message: &'b [u8]) -> Result<Self, &'static str> {
        read_exemplar(message, |_| {})?;
        Ok(Self(Source::Message(message)))
    }

    /// Those of a native histogram.
    pub(super) fn native(exemplars: NativeExemplars<'b>) -> Self {
        Self(Source::Native(exemplars))
    }
}

impl<'b> IntoIterator for Exemplars<'b> {
    type Item = Exemplar<'b>;
    type IntoIter = ExemplarIter<'b>;

    fn into_iter(self) -> ExemplarIter<'b> {
        ExemplarIter(self.0)
    }
}

/// Takes exemplars apart, one after the other.
#[derive(Clone, Debug)]
pub struct ExemplarIter<'b>(Source<'b>);

impl<'b> Iterator for ExemplarIter<'b> {
    type Item = Exemplar<'b>;

    fn next(&mut self) -> Option<Exemplar<'b>> {
        match std::mem::take(&mut self.0) {
            Source::None => None,
            Source::Text(text) => {
                let mut labels = Pairs::new();
                // As in Prometheus, escapes in exemplars are left as they are.
                let read = read_text(text, |name, value| labels.push((name.into(), value.into())));
                let (value, timestamp_ms) = read.ok()?;
                Some(Exemplar { labels, value, timestamp_ms })
            }
            Source::Message(message) => exemplar_of(message).ok().flatten(),
            Source::Native(mut exemplars) => {
                let exemplar = exemplars.next().ok().flatten();
                self.0 = Source::Native(exemplars);
                exemplar
            }
        }
    }
}

/// Reads `a="b",c="d"} value [timestamp]`.
fn read_text<'b>(
    text: &'b str,
    mut label: impl FnMut(&'b str, &'b str),
) -> Result<(f64, Option<i64>), &'static str> {
    let mut pieces = Pieces::new(text, Dialect::OpenMetrics);
    while let Some(piece) = pieces.next()? {
        match piece {
            Piece::Name(_) => return Err("expected a label in an exemplar"),
            Piece::Label(name, value) => label(name.raw(), value.raw),
        }
    }
    let rest = pieces.rest().strip_prefix(' ').ok_or("expected a value after the exemplar's labels")?;
    let (value, time) = match rest.split_once(' ') {
        Some((value, time)) => (value, Some(time)),
        None => (rest, None),
    };
    let value = parse_float(value.as_bytes()).ok_or("expected a number as the exemplar's value")?;
    let timestamp_ms = match time {
        None => None,
        Some(time) => {
            let time = parse_timestamp_seconds(time.as_bytes());
            Some(time.ok_or("expected the exemplar's timestamp in seconds or the end of the line")?)
        }
    };
    Ok((value, timestamp_ms))
}
