//! Keys and certificates of a cluster, made when it starts.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::network::BRIDGE;

/// Where the files are.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// The certificate authority's certificate.
    pub(crate) ca: PathBuf,
    /// The API server's certificate.
    pub(crate) server: PathBuf,
    /// Its key.
    pub(crate) server_key: PathBuf,
    /// What service account tokens are signed with.
    pub(crate) token_key: PathBuf,
    /// What they are verified with.
    pub(crate) token_public_key: PathBuf,
}

impl Certificates {
    /// Writes them all into `dir`.
    pub(crate) fn create(dir: &Path) -> Self {
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        ca.distinguished_name.push(DnType::CommonName, "promring test cluster");
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(ca, ca_key);

        let names =
            ["kubernetes.default.svc", "kubernetes.default", "localhost", "127.0.0.1"].map(str::to_owned);
        let names = names.into_iter().chain([BRIDGE.to_string()]).collect::<Vec<_>>();
        let server_key = KeyPair::generate().unwrap();
        let mut server = CertificateParams::new(names).unwrap();
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        let server = server.signed_by(&server_key, &issuer).unwrap();
        let token_key = KeyPair::generate().unwrap();
        Self {
            ca: write("ca.crt", ca_certificate.pem()),
            server: write("server.crt", server.pem()),
            server_key: write("server.key", server_key.serialize_pem()),
            token_key: write("token.key", token_key.serialize_pem()),
            token_public_key: write("token.pub", token_key.public_key_pem()),
        }
    }
}
