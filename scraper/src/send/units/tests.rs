use promring_proto::remote_write::v1::{self, Label, Sample, TimeSeries, WriteRequest};
use promring_proto::remote_write::v2;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message as _;

use super::*;

fn series(name: &str, times: &[i64]) -> TimeSeries {
    TimeSeries {
        labels: vec![Label { name: "__name__".to_owned(), value: name.to_owned() }],
        samples: times.iter().map(|&timestamp| Sample { value: timestamp as f64, timestamp }).collect(),
        ..TimeSeries::default()
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
    let units = take_apart(Encoding::V1, &compress(&bytes)).unwrap();
    assert_eq!(decode(&put_together(&units)).encode_to_vec(), bytes);
    assert_eq!(units[1].counts, Counts { samples: 2, ..Counts::default() });
    assert_eq!((units[1].newest_ms, units[2].newest_ms, units[2].counts.metadata), (Some(3), None, 1));
    // A field of a series that the types here do not know, as an exemplar is: its bytes survive.
    let exemplar = [0x1a, 2, 0x08, 1];
    let one = [&series("c", &[4]).encode_to_vec()[..], &exemplar].concat();
    bytes.extend([0x0a, one.len() as u8]);
    bytes.extend(&one);
    let units = take_apart(Encoding::V1, &compress(&bytes)).unwrap();
    assert_eq!(units[3].counts.exemplars, 1);
    let again = snap::raw::Decoder::new().decompress_vec(&put_together(&units[3..])).unwrap();
    assert!(again.ends_with(&one));
}

#[test]
fn a_series_of_several_samples_becomes_several_of_one() {
    let request = WriteRequest { timeseries: vec![series("a", &[5, 3, 9])], metadata: Vec::new() };
    let units = take_apart(Encoding::V1, &compress(&request.encode_to_vec())).unwrap();
    let ones = one_sample_each(&units[0]).unwrap();
    let expected: Vec<_> = [5, 3, 9].iter().map(|time| series("a", &[*time])).collect();
    assert_eq!(decode(&put_together(&ones)).timeseries, expected);
    assert_eq!(one_sample_each(&ones[0]), None);
}

#[test]
fn a_series_has_one_hash_in_every_request_of_both_versions() {
    let request = |symbols: &[&str], labels: [u32; 4]| v2::Request {
        symbols: symbols.iter().map(|symbol| (*symbol).to_owned()).collect(),
        timeseries: vec![v2::TimeSeries {
            labels_refs: labels.to_vec(),
            samples: vec![v2::Sample { timestamp: 5, ..v2::Sample::default() }],
            ..v2::TimeSeries::default()
        }],
    };
    let unit = |request: v2::Request| {
        take_apart(Encoding::V2, &compress(&request.encode_to_vec())).unwrap().remove(0)
    };
    let one = unit(request(&["", "__name__", "a", "job", "j"], [1, 2, 3, 4]));
    let same = unit(request(&["", "j", "job", "a", "__name__"], [4, 3, 2, 1]));
    let other = unit(request(&["", "__name__", "a", "job", "j"], [1, 4, 3, 2]));
    assert!(one.series_hash().is_some() && one.series_hash() == same.series_hash());
    assert_ne!(one.series_hash(), other.series_hash());
    assert_eq!(to_v1(&one)[0].series_hash(), one.series_hash());
    let metadata = WriteRequest { timeseries: Vec::new(), metadata: vec![Default::default()] };
    let units = take_apart(Encoding::V1, &compress(&metadata.encode_to_vec())).unwrap();
    assert_eq!(units[0].series_hash(), None);
}

#[test]
fn bytes_that_are_no_request_are_told() {
    for bad in
        [&b""[..], b"\x05abc", &compress(b"\x0a\xff"), &compress(&[0x0a, 2, 0x12, 9]), &compress(&[0x0f])]
    {
        assert_eq!(take_apart(Encoding::V1, bad), Err(Undecodable), "{bad:?}");
    }
    // A length that nobody may allocate.
    assert_eq!(take_apart(Encoding::V1, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]), Err(Undecodable));
}

