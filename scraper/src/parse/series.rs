//! A series as a body has it, which is taken apart only where it was not seen before.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{self, Display};

use memchr::memchr;
use promring_model::bytes::compare;
use promring_model::hash::hash64;
use promring_model::labels::{LabelsBuilder, METRIC_NAME, Order, is_legacy_metric_name};

use super::lex::{Dialect, LabelName, Piece, Pieces, Quoted};
use super::near::find;
use super::number::{format_float, normalise_float};
use super::protobuf::{Fields, read_label};

/// Name (as the label `__name__`) and labels of a series, taken apart.
pub type Pairs<'b> = Vec<(Cow<'b, str>, Cow<'b, str>)>;

/// Why a series is refused of which a label name is given twice.
pub(crate) const LABEL_TWICE: &str = "a label name is given twice";

/// Why one is refused that has a label without a name.
pub(crate) const NAME_EMPTY: &str = "a name is empty";

const NO_NAME: &str = "missing metric name (__name__ label)";

/// Whether a series that is refused for this reason is well-formed, so that it counts as a sample nevertheless.
#[must_use]
pub fn is_well_formed(reason: &str) -> bool {
    [LABEL_TWICE, NAME_EMPTY].contains(&reason)
}

/// Room for this many pairs is made at once: few series have more, with what their target and the external labels add.
const PAIRS_EXPECTED: usize = 16;

/// Name and labels of a series as the body has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesText<'b>(Form<'b>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form<'b> {
    /// `name{a="b"}`, without the white space around it.
    Text {
        bytes: &'b [u8],
        dialect: Dialect,
        number: NumberLabel,
    },
    /// The same, of a series of a classic histogram: the histogram as a whole is meant.
    Classic {
        bytes: &'b [u8],
        dialect: Dialect,
        /// Hash of the histogram's name and labels, which all of its series have.
        hash: u64,
    },
    Message(MessageSeries<'b>),
}

/// A series in protobuf: a part of a metric of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageSeries<'b> {
    family: &'b str,
    /// The label fields of the metric's message, and what may lie between them.
    labels: &'b [u8],
    /// Hash of family and labels, of which all parts of a metric have the same.
    hash: u64,
    part: Part,
}

/// Which of its metric's series one is. Floats are kept as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Count,
    Sum,
    Bucket(u64),
    Quantile(u64),
}

impl<'b> MessageSeries<'b> {
    pub(super) fn new(family: &'b str, labels: &'b [u8]) -> Self {
        let hash = mix(hash64(labels) ^ mix(hash64(family.as_bytes())));
        Self { family, labels, hash, part: Part::Whole }
    }

    pub(super) fn part(self, part: Part) -> Self {
        Self { part, ..self }
    }

    fn identity(&self) -> u64 {
        let part = match self.part {
            Part::Whole => return self.hash,
            Part::Count => 1,
            Part::Sum => 2,
            Part::Bucket(bits) => mix(bits ^ 3),
            Part::Quantile(bits) => mix(bits ^ 4),
        };
        mix(self.hash ^ mix(part))
    }

