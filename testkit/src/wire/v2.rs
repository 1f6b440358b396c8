//! Remote write 2.0 as a receiver reads it. Labels are handed over as 1.0 has them, so that a series is the same one in
//! both.

use std::collections::HashSet;

use promring_proto::remote_write::v1::encode_labels;

use super::{Contents, Field, Fields, WireError, read_sample};

/// Reads an `io.prometheus.write.v2.Request` and hands over each sample: the label fields of its series as they would
/// stand in a `prometheus.WriteRequest`, its value, and its time in Unix milliseconds.
///
/// # Errors
/// Where the bytes are no such message, or break a rule of the specification that a sender cannot break by what it was
/// given to send. Samples before the error have been handed over then.
pub fn read_v2_request(bytes: &[u8], mut sample: impl FnMut(&[u8], f64, i64)) -> Result<Contents, WireError> {
    let symbols = read_symbols(bytes)?;
    let mut contents = Contents::default();
    let mut labels = Vec::new();
    let mut fields = Fields { rest: bytes };
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (5, Field::Bytes(series)) => {
                contents.series += 1;
                read_series(series, &symbols, &mut labels, &mut contents, &mut sample)?;
            }
            (5, _) => return Err(WireError::Type(number, 0)),
            // What 1.0 has in its place, and reserved for that.
            (1..=3, _) => return Err(WireError::Reserved(number)),
            _ => {}
        }
    }
    Ok(contents)
}

fn read_symbols(bytes: &[u8]) -> Result<Vec<&str>, WireError> {
    let mut symbols = Vec::new();
    let mut fields = Fields { rest: bytes };
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (4, Field::Bytes(text)) => {
                symbols.push(std::str::from_utf8(text).map_err(|_| WireError::Utf8)?);
            }
            (4, _) => return Err(WireError::Type(number, 0)),
            _ => {}
        }
    }
    if symbols.first().is_some_and(|first| !first.is_empty()) {
        return Err(WireError::FirstSymbol);
    }
    let mut known = HashSet::with_capacity(symbols.len());
    if let Some(twice) = symbols.iter().position(|symbol| !known.insert(*symbol)) {
        return Err(WireError::SymbolTwice(twice));
    }
    Ok(symbols)
}

fn read_series(
    bytes: &[u8],
    symbols: &[&str],
    labels: &mut Vec<u8>,
    contents: &mut Contents,
    sample: &mut impl FnMut(&[u8], f64, i64),
) -> Result<(), WireError> {
    labels.clear();
    read_labels(bytes, symbols, |name, value| encode_labels([(name, value)], labels))?;
    let (mut samples, mut histograms) = (0, 0);
    let mut fields = Fields { rest: bytes };
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (2, Field::Bytes(encoded)) => {
                let (value, timestamp_ms) = read_sample(encoded)?;
                samples += 1;
                sample(labels, value, timestamp_ms);
            }
            (3, Field::Bytes(_)) => histograms += 1,
            (4, Field::Bytes(exemplar)) => {
                read_labels(exemplar, symbols, |_, _| {})?;
                contents.exemplars += 1;
            }
            (5, Field::Bytes(metadata)) => {
                check_metadata(metadata, symbols)?;
                contents.metadata += 1;
            }
            (2..=5, _) => return Err(WireError::Type(number, 0)),
            _ => {}
        }
    }
    contents.samples += samples;
    contents.histograms += histograms;
    match (samples, histograms) {
        (0, 0) => Err(WireError::EmptySeries),
        (0, _) | (_, 0) => Ok(()),
        _ => Err(WireError::MixedSeries),
    }
}

/// The labels that a series or an exemplar refers to.
fn read_labels<'s>(
    bytes: &[u8],
    symbols: &[&'s str],
    mut label: impl FnMut(&'s str, &'s str),
) -> Result<(), WireError> {
    let mut name = None;
    let mut reference = |reference: u64| -> Result<(), WireError> {
        let text = symbol(symbols, reference)?;
        match name.take() {
            None => name = Some(text),
            Some(name) => label(name, text),
        }
        Ok(())
    };
    let mut fields = Fields { rest: bytes };
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(packed)) => {
                let mut packed = Fields { rest: packed };
                while !packed.rest.is_empty() {
                    reference(packed.varint()?)?;
                }
            }
            (1, Field::Varint(one)) => reference(one)?,
            (1, _) => return Err(WireError::Type(number, 0)),
            _ => {}
        }
    }
    if name.is_some() { Err(WireError::OddReferences) } else { Ok(()) }
}

fn check_metadata(bytes: &[u8], symbols: &[&str]) -> Result<(), WireError> {
    let mut fields = Fields { rest: bytes };
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (3 | 4, Field::Varint(reference)) => drop(symbol(symbols, reference)?),
            (1, Field::Varint(_)) => {}
            (1 | 3 | 4, _) => return Err(WireError::Type(number, 0)),
            _ => {}
        }
    }
    Ok(())
}

fn symbol<'s>(symbols: &[&'s str], reference: u64) -> Result<&'s str, WireError> {
    let found = usize::try_from(reference).ok().and_then(|at| symbols.get(at));
    found.copied().ok_or(WireError::Reference(reference, symbols.len()))
}

#[cfg(test)]
mod tests {
    use promring_proto::remote_write::v2::{Exemplar, Histogram, Metadata, Request, Sample, TimeSeries};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    /// Labels as text, the value's bits, and the time of each sample.
    type Flat = Vec<(Vec<(String, String)>, u64, i64)>;

