//! Certificates and keys as PEM texts, for clients and servers alike.

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates of a text, one at least.
///
/// # Errors
/// In words.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match certificates {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("no certificate in the PEM text".to_owned()),
        Err(error) => Err(format!("the certificate cannot be read: {error}")),
    }
}

/// The certificates of a text as authorities that are trusted.
///
/// # Errors
/// In words.
pub(crate) fn authorities(text: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(text)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// The first private key of a text.
///
/// # Errors
/// In words.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| format!("the private key cannot be read: {error}"))
}
