//! Any bytes as a scraped body in protobuf. The first byte chooses what is wanted of histograms.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promring_fuzz::drain;
use promring_scraper::parse::protobuf::HistogramOptions;
use promring_scraper::parse::{Format, Parser};

fuzz_target!(|input: &[u8]| {
    let Some((options, body)) = input.split_first() else { return };
    let options = HistogramOptions {
        native: options & 1 != 0,
        always_classic: options & 2 != 0,
        convert_classic: options & 4 != 0,
    };
    drain(Parser::of(Format::Protobuf, options, body));
});
