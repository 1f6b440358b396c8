//! Native histograms, exemplars and metadata on their way: counted, taken apart, and sent as 1.0 where 2.0 is not spoken.

use prost::Message as _;

use super::receiver::{Action, Receiver};
use super::*;

const SYMBOLS: [&str; 5] = ["", "__name__", "a", "trace_id", "Help of a."];

/// A series with one native histogram of this schema, an exemplar and metadata.
fn histogram(schema: i32, timestamp: i64) -> v2::TimeSeries {
    let custom_values = if schema == -53 { vec![1.0] } else { Vec::new() };
    v2::TimeSeries {
        labels_refs: vec![1, 2],
        histograms: vec![v2::Histogram {
            count: Some(v2::Count::Int(0)),
            schema,
            timestamp,
            custom_values,
            start_timestamp: 1,
            ..v2::Histogram::default()
        }],
        exemplars: vec![v2::Exemplar { labels_refs: vec![3, 2], value: 1.0, timestamp }],
        metadata: Some(v2::Metadata { metric_type: 3, help_ref: 4, unit_ref: 0 }),
        ..v2::TimeSeries::default()
    }
}

fn float(timestamp: i64) -> v2::TimeSeries {
    let samples = vec![v2::Sample { value: 1.0, timestamp, start_timestamp: 1 }];
    v2::TimeSeries { labels_refs: vec![1, 2], samples, ..v2::TimeSeries::default() }
}

fn append_series(sending: &Sending, timeseries: Vec<v2::TimeSeries>) {
    append_series_at(sending, timeseries, (1, 10));
}

/// The same with samples of these times, the first and the last.
fn append_series_at(sending: &Sending, timeseries: Vec<v2::TimeSeries>, (first_ms, last_ms): (i64, i64)) {
    let count =
        |of: fn(&v2::TimeSeries) -> usize| u32::try_from(timeseries.iter().map(of).sum::<usize>()).unwrap();
    let meta = RecordMeta {
        samples: count(|series| series.samples.len()),
        histograms: count(|series| series.histograms.len()),
        exemplars: count(|series| series.exemplars.len()),
        metadata: count(|series| usize::from(series.metadata.is_some())),
        first_ms,
        last_ms,
        encoding: Encoding::V2,
        maybe_stored: false,
    };
    let symbols = SYMBOLS.iter().map(|text| (*text).to_owned()).collect();
    let body = v2::Request { symbols, timeseries }.encode_to_vec();
    sending.queues[0].append(0, meta, &snap::raw::Encoder::new().compress_vec(&body).unwrap()).unwrap();
}

fn written(samples: u32, histograms: u32, exemplars: u32) -> Action {
    let name = "X-Prometheus-Remote-Write-Samples-Written";
    let rest = format!(
        "{samples}\r\nX-Prometheus-Remote-Write-Histograms-Written: {histograms}\r\n\
         X-Prometheus-Remote-Write-Exemplars-Written: {exemplars}"
    );
    Action::AnswerWith(200, name, rest)
}

fn kinds(sending: &Sending, suffix: &str) -> [u64; 4] {
    ["samples", "histograms", "exemplars", "metadata"]
        .map(|kind| sending.metric(&format!("prometheus_remote_storage_{kind}_{suffix}"), ""))
}

#[tokio::test]
async fn what_is_pending_sent_and_not_written_is_counted_by_kind() {
    let receiver = Receiver::start(|_, _| written(1, 1, 0)).await;
    let (sending, _dir) = queueing_for(&receiver, "");
    append_series(&sending, vec![float(5), histogram(3, 6), histogram(4, 7)]);
    let pending = sending.queues[0].stats().pending;
    assert_eq!(pending.samples, 3);
    let beside = pending.beside;
    assert_eq!((beside.histograms, beside.exemplars, beside.metadata), (2, 2, 2));
    sending.start();
    sending.drained().await;
    assert_eq!(kinds(&sending, "total"), [1, 2, 2, 2]);
    assert_eq!(kinds(&sending, "failed_total"), [0, 1, 2, 0]);
    assert_eq!(sending.refused("not_written"), 1, "samples of both types; exemplars are none");
    sending.kill().await;
}

