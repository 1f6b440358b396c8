//! dns_sd against a name server on loopback.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, SRV};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;

use super::*;
use crate::discovery::Update;

/// What a name server has: the answer to a name, or what it says instead.
type Zone = Arc<Mutex<BTreeMap<String, (ResponseCode, Vec<RData>)>>>;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// Answers by UDP, cut to nothing where there are more than ten records, and by TCP on the same port. What it does not
/// know does not exist.
async fn serve(zone: Zone) -> u16 {
    let (udp, tcp, port) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = udp.local_addr().unwrap().port();
        // Somebody else may have this port for TCP.
        if let Ok(tcp) = TcpListener::bind(("127.0.0.1", port)).await {
            break (udp, tcp, port);
        }
    };
    let zone_of_tcp = Arc::clone(&zone);
    tokio::spawn(async move {
        let mut buffer = [0; 4_096];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            let mut answer = answer(&zone, &buffer[..length]);
            if answer.answers.len() > 10 {
                answer.answers.clear();
                answer.metadata.truncation = true;
            }
            // A forged answer goes first.
            let mut forged = answer.clone();
            forged.metadata.id ^= 1;
            udp.send_to(&forged.to_vec().unwrap(), from).await.unwrap();
            udp.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut question = vec![0; usize::from(length)];
            stream.read_exact(&mut question).await.unwrap();
            let answer = answer(&zone_of_tcp, &question).to_vec().unwrap();
            stream.write_u16(answer.len() as u16).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    port
}

fn answer(zone: &Zone, question: &[u8]) -> Message {
    let mut message = Message::from_vec(question).unwrap();
    let asked = message.queries[0].name.clone();
    let known = zone.lock().unwrap().get(&asked.to_ascii()).cloned();
    let (code, records) = known.unwrap_or((ResponseCode::NXDomain, Vec::new()));
    message.metadata.message_type = MessageType::Response;
    message.metadata.response_code = code;
    message.answers = records.into_iter().map(|data| Record::from_rdata(asked.clone(), 1, data)).collect();
    message
}

fn zone(entries: &[(&str, ResponseCode, Vec<RData>)]) -> Zone {
    let entries = entries.iter().map(|(name, code, data)| ((*name).to_owned(), (*code, data.clone())));
    Arc::new(Mutex::new(entries.collect()))
}

fn config(record: DnsRecord, names: &[&str]) -> DnsDiscovery {
    DnsDiscovery {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        record,
        port: (record != DnsRecord::Srv).then_some(9100),
        refresh_interval: Duration::from_millis(20),
    }
}

const CONF: &str = "nameserver 127.0.0.1\nsearch svc.test\n";

/// The label sets of one look-up.
async fn look_up(zone: &Zone, config: &DnsDiscovery) -> Result<Vec<String>, Vec<String>> {
    let resolver = Arc::new(Resolver::with_port(CONF, serve(Arc::clone(zone)).await));
    let (groups, failures) = refresh(config, &resolver).await;
    if failures.is_empty() {
        Ok(groups.iter().flat_map(|group| &group.targets).map(|target| format!("{target:?}")).collect())
    } else {
        Err(failures)
    }
}

#[tokio::test]
async fn every_type_of_record_gives_its_targets_and_labels() {
    use ResponseCode::NoError;
    let zone = zone(&[
        ("srv.test.", NoError, vec![RData::SRV(SRV::new(1, 2, 8080, name("host.test.")))]),
        ("a.test.", NoError, vec![RData::CNAME(CNAME(name("b.test."))), RData::A(A([10, 0, 0, 1].into()))]),
        ("aaaa.test.", NoError, vec![RData::AAAA(AAAA("fd00::1".parse().unwrap()))]),
        ("mx.test.", NoError, vec![RData::MX(MX::new(10, name("mail.test.")))]),
        ("ns.test.", NoError, vec![RData::NS(NS(name("ns1.test.")))]),
    ]);
    for (record, asked, expected) in [
        (
            DnsRecord::Srv,
            "srv.test",
            r#"{"__address__": "host.test:8080", "__meta_dns_name": "srv.test", "__meta_dns_srv_record_port": "8080", "__meta_dns_srv_record_target": "host.test."}"#,
        ),
        (DnsRecord::A, "a.test", r#"{"__address__": "10.0.0.1:9100", "__meta_dns_name": "a.test"}"#),
        (
            DnsRecord::Aaaa,
            "aaaa.test.",
            r#"{"__address__": "[fd00::1]:9100", "__meta_dns_name": "aaaa.test."}"#,
        ),
        (
            DnsRecord::Mx,
            "mx.test",
            r#"{"__address__": "mail.test:9100", "__meta_dns_mx_record_target": "mail.test.", "__meta_dns_name": "mx.test"}"#,
        ),
        (
            DnsRecord::Ns,
            "ns.test",
            r#"{"__address__": "ns1.test:9100", "__meta_dns_name": "ns.test", "__meta_dns_ns_record_target": "ns1.test."}"#,
        ),
    ] {
        assert_eq!(look_up(&zone, &config(record, &[asked])).await.unwrap(), [expected]);
    }
}

#[tokio::test]
async fn an_answer_too_long_for_udp_comes_by_tcp() {
    let addresses: Vec<RData> = (0..200).map(|n| RData::A(A([10, 0, 0, n].into()))).collect();
    let zone = zone(&[("many.test.", ResponseCode::NoError, addresses)]);
    assert_eq!(look_up(&zone, &config(DnsRecord::A, &["many.test"])).await.unwrap().len(), 200);
}

#[tokio::test]
async fn search_domains_are_tried_and_a_name_that_is_nowhere_has_no_targets() {
    let there = vec![RData::A(A([10, 0, 0, 1].into()))];
    let zone = zone(&[("short.svc.test.", ResponseCode::NoError, there)]);
    assert_eq!(look_up(&zone, &config(DnsRecord::A, &["short"])).await.unwrap().len(), 1);
    assert_eq!(look_up(&zone, &config(DnsRecord::A, &["nowhere"])).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_server_that_cannot_say_leaves_the_name_open() {
    // Neither domain is there for sure: one of them might be.
    let zone = zone(&[("short.svc.test.", ResponseCode::ServFail, Vec::new())]);
    let failures = look_up(&zone, &config(DnsRecord::A, &["short"])).await.unwrap_err();
    assert!(failures[0].contains("short") && failures[0].contains("127.0.0.1"), "{failures:?}");
}

#[tokio::test]
async fn a_name_that_fails_keeps_its_targets_and_the_others_follow() {
    let address = |n| (ResponseCode::NoError, vec![RData::A(A([10, 0, 0, n].into()))]);
    let zone = zone(&[("b.test.", ResponseCode::ServFail, Vec::new())]);
    zone.lock().unwrap().insert("a.test.".to_owned(), address(1));
    let port = serve(Arc::clone(&zone)).await;
    let (updates, mut received) = mpsc::channel(1);
    let reporter = Reporter { generation: 0, job: Arc::from("j"), source: 0, updates };
    let resolver = move || Ok(Resolver::with_port("nameserver 127.0.0.1\n", port));
    tokio::spawn(run_with(config(DnsRecord::A, &["a.test", "b.test"]), reporter, resolver));
    let mut groups: BTreeMap<String, usize> = BTreeMap::new();
    let mut step = async |zone_after: Option<(&str, (ResponseCode, Vec<RData>))>| {
        let mut failed = false;
        let complete = loop {
            let Update { found, .. } = received.recv().await.unwrap();
            match found {
                Found::Changes { upsert, complete, .. } => {
                    for group in upsert {
                        groups.insert(group.source.to_string(), group.targets.len());
                    }
                    if complete || failed {
                        break complete;
                    }
                }
                Found::Failed(_) => failed = true,
                Found::All(_) | Found::Arriving => panic!("names fail one by one"),
            }
        };
        if let Some((name, answer)) = zone_after {
            zone.lock().unwrap().insert(name.to_owned(), answer);
        }
        (complete, failed, groups.clone())
    };
    let (complete, failed, seen) = step(Some(("b.test.", address(2)))).await;
    assert!(failed && !complete, "nobody knows what b has");
    assert_eq!(seen, BTreeMap::from([("a.test".to_owned(), 1)]));
    // Once both have been answered, the list is whole.
    while !step(None).await.0 {}
    let (_, _, seen) = step(Some(("b.test.", (ResponseCode::ServFail, Vec::new())))).await;
    assert_eq!(seen, BTreeMap::from([("a.test".to_owned(), 1), ("b.test".to_owned(), 1)]));
    while !step(None).await.1 {}
    let (_, _, seen) = step(None).await;
    assert_eq!(seen["b.test"], 1, "it keeps its target");
}