    fn pairs(&self, pairs: &mut Pairs<'b>) -> Result<(), &'static str> {
        if self.family.is_empty() {
            return Err(NO_NAME);
        }
        let (suffix, number) = match self.part {
            Part::Whole => ("", None),
            Part::Count => ("_count", None),
            Part::Sum => ("_sum", None),
            Part::Bucket(bits) => ("_bucket", Some((NumberLabel::Bound, bits))),
            Part::Quantile(bits) => ("", Some((NumberLabel::Quantile, bits))),
        };
        if suffix.is_empty() {
            push_borrowed(METRIC_NAME, self.family, pairs);
        } else {
            let mut name = String::with_capacity(self.family.len() + suffix.len());
            name.push_str(self.family);
            name.push_str(suffix);
            pairs.push((METRIC_NAME.into(), name.into()));
        }
        if !short_labels(self.labels, pairs) {
            pairs.truncate(1);
            self.any_labels(pairs)?;
        }
        if let Some((label, bits)) = number
            && let Some(name) = label.name()
        {
            pairs.push((name.into(), format_float(f64::from_bits(bits)).into()));
        }
        Ok(())
    }

    /// Lists the labels, whatever stands between them.
    fn any_labels(&self, pairs: &mut Pairs<'b>) -> Result<(), &'static str> {
        let mut fields = Fields::new(self.labels);
        while let Some((field_number, field)) = fields.next()? {
            if field_number != LABEL {
                continue;
            }
            let (name, value) = read_label(field)?;
            if name.is_empty() {
                return Err(NAME_EMPTY);
            }
            pairs.push((name.into(), value.into()));
        }
        Ok(())
    }
}

/// Lists labels as nearly all are written: one behind the other, name before value, all of them so short that a length is one
/// byte. That byte is ASCII then, as the tags are, so that texts and all are UTF-8, and looked at once. False: they are not
/// such labels, and some may be listed.
#[inline]
fn short_labels<'b>(labels: &'b [u8], pairs: &mut Pairs<'b>) -> bool {
    let Ok(text) = std::str::from_utf8(labels) else { return false };
    let mut at = 0;
    while at < labels.len() {
        // LabelPair, and in it name = 1 and value = 2.
        let Some(&[0x0a, label, 0x0a, name]) = labels.get(at..at + 4) else { return false };
        let name_end = at + 4 + usize::from(name);
        let Some(&[0x12, value]) = labels.get(name_end..name_end + 2) else { return false };
        let end = name_end + 2 + usize::from(value);
        let (Some(name), Some(value)) = (text.get(at + 4..name_end), text.get(name_end + 2..end)) else {
            return false;
        };
        if name.is_empty() || end != at + 2 + usize::from(label) {
            return false;
        }
        push_borrowed(name, value, pairs);
        at = end;
    }
    true
}

/// Number of the field `label` in `Metric`.
const LABEL: u32 = 1;

/// What a text means beside its bytes: `le="1"` is another label under another type, and what is well-formed in one dialect may
/// be malformed in the other, so that a text is looked at anew there.
fn meaning(dialect: Dialect, number: NumberLabel) -> u64 {
    (dialect as u64) << 2 | number as u64
}

/// Spreads every bit over all others (the last step of SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Which label is a number, which is written in one way, under the newest TYPE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum NumberLabel {
    #[default]
    None,
    Bound,
    Quantile,
}

impl NumberLabel {
    fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Bound => Some(BOUND),
            Self::Quantile => Some("quantile"),
        }
    }
}

impl<'b> SeriesText<'b> {
    pub(super) fn text(bytes: &'b [u8], dialect: Dialect, number: NumberLabel) -> Self {
        Self(Form::Text { bytes, dialect, number })
    }

    pub(super) fn message(series: MessageSeries<'b>) -> Self {
        Self(Form::Message(series))
    }

    /// The classic histogram that this series of a text format is a part of, as one series: the same one for each of its parts, which all have
    /// this hash.
    pub(super) fn as_classic(self, hash: u64) -> Self {
        match self.0 {
            Form::Text { bytes, dialect, .. } => Self(Form::Classic { bytes, dialect, hash }),
            Form::Classic { .. } | Form::Message(_) => self,
        }
    }

    /// A hash by which the series is known again: equal for equal bytes of equal meaning. The same labels may be
    /// written in several ways, which hash differently.
    #[must_use]
    pub fn identity(&self) -> u64 {
        match self.0 {
            Form::Text { bytes, dialect, number } => hash64(bytes) ^ meaning(dialect, number),
            Form::Classic { dialect, hash, .. } => mix(hash) ^ meaning(dialect, NumberLabel::None),
            Form::Message(series) => series.identity(),
        }
    }

