//! Exporters over real sockets: what they show, and how they misbehave.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use promring_model::labels::Labels;
use promring_testkit::clock::now_ms;
use promring_testkit::exporter::{Behaviour, Exporter, Exposed, Fleet, FleetError, FleetOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{self, Answer, request};

async fn fleet(targets: usize) -> Fleet {
    Fleet::start(FleetOptions { targets, ..FleetOptions::default() }).await.unwrap()
}

async fn scrape(exporter: &Exporter) -> Answer {
    request(exporter.address(), "GET", "/metrics", &[], b"").await.unwrap()
}

/// The lines with samples, each split into series and value.
fn samples(text: &str) -> Vec<(&str, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(series, value)| (series, value.parse().unwrap()))
        .collect()
}

/// Labels as the text format writes them, in no particular order.
fn line_parts(series: &str) -> BTreeSet<String> {
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels =
        labels.trim_end_matches('}').split("\",").map(|label| label.trim_end_matches('"').to_owned());
    labels.filter(|label| !label.is_empty()).chain([format!("__name__=\"{name}")]).collect()
}

fn label_parts(labels: &Labels) -> BTreeSet<String> {
    labels.iter().map(|(name, value)| format!("{name}=\"{value}")).collect()
}

#[tokio::test]
async fn an_exporter_shows_exactly_the_series_that_it_lists_with_the_values_of_the_moment() {
    let fleet = fleet(4).await;
    for exporter in fleet.exporters() {
        let before = now_ms();
        let answer = scrape(exporter).await;
        let after = now_ms();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert!(answer.whole);
        let text = answer.text();
        let shown = samples(&text);
        let listed = exporter.exposed();
        assert_eq!(shown.len(), listed.len());
        for (index, ((series, value), exposed)) in shown.iter().zip(&listed).enumerate() {
            assert_eq!(line_parts(series), label_parts(&exposed.labels));
            if exposed.monotone {
                let bounds =
                    exporter.value_at(index, before).unwrap()..=exporter.value_at(index, after).unwrap();
                assert!(bounds.contains(value), "{series}: {value} is not within {bounds:?}");
            }
        }
        assert_eq!(exporter.scrapes(), 1);
    }
    fleet.stop().await;
}

#[tokio::test]
async fn counters_go_up_from_scrape_to_scrape() {
    let fleet = fleet(1).await;
    let exporter = &fleet.exporters()[0];
    let exposed = exporter.exposed();
    let mut last = scrape(exporter).await.text();
    let mut grown = BTreeSet::new();
    while grown.len() < 20 {
        let next = scrape(exporter).await.text();
        for ((before, after), exposed) in samples(&last).into_iter().zip(samples(&next)).zip(&exposed) {
            assert!(!exposed.monotone || before.1 <= after.1, "{} went down", before.0);
            if exposed.monotone && before.1 < after.1 {
                grown.insert(before.0.to_owned());
            }
        }
        last = next;
    }
}

#[tokio::test]
async fn a_connection_serves_many_scrapes_even_pipelined() {
    let fleet = fleet(1).await;
    let exporter = &fleet.exporters()[0];
    let mut stream = TcpStream::connect(exporter.address()).await.unwrap();
    let one = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut buffer = Vec::new();
    for together in [1, 2, 3] {
        stream.write_all(&one.repeat(together)).await.unwrap();
        for _ in 0..together {
            let answer = client::read_answer(&mut stream, &mut buffer).await.unwrap();
            assert!(answer.whole && answer.status == 200);
        }
    }
    assert_eq!(exporter.scrapes(), 6);
}

#[tokio::test]
async fn a_thousand_series_are_a_thousand_lines() {
    let options = FleetOptions { targets: 4, series: Some(1_000), ..FleetOptions::default() };
    let fleet = Fleet::start(options).await.unwrap();
    for exporter in fleet.exporters() {
        let text = scrape(exporter).await.text();
        let unique: BTreeSet<&str> = samples(&text).into_iter().map(|(series, _)| series).collect();
        assert_eq!(unique.len(), 1_000);
    }
}

