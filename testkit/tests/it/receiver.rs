//! The receiver over real sockets: what it takes, what it refuses, how it fails on demand, and what it says.

use std::net::SocketAddr;
use std::time::Duration;

use promring_model::labels::Labels;
use promring_proto::remote_write::stale_marker;
use promring_proto::remote_write::v1::{encode_labels, push_series};
use promring_proto::remote_write::v2;
use promring_testkit::audit::{Absence, ExpectedTarget, LastSample, Report};
use promring_testkit::clock::now_ms;
use promring_testkit::exporter::{Exporter, Fleet, FleetOptions};
use promring_testkit::receiver::{
    DECOMPRESSED_BYTES_MAX, Fault, FaultRule, Receiver, ReceiverError, Summary,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Answer, request};
use crate::config::job;

const HEADERS: [(&str, &str); 3] = [
    ("Content-Encoding", "snappy"),
    ("Content-Type", "application/x-protobuf"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];

const HEADERS_V2: [(&str, &str); 3] = [
    ("Content-Encoding", "snappy"),
    ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ("X-Prometheus-Remote-Write-Version", "2.0.0"),
];

async fn receiver() -> Receiver {
    Receiver::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap()
}

/// A compressed request of these samples.
fn body(samples: &[(Labels, f64, i64)]) -> Vec<u8> {
    let mut message = Vec::new();
    for (labels, value, time) in samples {
        let mut encoded = Vec::new();
        encode_labels(labels.iter(), &mut encoded);
        push_series(&encoded, *value, *time, &mut message);
    }
    snap::raw::Encoder::new().compress_vec(&message).unwrap()
}

async fn send(receiver: &Receiver, samples: &[(Labels, f64, i64)]) -> std::io::Result<Answer> {
    request(receiver.address(), "POST", "/api/v1/write", &HEADERS, &body(samples)).await
}

/// The same as remote write 2.0.
async fn send_v2(receiver: &Receiver, samples: &[(Labels, f64, i64)]) -> std::io::Result<Answer> {
    let (mut symbols, mut message) = (vec![""], Vec::new());
    for (labels, value, time) in samples {
        let mut refs = Vec::new();
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            let at = symbols.iter().position(|symbol| *symbol == text).unwrap_or(symbols.len());
            if at == symbols.len() {
                symbols.push(text);
            }
            v2::push_refs([at as u32], &mut refs);
        }
        v2::push_series(&refs, value.to_bits(), *time, &mut message);
    }
    // Behind what refers to it, as is allowed.
    symbols.iter().for_each(|symbol| v2::push_symbol(symbol, &mut message));
    let body = snap::raw::Encoder::new().compress_vec(&message).unwrap();
    request(receiver.address(), "POST", "/api/v1/write", &HEADERS_V2, &body).await
}

async fn get(receiver: &Receiver, path: &str) -> Answer {
    request(receiver.address(), "GET", path, &[], b"").await.unwrap()
}

async fn post(receiver: &Receiver, path: &str, json: &str) -> u16 {
    request(receiver.address(), "POST", path, &[], json.as_bytes()).await.unwrap().status
}

fn named(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name)])
}

#[tokio::test]
async fn samples_arrive_in_audit_and_series() {
    let receiver = receiver().await;
    let samples = [(named("a"), 1.5, 1_000), (named("b"), f64::INFINITY, 1_000)];
    assert_eq!(send(&receiver, &samples).await.unwrap().status, 204);
    assert_eq!(send(&receiver, &[(named("a"), stale_marker(), 2_000)]).await.unwrap().status, 204);

    let answer = get(&receiver, "/api/v1/series?match=a").await;
    let found: Vec<LastSample> = serde_json::from_slice(&answer.body).unwrap();
    let value = "NaN".to_owned();
    assert_eq!(
        found,
        [LastSample { labels: named("a"), value, stale: true, timestamp_ms: 2_000, samples: 2 }]
    );
    assert_eq!(get(&receiver, "/api/v1/series?match=b").await.json()[0]["value"], "+Inf");

    let summary: Summary = serde_json::from_slice(&get(&receiver, "/api/v1/audit").await.body).unwrap();
    assert_eq!((summary.samples, summary.series, summary.markers), (3, 2, 1));
    assert_eq!((summary.received.requests, summary.received.refused), (2, 0));
    assert!(summary.received.bytes > 0 && summary.received.decompressed_bytes > 0);
    receiver.stop().await;
}

