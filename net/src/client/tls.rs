//! `tls_config`: authorities, our certificate, versions, and which name the server must have.

use std::path::PathBuf;
use std::sync::Arc;

use promring_model::config::{SecretSource, TlsConfig, TlsVersion};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

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
        .with_custom_certificate_verifier(verifier(config, provider)?);
    Ok(match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => {
            let chain = pem::certificates(read_secret(cert)?.as_bytes()).map_err(ClientError::Tls)?;
            let key = pem::private_key(read_secret(key)?.as_bytes()).map_err(ClientError::Tls)?;
            builder.with_client_auth_cert(chain, key).map_err(tls_error)?
        }
        _ => builder.with_no_client_auth(),
    })
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
            let roots = pem::authorities(read_secret(ca)?.as_bytes()).map_err(tls_error)?;
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| tls_error(error.to_string()))?
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

/// Checks the server's certificate against the configured name instead of the URL's host.
#[derive(Debug)]
struct NamedServer {
    inner: Arc<dyn ServerCertVerifier>,
    name: ServerName<'static>,
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

/// `insecure_skip_verify`: the certificate is not checked, the handshake's signatures are.
#[derive(Debug)]
struct AcceptAny {
    provider: Arc<CryptoProvider>,
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
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
