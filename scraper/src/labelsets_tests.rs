//! Label sets go in as labels and come out as labels.

use promring_model::labels::Labels;
use promring_proto::pen;
use promring_proto::remote_write::v1::WriteRequest;
use prost::Message;

use super::*;

const BASE: [(&str, &str); 2] = [("instance", "host:1"), ("job", "j")];

fn written(set: LabelSet<'_>, symbols: &Reading<'_>) -> Labels {
    let (mut labels, mut body) = (Vec::new(), Vec::new());
    pen::append(&mut labels, |pen| set.write_v1(symbols, pen));
    v1::push_series(&labels, 1.0, 1, &mut body);
    let series = WriteRequest::decode(&*body).unwrap().timeseries.remove(0);
    let by_symbols = {
        let mut texts = Vec::new();
        set.for_each_symbol(|symbol| texts.push(symbols.text(symbol).to_owned()));
        texts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect::<Labels>()
    };
    let labels = series.labels.iter().map(|label| (&label.name, &label.value)).collect();
    assert_eq!(by_symbols, labels, "both forms say the same");
    labels
}

fn set<'l>(labels: &'l Labels) -> Option<LabelsBuilder<'l>> {
    Some(LabelsBuilder::from_labels(labels))
}

#[test]
fn every_class_gets_its_own_labels_or_none() {
    let shared = Arc::new(Shared::default());
    let mut sets = LabelSets::new(&shared, BASE.into_iter());
    let one = Labels::from_pairs([("__name__", "up"), ("instance", "host:1"), ("job", "j")]);
    let other = Labels::from_pairs([("__name__", "up"), ("instance", "other"), ("zone", "a")]);
    let mut bytes = Vec::new();
    sets.add(&[set(&one), None, set(&other)], &mut bytes);
    let symbols = sets.reading();
    assert_eq!(written(sets.class(&bytes, 0).unwrap(), &symbols), one);
    assert!(sets.class(&bytes, 1).is_none());
    assert_eq!(written(sets.class(&bytes, 2).unwrap(), &symbols), other);
}

#[test]
fn a_series_costs_a_byte_for_its_shape_and_a_few_for_each_value_of_its_own() {
    let shared = Arc::new(Shared::default());
    let mut sets = LabelSets::new(&shared, BASE.into_iter());
    let labels = |code: &str| {
        Labels::from_pairs([
            ("__name__", "http_requests_total"),
            ("code", code),
            ("instance", "host:1"),
            ("job", "j"),
        ])
    };
    for code in ["200", "404", "500"] {
        let mut bytes = Vec::new();
        sets.add(&[set(&labels(code))], &mut bytes);
        assert_eq!(bytes.len(), 3);
    }
}

#[test]
fn what_is_taken_away_leaves_no_string_behind() {
    let shared = Arc::new(Shared::default());
    let mut sets = LabelSets::new(&shared, BASE.into_iter());
    let labels = Labels::from_pairs([("__name__", "m"), ("instance", "host:1"), ("own", "value")]);
    let mut all = Vec::new();
    for _ in 0..2 {
        let mut bytes = Vec::new();
        sets.add(&[set(&labels), None, set(&labels)], &mut bytes);
        all.push(bytes);
    }
    for bytes in &all {
        sets.remove(bytes, 3);
    }
    drop(sets);
    let mut out = Vec::new();
    shared.symbols.intern(["probe"], &mut out);
    assert_eq!(shared.symbols.reading().kept(), 1);
    assert!(shared.shapes.lock().unwrap().is_empty());
}

