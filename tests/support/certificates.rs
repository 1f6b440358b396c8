//! Authorities, certificates and their files, made when a test runs.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// The year at whose beginning certificates expire, unless a test says otherwise.
const EXPIRES: i32 = 4000;

/// Who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Writes its certificate to `NAME.pem` and gives the path.
    pub fn write(&self, dir: &Path, name: &str) -> PathBuf {
        put(dir, &format!("{name}.pem"), &self.certificate.pem())
    }

    /// Writes a certificate for these names to `NAME.pem`, its key to `NAME.key`, and gives both paths.
    pub fn sign(&self, dir: &Path, name: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        self.sign_until(dir, name, names, EXPIRES)
    }

    /// The same with a certificate that is valid to the end of the year before `year`.
    pub fn sign_until(&self, dir: &Path, name: &str, names: &[&str], year: i32) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = put(dir, &format!("{name}.key"), &key.serialize_pem());
        (put(dir, &format!("{name}.pem"), &certificate.pem()), key)
    }
}

/// Writes a file as whoever rotates certificates does it: never half of it.
pub fn put(dir: &Path, name: &str, content: &str) -> PathBuf {
    let (new, path) = (dir.join(format!("{name}.new")), dir.join(name));
    std::fs::write(&new, content).unwrap();
    std::fs::rename(&new, &path).unwrap();
    path
}
