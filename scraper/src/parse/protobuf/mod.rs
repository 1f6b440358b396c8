//! The exposition in protobuf: `io.prometheus.client.MetricFamily` messages, each after its length.
//!
//! Messages are read where they lie, and nothing is allocated for a float sample. Classic histograms and summaries are
//! expanded into the series that the text formats have. The rules are those of Prometheus's `model/textparse`.
//!
//! What differs on purpose stands in docs/configuration.md (Divergences, 38 and 42).

mod exemplar;
mod metric;
mod native;
mod pieces;
mod wire;

use promring_proto::remote_write::v1::MetricType;

use self::exemplar::read_timestamp;
pub(super) use self::exemplar::{NativeExemplars, exemplar_of, read_exemplar};
pub(super) use self::metric::read_label;
use self::metric::{Bucket, HistogramHead, Metric, next_message, read_quantile, read_summary, read_value};
pub use self::native::HistogramText;
pub(super) use self::pieces::FamilyPieces;
pub(super) use self::wire::Fields;
use self::wire::WireResult;
use super::exemplar::Exemplars;
use super::metadata::Metadata;
use super::series::{MessageSeries, Part, SeriesText};
use super::{ConvertedHistogram, HistogramSample, Item, ParseError, Sample};

/// What is made of histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistogramOptions {
    /// `scrape_native_histograms`: otherwise every histogram is a classic one.
    pub native: bool,
    /// `always_scrape_classic_histograms`: classic buckets beside native ones are kept.
    pub always_classic: bool,
    /// `convert_classic_histograms_to_nhcb`: classic histograms become native ones with custom bounds.
    pub convert_classic: bool,
}

/// Reads a body family by family, metric by metric.
#[derive(Debug)]
pub struct ProtobufParser<'b> {
    rest: &'b [u8],
    options: HistogramOptions,
    /// Families so far, for errors.
    families: usize,
    family: Family<'b>,
    /// The metric that is being expanded.
    expansion: Option<Expansion<'b>>,
    /// Comes after that.
    converted: Option<Box<ConvertedHistogram<'b>>>,
}

#[derive(Clone, Copy, Debug)]
struct Family<'b> {
    name: &'b str,
    kind: Kind,
    /// The fields of the family that are not read yet.
    fields: Fields<'b>,
    /// Spans of the next native histogram that do not match its buckets make the body malformed.
    checks_spans: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Summary,
    Untyped,
    Histogram,
    GaugeHistogram,
}

/// The series that a metric still has to be expanded into.
#[derive(Clone, Copy, Debug)]
struct Expansion<'b> {
    series: MessageSeries<'b>,
    timestamp_ms: Option<i64>,
    start_ms: i64,
    count: f64,
    sum: f64,
    /// What comes next.
    step: Step,
    /// The fields that are not read yet, for buckets or quantiles.
    fields: Fields<'b>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Count,
    Sum,
    Quantiles,
    Buckets,
    Done,
}

impl<'b> ProtobufParser<'b> {
    /// A parser at the beginning of `body`.
    #[must_use]
    pub fn new(body: &'b [u8], options: HistogramOptions) -> Self {
        let family = Family { name: "", kind: Kind::Untyped, fields: Fields::default(), checks_spans: true };
        Self { rest: body, options, families: 0, family, expansion: None, converted: None }
    }

