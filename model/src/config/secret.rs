//! Texts that are never printed, and URLs whose password is not.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use url::Url;

/// A password or token. `Debug` and `Display` write `<secret>`; only [`Secret::expose`] gives the text.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// A URL of a server. `Debug` and `Display` write `xxxxx` for a password, as Prometheus does; who connects gets the
/// whole URL by dereferencing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl(Url);

impl From<Url> for ServerUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl FromStr for ServerUrl {
    type Err = url::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Deref for ServerUrl {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.0
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.password().is_none() {
            return f.write_str(self.0.as_str());
        }
        let mut shown = self.0.clone();
        // Fails for URLs without a host only, which have no password.
        let _no_host = shown.set_password(Some("xxxxx"));
        f.write_str(shown.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_secret_nor_the_password_in_a_url_is_printed() {
        let secret = Secret::new("s3cret".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "<secret> <secret>");
        let url = ServerUrl::from(Url::parse("http://me:s3cret@host:1/path?q").unwrap());
        assert_eq!(format!("{url}"), "http://me:xxxxx@host:1/path?q");
        assert_eq!(format!("{url:?}"), "http://me:xxxxx@host:1/path?q");
        assert_eq!(url.as_str(), "http://me:s3cret@host:1/path?q");
        let url = ServerUrl::from(Url::parse("http://host/path").unwrap());
        assert_eq!(url.to_string(), "http://host/path");
    }
}
