//! Remarks on single values.

use std::borrow::Cow;

use crate::config::raw::{Given, RawScrapeConfig};
use crate::config::report::{Report, Spot};
use crate::target::dialled;

/// Warns of parameters in a path.
pub(crate) fn metrics_path(report: &mut Report, spot: Spot, path: &str) {
    if path.contains('?') {
        report
            .warning(spot, "a question mark is part of the path here, and begins no parameters")
            .value(path)
            .hint("put parameters under params, as lists: params: {name: [value]}");
    }
}

/// Warns of a static target without a port, as none is added, or without a host.
pub(crate) fn static_target(report: &mut Report, spot: Spot, address: &str, https: bool) {
    if let Cow::Owned(local) = dialled(address) {
        report
            .warning(spot, "the target has no host, so it is one of the machine of the scraper")
            .value(address)
            .hint(format!("write {local} if that is meant, or the host"));
    }
    let after_host = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(_, rest)| rest),
        None => address,
    };
    if !address.is_empty() && !after_host.contains(':') && !address.contains(['/', '$', '%']) {
        let port = if https { 443 } else { 80 };
        report
            .warning(spot, format!("no port: the scrape goes to port {port}"))
            .value(address)
            .hint(format!("add the port, such as {address}:9100, or {address}:{port} if that is meant"));
    }
}

/// Remarks on a destination's URL.
pub(crate) fn remote_write_url(report: &mut Report, spot: Spot, url: &url::Url) {
    if url.path() == "/" {
        report
            .remark(spot, "the URL has no path, and receivers of remote write seldom listen on /")
            .hint("Prometheus, Mimir, Thanos and VictoriaMetrics listen on paths such as /api/v1/write");
    }
}

/// Warns of a job that can never have a target.
pub(crate) fn without_targets(report: &mut Report, spot: Spot, job: &RawScrapeConfig) {
    let none = |lists: &[Option<Spot>]| lists.iter().all(Option::is_none);
    let empty = job.other_sd.0.is_empty()
        && none(&[
            job.static_configs.spot(),
            job.file_sd_configs.spot(),
            job.http_sd_configs.spot(),
            job.dns_sd_configs.spot(),
            job.kubernetes_sd_configs.spot(),
        ]);
    if empty && !report.has_error_below(spot.path) {
        let spot = match &job.job_name {
            Given::Is(_, name) => *name,
            _ => spot,
        };
        report.warning(spot, "a job without targets").hint(
            "add static_configs, file_sd_configs, http_sd_configs, dns_sd_configs or kubernetes_sd_configs",
        );
    }
}
