//! Where a job's targets come from.

use std::time::Duration;

use super::http::HttpDefaults;
use super::{Builder, Mode, paths};
use crate::config::raw::{
    Given, RawDns, RawDuration, RawFileSd, RawHttpSd, RawScrapeConfig, RawTargetGroup, Section,
};
use crate::config::report::Spot;
use crate::config::{
    Discovery, DnsDiscovery, DnsRecord, FileDiscovery, HttpDiscovery, Severity, groups, hints, remarks,
};
use crate::duration::format_duration;
use crate::glob;
use crate::target::{TargetGroup, UNIX_SOCKET};

/// `refresh_interval` of `file_sd_configs` where nothing is said.
const FILE_REFRESH: Duration = Duration::from_secs(300);
/// `refresh_interval` of `http_sd_configs` where nothing is said.
const HTTP_REFRESH: Duration = Duration::from_secs(60);
/// `refresh_interval` of `dns_sd_configs` where nothing is said.
const DNS_REFRESH: Duration = Duration::from_secs(30);
/// How the files of `file_sd_configs` may end.
const FILE_ENDINGS: [&str; 6] = [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"];

impl Builder<'_> {
    pub(super) fn discoveries(&mut self, raw: &RawScrapeConfig) -> Vec<Discovery> {
        for (name, given) in &raw.other_sd.0 {
            let spot = given.spot().unwrap_or_default();
            self.report.error(spot, format!("promring has no {name}")).hint(hints::instead_of(name));
        }
        // In the order that Prometheus has them in: by name, and static ones last.
        let mut all = Vec::new();
        for (item, spot) in self.filled_items(&raw.dns_sd_configs) {
            all.extend(self.dns_sd(item, spot).map(Discovery::Dns));
        }
        for (item, spot) in self.filled_items(&raw.file_sd_configs) {
            all.extend(self.file_sd(item, spot).map(Discovery::File));
        }
        for (item, spot) in self.filled_items(&raw.http_sd_configs) {
            all.extend(self.http_sd(item, spot).map(|found| Discovery::Http(Box::new(found))));
        }
        for (item, spot) in self.filled_items(&raw.kubernetes_sd_configs) {
            all.extend(self.kubernetes_sd(item, spot).map(|found| Discovery::Kubernetes(Box::new(found))));
        }
        let groups = self.static_groups(raw);
        if !groups.is_empty() {
            all.push(Discovery::Static(groups));
        }
        all
    }

    /// The items of a list of sections; an empty item is reported.
    pub(super) fn filled_items<'g, T: Section>(
        &mut self,
        given: &'g Given<crate::config::raw::List<T>>,
    ) -> Vec<(&'g T, Spot)> {
        let mut items = Vec::new();
        for item in self.items(given) {
            match item {
                Given::Is(item, spot) => items.push((item, *spot)),
                Given::Null(spot) => self.empty_item(*spot, T::NAME),
                Given::Absent | Given::Broken(_) => {}
            }
        }
        items
    }

    fn static_groups(&mut self, raw: &RawScrapeConfig) -> Vec<TargetGroup> {
        // With rules an address may be anything: a rule often moves it into a parameter.
        let has_rules = !self.items(&raw.relabel_configs).is_empty();
        let https = raw.scheme.get().is_some_and(|scheme| &**scheme == "https");
        let mut groups = Vec::new();
        for (group, _) in self.filled_items::<RawTargetGroup>(&raw.static_configs) {
            let labels = group.labels.get().map_or(&[][..], |labels| &**labels);
            let by_socket = labels.iter().any(|label| &*label.name == UNIX_SOCKET);
            for target in self.items(&group.targets) {
                let Given::Is(address, spot) = target else { continue };
                if !has_rules {
                    hints::static_target(self.report, *spot, address);
                    if !by_socket {
                        remarks::static_target(self.report, *spot, address, https);
                    }
                }
            }
            let group = groups::spotted(self.report, group);
            let targets = group.targets.into_iter().map(|(target, _)| target).collect();
            groups.push(TargetGroup { source: groups.len().to_string(), labels: group.labels, targets });
        }
        groups
    }

    fn file_sd(&mut self, raw: &RawFileSd, spot: Spot) -> Option<FileDiscovery> {
        let refresh_interval = self.refresh(&raw.refresh_interval, FILE_REFRESH);
        let items = self.items(&raw.files);
        if items.is_empty() && !raw.files.is_broken() {
            self.report
                .error(raw.files.spot().unwrap_or(spot), "file_sd_config without files")
                .hint("add files: [targets/*.json]");
            return None;
        }
        let mut files = Vec::new();
        for item in items {
            match item {
                Given::Is(path, spot) => {
                    if FILE_ENDINGS.iter().any(|end| path.ends_with(end)) && paths::is_pattern(path) {
                        if let Err(error) = glob::check(path) {
                            // A Prometheus server takes it and finds no file; its promtool refuses it.
                            let severity = match self.mode {
                                Mode::Load => Severity::Warning,
                                Mode::Check => Severity::Error,
                            };
                            self.bad_pattern(*spot, path, error, severity);
                        }
                        files.push(paths::join(&self.dir, path));
                    } else {
                        self.report
                            .error(*spot, "not a path for file discovery")
                            .value(path)
                            .hint(hints::file_sd_path(path));
                    }
                }
                Given::Null(spot) => self.empty_item(*spot, "path"),
                Given::Absent | Given::Broken(_) => {}
            }
        }
        Some(FileDiscovery { files, refresh_interval })
    }

    fn http_sd(&mut self, raw: &RawHttpSd, spot: Spot) -> Option<HttpDiscovery> {
        let url = self.required(&raw.url, spot, "url", RawHttpSd::NAME);
        let url = url.and_then(|text| self.http_url(&text, raw.url.spot().unwrap_or(spot)));
        let http = self.http_client(&raw.http, HttpDefaults::SCRAPE, spot);
        let refresh_interval = self.refresh(&raw.refresh_interval, HTTP_REFRESH);
        Some(HttpDiscovery { url: url?, refresh_interval, http })
    }

    fn dns_sd(&mut self, raw: &RawDns, spot: Spot) -> Option<DnsDiscovery> {
        let names = self.texts(&raw.names);
        if names.is_empty() && !raw.names.is_broken() {
            self.report
                .error(raw.names.spot().unwrap_or(spot), "dns_sd_config without names")
                .hint("add names: [_metrics._tcp.example.com]");
        }
        let record = match &raw.r#type {
            Given::Is(text, spot) => {
                let choices = [
                    ("SRV", DnsRecord::Srv),
                    ("A", DnsRecord::A),
                    ("AAAA", DnsRecord::Aaaa),
                    ("MX", DnsRecord::Mx),
                    ("NS", DnsRecord::Ns),
                ];
                self.one_of(*spot, &text.to_ascii_uppercase(), &choices, "type of DNS record")?
            }
            Given::Null(spot) => {
                self.report
                    .error(*spot, "a type is missing")
                    .hint("write SRV, A, AAAA, MX or NS, or remove the key");
                return None;
            }
            Given::Broken(_) => return None,
            Given::Absent => DnsRecord::Srv,
        };
        let port = raw.port.get().copied().unwrap_or(0);
        let port_spot = raw.port.spot().unwrap_or(spot);
        if port == 0 && record != DnsRecord::Srv && !raw.port.is_broken() {
            self.report
                .error(port_spot, "only SRV records hold a port; for this type it must be given")
                .hint("add port, or use type: SRV");
        } else if !(0..=i64::from(u16::MAX)).contains(&port) {
            self.report.error(port_spot, "not a port").value(&port.to_string()).hint("a port is 1 to 65535");
        }
        let port = u16::try_from(port).ok().filter(|&port| port > 0);
        let refresh_interval = self.refresh(&raw.refresh_interval, DNS_REFRESH);
        Some(DnsDiscovery { names, record, port, refresh_interval })
    }

    /// A `refresh_interval`. Prometheus takes 0 and fails when it starts.
    fn refresh(&mut self, raw: &Given<RawDuration>, default: Duration) -> Duration {
        let refresh = self.duration(raw, default);
        if let (true, Some(spot)) = (refresh.is_zero(), raw.spot()) {
            let default = format_duration(default);
            let finding = self.report.error(spot, "refresh_interval must be longer than 0s");
            finding.hint(format!("the default is {default}"));
            if let Some(duration) = raw.get() {
                finding.value(&duration.written);
            }
        }
        refresh
    }
}
