//! Which certificates may vouch for others, as Go's crypto/x509 looks at it. webpki takes those that are trusted as they are: it
//! reads name and key of them and nothing else.

use std::ops::RangeInclusive;

use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid::Oid;
use x509_parser::oid_registry::{
    OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_CERTIFICATE_POLICIES,
    OID_X509_EXT_CRL_DISTRIBUTION_POINTS, OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_INHIBIT_ANY_POLICY,
    OID_X509_EXT_KEY_USAGE, OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_POLICY_CONSTRAINTS,
    OID_X509_EXT_POLICY_MAPPINGS, OID_X509_EXT_SUBJECT_ALT_NAME,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

/// Extensions that may be critical.
const KNOWN: [Oid<'static>; 11] = [
    OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
    OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_CERTIFICATE_POLICIES,
    OID_X509_EXT_CRL_DISTRIBUTION_POINTS,
    OID_X509_EXT_EXTENDED_KEY_USAGE,
    OID_X509_EXT_INHIBIT_ANY_POLICY,
    OID_X509_EXT_KEY_USAGE,
    OID_X509_EXT_NAME_CONSTRAINTS,
    OID_X509_EXT_POLICY_CONSTRAINTS,
    OID_X509_EXT_POLICY_MAPPINGS,
    OID_X509_EXT_SUBJECT_ALT_NAME,
];

/// From when to when, in seconds since 1970, a certificate may vouch for servers. None: it is no authority for them.
pub(super) fn authority(der: &[u8]) -> Option<RangeInclusive<i64>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let is_authority = match certificate.basic_constraints().ok()? {
        Some(constraints) => constraints.value.ca,
        // Versions before had no extensions.
        None => certificate.version() != X509Version::V3,
    };
    let for_servers = match certificate.extended_key_usage().ok()? {
        Some(usage) => usage.value.any || usage.value.server_auth,
        None => true,
    };
    let is_understood = certificate
        .extensions()
        .iter()
        .all(|extension| !extension.critical || KNOWN.contains(&extension.oid));
    let validity = certificate.validity();
    (is_authority && for_servers && is_understood && signs(&certificate))
        .then(|| validity.not_before.timestamp()..=validity.not_after.timestamp())
}

/// Whether a certificate between an authority and a server's is one whose key is for signing certificates. Of one that cannot be
/// read webpki says what is wrong.
pub(super) fn is_for_signing(der: &[u8]) -> bool {
    X509Certificate::from_der(der).map_or(true, |(_, certificate)| signs(&certificate))
}

fn signs(certificate: &X509Certificate<'_>) -> bool {
    match certificate.key_usage() {
        Ok(Some(usage)) => usage.value.flags == 0 || usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    };
    use rcgen::{KeyUsagePurpose, date_time_ymd};

    use super::*;

    fn made(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn an_authority_is_one_for_as_long_as_it_is_valid() {
        let der = made(|params| {
            params.not_before = date_time_ymd(1970, 1, 2);
            params.not_after = date_time_ymd(2000, 1, 1);
        });
        assert_eq!(authority(&der), Some(86_400..=946_684_800));
        for end in 0..der.len() {
            assert_eq!(authority(&der[..end]), None, "{end}");
        }
    }

    #[test]
    fn an_authority_says_that_it_is_one_and_its_key_is_for_signing() {
        type Change = fn(&mut CertificateParams);
        let critical = |params: &mut CertificateParams| {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            extension.set_criticality(true);
            params.custom_extensions.push(extension);
        };
        let cases: [(&str, Change, bool); 9] = [
            ("as it is", |_| (), true),
            ("nothing of constraints", |params| params.is_ca = IsCa::NoCa, false),
            ("CA:FALSE", |params| params.is_ca = IsCa::ExplicitNoCa, false),
            ("keyCertSign", |params| params.key_usages.push(KeyUsagePurpose::KeyCertSign), true),
            ("another usage", |params| params.key_usages.push(KeyUsagePurpose::DigitalSignature), false),
            (
                "for clients",
                |params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth),
                false,
            ),
            (
                "for servers",
                |params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
                true,
            ),
            ("for all", |params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::Any), true),
            ("a critical extension that nobody knows", critical, false),
        ];
        for (name, change, expected) in cases {
            assert_eq!(authority(&made(change)).is_some(), expected, "{name}");
        }
    }
}