    fn read(bytes: &[u8]) -> Result<(Contents, Flat), WireError> {
        let mut flat = Flat::new();
        let contents = read_v2_request(bytes, |labels, value, time| {
            let labels = crate::wire::read_labels(labels).unwrap();
            let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            flat.push((labels.collect(), value.to_bits(), time));
        })?;
        Ok((contents, flat))
    }

    fn request(symbols: &[&str], timeseries: Vec<TimeSeries>) -> Vec<u8> {
        let symbols = symbols.iter().map(|text| (*text).to_owned()).collect();
        Request { symbols, timeseries }.encode_to_vec()
    }

    fn series(labels_refs: &[u32]) -> TimeSeries {
        let sample = Sample { value: 1.0, timestamp: 2, start_timestamp: 3 };
        TimeSeries { labels_refs: labels_refs.to_vec(), samples: vec![sample], ..TimeSeries::default() }
    }

    #[test]
    fn exemplars_histograms_and_metadata_are_counted() {
        let full = TimeSeries {
            samples: Vec::new(),
            histograms: vec![Histogram::default(); 2],
            exemplars: vec![Exemplar { labels_refs: vec![1, 2], ..Exemplar::default() }; 3],
            metadata: Some(Metadata { metric_type: 3, help_ref: 1, unit_ref: 0 }),
            ..series(&[1, 2])
        };
        let (contents, flat) = read(&request(&["", "a", "b"], vec![full, series(&[2, 1])])).unwrap();
        assert_eq!(contents, Contents { series: 2, samples: 1, exemplars: 3, histograms: 2, metadata: 1 });
        assert_eq!(flat, [(vec![("b".to_owned(), "a".to_owned())], 1.0_f64.to_bits(), 2)]);
    }

    #[test]
    fn what_breaks_a_rule_is_refused_with_its_name() {
        let symbols = ["", "a", "b"];
        let with = |change: &dyn Fn(&mut TimeSeries)| {
            let mut one = series(&[1, 2]);
            change(&mut one);
            read(&request(&symbols, vec![one])).map(|_| ())
        };
        assert_eq!(with(&|_| {}), Ok(()));
        assert_eq!(with(&|one| one.labels_refs[1] = 3), Err(WireError::Reference(3, 3)));
        assert_eq!(with(&|one| one.labels_refs.push(1)), Err(WireError::OddReferences));
        assert_eq!(with(&|one| one.samples.clear()), Err(WireError::EmptySeries));
        assert_eq!(with(&|one| one.histograms.push(Histogram::default())), Err(WireError::MixedSeries));
        let exemplar = Exemplar { labels_refs: vec![1, 9], ..Exemplar::default() };
        assert_eq!(with(&|one| one.exemplars = vec![exemplar.clone()]), Err(WireError::Reference(9, 3)));
        let metadata = Metadata { metric_type: 1, help_ref: 0, unit_ref: 7 };
        assert_eq!(with(&|one| one.metadata = Some(metadata)), Err(WireError::Reference(7, 3)));
        assert_eq!(read(&request(&["a", "b"], vec![])), Err(WireError::FirstSymbol));
        assert_eq!(read(&request(&["", "a", "b", "a"], vec![])), Err(WireError::SymbolTwice(3)));
        // A request of 1.0 under the name of 2.0.
        assert_eq!(read(&[0x0a, 0]), Err(WireError::Reserved(1)));
        assert_eq!(read(&[0x22, 1, 0xff]), Err(WireError::Utf8));
    }

    proptest! {
        #[test]
        fn what_prost_writes_is_read_back(
            texts in proptest::collection::hash_set(".{1,40}", 1..30),
            series in proptest::collection::vec(
                (
                    proptest::collection::vec((any::<proptest::sample::Index>(), any::<proptest::sample::Index>()), 0..6),
                    proptest::collection::vec((any::<u64>(), any::<i64>()), 1..4),
                ),
                0..8,
            )
        ) {
            let symbols: Vec<String> = std::iter::once(String::new()).chain(texts).collect();
            let mut flat = Flat::new();
            let mut timeseries = Vec::new();
            for (labels, samples) in series {
                let places: Vec<usize> =
                    labels.iter().flat_map(|(name, value)| [name.index(symbols.len()), value.index(symbols.len())]).collect();
                let pairs: Vec<_> =
                    places.chunks(2).map(|pair| (symbols[pair[0]].clone(), symbols[pair[1]].clone())).collect();
                flat.extend(samples.iter().map(|(bits, time)| (pairs.clone(), *bits, *time)));
                let sample = |(bits, timestamp): &(u64, i64)| Sample {
                    value: f64::from_bits(*bits),
                    timestamp: *timestamp,
                    start_timestamp: 0,
                };
                timeseries.push(TimeSeries {
                    labels_refs: places.iter().map(|at| *at as u32).collect(),
                    samples: samples.iter().map(sample).collect(),
                    ..TimeSeries::default()
                });
            }
            let (contents, read) = read(&Request { symbols, timeseries }.encode_to_vec()).unwrap();
            prop_assert_eq!(contents.samples as usize, flat.len());
            // prost leaves out a negative zero.
            let bits = |value: u64| if f64::from_bits(value) == 0.0 { 0 } else { value };
            let even = |flat: Flat| flat.into_iter().map(|(l, value, time)| (l, bits(value), time)).collect::<Flat>();
            prop_assert_eq!(even(read), even(flat));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), tail in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes);
            let symbols = request(&["", "a", "b"], Vec::new());
            let series = [&[0x2a, tail.len() as u8][..], &tail].concat();
            let _ = read(&[symbols, series].concat());
        }
    }
}
