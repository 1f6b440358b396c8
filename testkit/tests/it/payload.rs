//! The exporter of everything, and what the receiver keeps of it.

use promring_model::labels::Labels;
use promring_proto::exposition::MetricFamily;
use promring_proto::histogram::NativeHistogram;
use promring_proto::remote_write::v1::MetricType;
use promring_proto::remote_write::v2::{Exemplar, Histogram, Metadata, Request, Sample, TimeSeries};
use promring_testkit::exporter::RichExporter;
use promring_testkit::receiver::Receiver;
use prost::Message as _;

use crate::client::request;

#[tokio::test]
async fn the_rich_exporter_speaks_what_is_accepted_and_keeps_what_it_exposed() {
    let exporter = RichExporter::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = exporter.address();
    let accept = [("Accept", "application/openmetrics-text")];
    let text = request(address, "GET", "/metrics", &accept, b"").await.unwrap().text();
    assert!(text.ends_with("# EOF\n") && text.contains("# {trace_id=\"trace-0\"}"), "{text}");
    exporter.hide(&["rich_floats"]);
    let accept = [("Accept", "application/vnd.google.protobuf")];
    let body = request(address, "GET", "/metrics", &accept, b"").await.unwrap().body;
    let mut families = Vec::new();
    let mut rest = &body[..];
    while !rest.is_empty() {
        families.push(MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    let exposed = exporter.exposed();
    assert_eq!(exposed[1], families);
    assert_eq!(exposed[0].len(), families.len() + 1, "one family is hidden");
}

#[tokio::test]
async fn the_receiver_keeps_histograms_exemplars_metadata_and_start_times() {
    let receiver = Receiver::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let native = NativeHistogram { schema: 3, sum: 1.5, ..NativeHistogram::default() };
    let symbols = ["", "__name__", "a", "id", "x", "Help."].map(str::to_owned).to_vec();
    let series = TimeSeries { labels_refs: vec![1, 2], ..TimeSeries::default() };
    let timeseries = vec![
        TimeSeries {
            histograms: vec![Histogram { start_timestamp: 4, ..Histogram::new(&native, 5) }],
            exemplars: vec![Exemplar { labels_refs: vec![3, 4], value: 2.5, timestamp: 6 }],
            metadata: Some(Metadata { metric_type: 3, help_ref: 5, unit_ref: 0 }),
            ..series.clone()
        },
        TimeSeries { samples: vec![Sample { value: 1.0, timestamp: 9, start_timestamp: 8 }], ..series },
    ];
    let body = Request { symbols, timeseries }.encode_to_vec();
    let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
    let head = [
        ("Content-Encoding", "snappy"),
        ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        ("X-Prometheus-Remote-Write-Version", "2.0.0"),
    ];
    let answer = request(receiver.address(), "POST", "/api/v1/write", &head, &body).await.unwrap();
    assert_eq!(answer.status, 204);
    let written = answer.field("x-prometheus-remote-write-histograms-written");
    assert_eq!(written, Some("1"));
    let payload = receiver.payload();
    let name = Labels::from_pairs([("__name__", "a")]);
    let histogram = payload.histograms_of("a").next().unwrap();
    assert_eq!((&histogram.series, histogram.timestamp_ms, histogram.start_ms), (&name, 5, 4));
    assert_eq!(histogram.histogram, native);
    let exemplar = payload.exemplars_of("a").next().unwrap();
    assert_eq!((exemplar.labels.get("id"), exemplar.value, exemplar.timestamp_ms), (Some("x"), 2.5, 6));
    assert_eq!(payload.starts.iter().map(|start| start.start_ms).collect::<Vec<_>>(), [8]);
    let metadata = payload.metadata.first().unwrap();
    assert_eq!(
        (metadata.name.as_str(), metadata.kind, metadata.help.as_str()),
        ("a", MetricType::Histogram, "Help.")
    );
}
