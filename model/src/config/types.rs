//! The validated configuration. Whatever holds one of these holds something that can be used as it is:
//! durations are durations, rules are compiled, URLs are parsed, inheritance is done.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::labels::Labels;
use crate::placement::PlacementOptions;
use crate::relabel::Rules;
use crate::target::TargetGroup;

use super::{Secret, ServerUrl, Written};

/// A whole configuration file (and the files that it includes).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `global.external_labels`, with environment variables expanded.
    pub external_labels: Labels,
    /// Jobs in the order of the file, with what `global` gives them filled in.
    pub scrape_configs: Vec<Arc<ScrapeConfig>>,
    /// Destinations in the order of the file.
    pub remote_write: Vec<Arc<RemoteWrite>>,
    /// The section `allocator:`.
    pub allocator: AllocatorSettings,
    /// The section `scraper:`.
    pub scraper: ScraperSettings,
}

/// One entry of `scrape_configs`.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeConfig {
    /// `job_name`, unique.
    pub job_name: String,
    /// How often its targets are scraped unless a label says otherwise.
    pub scrape_interval: Duration,
    /// How long a scrape may take.
    pub scrape_timeout: Duration,
    /// Exposed labels win over the target's.
    pub honor_labels: bool,
    /// Exposed timestamps are kept.
    pub honor_timestamps: bool,
    /// Series with exposed timestamps get staleness markers too.
    pub track_timestamps_staleness: bool,
    /// URL parameters.
    pub params: BTreeMap<String, Vec<String>>,
    /// The path of the URL.
    pub metrics_path: String,
    /// http or https.
    pub scheme: Scheme,
    /// What is asked for, best first.
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// How a body without a usable Content-Type is read; None: the scrape fails.
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Whether gzip is asked for.
    pub enable_compression: bool,
    /// Native histograms are asked for (protobuf) and kept.
    pub scrape_native_histograms: bool,
    /// Classic buckets are kept beside a native histogram.
    pub always_scrape_classic_histograms: bool,
    /// Classic histograms become native ones with custom buckets.
    pub convert_classic_histograms_to_nhcb: bool,
    /// `scrape_timeout_seconds`, `scrape_sample_limit` and `scrape_body_size_bytes` are written too.
    pub extra_scrape_metrics: bool,
    /// Which names are valid.
    pub metric_name_validation_scheme: NameValidation,
    /// How names that the receiver cannot take are asked to be escaped.
    pub metric_name_escaping_scheme: NameEscaping,
    /// What a scrape may hold.
    pub limits: ScrapeLimits,
    /// How requests to targets are made.
    pub http: HttpClientConfig,
    /// The same as it was written, for scrapers that are not promring's.
    pub http_written: Written,
    /// `relabel_configs`.
    pub relabel: Rules,
    /// `metric_relabel_configs`.
    pub metric_relabel: Rules,
    /// Where targets come from.
    pub discovery: Vec<Discovery>,
    /// A hash over what the scraper owns of this job; allocator and scraper compare it.
    pub scraper_hash: u64,
}

/// Limits of a job. None: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeLimits {
    /// Bytes of an uncompressed body. None: the scraper's own limit; an explicit 0 becomes `u64::MAX`.
    pub body_size: Option<u64>,
    /// Samples of a scrape after metric relabelling.
    pub samples: Option<u64>,
    /// Targets of the job, over the whole fleet.
    pub targets: Option<u64>,
    /// Labels of a series.
    pub labels: Option<u64>,
    /// Bytes of a label's name.
    pub label_name_length: Option<u64>,
    /// Bytes of a label's value.
    pub label_value_length: Option<u64>,
    /// Dropped targets that are kept to look at.
    pub keep_dropped_targets: Option<u64>,
    /// Buckets of a native histogram.
    pub native_histogram_buckets: Option<u64>,
    /// Smallest growth factor of a native histogram's buckets, in millionths (kept integral so that it compares).
    pub native_histogram_min_bucket_factor_micro: Option<u64>,
}