    /// The next sample, or what is said of the next family; None at the end of the body.
    ///
    /// # Errors
    /// Where the body is malformed. The parser must not be asked again then.
    pub fn next_item(&mut self) -> Result<Option<Item<'b>>, ParseError> {
        self.advance().map_err(|reason| {
            ParseError::new("metric family", self.families, reason, self.family.name.as_bytes())
        })
    }

    fn advance(&mut self) -> Result<Option<Item<'b>>, &'static str> {
        loop {
            if let Some(mut expansion) = self.expansion.take()
                && let Some(sample) = expansion.next(self.family.kind == Kind::Summary)?
            {
                self.expansion = Some(expansion);
                return Ok(Some(Item::Sample(sample)));
            }
            if let Some(converted) = self.converted.take() {
                return Ok(Some(Item::Converted(converted)));
            }
            if let Some(message) = next_message(&mut self.family.fields, METRIC)? {
                if let Some(item) = self.metric(message)? {
                    return Ok(Some(item));
                }
            } else if self.rest.is_empty() {
                return Ok(None);
            } else if let Some(metadata) = self.next_family()? {
                return Ok(Some(Item::Metadata(metadata)));
            }
        }
    }

    /// Enters the next family; None where it has no metric.
    fn next_family(&mut self) -> Result<Option<Metadata<'b>>, &'static str> {
        self.families += 1;
        self.family.name = "";
        let mut body = Fields::new(self.rest);
        let length = body.varint()?;
        if self.rest.len() - body.rest().len() > LENGTH_BYTES_MAX {
            return Err("the length of a metric family is too long");
        }
        let length = usize::try_from(length).map_err(|_| "a metric family is cut off")?;
        let (message, rest) = body.rest().split_at_checked(length).ok_or("a metric family is cut off")?;
        self.rest = rest;
        let (mut name, mut help, mut unit): (&[u8], &[u8], &[u8]) = (b"", b"", b"");
        let (mut kind, mut has_metrics) = (0, false);
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => name = field.bytes()?,
                2 => help = field.bytes()?,
                3 => kind = field.varint()?,
                METRIC => has_metrics = field.bytes().map(|_| true)?,
                5 => unit = field.bytes()?,
                _ => {}
            }
        }
        if !has_metrics {
            return Ok(None);
        }
        let (name, kind) = name_and_kind(name, kind)?;
        let metadata = metadata_of(name, kind, help, unit)?;
        self.family = Family { name, kind, fields: Fields::new(message), checks_spans: true };
        Ok(Some(metadata))
    }

    /// The first item of a metric; None where it is to be expanded.
    fn metric(&mut self, message: &'b [u8]) -> Result<Option<Item<'b>>, &'static str> {
        let Family { name, kind, .. } = self.family;
        let Metric { labels, value: message, timestamp_ms } = Metric::read(message, kind.field())?;
        let series = MessageSeries::new(name, labels);
        let fields = Fields::new(message);
        match kind {
            Kind::Counter | Kind::Gauge | Kind::Untyped => {
                let read = read_value(message)?;
                let (mut exemplars, mut start_ms) = (Exemplars::default(), 0);
                if kind == Kind::Counter {
                    if let Some(message) = read.exemplar {
                        exemplars = Exemplars::message(message)?;
                    }
                    if let Some(message) = read.start {
                        start_ms = read_timestamp(message)?;
                    }
                }
                let (series, value) = (SeriesText::message(series), read.value);
                Ok(Some(Item::Sample(Sample { series, value, timestamp_ms, start_ms, exemplars })))
            }
            Kind::Summary => {
                let (count, sum, start_ms) = read_summary(message)?;
                let step = Step::Count;
                self.expansion = Some(Expansion { series, timestamp_ms, start_ms, count, sum, step, fields });
                Ok(None)
            }
            Kind::Histogram | Kind::GaugeHistogram => {
                let head = HistogramHead::read(message)?;
                let is_gauge = kind == Kind::GaugeHistogram;
                let is_native = self.options.native && head.is_native;
                let is_converted = self.options.convert_classic && !is_native;
                let is_expanded = if self.options.always_classic {
                    !is_native || head.has_buckets
                } else {
                    !is_native && !is_converted
                };
                let HistogramHead { count, sum, start_ms, .. } = head;
                if is_expanded {
                    let step = Step::Count;
                    self.expansion =
                        Some(Expansion { series, timestamp_ms, start_ms, count, sum, step, fields });
                }
                let series = SeriesText::message(series);
                // Prometheus looks at the first one, and at those that come behind classic series.
                let checks_spans =
                    std::mem::replace(&mut self.family.checks_spans, is_expanded || !is_native);
                if is_converted {
                    let exemplars = NativeExemplars::new(message)?.map(Exemplars::native);
                    self.converted = Some(Box::new(ConvertedHistogram {
                        series,
                        histogram: head.convert(message, is_gauge)?,
                        timestamp_ms,
                        start_ms,
                        exemplars: exemplars.into_iter().collect(),
                    }));
                }
                if !is_native {
                    return Ok(None);
                }
                let exemplars = NativeExemplars::new(message)?;
                Ok(Some(Item::Histogram(HistogramSample {
                    series,
                    histogram: HistogramText::new(message, is_gauge, checks_spans),
                    timestamp_ms,
                    start_ms,
                    exemplars: exemplars.map_or_else(Exemplars::default, Exemplars::native),
                })))
            }
        }
    }
}