    /// What [`SeriesText::identity`] would be had the newest TYPE been another one, or the text format.
    pub(crate) fn under_other_meanings(&self) -> impl Iterator<Item = u64> + use<> {
        let (own, numbers): (u64, &'static [NumberLabel]) = match self.0 {
            Form::Text { dialect, number, .. } => {
                (meaning(dialect, number), &[NumberLabel::None, NumberLabel::Bound, NumberLabel::Quantile])
            }
            Form::Classic { dialect, .. } => (meaning(dialect, NumberLabel::None), &[NumberLabel::None]),
            Form::Message(_) => (0, &[]),
        };
        let text = self.identity() ^ own;
        [Dialect::Prometheus, Dialect::OpenMetrics]
            .into_iter()
            .flat_map(|dialect| numbers.iter().map(move |number| meaning(dialect, *number)))
            .filter(move |other| *other != own)
            .map(move |other| text ^ other)
    }

    /// Bytes of the text, if it stands in one line that could be expected; otherwise 0.
    #[must_use]
    pub fn line_bytes(&self) -> u16 {
        match self.0 {
            Form::Text { bytes, .. } if memchr(b'\n', bytes).is_none() => {
                u16::try_from(bytes.len()).unwrap_or(0)
            }
            Form::Text { .. } | Form::Classic { .. } | Form::Message(_) => 0,
        }
    }

    /// Name and labels as they come in the body, with the name as `__name__`; labels with an empty value are left out,
    /// since that is what an absent label is.
    ///
    /// # Errors
    /// What is malformed.
    pub fn pairs(&self) -> Result<Pairs<'b>, &'static str> {
        let mut pairs = Pairs::with_capacity(PAIRS_EXPECTED);
        self.list(&mut pairs)?;
        let _ = take_emptied(&mut pairs);
        check_names(&pairs)?;
        if !pairs.iter().any(|(name, _)| name == METRIC_NAME) {
            return Err(NO_NAME);
        }
        Ok(pairs)
    }

    /// The same as labels, which `labels` has afterwards, whatever it had before: of a name that stands there twice the first one.
    /// Gives what is odd about them, if anything is; the metric name may be gone by that.
    ///
    /// # Errors
    /// What is malformed; what `labels` has then means nothing.
    #[inline]
    pub fn labels(&self, labels: &mut LabelsBuilder<'b>) -> Result<Option<Box<Odd<'b>>>, &'static str> {
        let mut odd = None;
        let are_unique = labels.refill(|pairs| {
            pairs.reserve(PAIRS_EXPECTED);
            let order = self.list(pairs)?;
            if order == Order::Any {
                odd = take_emptied(pairs).map(|emptied| Box::new(Odd { emptied, twice: Pairs::new() }));
            }
            Ok::<_, &'static str>(order)
        })?;
        if are_unique { Ok(odd) } else { self.labels_twice(labels).map(Some) }
    }

    #[cold]
    fn labels_twice(&self, labels: &mut LabelsBuilder<'b>) -> Result<Box<Odd<'b>>, &'static str> {
        let mut odd = Odd::default();
        labels.refill(|pairs| {
            self.list(pairs)?;
            odd.emptied = take_emptied(pairs).unwrap_or_default();
            // That leaves equal names in their order.
            pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
            pairs.dedup_by(|later, first| {
                let is_same = later.0 == first.0;
                if is_same && odd.twice.last().is_none_or(|(name, _)| *name != first.0) {
                    odd.twice.push(first.clone());
                }
                is_same
            });
            Ok::<_, &'static str>(Order::ByName)
        })?;
        Ok(Box::new(odd))
    }

    /// Lists name and labels as they come. In order: no value is empty, and no name stands there twice. Any: this is to be looked
    /// at.
    #[inline]
    pub(super) fn list(&self, pairs: &mut Pairs<'b>) -> Result<Order, &'static str> {
        match self.0 {
            Form::Text { bytes, dialect, number } => text_pairs(bytes, dialect, number, false, pairs),
            Form::Classic { bytes, dialect, .. } => classic_pairs(bytes, dialect, pairs).map(|()| Order::Any),
            Form::Message(series) => series.pairs(pairs).map(|()| Order::Any),
        }
    }
}

/// What is odd about the labels of a series.
#[derive(Debug, Default)]
pub struct Odd<'b> {
    /// Each name that came with an empty value, which is none of the labels, with the value that it came with first.
    pub emptied: Pairs<'b>,
    /// Each name that came twice, with its first value.
    pub twice: Pairs<'b>,
}

