//! The HTTP client block: inlined in jobs, destinations and discoveries.

use super::{Ignored, List, Map, Text, Unused, written_section};
use crate::config::Secret;

written_section! {
    /// The HTTP client block.
    RawHttpClient as "the HTTP client settings" {
        basic_auth: Box<RawBasicAuth>,
        authorization: Box<RawAuthorization>,
        oauth2: Box<RawOAuth2>,
        bearer_token: Secret,
        bearer_token_file: Text,
        tls_config: Box<RawTls>,
        follow_redirects: bool,
        enable_http2: bool,
        http_headers: Map<RawHeader>,
    }
    inline { proxy: RawProxy, }
}

written_section! {
    /// `basic_auth`.
    RawBasicAuth as "basic_auth" {
        username: Secret,
        username_file: Text,
        username_ref: Text,
        password: Secret,
        password_file: Text,
        password_ref: Text,
    }
}

written_section! {
    /// `authorization`.
    RawAuthorization as "authorization" {
        r#type: Text,
        credentials: Secret,
        credentials_file: Text,
        credentials_ref: Text,
    }
}

written_section! {
    /// `oauth2`.
    RawOAuth2 as "oauth2" {
        client_id: Text,
        client_secret: Secret,
        client_secret_file: Text,
        client_secret_ref: Text,
        scopes: List<Text>,
        token_url: Text,
        endpoint_params: Map<Text>,
        tls_config: Box<RawTls>,
        grant_type: Text,
        // Of the JWT bearer grant, which promring does not have.
        client_certificate_key_id: Unused<Text>,
        client_certificate_key: Unused<Secret>,
        client_certificate_key_file: Unused<Text>,
        client_certificate_key_ref: Unused<Text>,
        signature_algorithm: Unused<Text>,
        iss: Unused<Text>,
        audience: Unused<Text>,
        claims: Unused<Map<Ignored>>,
    }
    inline { proxy: RawProxy, }
}

written_section! {
    /// `tls_config`.
    RawTls as "tls_config" {
        ca: Text,
        cert: Text,
        key: Secret,
        ca_file: Text,
        cert_file: Text,
        key_file: Text,
        ca_ref: Text,
        cert_ref: Text,
        key_ref: Text,
        server_name: Text,
        insecure_skip_verify: bool,
        min_version: Text,
        max_version: Text,
    }
}

written_section! {
    /// Proxy settings.
    RawProxy as "the proxy settings" {
        proxy_url: Text,
        no_proxy: Text,
        proxy_from_environment: bool,
        proxy_connect_header: Map<List<Secret>>,
    }
}

written_section! {
    /// One entry of `http_headers`.
    RawHeader as "http_headers" {
        values: List<Text>,
        secrets: List<Secret>,
        files: List<Text>,
    }
}