fn v2_series(labels_refs: &[u32], times: &[i64]) -> v2::TimeSeries {
    let sample = |&timestamp: &i64| v2::Sample { value: timestamp as f64, timestamp, start_timestamp: 0 };
    v2::TimeSeries {
        labels_refs: labels_refs.to_vec(),
        samples: times.iter().map(sample).collect(),
        ..v2::TimeSeries::default()
    }
}

/// With everything that a series can have.
fn v2_full(labels_refs: &[u32], exemplar_refs: &[u32], help_ref: u32) -> v2::TimeSeries {
    let histogram = |timestamp| v2::Histogram {
        count: Some(v2::Count::Int(3)),
        zero_count: Some(v2::ZeroCount::Int(1)),
        schema: 1,
        positive_spans: vec![v2::BucketSpan { offset: -3, length: 2 }],
        positive_deltas: vec![1, -1],
        custom_values: vec![0.5],
        timestamp,
        start_timestamp: 4,
        ..v2::Histogram::default()
    };
    v2::TimeSeries {
        labels_refs: labels_refs.to_vec(),
        samples: Vec::new(),
        histograms: vec![histogram(7), histogram(9)],
        exemplars: vec![v2::Exemplar { labels_refs: exemplar_refs.to_vec(), value: 2.0, timestamp: 8 }],
        metadata: Some(v2::Metadata { metric_type: 3, help_ref, unit_ref: 0 }),
    }
}

fn v2_request(symbols: &[&str], timeseries: Vec<v2::TimeSeries>) -> v2::Request {
    v2::Request { symbols: symbols.iter().map(|text| (*text).to_owned()).collect(), timeseries }
}

fn v2_units(request: &v2::Request) -> Vec<Unit> {
    take_apart(Encoding::V2, &compress(&request.encode_to_vec())).unwrap()
}

fn v2_decode(body: &[u8]) -> v2::Request {
    v2::Request::decode(&*snap::raw::Decoder::new().decompress_vec(body).unwrap()).unwrap()
}

/// Labels, labels of exemplars, help text, and the rest of a series without references.
type Resolved = (Vec<String>, Vec<Vec<String>>, String, v2::TimeSeries);

/// A request with texts in the places of references, which can be compared whatever its table of symbols is.
fn resolved(request: &v2::Request) -> Vec<Resolved> {
    let text = |at: u32| request.symbols[at as usize].clone();
    let texts = |refs: &[u32]| refs.iter().map(|at| text(*at)).collect::<Vec<_>>();
    let series = request.timeseries.iter().cloned().map(|mut series| {
        let exemplars = series.exemplars.iter().map(|exemplar| texts(&exemplar.labels_refs)).collect();
        let labels = texts(&series.labels_refs);
        let help = series.metadata.map(|metadata| text(metadata.help_ref)).unwrap_or_default();
        series.labels_refs.clear();
        series.exemplars.iter_mut().for_each(|exemplar| exemplar.labels_refs.clear());
        if let Some(metadata) = &mut series.metadata {
            metadata.help_ref = 0;
        }
        (labels, exemplars, help, series)
    });
    series.collect()
}

#[test]
fn requests_of_2_0_are_joined_under_one_table_that_has_each_text_once() {
    let one = v2_request(
        &["", "__name__", "unused", "a", "trace_id", "x", "help of a"],
        vec![v2_full(&[1, 3], &[4, 5], 6), v2_series(&[1, 4], &[3])],
    );
    let other =
        v2_request(&["", "a", "__name__", "b"], vec![v2_series(&[2, 3], &[1, 2]), v2_series(&[2, 1], &[5])]);
    let mut units = v2_units(&one);
    let full = Counts { histograms: 2, exemplars: 1, metadata: 1, ..Counts::default() };
    assert_eq!((units[0].counts, units[0].newest_ms), (full, Some(9)));
    units.extend(v2_units(&other));
    let joined = v2_decode(&put_together(&units));
    assert_eq!(joined.symbols, ["", "__name__", "a", "trace_id", "x", "help of a", "b"]);
    assert_eq!(resolved(&joined), [resolved(&one), resolved(&other)].concat());
}

#[test]
fn a_table_of_symbols_may_follow_the_series() {
    let symbols = v2_request(&["", "__name__", "a"], Vec::new()).encode_to_vec();
    let series = v2_request(&[], vec![v2_series(&[1, 2], &[3])]).encode_to_vec();
    let units = take_apart(Encoding::V2, &compress(&[series, symbols].concat())).unwrap();
    assert_eq!(
        v2_decode(&put_together(&units)),
        v2_request(&["", "__name__", "a"], vec![v2_series(&[1, 2], &[3])])
    );
}