/// Takes labels with an empty value out, and lists them, each with its first value.
fn take_emptied<'b>(pairs: &mut Pairs<'b>) -> Option<Pairs<'b>> {
    if pairs.iter().all(|(_, value)| !value.is_empty()) {
        return None;
    }
    // A hostile body has lines of a million labels, so the work must not grow with the square of their number.
    let mut first: HashMap<Cow<'b, str>, (Cow<'b, str>, bool)> = HashMap::with_capacity(pairs.len());
    for (name, value) in &*pairs {
        let (_, is_emptied) = first.entry(name.clone()).or_insert_with(|| (value.clone(), false));
        *is_emptied |= value.is_empty();
    }
    // An empty value takes the label away, whatever else was said of it.
    pairs.retain(|(name, _)| first.get(name).is_none_or(|(_, is_emptied)| !is_emptied));
    let emptied = first.into_iter().filter(|(_, (_, is_emptied))| *is_emptied);
    Some(emptied.map(|(name, (value, _))| (name, value)).collect())
}

impl Display for SeriesText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Form::Text { bytes, .. } | Form::Classic { bytes, .. } => {
                f.write_str(&String::from_utf8_lossy(bytes))
            }
            Form::Message(series) => f.write_str(series.family),
        }
    }
}

/// Name, if there is one, and labels of a label set as people write it: `name{a="b"}`, `{a="b"}` or `name`. The
/// name may be given as a label; an exposition cannot do that.
///
/// # Errors
/// What is malformed.
pub fn label_set(text: &str) -> Result<Pairs<'_>, &'static str> {
    let mut pairs = Pairs::new();
    let _ = text_pairs(text.as_bytes(), Dialect::Prometheus, NumberLabel::None, true, &mut pairs)?;
    pairs.retain(|(_, value)| !value.is_empty());
    check_names(&pairs)?;
    Ok(pairs)
}

/// What a series of a classic histogram is in its histogram, and the histogram's own name.
pub(super) fn classic_part(name: &str) -> Option<(ClassicPart, &str)> {
    let part = |(suffix, part)| Some((part, name.strip_suffix(suffix)?));
    [("_bucket", ClassicPart::Bucket), ("_sum", ClassicPart::Sum), ("_count", ClassicPart::Count)]
        .into_iter()
        .find_map(part)
}

/// One of the series of a classic histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClassicPart {
    Bucket,
    Sum,
    Count,
}

/// The label of a classic bucket's upper bound.
pub(super) const BOUND: &str = "le";

fn classic_pairs<'b>(bytes: &'b [u8], dialect: Dialect, pairs: &mut Pairs<'b>) -> Result<(), &'static str> {
    text_pairs(bytes, dialect, NumberLabel::None, false, pairs)?;
    pairs.retain(|(name, _)| name != BOUND);
    // The histogram's own name takes the place of the first one. Where another one is left, the name is given twice.
    let Some(at) = pairs.iter().position(|(name, _)| name == METRIC_NAME) else { return Ok(()) };
    let (_, own) = pairs.remove(at);
    let own = classic_part(&own).map(|(_, base)| base.to_owned()).map_or(own, Cow::Owned);
    pairs.retain(|(name, value)| name != METRIC_NAME || !(value.is_empty() || *value == own));
    pairs.insert(0, (METRIC_NAME.into(), own));
    Ok(())
}

