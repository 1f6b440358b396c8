//! Certificates that Go's crypto/tls takes and webpki alone would not.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};

use super::tls::{Authority, Files, TlsServer, builder, mutual_config, server_config};
use super::*;

/// A server that shows its certificate unread.
fn unread(
    certificate: Vec<u8>,
    key: &KeyPair,
    versions: &[&'static tokio_rustls::rustls::SupportedProtocolVersion],
) -> ServerConfig {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = ring::sign::any_supported_type(&key).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![CertificateDer::from(certificate)], key));
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown))
}

/// The content of the DER element at the front, and what follows it.
fn element(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (header, length) = match bytes[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(bytes[2])),
        _ => (4, usize::from(bytes[2]) << 8 | usize::from(bytes[3])),
    };
    (&bytes[header..header + length], &bytes[header + length..])
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[0x30, 0x82, length[0], length[1]], content].concat()
}

/// The same certificate in version 1: without its version and extensions.
fn in_version_1(der: &[u8]) -> Vec<u8> {
    let (certificate, _) = element(der);
    let (fields, signature) = element(certificate);
    let (_, fields) = element(fields);
    let mut rest = fields;
    let mut kept = Vec::new();
    while !rest.is_empty() {
        let (_, after) = element(rest);
        if rest[0] != 0xa3 {
            kept.extend_from_slice(&rest[..rest.len() - after.len()]);
        }
        rest = after;
    }
    sequence(&[&sequence(&kept), signature].concat())
}

fn pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |bytes: &[u8]| {
        let bits = bytes.iter().chain([&0, &0]).take(3).fold(0, |bits, &byte| bits << 8 | usize::from(byte));
        let digits = [18, 12, 6, 0].map(|shift| char::from(DIGITS[bits >> shift & 63]));
        let used = bytes.len() + 1;
        digits.into_iter().take(used).chain(['='; 2].into_iter().take(4 - used)).collect::<String>()
    };
    let text: String = der.chunks(3).map(group).collect();
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_trusted_under_its_name() {
    let authority = Authority::named(&["localhost"]);
    let (chain, key) = authority.identity();
    let config = || builder().with_no_client_auth().with_single_cert(chain.clone(), key.clone_key()).unwrap();
    let server = TlsServer::start(config()).await;
    let files = Files::new(&authority);
    assert_eq!(Client::new(&files.job("")).fetch(&server.url("localhost")).await, Ok("a 1\n".to_owned()));
    let error = Client::new(&files.job("")).fetch(&server.url("127.0.0.1")).await.unwrap_err();
    assert!(error.contains("not valid for name"), "{error}");
    let mut named = Client::new(&files.job(", server_name: localhost"));
    assert_eq!(named.fetch(&server.url("127.0.0.1")).await, Ok("a 1\n".to_owned()));
    // Another one of the same name and kind is not.
    let other = Files::new(&Authority::named(&["localhost"]));
    let error = Client::new(&other.job("")).fetch(&server.url("localhost")).await.unwrap_err();
    assert!(error.contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn a_servers_certificate_in_ca_file_is_trusted_without_who_signed_it() {
    let identity = Authority::new().sign("localhost");
    let (chain, key) = identity.der();
    let server = TlsServer::start(
        builder().with_no_client_auth().with_single_cert(chain.clone(), key.clone_key()).unwrap(),
    )
    .await;
    let files = Files::new(&Authority::new());
    let error = Client::new(&files.job("")).fetch(&server.url("localhost")).await.unwrap_err();
    assert!(error.contains("invalid peer certificate"), "{error}");
    files.put("ca.pem", &identity.pem());
    assert_eq!(Client::new(&files.job("")).fetch(&server.url("localhost")).await, Ok("a 1\n".to_owned()));
}

#[tokio::test]
async fn an_expired_certificate_that_is_its_own_authority_is_refused() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let server = TlsServer::start(unread(certificate.der().to_vec(), &key, &[&TLS13])).await;
    let files = Files::new(&Authority::new());
    files.put("ca.pem", &certificate.pem());
    let error = Client::new(&files.job("")).fetch(&server.url("localhost")).await.unwrap_err();
    assert!(error.contains("certificate expired"), "{error}");
}

#[tokio::test]
async fn an_authority_out_of_its_time_or_for_other_purposes_is_trusted_no_more() {
    type Change = fn(&mut CertificateParams);
    const OUT_OF_TIME: &str = "has expired or is not yet valid";
    let cases: [(Change, &str); 4] = [
        (|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1), OUT_OF_TIME),
        (|params| params.not_before = rcgen::date_time_ymd(4000, 1, 1), OUT_OF_TIME),
        (|params| params.is_ca = rcgen::IsCa::NoCa, "invalid peer certificate"),
        (
            |params| params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature],
            "invalid peer certificate",
        ),
    ];
    let good = Authority::new();
    for (change, expected) in cases {
        let authority = Authority::with(change);
        let server = TlsServer::start(server_config(&authority.sign("localhost"))).await;
        let files = Files::new(&authority);
        for pem in [authority.pem(), good.pem() + &authority.pem()] {
            files.put("ca.pem", &pem);
            let error = Client::new(&files.job("")).fetch(&server.url("localhost")).await.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        // Beside it, those that are in order are trusted.
        let server = TlsServer::start(server_config(&good.sign("localhost"))).await;
        let fetched = Client::new(&files.job("")).fetch(&server.url("localhost")).await;
        assert_eq!(fetched, Ok("a 1\n".to_owned()), "{expected}");
    }
}

#[tokio::test]
async fn a_broken_certificate_in_ca_file_is_passed_over() {
    let authority = Authority::new();
    let server = TlsServer::start(server_config(&authority.sign("localhost"))).await;
    let files = Files::new(&authority);
    files.put("ca.pem", &(pem(b"\x30\x03\x02\x01\x00") + &authority.pem()));
    assert_eq!(Client::new(&files.job("")).fetch(&server.url("localhost")).await, Ok("a 1\n".to_owned()));
}

#[tokio::test]
async fn a_certificate_of_ours_may_be_of_version_1() {
    let authority = Authority::new();
    let server = TlsServer::start(mutual_config(&authority.sign("localhost"), &authority)).await;
    let files = Files::new(&authority);
    let identity = authority.sign("promring");
    files.put_identity(&identity);
    files.put("cert.pem", &pem(&in_version_1(&identity.der().0[0])));
    // It is shown. This server is rustls's, too, and takes version 3 alone.
    let error = Client::new(&files.mutual_job()).fetch(&server.url("localhost")).await.unwrap_err();
    assert!(error.contains("received fatal alert"), "{error}");
}

#[tokio::test]
async fn without_verification_a_certificate_needs_no_version_but_the_key_that_signs() {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let old = in_version_1(made.der());
    let files = Files::new(&Authority::new());
    for version in [&TLS12, &TLS13] {
        let server = TlsServer::start(unread(old.clone(), &key, &[version])).await;
        let mut client = Client::new("tls_config: {insecure_skip_verify: true}");
        assert_eq!(client.fetch(&server.url("localhost")).await, Ok("a 1\n".to_owned()), "{version:?}");
        assert!(Client::new(&files.job("")).fetch(&server.url("localhost")).await.is_err());
        let impostor = KeyPair::generate().unwrap();
        let server = TlsServer::start(unread(old.clone(), &impostor, &[version])).await;
        let mut client = Client::new("tls_config: {insecure_skip_verify: true}");
        let error = client.fetch(&server.url("localhost")).await.unwrap_err();
        assert!(error.contains("BadSignature"), "{version:?} {error}");
    }
}
