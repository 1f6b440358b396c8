//! Remote write as a receiver reads it: by hand and borrowing, since the audit has to keep up with the fastest
//! sender. Tests prove it against the types that prost makes. Here is 1.0; 2.0 is in a file of its own.

mod v2;

pub use v2::read_v2_request;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field reaches beyond the end of its message.
    #[error("the message ends within a field")]
    Truncated,
    /// A varint is longer than ten bytes.
    #[error("a varint has more than ten bytes")]
    Varint,
    /// A field has a type that its number does not allow, or one that protobuf does not have.
    #[error("field {0} has wire type {1}, which it cannot have")]
    Type(u64, u8),
    /// A label's name or value is no UTF-8.
    #[error("a label is not UTF-8")]
    Utf8,
    /// 2.0: a symbol that is not there.
    #[error("symbol {0} is referred to, and there are {1}")]
    Reference(u64, usize),
    /// 2.0: a name without a value.
    #[error("the references to labels are not names and values in turn")]
    OddReferences,
    /// 2.0: the table does not begin with the empty text.
    #[error("the first symbol is not empty")]
    FirstSymbol,
    /// 2.0: the table has a text twice.
    #[error("symbol {0} is there already")]
    SymbolTwice(usize),
    /// 2.0: a series without samples and histograms.
    #[error("a series has neither samples nor histograms")]
    EmptySeries,
    /// 2.0: a series with both.
    #[error("a series has samples and histograms")]
    MixedSeries,
    /// 2.0: a field that only 1.0 has.
    #[error("field {0} is reserved")]
    Reserved(u64),
}

/// What a request holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Entries of `timeseries`.
    pub series: u64,
    /// Samples of all of them.
    pub samples: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Entries of `metadata`.
    pub metadata: u64,
}

/// A field's content.
#[derive(Clone, Copy)]
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// Fields of one message, one after the other.
#[derive(Clone, Copy)]
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for (at, byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { WireError::Truncated } else { WireError::Varint })
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], WireError> {
        let len = usize::try_from(len).map_err(|_| WireError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next field's number and content; None at the end.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match (tag & 7) as u8 {
            0 => Field::Varint(self.varint()?),
            1 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(self.take(8)?);
                Field::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let len = self.varint()?;
                Field::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Field::Fixed32
            }
            other => return Err(WireError::Type(tag >> 3, other)),
        };
        Ok(Some((tag >> 3, field)))
    }
}

/// Reads a `prometheus.WriteRequest` and hands over each sample: the encoded label fields of its series, its
/// value, and its time in Unix milliseconds.
///
/// # Errors
/// Where the bytes are no such message. Samples before the error have been handed over then.
pub fn read_write_request(
    bytes: &[u8],
    mut sample: impl FnMut(&[u8], f64, i64),
) -> Result<Contents, WireError> {
    let mut contents = Contents::default();
    let mut fields = Fields { rest: bytes };
    // Label fields of a series that do not stand together are put together here.
    let mut gathered = Vec::new();
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(series)) => {
                contents.series += 1;
                read_series(series, &mut gathered, &mut contents, &mut sample)?;
            }
            (3, Field::Bytes(_)) => contents.metadata += 1,
            (1 | 3, _) => return Err(WireError::Type(number, 0)),
            _ => {}
        }
    }
    Ok(contents)
}

fn read_series(
    bytes: &[u8],
    gathered: &mut Vec<u8>,
    contents: &mut Contents,
    sample: &mut impl FnMut(&[u8], f64, i64),
) -> Result<(), WireError> {
    let labels = label_fields(bytes, gathered)?;
    let mut fields = Fields { rest: bytes };
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (2, Field::Bytes(encoded)) => {
                let (value, timestamp_ms) = read_sample(encoded)?;
                contents.samples += 1;
                sample(labels, value, timestamp_ms);
            }
            (3, Field::Bytes(_)) => contents.exemplars += 1,
            (4, Field::Bytes(_)) => contents.histograms += 1,
            (2..=4, _) => return Err(WireError::Type(number, 0)),
            _ => {}
        }
    }
    Ok(())
}

/// The encoded labels of a series. Every sender writes them in one piece, so they are borrowed as a rule.
fn label_fields<'b>(bytes: &'b [u8], gathered: &'b mut Vec<u8>) -> Result<&'b [u8], WireError> {
    gathered.clear();
    let mut fields = Fields { rest: bytes };
    let (mut start, mut end) = (0, 0);
    let mut apart = false;
    loop {
        let before = bytes.len() - fields.rest.len();
        let Some((number, field)) = fields.next()? else { break };
        if number != 1 {
            continue;
        }
        let Field::Bytes(_) = field else { return Err(WireError::Type(number, 0)) };
        let after = bytes.len() - fields.rest.len();
        if start == end {
            start = before;
        } else if before != end && !apart {
            apart = true;
            gathered.extend_from_slice(&bytes[start..end]);
        }
        if apart {
            gathered.extend_from_slice(&bytes[before..after]);
        }
        end = after;
    }
    Ok(if apart { gathered } else { &bytes[start..end] })
}

fn read_sample(bytes: &[u8]) -> Result<(f64, i64), WireError> {
    let (mut value, mut timestamp_ms) = (0.0, 0);
    let mut fields = Fields { rest: bytes };
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Fixed64(bits)) => value = f64::from_bits(bits),
            (2, Field::Varint(varint)) => timestamp_ms = varint as i64,
            (1 | 2, _) => return Err(WireError::Type(number, 0)),
            _ => {}
        }
    }
    Ok((value, timestamp_ms))
}