/// Lists name and labels of a text. In order: no value is empty, and no name stands there twice. Any: this is to be looked at.
fn text_pairs<'b>(
    bytes: &'b [u8],
    dialect: Dialect,
    number: NumberLabel,
    name_as_label: bool,
    pairs: &mut Pairs<'b>,
) -> Result<Order, &'static str> {
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| "the line is not UTF-8")?;
    let (name, labels) = match find(b'{', bytes) {
        Some(brace) => {
            let (name, labels) = text.split_at(brace);
            (name, labels.strip_prefix('{'))
        }
        None => (text, None),
    };
    let name = if dialect == Dialect::Prometheus { name.trim_end_matches([' ', '\t']) } else { name };
    if !name.is_empty() || labels.is_none() {
        if !is_legacy_metric_name(name) {
            return Err("invalid metric name");
        }
        push_borrowed(METRIC_NAME, name, pairs);
    }
    let Some(labels) = labels else { return Ok(Order::ByName) };
    let mut pieces = Pieces::new(labels, dialect);
    let mut named = !pairs.is_empty();
    let (mut in_order, mut before) = (named, METRIC_NAME);
    loop {
        while let Some((name, value)) = pieces.simple_label() {
            if name == METRIC_NAME && !name_as_label && !named {
                return Err(NO_NAME);
            }
            in_order &= !value.is_empty() && compare(before.as_bytes(), name.as_bytes()).is_lt();
            before = name;
            let written = if number.name() == Some(name) { normalise_float(value) } else { None };
            match written {
                None => push_borrowed(name, value, pairs),
                Some(written) => push_written(name, written, pairs),
            }
        }
        if pieces.rest() == "}" && named {
            return Ok(if in_order { Order::ByName } else { Order::Any });
        }
        let Some(piece) = pieces.next()? else { break };
        in_order = false;
        match piece {
            Piece::Name(name) => {
                if std::mem::replace(&mut named, true) {
                    return Err("the metric name is given twice");
                }
                pairs.push((METRIC_NAME.into(), quoted_name(name)?));
            }
            Piece::Label(name, value) => {
                let name = match name {
                    LabelName::Plain(name) => name.into(),
                    // As any label with an empty value, it is none.
                    LabelName::Quoted(name) if name.raw.is_empty() && value.raw.is_empty() => continue,
                    // A rule may drop it.
                    LabelName::Quoted(name) if name.raw.is_empty() => Cow::Borrowed(""),
                    LabelName::Quoted(name) => quoted_name(name)?,
                };
                if name == METRIC_NAME && !name_as_label && !named {
                    return Err(NO_NAME);
                }
                let value = normalised(&name, value.unescaped(), number);
                pairs.push((name, value));
            }
        }
    }
    if !pieces.rest().is_empty() {
        return Err("unexpected text after the labels");
    }
    if !named && !name_as_label {
        return Err(NO_NAME);
    }
    Ok(if in_order { Order::ByName } else { Order::Any })
}

/// Puts texts in their place part by part. `push` would put them together first, to drop them should it panic, and move them
/// as a whole just after their parts were written, which a processor waits for.
#[inline]
fn push_borrowed<'b>(name: &'b str, value: &'b str, pairs: &mut Pairs<'b>) {
    if pairs.len() < pairs.capacity() {
        pairs.push((Cow::Borrowed(name), Cow::Borrowed(value)));
    } else {
        push_growing(name, value, pairs);
    }
}

#[cold]
#[inline(never)]
fn push_written<'b>(name: &'b str, value: String, pairs: &mut Pairs<'b>) {
    pairs.push((Cow::Borrowed(name), Cow::Owned(value)));
}

#[cold]
#[inline(never)]
fn push_growing<'b>(name: &'b str, value: &'b str, pairs: &mut Pairs<'b>) {
    pairs.push((Cow::Borrowed(name), Cow::Borrowed(value)));
}

fn quoted_name(name: Quoted<'_>) -> Result<Cow<'_, str>, &'static str> {
    if name.raw.is_empty() {
        return Err(NAME_EMPTY);
    }
    if name.raw.contains('\0') { Err("a name holds a NUL") } else { Ok(name.unescaped()) }
}

fn normalised<'b>(name: &str, value: Cow<'b, str>, number: NumberLabel) -> Cow<'b, str> {
    match number.name() {
        Some(label) if label == name => normalise_float(&value).map_or(value, Cow::Owned),
        Some(_) | None => value,
    }
}

