//! Classic histograms of the text formats as native ones with custom bounds (Prometheus's `NHCBParser`): the series of a
//! histogram are gathered for as long as they stand together, and then come as one.

use promring_model::hash::FieldHasher;
use promring_model::labels::METRIC_NAME;
use promring_proto::remote_write::v1::MetricType;

use super::classic::ClassicHistogram;
use super::number::parse_float;
use super::pieces::Mark;
use super::series::{BOUND, ClassicPart, Pairs, classic_part};
use super::{ConvertedHistogram, Exemplars, Item, ParseError, Parser, Sample, SeriesText};

/// A parser whose classic histograms come as native ones.
#[derive(Debug)]
pub struct Converter<'b> {
    parser: Parser<'b>,
    /// The classic series come as well.
    keeps_classic: bool,
    /// The family of the newest TYPE line, if that says histogram.
    family: Option<String>,
    /// Name and labels of the series at hand, in order of their names.
    pairs: Pairs<'b>,
    gathered: Option<Gathered<'b>>,
    /// What came while a histogram was still to be handed over.
    held: Option<Item<'b>>,
    /// Where the parser stood before it gave its newest item.
    at: Mark,
    /// What is before this is handed over, once `held` is; a histogram that is being gathered begins here.
    safe: Mark,
    ended: bool,
}

#[derive(Debug)]
struct Gathered<'b> {
    /// Hash of name and labels but the bound.
    key: u128,
    series: SeriesText<'b>,
    histogram: ClassicHistogram,
    timestamp_ms: Option<i64>,
    start_ms: i64,
    exemplars: Vec<Exemplars<'b>>,
}

/// What a sample is in its histogram.
#[derive(Clone, Copy)]
struct Role {
    key: u128,
    /// None: it is no part of it, and does not end it.
    part: Option<ClassicPart>,
    bound: f64,
}

impl<'b> Converter<'b> {
    pub(super) fn new(parser: Parser<'b>, keeps_classic: bool) -> Self {
        Self::resume(parser, keeps_classic, None)
    }

    /// The same in the midst of a body, behind a TYPE line that names this histogram.
    pub(super) fn resume(parser: Parser<'b>, keeps_classic: bool, family: Option<String>) -> Self {
        let at = parser.mark();
        let pairs = Pairs::new();
        Self { parser, keeps_classic, family, pairs, gathered: None, held: None, at, safe: at, ended: false }
    }

    /// Up to where what was read is no part of a histogram that may go on.
    pub(super) fn safe(&self) -> Mark {
        self.safe
    }

    /// Ends where the parser stands: the histogram that is being gathered, and the family at hand.
    pub(super) fn finish(self) -> (Option<Item<'b>>, Option<String>) {
        let converted = self.gathered.and_then(Gathered::finish);
        (converted.map(|converted| Item::Converted(Box::new(converted))), self.family)
    }

    /// As [`Parser::next_item`].
    ///
    /// # Errors
    /// Where the body is malformed.
    pub fn next_item(&mut self) -> Result<Option<Item<'b>>, ParseError> {
        loop {
            let item = match self.held.take() {
                Some(item) => Some(item),
                None => {
                    self.at = self.parser.mark();
                    if self.gathered.is_none() && !self.ended {
                        self.safe = self.at;
                    }
                    self.parser.next_item()?
                }
            };
            self.ended |= item.is_none();
            let role = match &item {
                Some(Item::Sample(sample)) => self.role(sample),
                _ => None,
            };
            let goes_on = self.gathered.as_ref().is_some_and(|g| role.is_some_and(|role| role.key == g.key));
            if !goes_on
                && let Some(gathered) = self.gathered.take()
                // One that cannot be converted is left out, as in Prometheus.
                && let Some(converted) = gathered.finish()
            {
                self.held = item;
                return Ok(Some(Item::Converted(Box::new(converted))));
            }
            match (&item, role) {
                (Some(Item::Metadata(metadata)), _) => {
                    if let Some(kind) = metadata.kind {
                        let family = || metadata.family.clone().into_owned();
                        self.family = (kind == MetricType::Histogram).then(family);
                    }
                }
                (Some(Item::Sample(sample)), Some(Role { key, part: Some(part), bound })) => {
                    let gathered = self.gathered.get_or_insert_with(|| {
                        self.safe = self.at;
                        Gathered::new(sample, key)
                    });
                    gathered.take(sample, part, bound);
                    if !self.keeps_classic {
                        continue;
                    }
                }
                _ => {}
            }
            return Ok(item);
        }
    }

    /// None: the sample has not the name of the family at hand, nor one that is made of it. Of a label that stands there twice the first
    /// value counts; whether the series is refused for that is asked of the histogram.
    fn role(&mut self, sample: &Sample<'b>) -> Option<Role> {
        let Self { family: Some(family), pairs, .. } = self else { return None };
        pairs.clear();
        // What is malformed is told where it is used.
        sample.series.list(pairs).ok()?;
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        let value = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let name = value(METRIC_NAME)?;
        let (part, base) = classic_part(name).map_or((None, &**name), |(part, base)| (Some(part), base));
        if base != family {
            return None;
        }
        let bound = value(BOUND).and_then(|bound| parse_float(bound.as_bytes())).unwrap_or(f64::NAN);
        let part = part.filter(|part| *part != ClassicPart::Bucket || !bound.is_nan());
        let mut hasher = FieldHasher::new();
        hasher.field(base.as_bytes());
        for (name, value) in pairs.iter().filter(|(name, _)| ![BOUND, METRIC_NAME].contains(&&**name)) {
            hasher.field(name.as_bytes()).field(value.as_bytes());
        }
        Some(Role { key: hasher.finish128(), part, bound })
    }
}

impl<'b> Gathered<'b> {
    fn new(sample: &Sample<'b>, key: u128) -> Self {
        Self {
            key,
            series: sample.series.as_classic(key as u64),
            histogram: ClassicHistogram::default(),
            timestamp_ms: sample.timestamp_ms,
            start_ms: sample.start_ms,
            exemplars: Vec::new(),
        }
    }

    fn take(&mut self, sample: &Sample<'b>, part: ClassicPart, bound: f64) {
        match part {
            ClassicPart::Bucket => self.histogram.bucket(bound, sample.value),
            ClassicPart::Sum => self.histogram.sum(sample.value),
            ClassicPart::Count => self.histogram.count(sample.value),
        }
        self.timestamp_ms = sample.timestamp_ms;
        if !sample.exemplars.is_empty() {
            self.exemplars.push(sample.exemplars);
        }
    }

    fn finish(self) -> Option<ConvertedHistogram<'b>> {
        let Self { series, histogram, timestamp_ms, start_ms, exemplars, .. } = self;
        let histogram = histogram.convert(false).ok()?;
        Some(ConvertedHistogram { series, histogram, timestamp_ms, start_ms, exemplars })
    }
}

#[cfg(test)]
#[path = "converter_tests.rs"]
mod tests;
