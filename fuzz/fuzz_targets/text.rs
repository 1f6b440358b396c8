//! Any bytes as a scraped body: each line is a sample or the end with an error, and taking a series apart does the
//! same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promring_scraper::parse::text::{TextParser, label_set};

fuzz_target!(|body: &[u8]| {
    let mut parser = TextParser::new(body);
    let mut samples = 0;
    loop {
        match parser.next_sample() {
            Ok(Some(sample)) => {
                samples += 1;
                if let Ok(pairs) = sample.series.pairs() {
                    assert!(!pairs.is_empty());
                }
            }
            Ok(None) => break,
            Err(error) => {
                assert!(error.line > 0 && !error.to_string().is_empty());
                break;
            }
        }
    }
    assert!(samples <= body.len());
    if let Ok(text) = std::str::from_utf8(body) {
        for line in text.lines() {
            drop(label_set(line));
        }
    }
});
