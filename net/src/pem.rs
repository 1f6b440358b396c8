//! Certificates and keys as PEM texts, for clients and servers alike.

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

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

/// The certificates of a text one by one: what is wrong with one does not touch the others.
pub(crate) fn each_certificate(text: &[u8]) -> Vec<Result<CertificateDer<'static>, String>> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let is_begin = |at: &usize| text[*at..].starts_with(BEGIN) && (*at == 0 || text[*at - 1] == b'\n');
    let begins: Vec<usize> = (0..text.len()).filter(is_begin).collect();
    let ends = begins.iter().copied().skip(1).chain([text.len()]);
    let parts = begins.iter().zip(ends).map(|(&begin, end)| &text[begin..end]);
    parts
        .map(|part| CertificateDer::from_pem_slice(part).map_err(|error| unread("certificate", &error)))
        .collect()
}

/// The first private key of a text. What it is shows in its content, whatever its label says before `PRIVATE KEY`.
///
/// # Errors
/// In words.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    const KIND: &str = "PRIVATE KEY";
    let text = String::from_utf8_lossy(text);
    let label = text.lines().find_map(|line| {
        let label = line.trim_end().strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
        label
            .strip_suffix(KIND)
            .is_some_and(|before| before.is_empty() || before.ends_with(' '))
            .then_some(label)
    });
    let label = label.ok_or("the private key cannot be read: there is none")?;
    let from = text.find(&format!("-----BEGIN {label}-----")).unwrap_or_default();
    let alike = text[from..].replace(&format!(" {label}-----"), &format!(" {KIND}-----"));
    let content = PrivatePkcs8KeyDer::from_pem_slice(alike.as_bytes());
    let content = content.map_err(|error| unread("private key", &error))?;
    let key = PrivateKeyDer::try_from(content.secret_pkcs8_der());
    key.map(|key| key.clone_key()).map_err(|error| unread("private key", &error))
}

fn unread(what: &str, reason: &dyn std::fmt::Display) -> String {
    format!("the {what} cannot be read: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_of_a_key_does_not_say_what_it_is() {
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = key.serialize_pem();
        let expected = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        for kind in ["PRIVATE KEY", "FOO PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let text = format!("junk\n{}", pem.replace("PRIVATE KEY", kind)).replace('\n', "\r\n");
            assert_eq!(private_key(text.as_bytes()).unwrap(), expected, "{kind}");
        }
        let odd = pem.replace("PRIVATE KEY", "FOOPRIVATE KEY");
        assert_eq!(
            private_key(odd.as_bytes()),
            Err("the private key cannot be read: there is none".to_owned())
        );
        for end in 0..pem.trim_end().len() {
            assert!(private_key(&pem.as_bytes()[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_broken_certificate_does_not_touch_the_others() {
        let made = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap();
        let pem = made.cert.pem();
        let begun: String = pem.lines().take(3).map(|line| format!("{line}\n")).collect();
        let odd = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        for (text, expected) in [
            (format!("# text\n{pem}{pem}junk"), vec![true, true]),
            (format!("{begun}{pem}"), vec![false, true]),
            (format!("{pem}{begun}"), vec![true, false]),
            (format!("{odd}{pem}"), vec![false, true]),
            (String::new(), vec![]),
        ] {
            let found = each_certificate(text.as_bytes());
            assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), expected, "{text}");
            assert!(found.iter().flatten().all(|certificate| certificate == made.cert.der()));
        }
    }
}
