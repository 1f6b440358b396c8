//! What TYPE, HELP and UNIT lines say of a metric family.

use std::borrow::Cow;

use promring_proto::remote_write::v1::MetricType;

use super::lex::{closing_quote, name_end, unescape};
use super::series::NumberLabel;

/// What the body says of a metric family. A text format says one thing a line, protobuf all at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata<'b> {
    /// Name of the family, as written: OpenMetrics leaves out `_total` here.
    pub family: Cow<'b, str>,
    /// The type, where this line says it.
    pub kind: Option<MetricType>,
    /// The help text, where this line says it.
    pub help: Option<Cow<'b, str>>,
    /// The unit, where this line says it; it may be empty.
    pub unit: Option<&'b str>,
}

impl<'b> Metadata<'b> {
    pub(super) fn of(family: Cow<'b, str>) -> Self {
        Self { family, kind: None, help: None, unit: None }
    }
}

/// The label that is a number in series of this type.
pub(super) fn number_label(kind: MetricType) -> NumberLabel {
    match kind {
        MetricType::Histogram => NumberLabel::Bound,
        MetricType::Summary => NumberLabel::Quantile,
        MetricType::Unknown
        | MetricType::Counter
        | MetricType::Gauge
        | MetricType::GaugeHistogram
        | MetricType::Info
        | MetricType::StateSet => NumberLabel::None,
    }
}

/// The family's name at the beginning of `text`, which may be quoted, and how many bytes it takes. A quoted one may
/// hold newlines.
pub(super) fn family_name(text: &[u8]) -> Result<(Cow<'_, str>, usize), &'static str> {
    if text.first() == Some(&b'"') {
        let end = closing_quote(text, true).ok_or("a quoted name does not end")?;
        let name = std::str::from_utf8(&text[1..end]).map_err(|_| "the name is not UTF-8")?;
        return Ok((unescape(name), end + 1));
    }
    let end = name_end(text);
    match std::str::from_utf8(&text[..end]) {
        Ok(name) if end > 0 => Ok((Cow::Borrowed(name), end)),
        _ => Err("expected a metric name"),
    }
}
