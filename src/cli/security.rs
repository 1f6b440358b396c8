//! Flags about who may call whom: certificates, authorities, tokens; and what they become.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use clap::Args;
use clap::builder::FalseyValueParser;
use promring_allocator::callers::{Callers, ReviewedTokens, Tokens};
use promring_model::config::{Auth, HttpClientConfig, KubernetesAccess, SecretSource, TlsConfig};
use promring_net::reload::Reloader;
use promring_net::server::{Admin, Tls, TlsFiles, serve, serve_tls};
use promring_net::shutdown::Shutdown;
use promring_scraper::assignment::AllocatorAccess;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Of every server.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// Switches admin paths off: POST /-/reload. Changed files and SIGHUP still reload.
    #[arg(long, env = "PROMRING_DISABLE_ADMIN", value_parser = FalseyValueParser::new())]
    pub(crate) disable_admin: bool,
}

impl AdminArgs {
    /// What `POST /-/reload` does.
    pub(crate) fn admin(&self, reloader: Reloader) -> Admin {
        if self.disable_admin { Admin::Off } else { Admin::Reload(reloader) }
    }
}

/// Of the servers that others reach over the network.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// This server's certificate with its chain, as PEM; read again when it changes [default: plain HTTP].
    #[arg(long, env = "PROMRING_TLS_CERT_FILE", requires = "tls_key_file", value_name = "FILE")]
    tls_cert_file: Option<PathBuf>,
    /// The certificate's key, as PEM [default: plain HTTP].
    #[arg(long, env = "PROMRING_TLS_KEY_FILE", requires = "tls_cert_file", value_name = "FILE")]
    tls_key_file: Option<PathBuf>,
    /// Authorities that sign clients' certificates, as PEM: every path but those of health then wants one
    /// [default: none is asked for].
    #[arg(long, env = "PROMRING_TLS_CLIENT_CA_FILE", requires = "tls_cert_file", value_name = "FILE")]
    tls_client_ca_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

impl ServerArgs {
    /// The server's TLS; None: plain HTTP.
    pub(crate) fn tls(&self) -> Result<Option<Arc<Tls>>, String> {
        let Some((cert, key)) = self.tls_cert_file.clone().zip(self.tls_key_file.clone()) else {
            return Ok(None);
        };
        let files = TlsFiles { cert, key, client_ca: self.tls_client_ca_file.clone() };
        Tls::new(files).map(|tls| Some(Arc::new(tls))).map_err(|error| error.to_string())
    }
}

/// Serves with TLS or without, in the background.
pub(crate) fn spawn_server(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    router: Router,
    shutdown: Shutdown,
) -> JoinHandle<std::io::Result<()>> {
    match tls {
        Some(tls) => tokio::spawn(serve_tls(listener, tls, router, shutdown)),
        None => tokio::spawn(serve(listener, router, shutdown)),
    }
}

/// Of the allocator: who may act as a scraper.
#[derive(Debug, Args)]
pub(crate) struct CallersArgs {
    /// ServiceAccounts of the scrapers, whose tokens the API server checks: a caller is the pod that its token is bound to
    /// [default: no tokens are asked for].
    #[arg(long = "token-account", env = "PROMRING_TOKEN_ACCOUNT", value_delimiter = ',', value_parser = object, value_name = "NAMESPACE/NAME")]
    token_accounts: Vec<(String, String)>,
    /// The audience that these tokens have to be for.
    #[arg(long, env = "PROMRING_TOKEN_AUDIENCE", default_value = "promring", value_name = "TEXT")]
    token_audience: String,
    /// Outside Kubernetes: tokens that all scrapers share, one a line; they prove that a caller is a scraper, and not which
    /// [default: no tokens are asked for].
    #[arg(long, env = "PROMRING_TOKEN_FILE", conflicts_with = "token_accounts", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How the API server is reached that checks tokens and keeps the Lease [default: by the pod's own ServiceAccount].
    #[arg(long, env = "PROMRING_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl CallersArgs {
    /// Who may act as a scraper.
    pub(crate) fn callers(&self) -> Result<Callers, String> {
        Callers::new(match &self.token_file {
            Some(path) => Tokens::Shared(path.clone()),
            None if self.token_accounts.is_empty() => Tokens::Unasked,
            None => Tokens::Reviewed(ReviewedTokens {
                accounts: self.token_accounts.clone(),
                audience: self.token_audience.clone(),
                access: self.api_server(),
            }),
        })
    }