#[tokio::test]
async fn compressed_bodies_come_only_where_switched_on_and_asked_for() {
    let options = FleetOptions { targets: 1, gzip: true, ..FleetOptions::default() };
    let fleet = Fleet::start(options).await.unwrap();
    let exporter = &fleet.exporters()[0];
    let accept: &[(&str, &str)] = &[("Accept-Encoding", "gzip")];
    let packed = request(exporter.address(), "GET", "/metrics", accept, b"").await.unwrap();
    assert_eq!(packed.field("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(&*packed.body).read_to_string(&mut text).unwrap();
    assert_eq!(samples(&text).len(), exporter.series().len());
    assert_eq!(scrape(exporter).await.field("content-encoding"), None);

    let body = br#"{"gzip": false}"#;
    assert_eq!(request(exporter.address(), "POST", "/-/behaviour", &[], body).await.unwrap().status, 204);
    let plain = request(exporter.address(), "GET", "/metrics", accept, b"").await.unwrap();
    assert_eq!(plain.field("content-encoding"), None);
}

#[tokio::test]
async fn each_behaviour_is_what_it_says() {
    let fleet = fleet(1).await;
    let exporter = &fleet.exporters()[0];

    exporter.set(Behaviour::Status { code: 500 });
    assert_eq!(scrape(exporter).await.status, 500);

    exporter.set(Behaviour::Garbage);
    let garbage = scrape(exporter).await;
    assert!(garbage.status == 200 && std::str::from_utf8(&garbage.body).is_err());

    exporter.set(Behaviour::WrongContentType);
    assert_eq!(scrape(exporter).await.field("content-type"), Some("text/html"));

    exporter.set(Behaviour::CutOff);
    let cut = scrape(exporter).await;
    assert!(cut.status == 200 && !cut.whole && !cut.body.is_empty());

    exporter.set(Behaviour::Slow { delay_ms: 30 });
    let start = std::time::Instant::now();
    assert!(scrape(exporter).await.whole);
    assert!(start.elapsed() >= Duration::from_millis(30));

    exporter.set(Behaviour::Endless);
    let mut stream = TcpStream::connect(exporter.address()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
    let mut taken = vec![0; 4 << 20];
    stream.read_exact(&mut taken).await.unwrap();

    exporter.set(Behaviour::Healthy);
    assert_eq!(scrape(exporter).await.status, 200);
}

#[tokio::test]
async fn a_hung_exporter_takes_the_request_and_says_nothing() {
    let fleet = fleet(1).await;
    let exporter = &fleet.exporters()[0];
    exporter.set_for(Behaviour::Hung, 1);
    let mut stream = TcpStream::connect(exporter.address()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
    let silent = tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await;
    assert!(silent.is_err(), "it answered {silent:?}");
    assert_eq!(exporter.scrapes(), 1);
    assert_eq!(scrape(exporter).await.status, 200, "the next one was to be answered");
}

#[tokio::test]
async fn a_behaviour_can_be_for_so_many_scrapes_only() {
    let fleet = fleet(1).await;
    let exporter = &fleet.exporters()[0];
    let body = br#"{"set": {"behaviour": "status", "code": 503}, "requests": 2}"#;
    assert_eq!(request(exporter.address(), "POST", "/-/behaviour", &[], body).await.unwrap().status, 204);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(scrape(exporter).await.status);
    }
    assert_eq!(statuses, [503, 503, 200]);
    let status = request(exporter.address(), "GET", "/-/status", &[], b"").await.unwrap().json();
    let series = exporter.series().len();
    assert_eq!(
        status,
        serde_json::json!({"scrapes": 3, "behaviour": {"behaviour": "healthy"}, "series": series})
    );
    let listed = request(exporter.address(), "GET", "/-/series", &[], b"").await.unwrap();
    assert_eq!(serde_json::from_slice::<Vec<Exposed>>(&listed.body).unwrap(), exporter.exposed());
}

#[tokio::test]
async fn a_change_that_cannot_be_read_is_refused_with_a_reason() {
    let fleet = fleet(1).await;
    let exporter = &fleet.exporters()[0];
    for bad in ["{", r#"{"set": {"behaviour": "sleepy"}}"#, r#"{"sett": 1}"#] {
        let answer = request(exporter.address(), "POST", "/-/behaviour", &[], bad.as_bytes()).await.unwrap();
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("not a change of behaviour"), "{}", answer.text());
    }
    assert_eq!(request(exporter.address(), "GET", "/nowhere", &[], b"").await.unwrap().status, 404);
    assert_eq!(request(exporter.address(), "POST", "/metrics", &[], b"").await.unwrap().status, 405);
}

#[tokio::test]
async fn series_vanish_at_their_time_and_come_back() {
    let fleet = fleet(1).await;
    let exporter = &fleet.exporters()[0];
    let all = exporter.series().len();
    let matching = Labels::from_pairs([("__name__", "http_requests_total"), ("code", "404")]);
    let hidden = exporter.vanish(&matching, now_ms() + 3_600_000);
    assert_eq!(hidden, 3);
    assert_eq!(samples(&scrape(exporter).await.text()).len(), all, "their time has not come");
    exporter.vanish(&matching, now_ms());
    let text = scrape(exporter).await.text();
    assert_eq!(samples(&text).len(), all - hidden);
    assert!(!text.contains("code=\"404\""));
    exporter.reappear();
    assert_eq!(samples(&scrape(exporter).await.text()).len(), all);
}

#[tokio::test]
async fn a_dead_exporter_refuses_connections_until_it_is_revived() {
    let mut fleet = fleet(2).await;
    let exporter = &mut fleet.exporters_mut()[1];
    let mut open = TcpStream::connect(exporter.address()).await.unwrap();
    exporter.die().await;
    let refused = TcpStream::connect(exporter.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(open.read_u8().await.is_err(), "open connections end too");
    exporter.revive().await.unwrap();
    assert_eq!(scrape(exporter).await.status, 200);

    // At a time, and told over HTTP.
    let body = format!("{{\"die_at_ms\": {}}}", now_ms() + 20);
    assert_eq!(
        request(exporter.address(), "POST", "/-/behaviour", &[], body.as_bytes()).await.unwrap().status,
        204
    );
    while TcpStream::connect(exporter.address()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(scrape(&fleet.exporters()[0]).await.status, 200, "the others live on");
}

#[tokio::test]
async fn target_groups_name_every_exporter_once() {
    let fleet = fleet(13).await;
    let groups = fleet.targets();
    let addresses: BTreeSet<&str> = groups
        .iter()
        .flat_map(|group| &group.targets)
        .filter_map(|target| target.get("__address__"))
        .collect();
    assert_eq!(addresses.len(), 13);
    assert!(
        groups.iter().all(|group| group.labels.get("service").is_some() && group.labels.get("env").is_some())
    );
    let file: serde_json::Value = serde_json::from_str(&fleet.file_sd_json()).unwrap();
    let listed: usize =
        file.as_array().unwrap().iter().map(|group| group["targets"].as_array().unwrap().len()).sum();
    assert_eq!(listed, 13);
}

#[tokio::test]
async fn a_busy_port_gives_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base_port = taken.local_addr().unwrap().port();
    let error =
        Fleet::start(FleetOptions { targets: 1, base_port, ..FleetOptions::default() }).await.unwrap_err();
    assert!(matches!(error, FleetError::PortBusy { .. }));
    assert!(error.to_string().contains(&format!("127.0.0.1:{base_port}: the port is in use")), "{error}");
}

#[tokio::test]
async fn options_out_of_bounds_are_refused() {
    for options in [
        FleetOptions { series: Some(0), ..FleetOptions::default() },
        FleetOptions { targets: 20_001, ..FleetOptions::default() },
        FleetOptions { kinds: Vec::new(), ..FleetOptions::default() },
        FleetOptions { targets: 100, base_port: 65_500, ..FleetOptions::default() },
    ] {
        assert!(matches!(Fleet::start(options).await, Err(FleetError::Options(_))));
    }
}
