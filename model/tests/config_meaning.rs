//! What the validated configuration holds, beyond whether a file is good or bad.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may fail")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use promring_model::config::{
    Auth, Config, ConfigSource, Discovery, Loaded, NameEscaping, NameValidation, ScrapeConfig,
    ScrapeProtocol, SecretSource, Severity, check, load,
};
use promring_model::glob;

/// Files in memory.
struct Files(BTreeMap<PathBuf, String>);

impl ConfigSource for Files {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.0.get(path).map(|text| text.clone().into_bytes()).ok_or_else(|| "no such file".to_owned())
    }

    fn glob(&self, pattern: &Path) -> Result<Vec<PathBuf>, String> {
        let matches = |path: &&PathBuf| {
            let mut pairs = pattern.iter().zip(path.iter());
            path.iter().count() == pattern.iter().count()
                && pairs
                    .all(|(pattern, name)| glob::is_match(pattern.to_str().unwrap(), name.to_str().unwrap()))
        };
        Ok(self.0.keys().filter(matches).cloned().collect())
    }

    fn env(&self, name: &str) -> Option<String> {
        (name == "CLUSTER").then(|| "north".to_owned())
    }
}

fn files(files: &[(&str, &str)]) -> Files {
    Files(files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect())
}

fn loaded(text: &str) -> Loaded {
    load(Path::new("/etc/p/prometheus.yml"), &files(&[("/etc/p/prometheus.yml", text)]))
}

fn config(text: &str) -> Config {
    let Loaded { config, diagnostics, .. } = loaded(text);
    config.unwrap_or_else(|| panic!("{diagnostics:#?}"))
}

/// The only job of a file that consists of this job and a `global` section.
fn job(global: &str, job: &str) -> ScrapeConfig {
    let text = format!("global: {{{global}}}\nscrape_configs: [{{job_name: a{job}}}]\n");
    config(&text).scrape_configs[0].as_ref().clone()
}

#[test]
fn a_job_that_says_nothing_has_the_defaults_of_prometheus() {
    let job = job("", "");
    assert_eq!(job.scrape_interval, Duration::from_secs(60));
    assert_eq!(job.scrape_timeout, Duration::from_secs(10));
    assert_eq!(job.metrics_path, "/metrics");
    assert!(!job.honor_labels && job.honor_timestamps && job.enable_compression);
    assert!(job.http.follow_redirects && job.http.enable_http2);
    assert_eq!(job.scrape_protocols[0], ScrapeProtocol::OpenMetricsText1_0_0);
    assert_eq!(job.scrape_protocols.len(), 4);
    assert_eq!(job.fallback_scrape_protocol, None);
    assert_eq!(job.limits, promring_model::config::ScrapeLimits::default());
}

#[test]
fn the_timeout_that_nobody_set_is_ten_seconds_or_the_interval() {
    assert_eq!(job("scrape_interval: 5s", "").scrape_timeout, Duration::from_secs(5));
    assert_eq!(job("", ", scrape_interval: 3s").scrape_timeout, Duration::from_secs(3));
    let global = "scrape_interval: 1m, scrape_timeout: 30s";
    assert_eq!(job(global, ", scrape_interval: 20s").scrape_timeout, Duration::from_secs(20));
}

#[test]
fn a_limit_of_zero_is_inherited() {
    let global = "sample_limit: 5, body_size_limit: 1KB";
    assert_eq!(job(global, ", sample_limit: 0").limits.samples, Some(5));
    assert_eq!(job(global, ", sample_limit: 7").limits.samples, Some(7));
    assert_eq!(job(global, "").limits.body_size, Some(1_024));
    assert_eq!(job("", ", sample_limit: 0").limits.samples, None);
}

#[test]
fn protobuf_goes_first_where_native_histograms_are_scraped() {
    let first = |global, own| job(global, own).scrape_protocols[0];
    assert_eq!(first("scrape_native_histograms: true", ""), ScrapeProtocol::PrometheusProto);
    assert_eq!(first("", ", scrape_native_histograms: true"), ScrapeProtocol::PrometheusProto);
    let off = first("scrape_native_histograms: true", ", scrape_native_histograms: false");
    assert_eq!(off, ScrapeProtocol::OpenMetricsText1_0_0);
    let named = first("scrape_native_histograms: true, scrape_protocols: [PrometheusText0.0.4]", "");
    assert_eq!(named, ScrapeProtocol::PrometheusText0_0_4);
}

