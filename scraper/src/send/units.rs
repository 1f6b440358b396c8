//! Requests taken apart and put together again, as bytes: each series is moved as it was encoded, so whatever it holds
//! (exemplars, native histograms, fields that are not known here) survives.

use bytes::Bytes;

/// Most bytes of a request after decompression. A queue's record comes from ourselves; this bounds a damaged length.
const DECODED_BYTES_MAX: usize = 64 << 20;

/// Bytes that the length before a snappy block can take.
pub(super) const SNAPPY_LENGTH_BYTES_MAX: usize = 5;

/// How much a request holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) samples: u64,
    pub(super) histograms: u64,
    pub(super) exemplars: u64,
    pub(super) metadata: u64,
}

impl Counts {
    pub(super) fn points(&self) -> u64 {
        self.samples + self.histograms
    }

    pub(super) fn add(&mut self, other: Self) {
        self.samples += other.samples;
        self.histograms += other.histograms;
        self.exemplars += other.exemplars;
        self.metadata += other.metadata;
    }
}

/// What can be sent alone: a series with its samples, or an entry of metadata, as a field of `WriteRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    bytes: Bytes,
    pub(super) counts: Counts,
    /// Newest time of its samples, Unix milliseconds; None: it has none.
    pub(super) newest_ms: Option<i64>,
}

/// The bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be decoded")]
pub(super) struct Undecodable;

/// Takes a `prometheus.WriteRequest` in snappy's block format apart.
pub(super) fn take_apart(body: &[u8]) -> Result<Vec<Unit>, Undecodable> {
    let len = snap::raw::decompress_len(body).map_err(|_| Undecodable)?;
    if len > DECODED_BYTES_MAX {
        return Err(Undecodable);
    }
    let decoded = Bytes::from(snap::raw::Decoder::new().decompress_vec(body).map_err(|_| Undecodable)?);
    let mut units = Vec::new();
    for field in fields(&decoded) {
        let field = field?;
        let bytes = decoded.slice(field.start..field.end);
        match field.number {
            1 => {
                let (counts, newest_ms) = describe_series(field.content)?;
                units.push(Unit { bytes, counts, newest_ms });
            }
            3 => {
                let counts = Counts { metadata: 1, ..Counts::default() };
                units.push(Unit { bytes, counts, newest_ms: None });
            }
            _ => {}
        }
    }
    Ok(units)
}

/// Puts units together to a request body in snappy's block format.
pub(super) fn put_together(units: &[Unit]) -> Bytes {
    let mut decoded = Vec::with_capacity(units.iter().map(|unit| unit.bytes.len()).sum());
    for unit in units {
        decoded.extend_from_slice(&unit.bytes);
    }
    let mut body = vec![0; snap::raw::max_compress_len(decoded.len())];
    // It fails for inputs of 4 GiB only, and the units come out of a request that was bounded.
    let len = snap::raw::Encoder::new().compress(&decoded, &mut body).unwrap_or(0);
    body.truncate(len);
    Bytes::from(body)
}

/// A series of several samples as several series of one each. None: it has one or none.
pub(super) fn one_sample_each(unit: &Unit) -> Option<Vec<Unit>> {
    if unit.counts.points() < 2 {
        return None;
    }
    let series = fields(&unit.bytes).next()?.ok()?.content;
    let mut common = Vec::new();
    let mut points = Vec::new();
    let mut exemplars = Vec::new();
    for field in fields(series) {
        let field = field.ok()?;
        let bytes = series.get(field.start..field.end)?;
        match field.number {
            2 | 4 => points.push(bytes),
            3 => exemplars.extend_from_slice(bytes),
            _ => common.extend_from_slice(bytes),
        }
    }
    let last = points.len() - 1;
    let units = points.into_iter().enumerate().map(|(at, point)| {
        let exemplars = if at == last { &*exemplars } else { &[] };
        let content = [&*common, point, exemplars].concat();
        let (counts, newest_ms) = describe_series(&content).ok()?;
        let mut bytes = vec![0x0a]; // WriteRequest.timeseries = 1, length-delimited
        push_varint(&mut bytes, content.len() as u64);
        bytes.extend_from_slice(&content);
        Some(Unit { bytes: Bytes::from(bytes), counts, newest_ms })
    });
    units.collect()
}

/// The decompressed length that a snappy block begins with, and the elements after it.
pub(super) fn snappy_parts(body: &[u8]) -> Option<(usize, &[u8])> {
    let mut rest = body;
    let len = take_varint(&mut rest)?;
    let taken = body.len() - rest.len();
    (taken <= SNAPPY_LENGTH_BYTES_MAX).then_some(())?;
    Some((usize::try_from(len).ok().filter(|len| *len <= u32::MAX as usize)?, rest))
}

pub(super) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Field<'b> {
    number: u64,
    /// From its tag on.
    start: usize,
    end: usize,
    /// What is in it, if it is length-delimited.
    content: &'b [u8],
    /// Its value, if it is a varint.
    varint: u64,
}