#[tokio::test]
async fn what_was_counted_as_pending_is_so_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = destination("prod", "http://127.0.0.1:9/", "");
    let sending = Sending::open(dir.path(), std::slice::from_ref(&config), &QueueSettings::default());
    append_series(&sending, vec![histogram(3, 6)]);
    drop(sending);
    let sending = Sending::open(dir.path(), &[config], &QueueSettings::default());
    assert_eq!(sending.queues[0].stats().pending.samples, 1);
}

#[tokio::test]
async fn where_2_0_is_not_spoken_histograms_and_exemplars_go_as_1_0_without_custom_bounds() {
    let receiver = Receiver::start(|_, request| match request.is_v2() {
        true => Action::Answer(415, "no"),
        false => Action::Answer(204, ""),
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    append_series(&sending, vec![float(4), histogram(3, 5), histogram(-53, 6)]);
    sending.drained().await;
    let received = receiver.received();
    let request = &received.last().unwrap().decoded;
    assert_eq!(request.timeseries.len(), 3);
    assert_eq!(request.timeseries[0].samples, [v1::Sample { value: 1.0, timestamp: 4 }]);
    let sent = &request.timeseries[1];
    assert_eq!((sent.histograms[0].schema, sent.histograms[0].start_timestamp), (3, 0));
    assert_eq!(request.timeseries[2].exemplars[0].labels[0].name, "trace_id");
    let name = "prometheus_remote_storage_histograms_dropped_total";
    assert_eq!(sending.metric(name, "nhcb_in_rw1_not_supported"), 1);
    sending.kill().await;
}

#[tokio::test]
async fn what_1_0_would_have_cost_does_not_count_where_2_0_is_taken_after_all() {
    let mut bare = true;
    let receiver = Receiver::start(move |_, request| match (request.is_v2(), std::mem::take(&mut bare)) {
        (true, true) => Action::Answer(200, ""),
        (true, false) => written(1, 1, 2),
        (false, _) => Action::Answer(415, "2.0 alone"),
    })
    .await;
    let now_ms = promring_net::clock::now_ms();
    let (sending, _dir) = sending_to(&receiver, ", sample_age_limit: 1h").await;
    append_series_at(&sending, vec![float(1), float(now_ms), histogram(-53, now_ms)], (1, now_ms));
    sending.drained().await;
    let versions: Vec<bool> = receiver.received().iter().map(|request| request.is_v2()).collect();
    assert_eq!(versions, [true, false, true]);
    assert_eq!(kinds(&sending, "dropped_total")[..2], [1, 0]);
    let name = "prometheus_remote_storage_histograms_dropped_total";
    assert_eq!(sending.metric(name, "nhcb_in_rw1_not_supported"), 0);
    sending.kill().await;
}

#[tokio::test]
async fn a_histogram_that_is_refused_alone_costs_no_other() {
    let refuses = |request: &v1::WriteRequest| {
        request.timeseries.iter().flat_map(|series| &series.histograms).any(|h| h.timestamp == 6)
    };
    let receiver = Receiver::start(move |_, request| match (request.is_v2(), refuses(&request.decoded)) {
        (true, _) => Action::Answer(415, "no"),
        (false, true) => Action::Answer(400, "invalid histogram"),
        (false, false) => Action::Answer(204, ""),
    })
    .await;
    let (sending, _dir) = sending_to(&receiver, "").await;
    append_series(&sending, (4..=9).map(|time| histogram(3, time)).collect());
    sending.drained().await;
    let accepted =
        receiver.received().into_iter().filter(|request| !request.is_v2() && !refuses(&request.decoded));
    let mut times: Vec<i64> = accepted
        .flat_map(|request| request.decoded.timeseries)
        .flat_map(|series| series.histograms)
        .map(|histogram| histogram.timestamp)
        .collect();
    times.sort_unstable();
    assert_eq!(times, [4, 5, 7, 8, 9]);
    assert_eq!((sending.refused("rejected"), kinds(&sending, "failed_total")[1]), (1, 1));
    sending.kill().await;
}
