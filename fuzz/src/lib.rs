//! What the targets of the parsers share.

use promring_scraper::parse::{Exemplars, Item, Parser};

/// Reads a body to its end or to its first error, takes apart all that it finds, and gives the number of samples.
///
/// # Panics
/// Where the parser breaks a promise.
pub fn drain(mut parser: Parser<'_>) -> usize {
    let mut samples = 0;
    loop {
        match parser.next_item() {
            Ok(Some(Item::Sample(sample))) => {
                samples += 1;
                // A series is taken apart later, when the scrape may still fail for it.
                if let Ok(pairs) = sample.series.pairs() {
                    assert!(!pairs.is_empty() && pairs.iter().all(|(_, value)| !value.is_empty()));
                    assert_eq!(sample.series.identity(), sample.series.identity());
                }
                check_exemplars(sample.exemplars);
            }
            Ok(Some(Item::Histogram(sample))) => {
                samples += 1;
                drop(sample.series.pairs());
                if let Ok(histogram) = sample.histogram.read() {
                    let _ = histogram.validate();
                }
                check_exemplars(sample.exemplars);
            }
            Ok(Some(Item::Converted(converted))) => {
                samples += 1;
                drop(converted.series.pairs());
                assert_eq!(converted.histogram.validate(), Ok(()));
                converted.exemplars.into_iter().for_each(check_exemplars);
            }
            Ok(Some(Item::Metadata(_))) => {}
            Ok(None) => return samples,
            Err(error) => {
                assert!(error.line > 0 && error.to_string().len() < 1 << 10);
                return samples;
            }
        }
    }
}

fn check_exemplars(exemplars: Exemplars<'_>) {
    for exemplar in exemplars {
        let _ = exemplar.is_storable();
    }
}

/// What there is to tell of an item, to compare it with another one.
#[must_use]
pub fn shown(item: &Item<'_>) -> String {
    match item {
        Item::Sample(sample) => {
            let (pairs, identity) = (sample.series.pairs(), sample.series.identity());
            let exemplars: Vec<_> = sample.exemplars.into_iter().collect();
            format!(
                "{pairs:?} {identity:x} {:x} {:?} {exemplars:?}",
                sample.value.to_bits(),
                sample.timestamp_ms
            )
        }
        Item::Histogram(sample) => {
            format!("{:?} {:?} {:?}", sample.series.pairs(), sample.histogram.read(), sample.timestamp_ms)
        }
        Item::Converted(sample) => {
            format!("{:?} {:?} {:?}", sample.series.pairs(), sample.histogram, sample.timestamp_ms)
        }
        Item::Metadata(metadata) => format!("{metadata:?}"),
    }
}