/// A name that is given twice fails the scrape, and so does an empty one. A hostile body has lines of a million labels, so the work must not
/// grow with the square of their number.
fn check_names(pairs: &Pairs<'_>) -> Result<(), &'static str> {
    let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    if names.first().is_some_and(|name| name.is_empty()) {
        return Err(NAME_EMPTY);
    }
    if names.array_windows().any(|[one, other]| one == other) { Err(LABEL_TWICE) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use promring_proto::varint::push_varint;
    use proptest::prelude::*;

    use super::*;

    /// A label as any client may write it: fields in any order, given twice, or unknown, lengths of one byte or two.
    fn label() -> impl Strategy<Value = Vec<u8>> {
        let text = prop_oneof!["[a-b]{0,3}", "[aé\u{80}\n]{1,3}", "x{126,130}"];
        let field = (prop_oneof![4 => Just(0x0a_u8), 4 => Just(0x12), 1 => Just(0x1a)], text);
        let pair = ("[a-c]{1,2}", "[a-cé]{0,9}").prop_map(|(name, value)| vec![(0x0a, name), (0x12, value)]);
        let fields = prop_oneof![4 => pair, 1 => proptest::collection::vec(field, 0..4)];
        (fields, prop_oneof![9 => Just(0x0a_u8), 1 => Just(0x12)]).prop_map(|(fields, tag)| {
            let mut message = Vec::new();
            for (tag, text) in fields {
                message.push(tag);
                push_varint(&mut message, text.len() as u64);
                message.extend_from_slice(text.as_bytes());
            }
            let mut label = vec![tag];
            push_varint(&mut label, message.len() as u64);
            label.append(&mut message);
            label
        })
    }

    proptest! {
        #[test]
        fn short_labels_are_read_as_any_others(
            labels in proptest::collection::vec(label(), 0..4),
            broken in proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut bytes = labels.concat();
            if let Some((at, byte)) = broken.filter(|_| !labels.is_empty()) {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let (mut short, mut any) = (Pairs::new(), Pairs::new());
            if short_labels(&bytes, &mut short) {
                prop_assert_eq!(MessageSeries::new("a", &bytes).any_labels(&mut any), Ok(()));
                prop_assert_eq!(short, any);
            }
        }
    }

    #[test]
    fn however_many_labels_are_empty_each_is_listed_once_with_its_first_value() {
        // With the square of their number this would not come to an end.
        let labels: String = (0..200_000).map(|at| format!("l{at}=\"\",")).collect();
        let text = format!("a{{l7=\"x\",{labels}l7=\"y\",z=\"1\"}}");
        let series = SeriesText::text(text.as_bytes(), Dialect::Prometheus, NumberLabel::None);
        let mut labels = LabelsBuilder::new();
        let odd = series.labels(&mut labels).unwrap().unwrap();
        assert_eq!(labels.build().to_string(), r#"{__name__="a", z="1"}"#);
        assert!(odd.twice.is_empty());
        assert_eq!(odd.emptied.len(), 200_000);
        assert!(odd.emptied.contains(&("l7".into(), "x".into())));
    }

    #[test]
    fn of_a_name_that_is_given_twice_the_first_counts_and_it_is_told() {
        let text = br#"a{y="3",x="1",x="2",b="",__name__="c",x="1",""="v"}"#;
        let series = SeriesText::text(text, Dialect::Prometheus, NumberLabel::None);
        let mut labels = LabelsBuilder::new();
        let odd = series.labels(&mut labels).unwrap().unwrap();
        assert_eq!(odd.twice, [("__name__".into(), "a".into()), ("x".into(), "1".into())]);
        assert_eq!(odd.emptied, [("b".into(), "".into())]);
        assert_eq!(["", "__name__", "x", "y"].map(|name| labels.get(name)), ["v", "a", "1", "3"]);
        assert!(series.pairs().is_err());
    }

    #[test]
    fn labels_as_clients_write_them_are_short() {
        let mut pairs = Pairs::new();
        assert!(short_labels(b"\x0a\x08\x0a\x02le\x12\x02\xc3\xa9\x0a\x05\x0a\x01a\x12\x00", &mut pairs));
        assert_eq!(pairs, [("le".into(), "é".into()), ("a".into(), "".into())]);
    }
}
