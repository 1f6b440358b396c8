//! What is printed and read again is the same; no bytes make a parser panic.

use proptest::prelude::*;

use super::openmetrics::OpenMetricsParser;
use super::text::TextParser;
use super::{Item, ParseError};

type Labels = Vec<(String, String)>;

/// One sample without references, with its value as bits.
#[derive(Clone, Debug, PartialEq)]
struct Owned {
    /// The first one is `__name__`.
    labels: Labels,
    bits: u64,
    timestamp_ms: Option<i64>,
    exemplars: Vec<(Labels, u64, Option<i64>)>,
}

fn own(pairs: super::Pairs<'_>) -> Labels {
    pairs.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn samples<'b>(mut next: impl FnMut() -> Result<Option<Item<'b>>, ParseError>) -> Result<Vec<Owned>, String> {
    let mut out = Vec::new();
    while let Some(item) = next().map_err(|error| error.to_string())? {
        if let Item::Sample(sample) = item {
            let exemplars = sample.exemplars.into_iter();
            out.push(Owned {
                labels: own(sample.series.pairs()?),
                bits: sample.value.to_bits(),
                timestamp_ms: sample.timestamp_ms,
                exemplars: exemplars
                    .map(|exemplar| (own(exemplar.labels), exemplar.value.to_bits(), exemplar.timestamp_ms))
                    .collect(),
            });
        }
    }
    Ok(out)
}

fn read_text(body: &[u8]) -> Result<Vec<Owned>, String> {
    let mut parser = TextParser::new(body);
    samples(|| parser.next_item())
}

fn read_openmetrics(body: &[u8]) -> Result<Vec<Owned>, String> {
    let mut parser = OpenMetricsParser::new(body);
    samples(|| parser.next_item())
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn print_series(labels: &Labels) -> String {
    let names = labels.iter().map(|(name, value)| match name.as_str() {
        "__name__" => format!("\"{}\"", escaped(value)),
        _ => format!("\"{}\"=\"{}\"", escaped(name), escaped(value)),
    });
    format!("{{{}}}", names.collect::<Vec<_>>().join(","))
}

fn print_text(samples: &[Owned]) -> String {
    let line = |sample: &Owned| {
        let time = sample.timestamp_ms.map(|ms| format!(" {ms}")).unwrap_or_default();
        format!("{} {}{time}\n", print_series(&sample.labels), f64::from_bits(sample.bits))
    };
    samples.iter().map(line).collect()
}

fn print_openmetrics(samples: &[Owned]) -> String {
    let seconds =
        |ms: Option<i64>| ms.map(|ms| format!(" {}.{:03}", ms / 1_000, ms % 1_000)).unwrap_or_default();
    let line = |sample: &Owned| {
        let exemplar = |(labels, bits, ms): &(Labels, u64, Option<i64>)| {
            format!(" # {} {}{}", print_series(labels), f64::from_bits(*bits), seconds(*ms))
        };
        let exemplars: String = sample.exemplars.iter().map(exemplar).collect();
        let (series, time) = (print_series(&sample.labels), seconds(sample.timestamp_ms));
        format!("{series} {}{time}{exemplars}\n", f64::from_bits(sample.bits))
    };
    samples.iter().map(line).collect::<String>() + "# EOF\n"
}

/// Lines that are mostly right, from pieces that are.
fn lines() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "up",
        "{",
        "}",
        "=",
        ",",
        "\"",
        "\\",
        "\n",
        " ",
        "\t",
        "#",
        "# ",
        "TYPE ",
        "HELP ",
        "UNIT ",
        "EOF",
        "# TYPE a histogram\n",
        "# EOF\n",
        "le=\"1\"",
        "x=\"é\"",
        "{\"a.b\"}",
        "a{x=\"1\"} 1\n",
        "1",
        "-1.5e3",
        "NaN",
        " 1",
        " # {x=\"1\"} 2",
        "\0",
        "\r\n",
        "_total",
        "{}",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn exemplar() -> impl Strategy<Value = (Labels, u64, Option<i64>)> {
    let labels = prop::collection::btree_map("[a-z]{1,4}", "[^\\\\\"\n\0]{0,6}", 0..3);
    let time = prop::option::of(0..4_000_000_000_000_i64);
    (labels, any::<f64>().prop_map(bits), time)
        .prop_map(|(labels, bits, time)| (labels.into_iter().collect(), bits, time))
}

fn bits(value: f64) -> u64 {
    if value.is_nan() { promring_proto::remote_write::NORMAL_NAN_BITS } else { value.to_bits() }
}

fn sample() -> impl Strategy<Value = Owned> {
    let labels = prop::collection::btree_map("[^\0]{1,5}", "(?s).{1,8}", 0..5);
    // Times of which a float's seconds still have exact milliseconds are few: eighths of a second are.
    let time = prop::option::of((0..4_000_000_000_000_i64 / 125).prop_map(|eighths| eighths * 125));
    ("[^\0]{1,8}", labels, any::<f64>().prop_map(bits), time).prop_map(
        |(name, labels, bits, timestamp_ms)| {
            let name = ("__name__".to_owned(), name);
            let labels = std::iter::once(name).chain(labels).collect();
            Owned { labels, bits, timestamp_ms, exemplars: Vec::new() }
        },
    )
}

proptest! {
    #[test]
    fn text_that_is_printed_is_read_as_the_same(samples in prop::collection::vec(sample(), 0..8)) {
        prop_assert_eq!(read_text(print_text(&samples).as_bytes()), Ok(samples));
    }

    #[test]
    fn openmetrics_that_is_printed_is_read_as_the_same(
        samples in prop::collection::vec((sample(), prop::option::of(exemplar())), 0..8)
    ) {
        let samples: Vec<Owned> = samples
            .into_iter()
            .map(|(sample, exemplar)| {
                // The same care for the milliseconds of an exemplar.
                let exemplars = exemplar.map(|(labels, bits, time)| (labels, bits, time.map(|ms| ms / 125 * 125)));
                Owned { exemplars: exemplars.into_iter().collect(), ..sample }
            })
            .collect();
        prop_assert_eq!(read_openmetrics(print_openmetrics(&samples).as_bytes()), Ok(samples));
    }

    #[test]
    fn what_is_read_prints_as_what_is_read_again(body in lines()) {
        if let Ok(samples) = read_text(body.as_bytes()) {
            // A negative time cannot be printed, and cannot be read from text.
            prop_assert_eq!(read_text(print_text(&samples).as_bytes()), Ok(samples));
        }
    }

    #[test]
    fn no_bytes_make_a_parser_panic(body: Vec<u8>) {
        let _ = read_text(&body);
        let _ = read_openmetrics(&body);
    }

    #[test]
    fn no_pieces_make_a_parser_panic(body in lines()) {
        let _ = read_text(body.as_bytes());
        let _ = read_openmetrics(body.as_bytes());
    }
}