#[tokio::test]
async fn requests_that_are_no_remote_write_are_refused_with_a_reason() {
    let receiver = receiver().await;
    let good = body(&[(named("a"), 1.0, 1_000)]);
    let replaced = |name: &str, value: &'static str| {
        HEADERS
            .map(|(field, old)| if field.eq_ignore_ascii_case(name) { (field, value) } else { (field, old) })
    };
    let broken = snap::raw::Encoder::new().compress_vec(&[0x0a, 0x7f]).unwrap();
    // A length of 256 MiB, in the first bytes of a block.
    let bomb = [0x80, 0x80, 0x80, 0x80, 0x01, 0x00];
    assert!(snap::raw::decompress_len(&bomb).unwrap() > DECOMPRESSED_BYTES_MAX);
    let other = "application/x-protobuf;proto=io.prometheus.write.v3.Request";
    let v2 = HEADERS_V2[1].1;
    for (headers, body, status, reason) in [
        (replaced("content-encoding", "gzip"), &good[..], 415, "must be snappy"),
        (replaced("content-type", "application/json"), &good, 415, "Content-Type"),
        (replaced("content-type", other), &good, 415, "v3.Request"),
        (replaced("content-type", v2), &good, 400, "must be 2.0.0"),
        (HEADERS_V2, &good, 400, "field 1 is reserved"),
        (replaced("x-prometheus-remote-write-version", "2.0.0"), &good, 400, "must be 0.1.0"),
        (HEADERS, b"no snappy", 400, "no snappy block"),
        (HEADERS, &broken, 400, "ends within a field"),
        (HEADERS, &bomb, 413, "after decompression"),
    ] {
        let answer = request(receiver.address(), "POST", "/api/v1/write", &headers, body).await.unwrap();
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(reason), "{}", answer.text());
    }
    let named_message = replaced("content-type", "application/x-protobuf;proto=prometheus.WriteRequest");
    let answer = request(receiver.address(), "POST", "/api/v1/write", &named_message, &good).await.unwrap();
    assert_eq!(answer.status, 204);
    assert_eq!(receiver.audit().totals().samples, 1);
    assert_eq!(receiver.received().refused, 9);
}

#[tokio::test]
async fn a_series_of_2_0_is_the_one_of_1_0_and_the_answer_says_what_was_written() {
    let receiver = receiver().await;
    let series = Labels::from_pairs([("__name__", "a"), ("instance", "one"), ("job", "a")]);
    let answer = send(&receiver, &[(series.clone(), 1.0, 1_000)]).await.unwrap();
    assert_eq!((answer.status, answer.field("x-prometheus-remote-write-samples-written")), (204, None));
    let answer = send_v2(&receiver, &[(series.clone(), 2.0, 2_000), (named("b"), 1.0, 2_000)]).await.unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
    for (kind, written) in [("samples", "2"), ("histograms", "0"), ("exemplars", "0")] {
        assert_eq!(answer.field(&format!("x-prometheus-remote-write-{kind}-written")), Some(written));
    }
    let answer = get(&receiver, "/api/v1/series?match=a").await;
    let found: Vec<LastSample> = serde_json::from_slice(&answer.body).unwrap();
    let value = "2".to_owned();
    assert_eq!(found, [LastSample { labels: series, value, stale: false, timestamp_ms: 2_000, samples: 2 }]);
    assert_eq!((receiver.received().requests, receiver.received().v2_requests), (2, 1));
}