#[test]
fn escaping_follows_the_validation_scheme_of_the_job_or_the_global_one() {
    let names = |global, own| {
        let job = job(global, own);
        (job.metric_name_validation_scheme, job.metric_name_escaping_scheme)
    };
    let legacy = "metric_name_validation_scheme: legacy";
    assert_eq!(names("", ""), (NameValidation::Utf8, NameEscaping::AllowUtf8));
    assert_eq!(names(legacy, ""), (NameValidation::Legacy, NameEscaping::Underscores));
    assert_eq!(names(legacy, ", metric_name_validation_scheme: utf8").1, NameEscaping::AllowUtf8);
    let dots = "metric_name_escaping_scheme: dots";
    assert_eq!(names(dots, "").1, NameEscaping::Dots);
    assert_eq!(names(dots, ", metric_name_validation_scheme: legacy").1, NameEscaping::Underscores);
}

#[test]
fn external_labels_are_expanded_and_empty_ones_left_out() {
    let labels = config("global: {external_labels: {a: '${CLUSTER}-1', b: $NONE, c: 5$$}}\n").external_labels;
    assert_eq!(labels.to_string(), r#"{a="north-1", c="5$"}"#);
}

#[test]
fn what_stands_after_a_merge_key_wins_as_in_prometheus() {
    let text = "
scrape_configs:
  - &base {job_name: a, scrape_interval: 10s, metrics_path: /x}
  - {<<: *base, job_name: b, scrape_interval: 20s}
  - {scrape_interval: 30s, <<: *base, job_name: c}
  - <<: [{metrics_path: /first}, {metrics_path: /second, scheme: https}]
    job_name: d
";
    let jobs = config(text).scrape_configs;
    assert_eq!(jobs[1].scrape_interval, Duration::from_secs(20));
    assert_eq!(jobs[2].scrape_interval, Duration::from_secs(10), "the merge key stands last");
    assert_eq!(jobs[3].metrics_path, "/first");
    assert_eq!(jobs[3].scheme.as_str(), "https");
}

#[test]
fn a_429_is_tried_again_unless_the_file_says_no() {
    let retry = |queue: &str| {
        config(&format!("remote_write: [{{url: 'http://a/w', queue_config: {queue}}}]")).remote_write[0]
            .queue
            .retry_on_http_429
    };
    assert!(retry("{}"));
    assert!(retry("{max_shards: 2}"));
    assert!(!retry("{retry_on_http_429: false}"));
}

#[test]
fn paths_begin_at_the_file_that_they_stand_in() {
    let source = files(&[
        ("/etc/p/prometheus.yml", "scrape_config_files: [jobs/*.yml]\n"),
        (
            "/etc/p/jobs/a.yml",
            "scrape_configs: [{job_name: a, file_sd_configs: [{files: [t/*.json]}], bearer_token_file: ../token}]",
        ),
    ]);
    let loaded = load(Path::new("/etc/p/prometheus.yml"), &source);
    let config = loaded.config.unwrap();
    let job = &config.scrape_configs[0];
    let [Discovery::File(file_sd)] = &job.discovery[..] else { panic!("{:?}", job.discovery) };
    assert_eq!(file_sd.files, [PathBuf::from("/etc/p/jobs/t/*.json")]);
    let Some(Auth::Authorization { credentials: Some(SecretSource::File(token)), .. }) = &job.http.auth
    else {
        panic!("{:?}", job.http.auth)
    };
    assert_eq!(token, Path::new("/etc/p/token"));
    assert_eq!(loaded.files, [Path::new("/etc/p/prometheus.yml"), Path::new("/etc/p/jobs/a.yml")]);
    assert_eq!(loaded.patterns, [Path::new("/etc/p/jobs/*.yml")]);
}

#[test]
fn the_same_file_read_again_gives_an_equal_configuration() {
    let text = "
scrape_configs: [{job_name: a, metric_relabel_configs: [{regex: a|b, action: labeldrop}]}]
remote_write: [{url: 'http://a/w', basic_auth: {username: u, password: p}}]
";
    let first = config(text);
    assert_eq!(config(text), first);
    assert_ne!(config(&text.replace("a|b", "a|c")), first);
    assert_ne!(config(&text.replace("password: p", "password: q")), first);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_still_watched() {
    let loaded = load(Path::new("none.yml"), &files(&[]));
    assert!(loaded.config.is_none());
    assert_eq!(
        loaded.diagnostics[0].to_string(),
        "none.yml: error: cannot be read: no such file\n  hint: look whether the path is right, and whether the file may be read"
    );
    assert_eq!(loaded.files, [PathBuf::from("none.yml")]);
}

#[test]
fn a_static_target_that_cannot_be_scraped_is_refused_by_check_and_not_by_load() {
    let text = "
scrape_configs:
  - job_name: a
    static_configs: [{targets: ['a:1/x']}]
    relabel_configs: [{target_label: stage, replacement: live}]
";
    let source = files(&[("p.yml", text)]);
    let loading = load(Path::new("p.yml"), &source);
    assert!(loading.config.is_some());
    assert_eq!(loading.diagnostics[0].severity, Severity::Warning);
    let checking = check(Path::new("p.yml"), &source);
    assert!(checking.config.is_none());
    assert_eq!(checking.diagnostics[0].severity, Severity::Error);
}

#[test]
fn a_configuration_comes_with_every_severity_but_error() {
    for (text, good) in [
        ("remote_write: [{url: 'http://a'}]", true),
        ("rule_files: [a]", true),
        ("remote_write: [{url: a}]", false),
    ] {
        let loaded = loaded(text);
        assert_eq!(loaded.config.is_some(), good, "{text}");
        let errors = loaded.diagnostics.iter().any(|found| found.severity == Severity::Error);
        assert_eq!(errors, !good, "{text}");
        assert!(!loaded.diagnostics.is_empty(), "{text}");
    }
}

#[test]
fn the_scrapers_hash_sees_what_the_scraper_owns_and_nothing_else() {
    let hash = |own: &str| job("", own).scraper_hash;
    let plain = hash("");
    for allocators in [
        ", scrape_interval: 5s",
        ", scrape_timeout: 5s",
        ", target_limit: 5",
        ", keep_dropped_targets: 5",
        ", static_configs: [{targets: ['a:1']}]",
        ", relabel_configs: [{regex: a, action: labeldrop}]",
    ] {
        assert_eq!(hash(allocators), plain, "{allocators}");
    }
    let mut seen = vec![plain];
    for scrapers in [
        ", honor_labels: true",
        ", sample_limit: 5",
        ", metric_relabel_configs: [{regex: a, action: labeldrop}]",
        ", metric_relabel_configs: [{regex: b, action: labeldrop}]",
        ", basic_auth: {username: u}",
        ", basic_auth: {username: u, password: one}",
        ", basic_auth: {username: u, password: two}",
        ", basic_auth: {username: u, password_file: one}",
        ", tls_config: {insecure_skip_verify: true}",
        ", params: {a: [b, c]}",
        ", scrape_protocols: [PrometheusText0.0.4]",
        ", follow_redirects: false",
        ", http_headers: {X-A: {values: [b]}}",
    ] {
        let hash = hash(scrapers);
        assert!(!seen.contains(&hash), "{scrapers}");
        seen.push(hash);
    }
}

#[test]
fn secrets_are_not_printed() {
    let text = "
scrape_configs:
  - job_name: a
    basic_auth: {username: hidden, password: hidden}
    http_headers: {X-A: {secrets: [hidden], values: [hidden]}}
    tls_config: {cert: hidden, key: hidden}
    proxy_url: http://a
    proxy_connect_header: {X-B: [hidden]}
remote_write:
  - {url: 'http://a/w', oauth2: {client_id: b, client_secret: hidden, token_url: 'http://a/t'}}
";
    assert!(!format!("{:?}", config(text)).contains("hidden"));
}

#[test]
fn every_example_of_the_page_loads() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md"));
    let page = page.unwrap();
    let examples: Vec<&str> =
        page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 7);
    for example in &examples {
        let loaded = loaded(example);
        assert!(loaded.diagnostics.is_empty(), "{example}\n{:?}", loaded.diagnostics);
    }
    let settings = config(&[examples[1], examples[5]].concat());
    assert_eq!(settings.allocator.lapse, Duration::from_secs(20));
    assert_eq!(settings.scraper.queue.max_bytes, 5 << 30);
}