#[test]
fn targets_with_the_same_names_share_their_shapes() {
    let shared = Arc::new(Shared::default());
    let mut one = LabelSets::new(&shared, [("instance", "a")].into_iter());
    let mut two = LabelSets::new(&shared, [("instance", "b")].into_iter());
    let mut bytes = Vec::new();
    one.add(&[set(&Labels::from_pairs([("__name__", "m"), ("instance", "a")]))], &mut bytes);
    two.add(&[set(&Labels::from_pairs([("__name__", "m"), ("instance", "b")]))], &mut bytes);
    assert!(Arc::ptr_eq(one.shape_at(0).unwrap(), two.shape_at(0).unwrap()));
    drop(one);
    let symbols = two.reading();
    let labels = written(two.class(&bytes[2..], 0).unwrap(), &symbols);
    assert_eq!(labels.to_string(), r#"{__name__="m", instance="b"}"#);
}

#[test]
fn shapes_that_no_series_has_any_more_are_forgotten_and_their_numbers_used_again() {
    let shared = Arc::new(Shared::default());
    let mut sets = LabelSets::new(&shared, BASE.into_iter());
    let labels = |number: usize| {
        Labels::from_pairs([("__name__", "m".to_owned()), (&*format!("name_{number}"), "v".to_owned())])
    };
    let mut kept = Vec::new();
    sets.add(&[set(&labels(0))], &mut kept);
    let mut bytes_with_one = None;
    for round in 0..20 {
        let of_round: Vec<Vec<u8>> = (1..=300)
            .map(|at| {
                let mut bytes = Vec::new();
                sets.add(&[set(&labels(300 * (round % 2) + at))], &mut bytes);
                bytes
            })
            .collect();
        assert_eq!(sets.numbers.len(), 301);
        for (at, bytes) in of_round.iter().enumerate() {
            let set = sets.class(bytes, 0).unwrap();
            assert_eq!(written(set, &sets.reading()), labels(300 * (round % 2) + at + 1));
            sets.remove(bytes, 1);
        }
        sets.forget_unused();
        assert_eq!((sets.numbers.len(), sets.shapes.len(), sets.free.len()), (1, 1, 0));
        assert_eq!(shared.shapes.lock().unwrap().len(), 1);
        let bytes = shared.shape_bytes.load(Ordering::Relaxed);
        assert_eq!(bytes, *bytes_with_one.get_or_insert(bytes));
    }
    assert_eq!(written(sets.class(&kept, 0).unwrap(), &sets.reading()), labels(0));
    sets.remove(&kept, 1);
    sets.forget_unused();
    assert_eq!((sets.shapes.len(), shared.shape_bytes.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_shape_that_is_had_again_before_it_is_forgotten_stays() {
    let shared = Arc::new(Shared::default());
    let mut sets = LabelSets::new(&shared, BASE.into_iter());
    let labels = Labels::from_pairs([("__name__", "m"), ("own", "value")]);
    let mut first = Vec::new();
    sets.add(&[set(&labels)], &mut first);
    sets.remove(&first, 1);
    let mut again = Vec::new();
    sets.add(&[set(&labels)], &mut again);
    sets.forget_unused();
    assert_eq!(written(sets.class(&again, 0).unwrap(), &sets.reading()), labels);
}

#[test]
fn a_shape_has_one_number_however_many_others_there_are_and_were() {
    let shared = Arc::new(Shared::default());
    let mut sets = LabelSets::new(&shared, BASE.into_iter());
    let added = |sets: &mut LabelSets, number: usize| {
        let name = format!("name_{number}");
        let labels = Labels::from_pairs([("__name__", "m"), (&name, "v")]);
        let mut bytes = Vec::new();
        sets.add(&[set(&labels)], &mut bytes);
        bytes
    };
    for round in 0..3 {
        // The table grows by them.
        let first: Vec<_> = (0..1_000).map(|number| added(&mut sets, number)).collect();
        let again: Vec<_> = (0..1_000).map(|number| added(&mut sets, number)).collect();
        assert!(first == again && sets.numbers.len() == 1_000, "round {round}");
        again.iter().chain(&first[10..]).for_each(|bytes| sets.remove(bytes, 1));
        // And shrinks.
        sets.forget_unused();
        let kept: Vec<_> = (0..10).map(|number| added(&mut sets, number)).collect();
        assert!(kept[..] == first[..10] && sets.numbers.len() == 10, "round {round}");
        kept.iter().chain(&first[..10]).for_each(|bytes| sets.remove(bytes, 1));
        sets.forget_unused();
        assert_eq!((sets.numbers.len(), sets.shapes.len()), (0, 0));
    }
}