fn name_and_kind(name: &[u8], kind: u64) -> WireResult<(&str, Kind)> {
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty()).ok_or("invalid metric name")?;
    Ok((name, Kind::from_number(kind).ok_or("unknown metric type")?))
}

fn metadata_of<'b>(name: &'b str, kind: Kind, help: &'b [u8], unit: &'b [u8]) -> WireResult<Metadata<'b>> {
    let help = std::str::from_utf8(help).map_err(|_| "the help text is not UTF-8")?;
    let unit = std::str::from_utf8(unit).map_err(|_| "the unit is not UTF-8")?;
    Ok(Metadata {
        family: name.into(),
        kind: Some(kind.metric_type()),
        help: Some(help.into()),
        unit: Some(unit).filter(|unit| !unit.is_empty()),
    })
}

/// Number of the field `metric` in `MetricFamily`.
const METRIC: u32 = 4;

/// Bytes that the length before a family may take, as in Prometheus.
const LENGTH_BYTES_MAX: usize = 5;

impl Kind {
    fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Counter,
            1 => Self::Gauge,
            2 => Self::Summary,
            3 => Self::Untyped,
            4 => Self::Histogram,
            5 => Self::GaugeHistogram,
            _ => return None,
        })
    }

    /// Number of the field of `Metric` that holds the value.
    fn field(self) -> u32 {
        match self {
            Self::Gauge => 2,
            Self::Counter => 3,
            Self::Summary => 4,
            Self::Untyped => 5,
            Self::Histogram | Self::GaugeHistogram => 7,
        }
    }

    fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Summary => MetricType::Summary,
            Self::Untyped => MetricType::Unknown,
            Self::Histogram => MetricType::Histogram,
            Self::GaugeHistogram => MetricType::GaugeHistogram,
        }
    }
}

impl<'b> Expansion<'b> {
    /// The next series: count, sum, and then the quantiles, or the buckets up to the one of infinity, which is made
    /// up where it is missing.
    fn next(&mut self, is_summary: bool) -> Result<Option<Sample<'b>>, &'static str> {
        match self.step {
            Step::Count => {
                self.step = Step::Sum;
                Ok(Some(self.sample(Part::Count, self.count)))
            }
            Step::Sum => {
                self.step = if is_summary { Step::Quantiles } else { Step::Buckets };
                Ok(Some(self.sample(Part::Sum, self.sum)))
            }
            Step::Quantiles => {
                let Some(message) = next_message(&mut self.fields, 3)? else { return Ok(None) };
                let (quantile, value) = read_quantile(message)?;
                Ok(Some(self.sample(Part::Quantile(quantile.to_bits()), value)))
            }
            Step::Buckets => {
                let Some(message) = next_message(&mut self.fields, 3)? else {
                    self.step = Step::Done;
                    return Ok(Some(self.sample(Part::Bucket(f64::INFINITY.to_bits()), self.count)));
                };
                let bucket = Bucket::read(message)?;
                if bucket.upper_bound == f64::INFINITY {
                    self.step = Step::Done;
                }
                let mut sample = self.sample(Part::Bucket(bucket.upper_bound.to_bits()), bucket.count);
                if let Some(message) = bucket.exemplar {
                    sample.exemplars = Exemplars::message(message)?;
                }
                Ok(Some(sample))
            }
            Step::Done => Ok(None),
        }
    }

    fn sample(&self, part: Part, value: f64) -> Sample<'b> {
        let series = SeriesText::message(self.series.part(part));
        let Self { timestamp_ms, start_ms, .. } = *self;
        Sample { series, value, timestamp_ms, start_ms, exemplars: Exemplars::default() }
    }
}

#[cfg(test)]
mod tests;