/// `scheme` of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scheme {
    /// Plain HTTP.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScrapeProtocol {
    /// Protobuf, length-delimited.
    PrometheusProto,
    /// `text/plain; version=0.0.4`.
    PrometheusText0_0_4,
    /// `text/plain; version=1.0.0`.
    PrometheusText1_0_0,
    /// `application/openmetrics-text; version=0.0.1`.
    OpenMetricsText0_0_1,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetricsText1_0_0,
}

impl ScrapeProtocol {
    /// Every protocol.
    pub const ALL: [Self; 5] = [
        Self::PrometheusProto,
        Self::PrometheusText0_0_4,
        Self::PrometheusText1_0_0,
        Self::OpenMetricsText0_0_1,
        Self::OpenMetricsText1_0_0,
    ];

    /// What is asked for where nothing is said. Only protobuf carries native histograms.
    #[must_use]
    pub fn defaults(native_histograms: bool) -> Vec<Self> {
        let text = [
            Self::OpenMetricsText1_0_0,
            Self::OpenMetricsText0_0_1,
            Self::PrometheusText1_0_0,
            Self::PrometheusText0_0_4,
        ];
        native_histograms.then_some(Self::PrometheusProto).into_iter().chain(text).collect()
    }

    /// As it stands in a file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PrometheusProto => "PrometheusProto",
            Self::PrometheusText0_0_4 => "PrometheusText0.0.4",
            Self::PrometheusText1_0_0 => "PrometheusText1.0.0",
            Self::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            Self::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
        }
    }
}

/// `metric_name_validation_scheme`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum NameValidation {
    /// Any UTF-8.
    #[default]
    Utf8,
    /// `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    Legacy,
}

/// `metric_name_escaping_scheme`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NameEscaping {
    /// Names come as they are.
    #[default]
    AllowUtf8,
    /// Other characters become `_`.
    Underscores,
    /// Dots become `_dot_`, and so on.
    Dots,
    /// A reversible encoding.
    Values,
}

/// One source of targets of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Discovery {
    /// Targets that stand in the file.
    Static(Vec<TargetGroup>),
    /// Files of target groups.
    File(FileDiscovery),
    /// A URL that lists target groups.
    Http(Box<HttpDiscovery>),
    /// DNS records.
    Dns(DnsDiscovery),
    /// A Kubernetes API server.
    Kubernetes(Box<KubernetesDiscovery>),
}

/// `file_sd_configs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDiscovery {
    /// Paths, with `*` in the last element only; relative ones are already joined to the file's directory.
    pub files: Vec<PathBuf>,
    /// How often they are read again even if nothing seems to have changed.
    pub refresh_interval: Duration,
}

/// `http_sd_configs`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpDiscovery {
    /// Answers with a JSON array of target groups.
    pub url: ServerUrl,
    /// How often it is asked.
    pub refresh_interval: Duration,
    /// How it is asked.
    pub http: HttpClientConfig,
}

/// `dns_sd_configs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsDiscovery {
    /// Names to look up.
    pub names: Vec<String>,
    /// Which records.
    pub record: DnsRecord,
    /// The port of A, AAAA, NS and MX targets.
    pub port: Option<u16>,
    /// How often they are looked up.
    pub refresh_interval: Duration,
}

/// A type of DNS record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsRecord {
    /// Host and port.
    Srv,
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
    /// Mail exchangers.
    Mx,
    /// Name servers.
    Ns,
}

/// `kubernetes_sd_configs`.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesDiscovery {
    /// What is discovered.
    pub role: KubernetesRole,
    /// Where the API server is.
    pub access: KubernetesAccess,
    /// Namespaces; empty: all.
    pub namespaces: Vec<String>,
    /// The namespace that we run in, too.
    pub own_namespace: bool,
    /// Label and field selectors, one a role at most.
    pub selectors: Vec<KubernetesSelector>,
    /// Metadata of other objects to attach.
    pub attach: KubernetesAttach,
}

/// `role` of kubernetes_sd_configs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KubernetesRole {
    /// One target a container port.
    Pod,
    /// One target a service port.
    Service,
    /// One target an endpoint address and port.
    Endpoints,
    /// The same from slices.
    EndpointSlice,
    /// One target a node.
    Node,
    /// One target an ingress path.
    Ingress,
}