    /// The API server, for everything but discovery and members.
    pub(crate) fn api_server(&self) -> KubernetesAccess {
        self.kubeconfig.clone().map_or(KubernetesAccess::InCluster, KubernetesAccess::Kubeconfig)
    }
}

/// Of the scraper: how it reaches the allocator.
#[derive(Debug, Args)]
pub(crate) struct AccessArgs {
    #[command(flatten)]
    tls: AccessTlsArgs,
    /// The token to show to the allocator; read again when it changes [default: none].
    #[arg(long, env = "PROMRING_ALLOCATOR_TOKEN_FILE", value_name = "FILE")]
    allocator_token_file: Option<PathBuf>,
    /// Further names of the allocators, as a headless Service has one: asked where --allocator does not answer; and a redirect
    /// to another allocator is followed to their addresses, and to no other [default: the host of --allocator alone].
    #[arg(long, env = "PROMRING_ALLOCATOR_PEERS", value_delimiter = ',', value_name = "HOST[:PORT]")]
    allocator_peers: Vec<String>,
}

/// Of scrapers and of allocators that stand for election: how an allocator is reached with TLS.
#[derive(Debug, Args)]
pub(crate) struct AccessTlsArgs {
    /// Authorities that sign the allocator's certificate, as PEM [default: those of the system].
    #[arg(long, env = "PROMRING_ALLOCATOR_CA_FILE", value_name = "FILE")]
    allocator_ca_file: Option<PathBuf>,
    /// The certificate to show to the allocator, as PEM [default: none].
    #[arg(long, env = "PROMRING_ALLOCATOR_CERT_FILE", requires = "allocator_key_file", value_name = "FILE")]
    allocator_cert_file: Option<PathBuf>,
    /// Its key, as PEM [default: none].
    #[arg(long, env = "PROMRING_ALLOCATOR_KEY_FILE", requires = "allocator_cert_file", value_name = "FILE")]
    allocator_key_file: Option<PathBuf>,
    /// The name in the allocator's certificate [default: the host of --allocator].
    #[arg(long, env = "PROMRING_ALLOCATOR_SERVER_NAME", value_name = "NAME")]
    allocator_server_name: Option<String>,
}

impl AccessTlsArgs {
    /// The settings of a client.
    pub(crate) fn config(&self) -> TlsConfig {
        let file = |path: &Option<PathBuf>| path.clone().map(SecretSource::File);
        TlsConfig {
            ca: file(&self.allocator_ca_file),
            cert: file(&self.allocator_cert_file),
            key: file(&self.allocator_key_file),
            server_name: self.allocator_server_name.clone(),
            ..TlsConfig::default()
        }
    }
}

impl AccessArgs {
    /// The way to the allocator at `url`.
    pub(crate) fn access(&self, url: url::Url) -> AllocatorAccess {
        let token = self.allocator_token_file.clone().map(SecretSource::File);
        let auth =
            token.map(|token| Auth::Authorization { scheme: "Bearer".to_owned(), credentials: Some(token) });
        let tls = self.tls.config();
        let http = HttpClientConfig { tls, auth, ..HttpClientConfig::default() };
        AllocatorAccess { url, peers: self.allocator_peers.clone(), http }
    }
}

/// An object of Kubernetes with its namespace.
pub(super) fn object(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("write NAMESPACE/NAME".to_owned()),
    }
}
