//! `tls_config`: authorities, our certificate, versions, and which name the server must have.

use std::path::PathBuf;
use std::sync::Arc;

use promring_model::config::{SecretSource, TlsConfig, TlsVersion};
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::verify::{AcceptAny, Authorities, NamedServer, public_key};
use super::{ClientError, read_secret};
use crate::pem;

/// The files of this block, which are read again when they change.
pub(super) fn files(config: &TlsConfig) -> Vec<PathBuf> {
    [&config.ca, &config.cert, &config.key]
        .into_iter()
        .filter_map(|source| match source {
            Some(SecretSource::File(path)) => Some(path.clone()),
            Some(SecretSource::Inline(_)) | None => None,
        })
        .collect()
}

/// The settings of rustls for this block, without ALPN.
pub(super) fn client_config(config: &TlsConfig) -> Result<rustls::ClientConfig, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls_error = |error: rustls::Error| ClientError::Tls(error.to_string());
    let versions: Vec<&'static rustls::SupportedProtocolVersion> =
        [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)]
            .into_iter()
            .filter(|(version, _)| config.min_version.is_none_or(|min| *version >= min))
            .filter(|(version, _)| config.max_version.is_none_or(|max| *version <= max))
            .map(|(_, supported)| supported)
            .collect();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(tls_error)?
        .dangerous()
        .with_custom_certificate_verifier(verifier(config, Arc::clone(&provider))?);
    Ok(match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => {
            let chain = pem::certificates(read_secret(cert)?.as_bytes()).map_err(ClientError::Tls)?;
            let key = pem::private_key(read_secret(key)?.as_bytes()).map_err(ClientError::Tls)?;
            let own = own_certificate(chain, key, &provider).map_err(tls_error)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
        }
        _ => builder.with_no_client_auth(),
    })
}

/// Our certificate with its key. It may be of any version: rustls would read all of it, and takes version 3 alone.
fn own_certificate(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, rustls::Error> {
    let key = provider.key_provider.load_private_key(key)?;
    let own = chain.first().ok_or(rustls::Error::NoCertificatesPresented)?;
    if key.public_key().is_some_and(|of_key| public_key(own).map_or(true, |of_own| of_own != of_key)) {
        return Err(rustls::InconsistentKeys::KeyMismatch.into());
    }
    Ok(CertifiedKey::new(chain, key))
}

fn verifier(
    config: &TlsConfig,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, ClientError> {
    let tls_error = |error: String| ClientError::Tls(error);
    if config.insecure_skip_verify {
        return Ok(Arc::new(AcceptAny { provider }));
    }
    let inner: Arc<dyn ServerCertVerifier> = match &config.ca {
        None => Arc::new(
            rustls_platform_verifier::Verifier::new(provider)
                .map_err(|error| tls_error(error.to_string()))?,
        ),
        Some(ca) => {
            let found = pem::each_certificate(read_secret(ca)?.as_bytes());
            Arc::new(Authorities::new(found, provider).map_err(tls_error)?)
        }
    };
    match &config.server_name {
        None => Ok(inner),
        Some(name) => {
            let name = ServerName::try_from(name.clone())
                .map_err(|_| tls_error(format!("server_name {name:?} is no host name")))?;
            Ok(Arc::new(NamedServer { inner, name }))
        }
    }
}
