//! The HTTP client block.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Builder, paths};
use crate::config::raw::{
    AsWritten, Given, Map, RawBasicAuth, RawHeader, RawHttpClient, RawOAuth2, RawProxy, RawTls, Text,
};
use crate::config::report::{Spot, without_value};
use crate::config::{
    Auth, HttpClientConfig, OAuth2, ProxyConfig, Secret, SecretSource, TlsConfig, TlsVersion, Written,
};

/// Headers that promring, HTTP itself or an authentication method sets.
const RESERVED_HEADERS: [&str; 17] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

/// A header that scrapes set, and that remote write leaves to the user.
const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// The grant of `oauth2` that promring has.
const CLIENT_CREDENTIALS: &str = "client_credentials";

/// What differs between the places that the block stands in.
#[derive(Clone, Copy, Debug)]
pub(super) struct HttpDefaults {
    enable_http2: bool,
}

impl HttpDefaults {
    /// Of jobs and discoveries.
    pub(super) const SCRAPE: Self = Self { enable_http2: true };
    /// Of `remote_write`.
    pub(super) const REMOTE_WRITE: Self = Self { enable_http2: false };
}

/// The client settings as they stand in the file. A name is no secret, even where it may stand in a file of its own.
pub(super) fn written(raw: &RawHttpClient) -> Written {
    let mut written = raw.written().unwrap_or_default();
    if let Written::Map(keys) = &mut written
        && let Some((_, Written::Map(basic))) = keys.iter_mut().find(|(key, _)| key == "basic_auth")
    {
        for (_, value) in basic.iter_mut().filter(|(key, _)| key == "username") {
            if let Written::Secret(name) = value {
                *value = Written::Text(name.expose().to_owned());
            }
        }
    }
    written
}

