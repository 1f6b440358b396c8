//! The `Authorization` header: basic, bearer and other types, OAuth2.

use std::time::Instant;

use percent_encoding::percent_decode_str;
use promring_model::config::{Auth, SecretSource};
use reqwest::header::HeaderValue;
use url::Url;

use super::oauth2::TokenSource;
use super::{ClientError, header_value, read_secret};

/// Makes the header of every request.
#[derive(Debug)]
pub(super) enum Authenticator {
    None,
    Basic { username: Option<SecretSource>, password: Option<SecretSource> },
    Authorization { scheme: String, credentials: Option<SecretSource> },
    OAuth2(TokenSource),
}

impl Authenticator {
    pub(super) fn new(auth: Option<&Auth>) -> Result<Self, ClientError> {
        Ok(match auth {
            None => Self::None,
            Some(Auth::Basic { username, password }) => {
                Self::Basic { username: username.clone(), password: password.clone() }
            }
            Some(Auth::Authorization { scheme, credentials }) => {
                Self::Authorization { scheme: scheme.clone(), credentials: credentials.clone() }
            }
            Some(Auth::OAuth2(config)) => Self::OAuth2(TokenSource::new(config)?),
        })
    }

    /// The header's value, marked as sensitive so that no log prints it.
    pub(super) async fn authorization(&self) -> Result<Option<HeaderValue>, ClientError> {
        let text = match self {
            Self::None => return Ok(None),
            Self::Basic { username, password } => {
                let read =
                    |source: &Option<SecretSource>| source.as_ref().map_or(Ok(String::new()), read_secret);
                format!("Basic {}", base64(format!("{}:{}", read(username)?, read(password)?).as_bytes()))
            }
            Self::Authorization { scheme, credentials } => {
                let credentials = credentials.as_ref().map_or(Ok(String::new()), read_secret)?;
                format!("{scheme} {credentials}")
            }
            Self::OAuth2(tokens) => tokens.authorization().await?,
        };
        let mut value =
            header_value(&text).map_err(|_| ClientError::Header { name: "Authorization".to_owned() })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// When the header that was made last must be made anew, where no file changes before.
    pub(super) fn expires(&self) -> Option<Instant> {
        match self {
            Self::None | Self::Basic { .. } | Self::Authorization { .. } => None,
            Self::OAuth2(tokens) => tokens.expires(),
        }
    }
}

/// The value of `Authorization` by which `url` names a user, if it does.
#[must_use]
pub fn user_of(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    let mut value = HeaderValue::from_str(&format!("Basic {}", base64(&pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            if digit <= chunk.len() {
                text.push(ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use promring_model::config::Secret;

    use super::*;

    #[test]
    fn base64_gives_the_test_vectors_of_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_user_in_a_url_is_told_without_its_escapes() {
        let told = |url: &str| user_of(&url.parse().unwrap()).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(told("http://host/"), None);
        assert_eq!(told("http://u@host/"), Some(format!("Basic {}", base64(b"u:"))));
        assert_eq!(told("http://:p@host/"), Some(format!("Basic {}", base64(b":p"))));
        assert_eq!(told("http://u%3a:%c3%A9+@host/"), Some(format!("Basic {}", base64("u::é+".as_bytes()))));
    }

    #[tokio::test]
    async fn a_password_file_that_changed_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "one\n").unwrap();
        let auth = Auth::Basic {
            username: Some(SecretSource::Inline(Secret::new("user".to_owned()))),
            password: Some(SecretSource::File(path.clone())),
        };
        let authenticator = Authenticator::new(Some(&auth)).unwrap();
        let header = async || authenticator.authorization().await.unwrap().unwrap();
        assert_eq!(header().await.to_str().unwrap(), format!("Basic {}", base64(b"user:one")));
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(header().await.to_str().unwrap(), format!("Basic {}", base64(b"user:two")));
        assert!(header().await.is_sensitive());
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let auth = Auth::Authorization {
            scheme: "Bearer".to_owned(),
            credentials: Some(SecretSource::File("/nonexistent/token".into())),
        };
        let error = Authenticator::new(Some(&auth)).unwrap().authorization().await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/token"), "{error}");
    }
}