#[test]
fn a_map_over_one_that_a_merge_key_brought_is_filled_up() {
    let config = config(
        "scrape_configs:
- &base
  job_name: base
  params: {a: [x]}
  tls_config: {insecure_skip_verify: true, server_name: one}
  static_configs: [&group {targets: ['h:1'], labels: {a: b}}]
- <<: *base
  job_name: filled
  params: {b: [y]}
  tls_config: {server_name: two}
  static_configs: [{<<: *group, labels: {c: d}}]
- <<: *base
  job_name: emptied
  params:
  tls_config:
  static_configs: [{<<: *group, labels: }]
",
    );
    let [base, filled, emptied] = &config.scrape_configs[..] else { panic!("three jobs") };
    let labels = |job: &ScrapeConfig| {
        let Discovery::Static(groups) = &job.discovery[0] else { panic!("a static job") };
        groups[0].labels.to_string()
    };
    let tls = |job: &ScrapeConfig| (job.http.tls.insecure_skip_verify, job.http.tls.server_name.clone());
    let params = |job: &ScrapeConfig| job.params.keys().cloned().collect::<Vec<_>>();
    assert_eq!(params(base), ["a"]);
    assert_eq!(
        (params(filled), labels(filled)),
        (vec!["a".into(), "b".into()], r#"{a="b", c="d"}"#.to_owned())
    );
    assert_eq!(tls(filled), (true, Some("two".to_owned())));
    assert_eq!((params(emptied), labels(emptied)), (vec![], "{}".to_owned()));
    assert_eq!(tls(emptied), (false, None));
}

#[test]
fn a_destination_without_a_name_is_named_by_where_its_samples_go() {
    let names = |entries: &str| -> Vec<String> {
        let config = config(&format!("remote_write: [{entries}]"));
        config.remote_write.iter().map(|write| write.name.clone()).collect()
    };
    let plain = names("{url: 'http://a/write'}");
    assert!(plain[0].len() == 6 && plain[0].bytes().all(|b| b.is_ascii_hexdigit()), "{plain:?}");
    assert_eq!(names("{url: 'http://a/write', name: own}"), ["own"]);
    for changed in [
        "remote_timeout: 20s",
        "send_exemplars: true",
        "queue_config: {max_backoff: 1s}",
        "authorization: {credentials: secret}",
        "protobuf_message: io.prometheus.write.v2.Request",
        "write_relabel_configs: [{action: labeldrop, regex: a}]",
        "tls_config: {insecure_skip_verify: true}",
    ] {
        assert_eq!(names(&format!("{{url: 'http://a/write', {changed}}}")), plain, "{changed}");
    }
    let user = |user: &str, password: &str| {
        names(&format!("{{url: 'http://a/write', basic_auth: {{username: {user}, password: {password}}}}}"))
    };
    assert_eq!(user("a", "one"), user("a", "two"));
    assert_eq!(names("{url: 'http://u:one@a/write'}"), names("{url: 'http://u:two@a/write'}"));
    for other in [
        user("b", "one"),
        names("{url: 'http://b/write'}"),
        names("{url: 'http://a/write', headers: {X-Scope-OrgID: a}}"),
    ] {
        assert!(other != plain && other != user("a", "one"));
    }
    // Whatever stands beside an entry, and in which order, its name is its own.
    let other = "{url: 'http://a/write', headers: {X-Scope-OrgID: a}}";
    let [one, two] = [names("{url: 'http://a/write'}"), names(other)].map(|mut names| names.remove(0));
    assert_eq!(names(&format!("{{url: 'http://a/write'}}, {other}")), [one.clone(), two.clone()]);
    assert_eq!(names(&format!("{other}, {{url: 'http://a/write'}}")), [two, one]);
}
