//! Who a server must be: what rustls checks, where Go's crypto/tls takes more or less.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, PeerMisbehaved, RootCertStore, SignatureScheme};

use super::authority::{authority, is_for_signing};

/// Checks the server's certificate against the configured name instead of the URL's host.
#[derive(Debug)]
pub(super) struct NamedServer {
    pub(super) inner: Arc<dyn ServerCertVerifier>,
    pub(super) name: ServerName<'static>,
}

impl ServerCertVerifier for NamedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The authorities of a file. A certificate that is one of them byte for byte is trusted as a server's, too: a self-signed one is
/// its own authority, which webpki alone takes only where it does not say that it is one.
#[derive(Debug)]
pub(super) struct Authorities {
    provider: Arc<CryptoProvider>,
    /// Those that may vouch for others, at some time.
    roots: RootCertStore,
    /// When each of them may.
    valid: Vec<RangeInclusive<i64>>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Of these the broken ones are passed over, as Go does.
    ///
    /// # Errors
    /// In words: there is no other one.
    pub(super) fn new(
        found: Vec<Result<CertificateDer<'static>, String>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let (mut roots, mut valid, mut certificates) = (RootCertStore::empty(), Vec::new(), Vec::new());
        let mut broken = None;
        for certificate in found {
            let mut one = RootCertStore::empty();
            let added = certificate.and_then(|certificate| {
                one.add(certificate.clone()).map_err(|error| error.to_string())?;
                Ok(certificate)
            });
            match added {
                Ok(certificate) => {
                    if let Some(times) = authority(&certificate) {
                        roots.roots.append(&mut one.roots);
                        valid.push(times);
                    }
                    certificates.push(certificate);
                }
                Err(reason) => broken = Some(reason),
            }
        }
        match broken {
            _ if !certificates.is_empty() => {
                if let Some(reason) = broken {
                    tracing::warn!(reason, "a certificate in ca_file cannot be read; the others count");
                }
                Ok(Self { provider, roots, valid, certificates })
            }
            Some(reason) => Err(reason),
            None => Err("no certificate in the PEM text".to_owned()),
        }
    }

    /// Those that may vouch for others now.
    fn roots_at(&self, now: UnixTime) -> Cow<'_, RootCertStore> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if self.valid.iter().all(|times| times.contains(&now)) {
            return Cow::Borrowed(&self.roots);
        }
        let known = self.roots.roots.iter().zip(&self.valid);
        let roots = known.filter(|(_, times)| times.contains(&now)).map(|(root, _)| root.clone());
        Cow::Owned(RootCertStore { roots: roots.collect() })
    }
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let signing = intermediates.iter().filter(|certificate| is_for_signing(certificate));
        let signing: Vec<_> = signing.cloned().collect();
        let algorithms = self.provider.signature_verification_algorithms.all;
        let check = |roots: &RootCertStore| {
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, &signing, now, algorithms)
        };
        let roots = self.roots_at(now);
        match check(&roots) {
            Err(error) if is_about_the_issuer(&error) && self.certificates.contains(end_entity) => {}
            Err(_) if matches!(roots, Cow::Owned(_)) && check(&self.roots).is_ok() => {
                return Err(rustls::Error::General(OUT_OF_TIME.to_owned()));
            }
            checked => checked?,
        }
        verify_server_name(&certificate, host)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

const OUT_OF_TIME: &str =
    "the authority in ca_file that signed the certificate has expired or is not yet valid";

/// Whether all that webpki has against a certificate is who signed it. It looks at the times of validity before that.
fn is_about_the_issuer(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(error) = error else { return false };
    match error {
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => true,
        CertificateError::Other(other) => {
            matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

/// `insecure_skip_verify`: nothing of the certificate is checked or read but its public key, which must have signed the handshake.
#[derive(Debug)]
pub(super) struct AcceptAny {
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // rustls's own function for this reads the whole certificate, of version 3 only.
        let spki = public_key(cert)?;
        let key = webpki::RawPublicKeyEntity::try_from(&spki).map_err(|_| CertificateError::BadEncoding)?;
        let mapping = self.provider.signature_verification_algorithms.mapping;
        let Some((_, algorithms)) = mapping.iter().find(|(scheme, _)| *scheme == dss.scheme) else {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        };
        // A scheme does not tell the curve here: one of its algorithms fits the key.
        if algorithms
            .iter()
            .any(|algorithm| key.verify_signature(*algorithm, message, dss.signature()).is_ok())
        {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &public_key(cert)?, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The SubjectPublicKeyInfo of a certificate of any version (RFC 5280, section 4.1).
pub(super) fn public_key(certificate: &[u8]) -> Result<SubjectPublicKeyInfoDer<'_>, rustls::Error> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let find = || {
        let (certificate, _) = element(certificate)?;
        let (mut fields, _) = element(certificate.content)?;
        if element(fields.content)?.0.tag == VERSION {
            fields.content = element(fields.content)?.1;
        }
        // Serial number, signature algorithm, issuer, validity, subject.
        for _ in 0..5 {
            fields.content = element(fields.content)?.1;
        }
        let (key, _) = element(fields.content)?;
        (key.tag == SEQUENCE).then_some(key.whole)
    };
    find().map(SubjectPublicKeyInfoDer::from).ok_or_else(|| CertificateError::BadEncoding.into())
}

/// One element of DER.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
}

/// The first element and what follows it.
fn element(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // As many bytes of length as the lower bits say; no certificate has more than four.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    let whole = &bytes[..bytes.len() - after.len()];
    Some((Element { tag, content, whole }, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_key_of_a_certificate_is_found_and_that_of_garbage_is_an_error() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let der = made.cert.der();
        let expected = ParsedCertificate::try_from(der).unwrap().subject_public_key_info();
        assert_eq!(public_key(der).unwrap().as_ref(), expected.as_ref());
        for end in 0..der.len() {
            assert!(public_key(&der[..end]).is_err(), "{end}");
        }
        for at in 0..der.len() {
            for byte in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut broken = der.to_vec();
                broken[at] = byte;
                let _ = public_key(&broken);
            }
        }
    }
}