#[test]
fn a_series_of_2_0_with_several_samples_becomes_several_of_one() {
    let symbols = ["", "__name__", "a", "trace_id", "x", "help"];
    let units = v2_units(&v2_request(&symbols, vec![v2_full(&[1, 2], &[3, 4], 5)]));
    let ones = one_sample_each(&units[0]).unwrap();
    assert_eq!(ones.iter().map(|unit| unit.newest_ms).collect::<Vec<_>>(), [Some(7), Some(9)]);
    // The exemplars go with the last one, so that none comes before its time.
    assert_eq!(ones.iter().map(|unit| unit.counts.exemplars).collect::<Vec<_>>(), [0, 1]);
    let first = v2_decode(&put_together(&ones[..1]));
    assert_eq!(resolved(&first)[0].0, ["__name__", "a"]);
    assert_eq!(first.timeseries[0].histograms.len(), 1);
    assert_eq!(one_sample_each(&ones[0]), None);
}

#[test]
fn a_request_of_2_0_becomes_one_of_1_0() {
    let symbols = ["", "__name__", "a", "trace_id", "x", "help"];
    let mut with_start = v2_series(&[1, 2], &[4]);
    with_start.samples[0].start_timestamp = 3;
    let described = v2::TimeSeries { samples: Vec::new(), ..v2_series(&[1, 2], &[]) };
    let units = v2_units(&v2_request(&symbols, vec![with_start, described, v2_full(&[1, 2], &[3, 4], 5)]));
    let old: Vec<Unit> = units.iter().flat_map(to_v1).collect();
    let request = decode(&put_together(&old));
    // Nothing is left of a series without samples, and the exemplars of histograms come behind these.
    assert_eq!(request.timeseries.len(), 3);
    assert_eq!(request.timeseries[0], series("a", &[4]));
    assert!(request.timeseries[1..].iter().all(|sent| sent.labels == series("a", &[]).labels));
    // What the types here do not know of 1.0, as bytes: two histograms, and one exemplar with its labels.
    let content = |at: usize| one_series_content(&put_together(&old[at..=at]));
    let mut labels = Vec::new();
    v1::encode_labels([("__name__", "a")], &mut labels);
    let mut expected = labels.clone();
    let mut exemplar = Vec::new();
    v1::encode_labels([("trace_id", "x")], &mut exemplar);
    exemplar.extend(v2::Exemplar { labels_refs: Vec::new(), value: 2.0, timestamp: 8 }.encode_to_vec());
    push_bytes(3, &exemplar, &mut expected);
    assert_eq!(content(2), expected);
    let mut expected = labels;
    for mut histogram in v2_full(&[], &[], 0).histograms {
        histogram.start_timestamp = 0;
        push_bytes(4, &histogram.encode_to_vec(), &mut expected);
    }
    assert_eq!(content(1), expected);
    let counts = Counts { histograms: 2, ..Counts::default() };
    assert_eq!((old[1].counts, old[1].newest_ms), (counts, Some(9)));
    let counts = Counts { exemplars: 1, ..Counts::default() };
    assert_eq!((old[2].counts, old[2].newest_ms), (counts, None));
}

#[test]
fn histograms_with_bounds_of_their_own_have_no_place_in_1_0() {
    let symbols = ["", "__name__", "a"];
    let custom =
        v2::Histogram { schema: -53, custom_values: vec![1.0], timestamp: 5, ..v2::Histogram::default() };
    let plain = v2::Histogram { schema: -4, timestamp: 6, ..v2::Histogram::default() };
    let of = |histograms: Vec<v2::Histogram>| v2::TimeSeries {
        labels_refs: vec![1, 2],
        histograms,
        ..v2::TimeSeries::default()
    };
    let units = v2_units(&v2_request(&symbols, vec![of(vec![custom.clone()]), of(vec![custom, plain])]));
    let old: Vec<Unit> = units.iter().flat_map(to_v1).collect();
    assert_eq!((old.len(), old[0].counts.histograms, old[0].newest_ms), (1, 1, Some(6)));
}