/// Names and values of encoded label fields, in the order that they stand in.
///
/// # Errors
/// Where the bytes are no label fields.
pub fn read_labels(encoded: &[u8]) -> Result<Vec<(&str, &str)>, WireError> {
    let mut pairs = Vec::new();
    let mut fields = Fields { rest: encoded };
    while let Some((_, field)) = fields.next()? {
        let Field::Bytes(label) = field else { return Err(WireError::Type(1, 0)) };
        let (mut name, mut value) = ("", "");
        let mut inner = Fields { rest: label };
        while let Some((number, field)) = inner.next()? {
            let text = match field {
                Field::Bytes(text) => std::str::from_utf8(text).map_err(|_| WireError::Utf8)?,
                _ if number > 2 => continue,
                _ => return Err(WireError::Type(number, 0)),
            };
            match number {
                1 => name = text,
                2 => value = text,
                _ => {}
            }
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use promring_proto::remote_write::v1::{Label, MetricMetadata, Sample, TimeSeries, WriteRequest};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    /// Labels, and samples as bits and times.
    type Written = (Vec<(String, String)>, Vec<(u64, i64)>);

    fn read(bytes: &[u8]) -> Result<(Contents, WriteRequest), WireError> {
        let mut request = WriteRequest::default();
        let contents = read_write_request(bytes, |labels, value, timestamp| {
            let labels = read_labels(labels).unwrap();
            let label = |(name, value): &(&str, &str)| Label { name: (*name).into(), value: (*value).into() };
            let series = TimeSeries {
                labels: labels.iter().map(label).collect(),
                samples: vec![Sample { value, timestamp }],
                ..TimeSeries::default()
            };
            request.timeseries.push(series);
        })?;
        Ok((contents, request))
    }

    fn label(name: &str, value: &str) -> Vec<u8> {
        let mut out = Vec::new();
        promring_proto::remote_write::v1::encode_labels([(name, value)], &mut out);
        out
    }

    #[test]
    fn labels_that_stand_apart_are_put_together() {
        let sample = Sample { value: 2.5, timestamp: 7 }.encode_to_vec();
        let mut series = label("a", "1");
        series.extend_from_slice(&[0x12, sample.len() as u8]);
        series.extend_from_slice(&sample);
        series.extend(label("b", "2"));
        let mut request = vec![0x0a, series.len() as u8];
        request.extend(series);
        let (contents, read) = read(&request).unwrap();
        assert_eq!(contents.samples, 1);
        assert_eq!(read, WriteRequest::decode(&*request).unwrap());
        assert_eq!(read.timeseries[0].labels.len(), 2);
    }

    #[test]
    fn exemplars_histograms_and_metadata_are_counted() {
        let metadata = MetricMetadata { metric_family_name: "a".into(), ..MetricMetadata::default() };
        let mut bytes = WriteRequest { timeseries: Vec::new(), metadata: vec![metadata; 2] }.encode_to_vec();
        bytes.extend_from_slice(&[0x0a, 6, 0x1a, 0, 0x22, 0, 0x22, 0]);
        let (contents, _) = read(&bytes).unwrap();
        assert_eq!(contents, Contents { series: 1, exemplars: 1, histograms: 2, metadata: 2, samples: 0 });
    }

    #[test]
    fn a_varint_without_end_and_a_length_beyond_the_end_are_refused() {
        assert_eq!(read(&[0xff; 11]), Err(WireError::Varint));
        assert_eq!(read(&[0x0a, 0x05, 0x00]), Err(WireError::Truncated));
        assert_eq!(read(&[0x0b]), Err(WireError::Type(1, 3)));
    }

    proptest! {
        #[test]
        fn what_prost_writes_is_read_back(
            series in proptest::collection::vec(
                (
                    proptest::collection::vec(("[a-z]{0,9}", ".{0,200}"), 0..6),
                    proptest::collection::vec((any::<u64>(), any::<i64>()), 0..4),
                ),
                0..8,
            )
        ) {
            let timeseries = |(labels, samples): &Written| TimeSeries {
                labels: labels.iter().map(|(name, value)| Label { name: name.clone(), value: value.clone() }).collect(),
                samples: samples
                    .iter()
                    .map(|(bits, timestamp)| Sample { value: f64::from_bits(*bits), timestamp: *timestamp })
                    .collect(),
                ..TimeSeries::default()
            };
            let request = WriteRequest { timeseries: series.iter().map(timeseries).collect(), metadata: Vec::new() };
            let mut flat = Vec::new();
            for series in &request.timeseries {
                for sample in &series.samples {
                    flat.push((series.labels.clone(), sample.value.to_bits(), sample.timestamp));
                }
            }
            let (contents, read) = read(&request.encode_to_vec()).unwrap();
            let read: Vec<_> = read
                .timeseries
                .into_iter()
                .map(|series| (series.labels, series.samples[0].value.to_bits(), series.samples[0].timestamp))
                .collect();
            prop_assert_eq!(contents.series as usize, request.timeseries.len());
            prop_assert_eq!(read, flat);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_write_request(&bytes, |labels, _, _| drop(read_labels(labels)));
        }
    }
}