impl KubernetesRole {
    /// Every role.
    pub const ALL: [Self; 6] =
        [Self::Pod, Self::Service, Self::Endpoints, Self::EndpointSlice, Self::Node, Self::Ingress];

    /// As it stands in a file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Endpoints => "endpoints",
            Self::EndpointSlice => "endpointslice",
            Self::Node => "node",
            Self::Ingress => "ingress",
        }
    }
}

/// How the API server is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum KubernetesAccess {
    /// By the pod's own ServiceAccount.
    InCluster,
    /// By a kubeconfig file.
    Kubeconfig(PathBuf),
    /// By address, with client settings.
    Server {
        /// The API server.
        url: ServerUrl,
        /// How it is asked.
        http: Box<HttpClientConfig>,
    },
}

/// A selector of one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesSelector {
    /// Which objects it narrows.
    pub role: KubernetesRole,
    /// A label selector, or empty.
    pub label: String,
    /// A field selector, or empty.
    pub field: String,
}

/// `attach_metadata`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KubernetesAttach {
    /// The node's labels and annotations.
    pub node: bool,
    /// The namespace's labels and annotations.
    pub namespace: bool,
    /// The name of the pod's Deployment.
    pub deployment: bool,
    /// The name of the pod's Job.
    pub job: bool,
    /// The name of the pod's CronJob.
    pub cronjob: bool,
}

/// A text that stands in the file or in a file of its own that is re-read when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration itself.
    Inline(Secret),
    /// In this file.
    File(PathBuf),
}

/// The HTTP client block, which jobs, destinations and discoveries share.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HttpClientConfig {
    /// At most one way to say who we are.
    pub auth: Option<Auth>,
    /// TLS towards the server.
    pub tls: TlsConfig,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether HTTP/2 may be negotiated.
    pub enable_http2: bool,
    /// By which proxy.
    pub proxy: ProxyConfig,
    /// Further headers: name, and its values.
    pub http_headers: BTreeMap<String, Vec<SecretSource>>,
}

/// Who we say that we are.
#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    /// HTTP basic authentication.
    Basic {
        /// Name, inline or in a file.
        username: Option<SecretSource>,
        /// Password, inline or in a file.
        password: Option<SecretSource>,
    },
    /// An `Authorization` header of this type with these credentials.
    Authorization {
        /// `Bearer` unless given.
        scheme: String,
        /// What follows it.
        credentials: Option<SecretSource>,
    },
    /// A token by the client credentials grant.
    OAuth2(Box<OAuth2>),
}

/// `oauth2`.
#[derive(Clone, Debug, PartialEq)]
pub struct OAuth2 {
    /// Public name of the client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Option<SecretSource>,
    /// Scopes to ask for.
    pub scopes: Vec<String>,
    /// Where tokens come from.
    pub token_url: ServerUrl,
    /// Further form fields of the token request.
    pub endpoint_params: BTreeMap<String, String>,
    /// TLS towards the token server.
    pub tls: TlsConfig,
    /// Proxy towards the token server.
    pub proxy: ProxyConfig,
}

/// `tls_config`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TlsConfig {
    /// Authorities that we trust, as PEM; None: the system's.
    pub ca: Option<SecretSource>,
    /// Our certificate, as PEM.
    pub cert: Option<SecretSource>,
    /// Its key, as PEM.
    pub key: Option<SecretSource>,
    /// The name that the server's certificate must have, if not the URL's host.
    pub server_name: Option<String>,
    /// The server's certificate is not checked.
    pub insecure_skip_verify: bool,
    /// Lowest version that we accept.
    pub min_version: Option<TlsVersion>,
    /// Highest version that we accept.
    pub max_version: Option<TlsVersion>,
}

/// A version of TLS. Older ones can be named in the file: as the lowest version with a warning, as the
/// highest they are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

/// Proxy settings.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ProxyConfig {
    /// `proxy_url`.
    pub url: Option<ServerUrl>,
    /// `no_proxy`: hosts, domains and networks, comma-separated.
    pub no_proxy: String,
    /// The environment's HTTP_PROXY, HTTPS_PROXY and NO_PROXY count.
    pub from_environment: bool,
    /// Headers of a CONNECT request.
    pub connect_headers: BTreeMap<String, Vec<Secret>>,
}