/// The content of the first field of a body.
fn one_series_content(body: &[u8]) -> Vec<u8> {
    let decoded = snap::raw::Decoder::new().decompress_vec(body).unwrap();
    fields(&decoded).next().unwrap().unwrap().content().unwrap().to_vec()
}

#[test]
fn a_request_of_2_0_that_refers_to_nothing_is_told() {
    let symbols = ["", "__name__", "a"];
    let full =
        |labels: &[u32], exemplar: &[u32], help| v2_request(&symbols, vec![v2_full(labels, exemplar, help)]);
    for bad in [full(&[1, 3], &[], 0), full(&[1], &[], 0), full(&[1, 2], &[1, 9], 0), full(&[1, 2], &[], 3)] {
        assert_eq!(take_apart(Encoding::V2, &compress(&bad.encode_to_vec())), Err(Undecodable), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = take_apart(Encoding::V1, &bytes);
        if let Ok(units) = take_apart(Encoding::V1, &compress(&bytes)) {
            for unit in &units {
                one_sample_each(unit);
            }
            prop_assert_eq!(take_apart(Encoding::V1, &put_together(&units)), Ok(units));
        }
    }

    #[test]
    fn arbitrary_bytes_for_2_0_never_panic(bytes: Vec<u8>, tail: Vec<u8>) {
        let symbols = v2_request(&["", "a", "b"], Vec::new()).encode_to_vec();
        let mut series = Vec::new();
        push_bytes(5, &tail, &mut series);
        for bytes in [bytes, [symbols, series].concat()] {
            if let Ok(units) = take_apart(Encoding::V2, &compress(&bytes)) {
                for unit in &units {
                    one_sample_each(unit);
                    to_v1(unit);
                }
                // Moving what was moved changes nothing any more.
                let once = put_together(&units);
                let again = take_apart(Encoding::V2, &once).unwrap();
                prop_assert_eq!(put_together(&again), once);
            }
        }
    }

    #[test]
    fn series_of_2_0_mean_the_same_wherever_they_are_moved(
        requests in proptest::collection::vec(
            (
                proptest::collection::hash_set("[a-d]{1,2}", 1..12),
                proptest::collection::vec(
                    (proptest::collection::vec((any::<Index>(), any::<Index>()), 0..4), any::<i64>()),
                    1..5,
                ),
            ),
            1..4,
        ),
        taken in proptest::collection::vec(any::<bool>(), 12),
    ) {
        let mut units = Vec::new();
        let mut expected = Vec::new();
        for (texts, all_series) in &requests {
            let symbols: Vec<&str> = std::iter::once("").chain(texts.iter().map(String::as_str)).collect();
            let one = |(labels, time): &(Vec<(Index, Index)>, i64)| {
                let at = |index: &Index| index.index(symbols.len()) as u32;
                let refs: Vec<u32> = labels.iter().flat_map(|(name, value)| [at(name), at(value)]).collect();
                let mut series = v2_full(&refs, &refs, refs.first().copied().unwrap_or(0));
                series.histograms.iter_mut().for_each(|histogram| histogram.timestamp = *time);
                series
            };
            let request = v2_request(&symbols, all_series.iter().map(one).collect());
            expected.extend(resolved(&request));
            units.extend(v2_units(&request));
        }
        let mut taken = taken.into_iter();
        let (units, expected): (Vec<Unit>, Vec<Resolved>) =
            units.into_iter().zip(expected).filter(|_| taken.next().unwrap_or(true)).unzip();
        let moved = v2_decode(&put_together(&units));
        prop_assert_eq!(&resolved(&moved), &expected);
        let old = units.iter().flat_map(to_v1).filter(|unit| unit.counts.points() > 0);
        let old: Vec<Unit> = old.collect();
        let labels = |series: &TimeSeries| -> Vec<String> {
            series.labels.iter().flat_map(|label| [label.name.clone(), label.value.clone()]).collect()
        };
        let decoded = decode(&put_together(&old));
        let old_labels: Vec<_> = decoded.timeseries.iter().map(labels).collect();
        let new_labels: Vec<_> = expected.iter().map(|(labels, ..)| labels.clone()).collect();
        prop_assert_eq!(old_labels, new_labels);
        prop_assert!(old.iter().zip(&units).all(|(old, new)| old.newest_ms == new.newest_ms));
    }
}