/// The fields of a protobuf message.
fn fields(bytes: &[u8]) -> impl Iterator<Item = Result<Field<'_>, Undecodable>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = next_field(bytes.len(), &mut rest);
        if field.is_none() {
            // Nothing after it can be found.
            rest = &[];
        }
        Some(field.ok_or(Undecodable))
    })
}

fn next_field<'b>(len: usize, rest: &mut &'b [u8]) -> Option<Field<'b>> {
    let start = len - rest.len();
    let tag = take_varint(rest)?;
    let (mut content, mut varint) = (&[][..], 0);
    match tag & 7 {
        0 => varint = take_varint(rest)?,
        1 => *rest = rest.get(8..)?,
        2 => {
            let len = usize::try_from(take_varint(rest)?).ok()?;
            (content, *rest) = rest.split_at_checked(len)?;
        }
        5 => *rest = rest.get(4..)?,
        _ => return None,
    }
    Some(Field { number: tag >> 3, start, end: len - rest.len(), content, varint })
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *rest = rest.get(at + 1..)?;
            return Some(value);
        }
    }
    None
}

/// Counts what a `TimeSeries` holds, and finds its newest time.
fn describe_series(series: &[u8]) -> Result<(Counts, Option<i64>), Undecodable> {
    let mut counts = Counts::default();
    let mut newest_ms = None;
    for field in fields(series) {
        let field = field?;
        // Sample.timestamp is field 2, Histogram.timestamp field 15.
        let timestamp = match field.number {
            2 => 2,
            4 => 15,
            3 => {
                counts.exemplars += 1;
                continue;
            }
            _ => continue,
        };
        if field.number == 2 {
            counts.samples += 1;
        } else {
            counts.histograms += 1;
        }
        let mut at_ms = 0;
        for inner in fields(field.content) {
            let inner = inner?;
            if inner.number == timestamp {
                at_ms = inner.varint as i64;
            }
        }
        newest_ms = newest_ms.max(Some(at_ms));
    }
    Ok((counts, newest_ms))
}

#[cfg(test)]
mod tests {
    use promring_proto::remote_write::v1::{Label, Sample, TimeSeries, WriteRequest};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn series(name: &str, times: &[i64]) -> TimeSeries {
        TimeSeries {
            labels: vec![Label { name: "__name__".to_owned(), value: name.to_owned() }],
            samples: times.iter().map(|&timestamp| Sample { value: timestamp as f64, timestamp }).collect(),
        }
    }

    fn compress(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(bytes).unwrap()
    }

    fn decode(body: &[u8]) -> WriteRequest {
        WriteRequest::decode(&*snap::raw::Decoder::new().decompress_vec(body).unwrap()).unwrap()
    }

    #[test]
    fn a_request_put_together_again_is_the_same() {
        let mut bytes = WriteRequest {
            timeseries: vec![series("a", &[1]), series("b", &[2, 3])],
            metadata: vec![Default::default()],
        }
        .encode_to_vec();
        let units = take_apart(&compress(&bytes)).unwrap();
        assert_eq!(decode(&put_together(&units)).encode_to_vec(), bytes);
        assert_eq!(units[1].counts, Counts { samples: 2, ..Counts::default() });
        assert_eq!((units[1].newest_ms, units[2].newest_ms, units[2].counts.metadata), (Some(3), None, 1));
        // A field of a series that the types here do not know, as an exemplar is: its bytes survive.
        let exemplar = [0x1a, 2, 0x08, 1];
        let one = [&series("c", &[4]).encode_to_vec()[..], &exemplar].concat();
        bytes.extend([0x0a, one.len() as u8]);
        bytes.extend(&one);
        let units = take_apart(&compress(&bytes)).unwrap();
        assert_eq!(units[3].counts.exemplars, 1);
        let again = snap::raw::Decoder::new().decompress_vec(&put_together(&units[3..])).unwrap();
        assert!(again.ends_with(&one));
    }

    #[test]
    fn a_series_of_several_samples_becomes_several_of_one() {
        let request = WriteRequest { timeseries: vec![series("a", &[5, 3, 9])], metadata: Vec::new() };
        let units = take_apart(&compress(&request.encode_to_vec())).unwrap();
        let ones = one_sample_each(&units[0]).unwrap();
        let expected: Vec<_> = [5, 3, 9].iter().map(|time| series("a", &[*time])).collect();
        assert_eq!(decode(&put_together(&ones)).timeseries, expected);
        assert_eq!(one_sample_each(&ones[0]), None);
    }

    #[test]
    fn bytes_that_are_no_request_are_told() {
        for bad in
            [&b""[..], b"\x05abc", &compress(b"\x0a\xff"), &compress(&[0x0a, 2, 0x12, 9]), &compress(&[0x0f])]
        {
            assert_eq!(take_apart(bad), Err(Undecodable), "{bad:?}");
        }
        // A length that nobody may allocate.
        assert_eq!(take_apart(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]), Err(Undecodable));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = take_apart(&bytes);
            if let Ok(units) = take_apart(&compress(&bytes)) {
                for unit in &units {
                    one_sample_each(unit);
                }
                prop_assert_eq!(take_apart(&put_together(&units)), Ok(units));
            }
        }
    }
}