/// One entry of `remote_write`.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteWrite {
    /// Names the destination in metrics and on disk: `name`, or what its URL and settings hash to.
    pub name: String,
    /// Where requests go.
    pub url: ServerUrl,
    /// How long one may take.
    pub remote_timeout: Duration,
    /// Further headers of every request.
    pub headers: BTreeMap<String, String>,
    /// Rules over each series, external labels included.
    pub write_relabel: Rules,
    /// Exemplars are sent.
    pub send_exemplars: bool,
    /// Native histograms are sent.
    pub send_native_histograms: bool,
    /// Which message is sent.
    pub protobuf_message: ProtobufMessage,
    /// How samples are gathered and sent.
    pub queue: QueueConfig,
    /// How metadata are sent.
    pub metadata: MetadataConfig,
    /// How requests are made.
    pub http: HttpClientConfig,
}

/// `protobuf_message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ProtobufMessage {
    /// `prometheus.WriteRequest`: remote write 1.0.
    #[default]
    V1,
    /// `io.prometheus.write.v2.Request`: remote write 2.0.
    V2,
}

/// `queue_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Accepted and unused: the queue lies on disk, its bounds are `scraper.queue`.
    pub capacity: usize,
    /// Most lanes.
    pub max_shards: usize,
    /// Fewest lanes.
    pub min_shards: usize,
    /// Most samples of a request.
    pub max_samples_per_send: usize,
    /// How long a sample may wait for its request to fill; at most a second here.
    pub batch_send_deadline: Duration,
    /// First pause after a failed request.
    pub min_backoff: Duration,
    /// Longest pause.
    pub max_backoff: Duration,
    /// Whether 429 is tried again; unset means yes (a listed divergence).
    pub retry_on_http_429: bool,
    /// Samples older than this are dropped instead of sent; zero: none.
    pub sample_age_limit: Duration,
}

/// `metadata_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataConfig {
    /// Whether metadata are sent at all.
    pub send: bool,
    /// How often (1.0 only; 2.0 carries them with the series).
    pub send_interval: Duration,
    /// Most metadata of a request.
    pub max_samples_per_send: usize,
}

/// The section `allocator:`.
#[derive(Clone, Debug, PartialEq)]
pub struct AllocatorSettings {
    /// A scraper that has not reported for this long counts as lost.
    pub lapse: Duration,
    /// After a start, how long the first scraper to report waits for others before targets are assigned.
    pub settle: Duration,
    /// Who the scrapers are.
    pub members: Members,
    /// How many scrapers are wanted: those with a higher ordinal in their name are leaving. Unset: nobody is.
    pub replicas: Option<u32>,
    /// Which program the scrapers are.
    pub clients: Clients,
    /// By what targets are spread.
    pub strategy: Strategy,
    /// Samples a second that one scraper is meant to carry. None: nobody is told how many scrapers the load wants.
    pub scraper_capacity: Option<u64>,
    /// Drop-in clients are told the secrets of jobs, over mutual TLS only.
    pub serve_secrets: bool,
    /// Keys that may change owner in a minute because of their weight alone; 0: none ever.
    pub rebalance_moves_per_minute: u32,
    /// They do so only off a scraper that carries more than this many times the mean; 1.05 to 100.
    pub rebalance_band: f64,
    /// How far ahead the time is at which a target changes its scraper.
    pub handover_lead: Duration,
    /// So long after that time a hand-over is looked on as history: more than clocks may differ.
    pub handover_settle: Duration,
    /// A scraper that has not got ready for what it is to take over after this long is not waited for any longer.
    pub handover_prepare_max: Duration,
}

impl Default for AllocatorSettings {
    fn default() -> Self {
        Self {
            lapse: Duration::from_secs(15),
            settle: Duration::from_secs(8),
            members: Members::default(),
            replicas: None,
            clients: Clients::default(),
            strategy: Strategy::default(),
            scraper_capacity: None,
            serve_secrets: false,
            rebalance_moves_per_minute: 600,
            rebalance_band: PlacementOptions::default().band,
            handover_lead: Duration::from_secs(5),
            handover_settle: Duration::from_secs(10),
            handover_prepare_max: Duration::from_secs(30),
        }
    }
}

