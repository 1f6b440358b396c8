//! Any bytes as a scraped body in text, and as a label set that a person writes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promring_fuzz::drain;
use promring_scraper::parse::protobuf::HistogramOptions;
use promring_scraper::parse::text::{TextParser, label_set};
use promring_scraper::parse::{Format, Parser};

fuzz_target!(|body: &[u8]| {
    for format in [Format::Text, Format::OpenMetrics] {
        let samples = drain(Parser::of(format, HistogramOptions::default(), body));
        let lines = body.iter().filter(|byte| **byte == b'\n').count() + 1;
        assert!(samples <= lines, "{samples} samples in {lines} lines");
        let options = HistogramOptions { convert_classic: true, ..HistogramOptions::default() };
        let converted = drain(Parser::of(format, options, body));
        assert!(converted <= lines, "{converted} samples in {lines} lines");
    }
    let mut parser = TextParser::new(body);
    while let Ok(Some(_)) = parser.next_sample() {}
    if let Ok(text) = std::str::from_utf8(body) {
        for line in text.lines() {
            drop(label_set(line));
        }
    }
});
