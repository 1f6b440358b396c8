//! Each destination has its own way: proxy, credentials, certificates, lanes.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::*;

/// Destinations with these keys each, of one lane.
fn destinations(entries: &[(&str, &str)]) -> Vec<Arc<RemoteWrite>> {
    let mut text = "remote_write:\n".to_owned();
    for (number, (url, keys)) in entries.iter().enumerate() {
        text.push_str(&format!(
            "- name: to-{number}\n  url: {url}\n  queue_config: {{max_shards: 1, min_backoff: 1ms, max_backoff: 5ms}}\n"
        ));
        keys.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    crate::testing::config_in(&text).remote_write
}

fn open(configs: &[Arc<RemoteWrite>]) -> (Sending, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let sending = Sending::open(dir.path(), configs, &QueueSettings::default());
    sending.start();
    (sending, dir)
}

#[tokio::test]
async fn a_destination_goes_by_its_own_proxy_and_another_goes_straight() {
    let (proxy, straight) =
        (Receiver::start(|_, _| Action::Store).await, Receiver::start(|_, _| Action::Store).await);
    let proxy_url = proxy.url.trim_end_matches("/api/v1/write");
    let configs = destinations(&[
        ("http://far.away.invalid/api/v1/write", &format!("proxy_url: {proxy_url}")),
        (&straight.url, ""),
    ]);
    let (sending, _dir) = open(&configs);
    for queue in &sending.queues {
        append(queue, 0, &[("a", 1)]);
    }
    proxy.samples(1).await;
    straight.samples(1).await;
    let head = &proxy.received()[0].head;
    assert!(head.starts_with("POST http://far.away.invalid/api/v1/write HTTP/1.1\r\n"), "{head}");
    assert_eq!(straight.received().len(), 1);
}

#[tokio::test]
async fn a_redirect_that_would_lose_the_samples_is_not_followed() {
    for status in [301, 302, 303] {
        // It would answer a GET, too.
        let elsewhere = Receiver::start(|_, _| Action::Answer(200, "")).await;
        let location = elsewhere.url.clone();
        let receiver = Receiver::start(move |number, _| match number {
            0 | 1 => Action::AnswerWith(status, "Location", location.clone()),
            _ => Action::Store,
        })
        .await;
        let (sending, _dir) = sending_to(&receiver, "").await;
        sending.append(&[("a", 1)]);
        sending.drained().await;
        assert_eq!(receiver.stored()["a"], [1], "{status}");
        assert_eq!(elsewhere.received().len(), 0);
        assert_eq!(sending.metric("prometheus_remote_storage_samples_retried_total", ""), 2);
    }
}

#[tokio::test]
async fn a_redirect_that_keeps_the_request_is_followed() {
    for status in [307, 308] {
        let elsewhere = Receiver::start(|_, _| Action::Store).await;
        let location = elsewhere.url.clone();
        let receiver =
            Receiver::start(move |_, _| Action::AnswerWith(status, "Location", location.clone())).await;
        let (sending, _dir) = sending_to(&receiver, "").await;
        sending.append(&[("a", 1)]);
        sending.drained().await;
        assert_eq!(elsewhere.stored()["a"], [1], "{status}");
        assert_eq!(elsewhere.received()[0].body, receiver.received()[0].body);
    }
}

#[tokio::test]
async fn a_destination_has_its_own_oauth2_token_and_another_none() {
    let tokens = Receiver::start(|number, _| match number {
        // A token server that is away for a moment costs nothing.
        0 => Action::Answer(500, ""),
        _ => Action::Answer(200, r#"{"access_token": "of-one", "token_type": "Bearer", "expires_in": 3600}"#),
    })
    .await;
    let one = Receiver::start(|_, request| match request.header("Authorization") {
        Some("Bearer of-one") => Action::Store,
        _ => Action::Answer(401, ""),
    })
    .await;
    let other = Receiver::start(|_, _| Action::Store).await;
    let oauth2 = format!("oauth2: {{client_id: me, client_secret: secret, token_url: '{}'}}", tokens.url);
    let (sending, _dir) = open(&destinations(&[(&one.url, &oauth2), (&other.url, "")]));
    for time in 1..=3 {
        for queue in &sending.queues {
            append(queue, 0, &[("a", time)]);
        }
    }
    one.samples(3).await;
    other.samples(3).await;
    assert_eq!(tokens.received().len(), 2, "one token serves all requests");
    assert!(other.received().iter().all(|request| request.header("Authorization").is_none()));
}

#[tokio::test]
async fn a_destination_shows_its_own_certificate_where_mutual_tls_is_asked_for() {
    let receiver = Receiver::start(|_, _| Action::Store).await;
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let sign = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &issuer).unwrap(), key)
    };
    let (certificate, key) = sign("localhost");
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    // In front of the receiver, as a gateway would be.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = receiver.url.trim_start_matches("http://").trim_end_matches("/api/v1/write").to_owned();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(server));
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut front) = acceptor.accept(socket).await else { continue };
            let mut back = TcpStream::connect(&behind).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut front, &mut back).await });
        }
    });
    let files = tempfile::tempdir().unwrap();
    let put = |name: &str, text: String| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (client, client_key) = sign("client");
    let (ca, cert) = (put("ca.pem", authority.pem()), put("cert.pem", client.pem()));
    let key = put("key.pem", client_key.serialize_pem());
    let url = format!("https://localhost:{port}/api/v1/write");
    let with = format!("tls_config: {{ca_file: {ca}, cert_file: {cert}, key_file: {key}}}");
    let without = format!("tls_config: {{ca_file: {ca}}}");
    let (sending, _dir) = open(&destinations(&[(&url, &with), (&url, &without)]));
    append(&sending.queues[1], 0, &[("nobody", 1)]);
    append(&sending.queues[0], 0, &[("a", 1)]);
    receiver.samples(1).await;
    assert_eq!(receiver.stored().into_keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(sending.queues[1].stats().pending.samples, 1, "it is kept until the certificate is there");
}

#[tokio::test]
async fn lanes_send_at_once_and_each_has_one_request_under_way() {
    let receiver = Receiver::start(|_, _| Action::Hang).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = (*destination("prod", &receiver.url, ", max_samples_per_send: 1")).clone();
    config.queue.max_shards = 5;
    config.queue.min_shards = 5;
    let sending = Sending::open(dir.path(), &[Arc::new(config)], &QueueSettings::default());
    for lane in 0..5 {
        for time in 1..=4 {
            append(&sending.queues[0], lane, &[(&format!("lane_{lane}"), time)]);
        }
    }
    sending.start();
    receiver.requests(5).await;
    // A sixth one would come now.
    tokio::time::sleep(Duration::from_millis(30)).await;
    let mut first: Vec<_> = receiver.received().iter().flat_map(|request| request.samples()).collect();
    first.sort();
    assert_eq!(first, (0..5).map(|lane| (format!("lane_{lane}"), 1)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_slow_receiver_gets_larger_requests_and_fresh_samples_are_enqueued_meanwhile() {
    let receiver = Receiver::start(|number, _| {
        if number % 3 == 1 { Action::AnswerWith(429, "Retry-After", "0".to_owned()) } else { Action::Store }
    })
    .await;
    let (sending, _dir) = open(&destinations(&[(&receiver.url, "")]));
    for time in 1..=600 {
        sending.append(&[("a", time)]);
        if time % 50 == 0 {
            // Some of it is sent before the next comes.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    sending.drained().await;
    assert_eq!(receiver.stored()["a"], (1..=600).collect::<Vec<_>>());
    let requests = receiver.received().len();
    assert!(requests < 300, "{requests} requests for 600 records");
}