#[tokio::test]
async fn a_receiver_can_be_one_that_does_not_speak_2_0() {
    let receiver = receiver().await;
    let sample = [(named("a"), 1.0, 1_000)];
    for (fault, status) in [(Fault::NoV2, 415), (Fault::V2TakenForV1, 204)] {
        receiver.clear_faults();
        receiver.add_fault(fault).unwrap();
        let answer = send_v2(&receiver, &sample).await.unwrap();
        assert_eq!(
            (answer.status, answer.field("x-prometheus-remote-write-samples-written")),
            (status, None)
        );
    }
    assert_eq!(receiver.audit().totals().samples, 0);
    assert_eq!(send(&receiver, &sample).await.unwrap().status, 204);
    assert_eq!(receiver.audit().totals().samples, 1);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let receiver = receiver().await;
    // Only the head: the server must not wait for 33 MiB to say no.
    let mut stream = TcpStream::connect(receiver.address()).await.unwrap();
    let head = format!("POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 33 << 20);
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = crate::client::read_answer(&mut stream, &mut Vec::new()).await.unwrap();
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn each_fault_is_what_it_says() {
    let receiver = receiver().await;
    let sample = |time| [(named("a"), 1.0, time)];
    let once = |fault| FaultRule { requests: Some(1), ..FaultRule::from(fault) };

    receiver.add_fault(once(Fault::Status { code: 429, retry_after_s: Some(7) })).unwrap();
    let answer = send(&receiver, &sample(1_000)).await.unwrap();
    assert_eq!((answer.status, answer.field("retry-after")), (429, Some("7")));

    receiver.add_fault(once(Fault::Reset)).unwrap();
    let error = send(&receiver, &sample(1_000)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(receiver.audit().totals().samples, 0, "nothing was stored so far");

    receiver.add_fault(once(Fault::AckLost)).unwrap();
    send(&receiver, &sample(1_000)).await.unwrap_err();
    assert_eq!(receiver.audit().totals().samples, 1);
    assert_eq!(send(&receiver, &sample(1_000)).await.unwrap().status, 204);
    let counts = receiver.audit().report(now_ms()).counts;
    assert_eq!((counts.duplicates, counts.resent), (1, 1), "the sender had to send it again");

    receiver.add_fault(once(Fault::Slow { delay_ms: 30 })).unwrap();
    let start = std::time::Instant::now();
    assert_eq!(send(&receiver, &sample(2_000)).await.unwrap().status, 204);
    assert!(start.elapsed() >= Duration::from_millis(30));

    receiver.add_fault(Fault::Status { code: 500, retry_after_s: None }).unwrap();
    for _ in 0..3 {
        assert_eq!(send(&receiver, &sample(3_000)).await.unwrap().status, 500);
    }
    receiver.clear_faults();
    assert_eq!(send(&receiver, &sample(3_000)).await.unwrap().status, 204);
    assert_eq!(receiver.received().faulted, 6);
}

#[tokio::test]
async fn a_hanging_receiver_takes_the_request_and_lets_go_when_it_stops() {
    let receiver = receiver().await;
    assert_eq!(post(&receiver, "/-/fault", r#"{"fault": "hang"}"#).await, 204);
    let address = receiver.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = body(&[(named("a"), 1.0, 1_000)]);
    let fields: String = HEADERS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head =
        format!("POST /api/v1/write HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    let silent = tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await;
    assert!(silent.is_err(), "it answered {silent:?}");
    receiver.stop().await;
    assert!(stream.read_u8().await.is_err());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn faults_are_added_listed_and_cleared_over_http() {
    let receiver = receiver().await;
    let rule = r#"{"fault": "status", "code": 503, "requests": 2}"#;
    assert_eq!(post(&receiver, "/-/fault", rule).await, 204);
    assert_eq!(
        get(&receiver, "/-/fault").await.json(),
        serde_json::json!([
            {"fault": "status", "code": 503, "requests": 2, "seed": 0}
        ])
    );
    assert_eq!(send(&receiver, &[]).await.unwrap().status, 503);
    let cleared = request(receiver.address(), "DELETE", "/-/fault", &[], b"").await.unwrap();
    assert_eq!(cleared.status, 204);
    assert_eq!(send(&receiver, &[]).await.unwrap().status, 204);
    for bad in ["", "{}", r#"{"fault": "rain"}"#, r#"{"fault": "hang", "probability": 7}"#] {
        assert_eq!(post(&receiver, "/-/fault", bad).await, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_receiver_that_goes_away_comes_back_with_what_it_had() {
    let mut receiver = receiver().await;
    send(&receiver, &[(named("a"), 1.0, 1_000)]).await.unwrap();
    let address = receiver.address();
    receiver.close().await;
    assert!(TcpStream::connect(address).await.is_err());
    receiver.reopen().await.unwrap();
    assert_eq!(receiver.address(), address);
    send(&receiver, &[(named("a"), 1.0, 2_000)]).await.unwrap();
    assert_eq!(receiver.audit().last_samples("a")[0].samples, 2);
}

#[tokio::test]
async fn a_busy_port_gives_an_error_that_names_it() {
    let receiver = receiver().await;
    let error = Receiver::start(receiver.address()).await.unwrap_err();
    assert!(matches!(error, ReceiverError::PortBusy { .. }));
    assert!(error.to_string().contains(&format!("{}: the port is in use", receiver.address())));
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let receiver = receiver().await;
    let page = get(&receiver, "/").await;
    assert!(page.field("content-type").unwrap().starts_with("text/html"));
    let text = page.text().replace("http://www.w3.org/2000/svg", "");
    assert!(
        !text.contains("http://") && !text.contains("https://") && !text.contains("src="),
        "it loads something"
    );
    receiver.set_facts([("scrapers", "3")]);
    assert_eq!(get(&receiver, "/api/v1/audit").await.json()["facts"]["scrapers"], "3");
}

/// The samples that a scraper would write of one scrape.
async fn scrape(exporter: &Exporter, target: &ExpectedTarget, slot: i64) -> Vec<(Labels, f64, i64)> {
    let text = request(exporter.address(), "GET", "/metrics", &[], b"").await.unwrap().text();
    let values =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().1);
    let exposed = f64::from(target.scraped);
    let reported = [1.0, 0.002, exposed, exposed, 0.0];
    let values = values.map(|value| value.parse().unwrap()).chain(reported);
    target.series.iter().zip(values).map(|(series, value)| (series.labels.clone(), value, slot)).collect()
}

#[tokio::test]
async fn what_exporters_show_passes_the_audit_and_what_they_do_not_show_fails_it() {
    let fleet = Fleet::start(FleetOptions { targets: 4, ..FleetOptions::default() }).await.unwrap();
    let receiver = receiver().await;
    let config = job("fleet", Duration::from_secs(1));
    let external = Labels::from_pairs([("cluster", "demo")]);
    let start = now_ms() - 1_000;
    receiver.audit().window(start, i64::MAX);
    assert_eq!(fleet.expect(&mut receiver.audit(), &config, &external).unwrap(), 4);

    for exporter in fleet.exporters() {
        let target = exporter.expected(&config, &external).unwrap().unwrap();
        let slot = target.slots().next_after(start);
        let samples = scrape(exporter, &target, slot).await;
        assert_eq!(samples.len(), exporter.series().len() + 5);
        assert_eq!(send(&receiver, &samples).await.unwrap().status, 204);
    }
    // Only the first slot of each has been scraped.
    receiver.audit().window(start, start + 1_000);
    let report = receiver.audit().report(i64::MAX);
    assert!(report.counts.is_clean(), "{report}");
    let series: usize = fleet.exporters().iter().map(|exporter| exporter.series().len() + 5).sum();
    assert_eq!((report.targets, report.slots), (4, series as u64));

    // The values of two counters of the first exporter change places, as if labels had been mixed up.
    let exporter = &fleet.exporters()[0];
    let target = exporter.expected(&config, &external).unwrap().unwrap();
    let mut samples = scrape(exporter, &target, target.slots().next_after(start) + 1_000).await;
    let value = samples[0].1;
    samples[0].1 = samples[2].1;
    samples[2].1 = value;
    send(&receiver, &samples).await.unwrap();
    let report = receiver.audit().report(i64::MAX);
    assert_eq!(report.counts.unexpected_values, 2, "{report}");
}

#[tokio::test]
async fn an_expectation_can_be_given_over_http() {
    let fleet = Fleet::start(FleetOptions { targets: 2, ..FleetOptions::default() }).await.unwrap();
    let receiver = receiver().await;
    let config = job("fleet", Duration::from_secs(1));
    let expected = |exporter: &Exporter| exporter.expected(&config, &Labels::default()).unwrap().unwrap();
    let targets: Vec<ExpectedTarget> = fleet.exporters().iter().map(expected).collect();
    let json = serde_json::to_string(&targets).unwrap();
    assert_eq!(post(&receiver, "/api/v1/expect", &json).await, 204);
    assert_eq!(post(&receiver, "/api/v1/expect", &json).await, 409, "they are expected already");
    assert_eq!(post(&receiver, "/api/v1/window", r#"{"from_ms": 0, "to_ms": 5000}"#).await, 204);

    let report = async || -> Report {
        serde_json::from_slice(&get(&receiver, "/api/v1/report?as_of=5000").await.body).unwrap()
    };
    assert_eq!(report().await.counts.missing_targets, 2);

    let absence = |target: &str, absence: Absence| {
        serde_json::json!({"target": {"instance": target}, "absence": absence}).to_string()
    };
    let instance = fleet.exporters()[0].address().to_string();
    let gone = Absence::removed(-2_000, 0);
    assert_eq!(post(&receiver, "/api/v1/absence", &absence("nobody:1", gone)).await, 404);
    assert_eq!(post(&receiver, "/api/v1/absence", &absence(&instance, gone)).await, 204);
    let report = report().await;
    assert_eq!(report.counts.missing_targets, 1, "{report}");
}