/// `allocator.clients`: which program the scrapers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clients {
    /// promring's own scrapers: they report, and targets change owner by hand-over.
    #[default]
    Promring,
    /// OpenTelemetry Collectors, Prometheus, vmagent: they fetch lists and report nothing, so that targets change owner
    /// at once.
    DropIn,
}

/// `allocator.strategy`: by what targets are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// By load, over all scrapers.
    #[default]
    ConsistentHashing,
    /// To the scrapers on the target's own node; over all scrapers where there is none.
    PerNode,
}

/// `allocator.members`: who the scrapers are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Members {
    /// Those that report.
    #[default]
    Reporting,
    /// The ordinals of a StatefulSet.
    StatefulSet(StatefulSetMembers),
    /// The pods that a label selector matches.
    Selector(SelectorMembers),
    /// Those of these names (`allocator.scrapers`).
    Static(Vec<String>),
}

/// The pods that the scrapers are, and the way to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorMembers {
    /// Their namespace; None: the pod's own.
    pub namespace: Option<String>,
    /// A label selector.
    pub selector: String,
    /// A kubeconfig file; None: the pod's own ServiceAccount.
    pub kubeconfig_file: Option<PathBuf>,
}

/// The StatefulSet that the scrapers are, and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatefulSetMembers {
    /// Its namespace; None: the pod's own.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// A kubeconfig file; None: the pod's own ServiceAccount.
    pub kubeconfig_file: Option<PathBuf>,
}

/// The section `scraper:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScraperSettings {
    /// How often a scraper reports to the allocator.
    pub heartbeat: Duration,
    /// On a stop, how long the queue is sent before the rest is left on disk.
    pub flush_timeout: Duration,
    /// On a stop for good, how long a destination may take nothing before what it has not got is left on disk; and how long a
    /// hand-over may hold back the new owner's samples while the old owner's stand still.
    pub fence_max: Duration,
    /// What becomes of the queue of a destination that is no longer configured.
    pub removed_destinations: RemovedDestinations,
    /// Bytes of an uncompressed body where neither job nor global section sets a limit.
    pub body_size_limit: u64,
    /// Bytes that series and scrapes in flight may take. None: what the system allows; an explicit 0 becomes `u64::MAX`.
    pub memory_limit: Option<u64>,
    /// The queue on disk.
    pub queue: QueueSettings,
}

impl Default for ScraperSettings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(2),
            flush_timeout: Duration::from_secs(5),
            fence_max: Duration::from_secs(5 * 60),
            removed_destinations: RemovedDestinations::Drain,
            body_size_limit: 64 << 20,
            memory_limit: None,
            queue: QueueSettings::default(),
        }
    }
}

/// `scraper.removed_destinations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovedDestinations {
    /// What is queued is still sent, as long as the process runs.
    Drain,
    /// It stays on disk until a destination of that name is configured again.
    Park,
}

/// `scraper.queue`: bounds of the queue on disk, for each destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Most bytes.
    pub max_bytes: u64,
    /// Longest stay.
    pub max_age: Duration,
    /// What happens at these bounds.
    pub when_full: WhenFull,
    /// When the operating system is told to write to the disk.
    pub fsync: FsyncPolicy,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            max_bytes: 10 << 30,
            max_age: Duration::from_secs(24 * 3600),
            when_full: WhenFull::DropOldest,
            fsync: FsyncPolicy::Interval(Duration::from_secs(1)),
        }
    }
}

/// `scraper.queue.when_full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest samples are dropped and counted.
    DropOldest,
    /// Nothing is dropped: slots are skipped and counted until there is room. For a single destination only, as a
    /// dead one would otherwise keep samples from the others.
    BackPressure,
}

/// When queue files are fsynced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// After every record.
    Always,
    /// At most this long after a record.
    Interval(Duration),
    /// Never: the operating system decides.
    Never,
}