impl Builder<'_> {
    /// The client settings of a section that begins at `spot`.
    pub(super) fn http_client(
        &mut self,
        raw: &RawHttpClient,
        defaults: HttpDefaults,
        spot: Spot,
    ) -> HttpClientConfig {
        HttpClientConfig {
            auth: self.auth(raw, spot),
            tls: self.tls(&raw.tls_config),
            follow_redirects: self.bool(&raw.follow_redirects, true),
            enable_http2: self.bool(&raw.enable_http2, defaults.enable_http2),
            proxy: self.proxy(&raw.proxy),
            http_headers: self.http_headers(&raw.http_headers),
        }
    }

    fn auth(&mut self, raw: &RawHttpClient, section: Spot) -> Option<Auth> {
        let methods = [
            ("basic_auth", set(&raw.basic_auth)),
            ("authorization", set(&raw.authorization)),
            ("oauth2", set(&raw.oauth2)),
            ("bearer_token", filled_secret(&raw.bearer_token)),
            ("bearer_token_file", filled(&raw.bearer_token_file)),
        ];
        self.at_most_one(&methods, "authenticate in one way only");
        if let Given::Is(basic, spot) = &raw.basic_auth {
            return Some(self.basic_auth(basic, *spot));
        }
        if let Given::Is(authorization, _) = &raw.authorization {
            self.no_secret_manager(&[("credentials_ref", &authorization.credentials_ref)]);
            let credentials = self.secret(
                ("credentials", &authorization.credentials),
                ("credentials_file", &authorization.credentials_file),
            );
            let scheme = authorization.r#type.get().map_or("", |text| text.trim());
            if scheme.eq_ignore_ascii_case("basic") {
                let spot = authorization.r#type.spot().unwrap_or(section);
                self.report
                    .error(spot, "authorization cannot be of the type Basic")
                    .value(scheme)
                    .hint("use basic_auth: {username: …, password_file: …}");
            }
            let scheme = if scheme.is_empty() { "Bearer" } else { scheme }.to_owned();
            return Some(Auth::Authorization { scheme, credentials });
        }
        if let Given::Is(oauth2, spot) = &raw.oauth2 {
            return self.oauth2(oauth2, *spot).map(|oauth2| Auth::OAuth2(Box::new(oauth2)));
        }
        let credentials = self.source(&raw.bearer_token, &raw.bearer_token_file)?;
        Some(Auth::Authorization { scheme: "Bearer".to_owned(), credentials: Some(credentials) })
    }

    fn basic_auth(&mut self, raw: &RawBasicAuth, spot: Spot) -> Auth {
        self.no_secret_manager(&[("username_ref", &raw.username_ref), ("password_ref", &raw.password_ref)]);
        let username = self.secret(("username", &raw.username), ("username_file", &raw.username_file));
        let password = self.secret(("password", &raw.password), ("password_file", &raw.password_file));
        if username.is_none() && filled(&raw.username_ref).is_none() {
            self.report.warning(spot, "basic_auth without a username");
        }
        Auth::Basic { username, password }
    }

    fn oauth2(&mut self, raw: &RawOAuth2, spot: Spot) -> Option<OAuth2> {
        self.no_secret_manager(&[("client_secret_ref", &raw.client_secret_ref)]);
        if let Given::Is(grant, spot) = &raw.grant_type
            && !grant.is_empty()
            && **grant != *CLIENT_CREDENTIALS
        {
            self.report
                .error(*spot, "promring has the grant client_credentials only")
                .value(grant)
                .hint("remove grant_type, or put a proxy that authenticates in front of the target");
            return None;
        }
        let unused = [
            raw.client_certificate_key_id.spot(),
            raw.client_certificate_key.spot(),
            raw.client_certificate_key_file.spot(),
            raw.client_certificate_key_ref.spot(),
            raw.signature_algorithm.spot(),
            raw.iss.spot(),
            raw.audience.spot(),
            raw.claims.spot(),
        ];
        for spot in unused.into_iter().flatten() {
            self.report.warning(spot, "without effect for the grant client_credentials");
        }
        let client_id = self.required(&raw.client_id, spot, "client_id", "oauth2");
        let token_url = self.required(&raw.token_url, spot, "token_url", "oauth2");
        let client_secret = self
            .secret(("client_secret", &raw.client_secret), ("client_secret_file", &raw.client_secret_file));
        let token_spot = raw.token_url.spot().unwrap_or(spot);
        let token_url = token_url.and_then(|text| self.http_url(&text, token_spot));
        let scopes = self.texts(&raw.scopes);
        let endpoint_params = self.text_map(&raw.endpoint_params);
        let (tls, proxy) = (self.tls(&raw.tls_config), self.proxy(&raw.proxy));
        Some(OAuth2 {
            client_id: client_id?,
            client_secret,
            scopes,
            token_url: token_url?,
            endpoint_params,
            tls,
            proxy,
        })
    }

    pub(super) fn tls(&mut self, raw: &Given<Box<RawTls>>) -> TlsConfig {
        let Given::Is(raw, spot) = raw else { return TlsConfig::default() };
        self.no_secret_manager(&[
            ("ca_ref", &raw.ca_ref),
            ("cert_ref", &raw.cert_ref),
            ("key_ref", &raw.key_ref),
        ]);
        let pem = |given: &Given<Text>| match given {
            Given::Is(text, spot) => Given::Is(Secret::new(text.to_string()), *spot),
            _ => Given::Absent,
        };
        let ca = self.secret(("ca", &pem(&raw.ca)), ("ca_file", &raw.ca_file));
        let cert = self.secret(("cert", &pem(&raw.cert)), ("cert_file", &raw.cert_file));
        let key = self.secret(("key", &raw.key), ("key_file", &raw.key_file));
        let half = match (&cert, &key) {
            (Some(_), None) => Some(("a client certificate without its key", "add key_file (or key)")),
            (None, Some(_)) => Some(("a client key without its certificate", "add cert_file (or cert)")),
            _ => None,
        };
        if let Some((message, hint)) = half {
            self.report.error(*spot, message).hint(hint);
        }
        let min_version = self.tls_version(&raw.min_version, true);
        let max_version = self.tls_version(&raw.max_version, false);
        if let (Some(min), Some(max)) = (min_version, max_version)
            && min > max
        {
            let written = |given: &Given<Text>| given.get().map_or(String::new(), ToString::to_string);
            self.report
                .error(raw.max_version.spot().unwrap_or(*spot), "max_version is below min_version")
                .value(&written(&raw.max_version))
                .hint(format!(
                    "min_version is {}: raise max_version, or remove it",
                    written(&raw.min_version)
                ));
        }
        TlsConfig {
            ca,
            cert,
            key,
            server_name: self.server_name(&raw.server_name),
            insecure_skip_verify: self.bool(&raw.insecure_skip_verify, false),
            min_version,
            max_version,
        }
    }

    fn server_name(&mut self, raw: &Given<Text>) -> Option<String> {
        let Given::Is(name, spot) = raw else { return None };
        if !name.is_empty() && url::Host::parse(name).is_err() && name.parse::<IpAddr>().is_err() {
            self.report
                .error(*spot, "not the name of a host")
                .value(name)
                .hint("write the name or address that the server's certificate is for");
        }
        (!name.is_empty()).then(|| name.to_string())
    }

    fn tls_version(&mut self, raw: &Given<Text>, lowest: bool) -> Option<TlsVersion> {
        let Given::Is(text, spot) = raw else { return None };
        if matches!(&**text, "TLS10" | "TLS11") {
            if lowest {
                self.report
                    .warning(*spot, "promring speaks TLS 1.2 and later only, so this acts as TLS12")
                    .value(text);
                return Some(TlsVersion::Tls12);
            }
            self.report
                .error(*spot, "promring speaks TLS 1.2 and later only")
                .value(text)
                .hint("the server must speak TLS12 or TLS13; older versions are broken");
            return None;
        }
        let choices = [("TLS12", TlsVersion::Tls12), ("TLS13", TlsVersion::Tls13)];
        self.one_of(*spot, text, &choices, "version of TLS")
    }

    fn proxy(&mut self, raw: &RawProxy) -> ProxyConfig {
        let url_spot = filled(&raw.proxy_url);
        let from_environment = self.bool(&raw.proxy_from_environment, false);
        let no_proxy = raw.no_proxy.get().map_or("", |text| &**text);
        let no_proxy_spot = raw.no_proxy.spot().unwrap_or_default();
        if let Some(spot) = url_spot.filter(|_| from_environment) {
            self.report
                .error(spot, "proxy_url and proxy_from_environment exclude each other")
                .hint("remove one of the two");
        }
        if !no_proxy.is_empty() && from_environment {
            self.report
                .error(no_proxy_spot, "no_proxy and proxy_from_environment exclude each other")
                .hint("set NO_PROXY in the environment instead");
        } else if !no_proxy.is_empty() && raw.proxy_url.get().is_none() {
            self.report
                .error(no_proxy_spot, "no_proxy without proxy_url")
                .hint("add proxy_url, or remove no_proxy");
        }
        let mut connect_headers = BTreeMap::new();
        if let Given::Is(headers, spot) = &raw.proxy_connect_header {
            if !headers.is_empty() && url_spot.is_none() && !from_environment {
                self.report
                    .error(*spot, "proxy_connect_header without a proxy")
                    .hint("add proxy_url or proxy_from_environment: true");
            }
            for pair in headers.iter() {
                let values =
                    self.items(&pair.value).iter().filter_map(|value| value.get().cloned()).collect();
                connect_headers.insert(pair.name.to_string(), values);
            }
        }
        let url = match &raw.proxy_url {
            Given::Is(text, spot) if !text.is_empty() => self.proxy_url(text, *spot),
            _ => None,
        };
        ProxyConfig { url, no_proxy: no_proxy.to_owned(), from_environment, connect_headers }
    }

    fn http_headers(&mut self, raw: &Given<Map<RawHeader>>) -> BTreeMap<String, Vec<SecretSource>> {
        let mut headers = BTreeMap::new();
        let Some(map) = raw.get() else { return headers };
        for pair in map.iter() {
            self.header_is_free(&pair.name, pair.spot);
            if pair.name.eq_ignore_ascii_case(TIMEOUT_HEADER) {
                self.report
                    .error(pair.spot, "a reserved header; it must not be changed")
                    .value(&pair.name)
                    .hint("remove it: each scrape sets it to its own timeout");
            }
            let Some(header) = pair.value.get() else { continue };
            let mut values = Vec::new();
            for value in self.texts(&header.values) {
                values.push(SecretSource::Inline(Secret::new(value)));
            }
            for secret in self.items(&header.secrets) {
                values.extend(secret.get().cloned().map(SecretSource::Inline));
            }
            for file in self.items(&header.files) {
                let Given::Is(file, spot) = file else { continue };
                let path = paths::join(&self.dir, file);
                self.file_is_here(&path, *spot);
                values.push(SecretSource::File(path));
            }
            headers.insert(pair.name.to_string(), values);
        }
        headers
    }

    /// Reports a header that must not be set by hand.
    pub(super) fn header_is_free(&mut self, name: &str, spot: Spot) {
        let lower = name.to_ascii_lowercase();
        if lower == "authorization" {
            self.report
                .error(spot, "the header Authorization is not set here")
                .value(name)
                .hint("use basic_auth, authorization or oauth2");
        } else if RESERVED_HEADERS.contains(&&*lower) {
            self.report
                .error(spot, "a reserved header; it must not be changed")
                .value(name)
                .hint("remove it: it is set by itself");
        } else if name.is_empty() || !name.bytes().all(is_token) {
            self.report.error(spot, "not a valid header name").value(&without_value(name)).hint(
                match name.split_once(':') {
                    Some((name, _)) => format!("put a blank after the colon: {}: …", without_value(name)),
                    None => {
                        "a name holds letters, digits and any of !#$%&'*+-.^_`|~, and no space".to_owned()
                    }
                },
            );
        }
    }

    /// A secret that stands in the file, or in one of its own, but not in both.
    fn secret(
        &mut self,
        inline: (&'static str, &Given<Secret>),
        file: (&'static str, &Given<Text>),
    ) -> Option<SecretSource> {
        let both = [(inline.0, filled_secret(inline.1)), (file.0, filled(file.1))];
        self.at_most_one(&both, "give it in one way only");
        self.source(inline.1, file.1)
    }

    fn source(&mut self, inline: &Given<Secret>, file: &Given<Text>) -> Option<SecretSource> {
        match (inline, file) {
            (Given::Is(secret, _), _) if !secret.expose().is_empty() => {
                Some(SecretSource::Inline(secret.clone()))
            }
            (_, Given::Is(file, spot)) if !file.is_empty() => {
                let path = paths::join(&self.dir, file);
                self.file_is_here(&path, *spot);
                Some(SecretSource::File(path))
            }
            _ => None,
        }
    }

    /// Reports every key beyond the first that is set.
    pub(super) fn at_most_one(&mut self, keys: &[(&str, Option<Spot>)], hint: &str) {
        let mut set = keys.iter().filter_map(|(name, spot)| spot.map(|spot| (*name, spot)));
        let Some((first, _)) = set.next() else { return };
        for (name, spot) in set {
            self.report
                .error(spot, format!("{name} and {first} exclude each other"))
                .hint(format!("{hint}: remove one of the two"));
        }
    }

    fn no_secret_manager(&mut self, keys: &[(&str, &Given<Text>)]) {
        for (name, given) in keys {
            if let Some(spot) = filled(given) {
                let file = name.replace("_ref", "_file");
                self.report
                    .error(spot, format!("{name} needs a secret manager, which promring does not have"))
                    .hint(format!("mount the secret and use {file}"));
            }
        }
    }

    /// A text that must be there and not empty.
    pub(super) fn required(
        &mut self,
        given: &Given<Text>,
        section: Spot,
        key: &str,
        name: &str,
    ) -> Option<String> {
        match given {
            Given::Is(text, _) if !text.is_empty() => Some(text.to_string()),
            Given::Broken(_) => None,
            other => {
                self.report
                    .error(other.spot().unwrap_or(section), format!("{name} without {key}"))
                    .hint(format!("add {key}"));
                None
            }
        }
    }

    pub(super) fn text_map(&mut self, raw: &Given<Map<Text>>) -> BTreeMap<String, String> {
        let Some(map) = raw.get() else { return BTreeMap::new() };
        map.iter()
            .map(|pair| {
                (pair.name.to_string(), pair.value.get().map(ToString::to_string).unwrap_or_default())
            })
            .collect()
    }
}

/// Where a section stands; null is none.
fn set<T>(given: &Given<T>) -> Option<Spot> {
    match given {
        Given::Is(_, spot) | Given::Broken(spot) => Some(*spot),
        Given::Absent | Given::Null(_) => None,
    }
}

/// Where a text stands that is not empty.
pub(super) fn filled(given: &Given<Text>) -> Option<Spot> {
    match given {
        Given::Is(text, spot) if !text.is_empty() => Some(*spot),
        _ => None,
    }
}

fn filled_secret(given: &Given<Secret>) -> Option<Spot> {
    match given {
        Given::Is(secret, spot) if !secret.expose().is_empty() => Some(*spot),
        _ => None,
    }
}

/// A byte of a header's name (RFC 9110, token).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
