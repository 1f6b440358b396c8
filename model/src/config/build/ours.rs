//! Our own sections, `allocator` and `scraper`.

use std::time::Duration;

use super::{Builder, paths};
use crate::config::raw::{Given, RawAllocator, RawDuration, RawQueue, RawScraper, Size, Text};
use crate::config::selector::label_problem;
use crate::config::{
    AllocatorSettings, Clients, FsyncPolicy, Members, QueueSettings, RemovedDestinations, ScraperSettings,
    SelectorMembers, StatefulSetMembers, Strategy, WhenFull,
};
use crate::duration::format_duration;
use crate::placement::PlacementOptions;

/// The most times the mean that a scraper may be allowed.
const BAND_MAX: f64 = 100.0;

impl Builder<'_> {
    pub(super) fn allocator(&mut self, raw: &Given<RawAllocator>) -> AllocatorSettings {
        let default = AllocatorSettings::default();
        let Some(raw) = raw.get() else { return default };
        let settings = AllocatorSettings {
            lapse: self.positive(&raw.lapse, default.lapse),
            settle: self.own_duration(&raw.settle, default.settle),
            members: self.members(raw),
            replicas: self.replicas(&raw.replicas),
            clients: self.clients(&raw.clients),
            strategy: self.strategy(&raw.strategy),
            scraper_capacity: self.scraper_capacity(&raw.scraper_capacity),
            serve_secrets: raw.serve_secrets.get().copied().unwrap_or(default.serve_secrets),
            rebalance_moves_per_minute: self
                .moves_per_minute(&raw.rebalance_moves_per_minute, default.rebalance_moves_per_minute),
            rebalance_band: self.band(&raw.rebalance_band, default.rebalance_band),
            handover_lead: self.positive(&raw.handover_lead, default.handover_lead),
            handover_settle: self.positive(&raw.handover_settle, default.handover_settle),
            handover_prepare_max: self.positive(&raw.handover_prepare_max, default.handover_prepare_max),
        };
        self.clients_fit(raw, &settings);
        settings
    }

    fn clients(&mut self, given: &Given<Text>) -> Clients {
        let choices = [("promring", Clients::Promring), ("drop-in", Clients::DropIn)];
        let chosen = match given {
            Given::Is(text, spot) => self.one_of(*spot, text, &choices, "kind of clients"),
            _ => None,
        };
        chosen.unwrap_or_default()
    }

    fn strategy(&mut self, given: &Given<Text>) -> Strategy {
        let choices = [("consistent-hashing", Strategy::ConsistentHashing), ("per-node", Strategy::PerNode)];
        let chosen = match given {
            Given::Is(text, spot) => self.one_of(*spot, text, &choices, "strategy"),
            _ => None,
        };
        chosen.unwrap_or_default()
    }

    /// What the kind of clients means to other keys.
    fn clients_fit(&mut self, raw: &RawAllocator, settings: &AllocatorSettings) {
        let drop_in = settings.clients == Clients::DropIn;
        let spot = |given: &Given<Text>| given.spot().unwrap_or_default();
        if drop_in && settings.members == Members::Reporting && !raw.members.is_broken() {
            self.report
                .error(spot(&raw.clients), "drop-in clients do not report, so nobody would be a member")
                .hint("add members: statefulset, selector or static");
        }
        let without_nodes = drop_in && matches!(settings.members, Members::Static(_));
        if without_nodes && settings.strategy == Strategy::PerNode {
            self.report
                .error(spot(&raw.strategy), "nobody knows the nodes of drop-in clients from a list")
                .hint("use members: statefulset or selector with strategy: per-node");
        }
        if let Some(spot) = raw.serve_secrets.spot().filter(|_| settings.serve_secrets && !drop_in) {
            self.report.warning(spot, "serve_secrets has an effect only with clients: drop-in");
        }
        if let Some(spot) = raw.replicas.spot().filter(|_| drop_in) {
            self.report.warning(spot, "replicas has no effect with clients: drop-in");
        }
    }

    fn scraper_capacity(&mut self, given: &Given<i64>) -> Option<u64> {
        let Given::Is(count, spot) = given else { return None };
        let capacity = u64::try_from(*count).ok().filter(|count| *count > 0);
        if capacity.is_none() {
            self.report
                .error(*spot, "this must be 1 or more")
                .value(&count.to_string())
                .hint("write how many samples a second one scraper is to carry, or remove the key");
        }
        capacity
    }

    fn moves_per_minute(&mut self, given: &Given<i64>, default: u32) -> u32 {
        let Given::Is(count, spot) = given else { return default };
        u32::try_from(*count).unwrap_or_else(|_| {
            self.report
                .error(*spot, "this must be from 0 to 4294967295")
                .value(&count.to_string())
                .hint("write how many targets may move in a minute for their weight alone, or 0 for none");
            default
        })
    }

    fn band(&mut self, given: &Given<f64>, default: f64) -> f64 {
        let Given::Is(band, spot) = given else { return default };
        // Below the bound that a change of scrapers keeps, targets would go to and fro.
        let range = PlacementOptions::default().bound..=BAND_MAX;
        if range.contains(band) {
            return *band;
        }
        self.report
            .error(*spot, format!("this must be from {} to {}", range.start(), range.end()))
            .value(&band.to_string())
            .hint("write how many times the mean a scraper may carry before targets move, such as 1.3; rebalance_moves_per_minute: 0 switches that off");
        default
    }

    /// `members` and the keys that belong to one of its values. What such a key says for another value is a mistake.
    fn members(&mut self, raw: &RawAllocator) -> Members {
        #[derive(Clone, Copy, PartialEq)]
        enum Mode {
            Reporting,
            StatefulSet,
            Selector,
            Static,
        }
        let choices = [
            ("reporting", Mode::Reporting),
            ("statefulset", Mode::StatefulSet),
            ("selector", Mode::Selector),
            ("static", Mode::Static),
        ];
        let mode = match &raw.members {
            Given::Is(text, spot) => self.one_of(*spot, text, &choices, "kind of members"),
            _ => None,
        };
        let mode = mode.unwrap_or(Mode::Reporting);
        let of_pods: &[Mode] = &[Mode::StatefulSet, Mode::Selector];
        for (key, spot, of, name) in [
            ("statefulset", raw.statefulset.spot(), &[Mode::StatefulSet][..], "statefulset"),
            ("selector", raw.selector.spot(), &[Mode::Selector], "selector"),
            ("namespace", raw.namespace.spot(), &[Mode::Selector], "selector"),
            ("kubeconfig_file", raw.kubeconfig_file.spot(), of_pods, "statefulset or selector"),
            ("scrapers", raw.scrapers.spot(), &[Mode::Static], "static"),
        ] {
            if let Some(spot) = spot.filter(|_| !of.contains(&mode) && !raw.members.is_broken()) {
                self.report
                    .error(spot, format!("{key} has a meaning only with members: {name}"))
                    .hint(format!("add members: {name}, or remove the key"));
            }
        }
        match mode {
            Mode::Reporting => Members::Reporting,
            Mode::Static => {
                let names = self.filled_texts(&raw.scrapers);
                if names.is_empty() && !raw.scrapers.is_broken() {
                    let spot = raw.scrapers.spot().or(raw.members.spot()).unwrap_or_default();
                    self.report
                        .error(spot, "members: static without scrapers")
                        .hint("add scrapers: [NAME, …], the names that the scrapers have (--name)");
                }
                Members::Static(names)
            }
            Mode::StatefulSet => self.statefulset(raw),
            Mode::Selector => self.selector(raw),
        }
    }

    fn selector(&mut self, raw: &RawAllocator) -> Members {
        let selector = self.text(&raw.selector, "");
        if !raw.selector.is_broken() {
            let spot = raw.selector.spot().or(raw.members.spot()).unwrap_or_default();
            if selector.trim().is_empty() {
                // It would match every pod of the namespace.
                self.report
                    .error(spot, "members: selector needs a label selector")
                    .hint("add selector: app=NAME, the label that the scrapers' pods have");
            } else if let Some(problem) = label_problem(&selector) {
                self.report.error(spot, problem.message).value(&selector).hint(problem.hint);
            }
        }
        let namespace = raw.namespace.get().map(|text| text.to_string()).filter(|text| !text.is_empty());
        if let Some(name) = namespace.as_deref().filter(|name| !fits_name(name)) {
            let spot = raw.namespace.spot().unwrap_or_default();
            self.report.error(spot, "not the name of a namespace").value(name);
        }
        let kubeconfig_file = raw.kubeconfig_file.get().map(|file| paths::join(&self.dir, file));
        if let (Some(_), None, Some(spot)) = (&kubeconfig_file, &namespace, raw.kubeconfig_file.spot()) {
            self.report
                .error(spot, "with kubeconfig_file nobody knows the namespace of the scrapers")
                .hint("add namespace: NAME");
        }
        Members::Selector(SelectorMembers { namespace, selector, kubeconfig_file })
    }

    fn statefulset(&mut self, raw: &RawAllocator) -> Members {
        let text = self.text(&raw.statefulset, "");
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text.as_str()),
        };
        if (!fits_name(name) || !namespace.is_none_or(fits_name)) && !raw.statefulset.is_broken() {
            let spot = raw.statefulset.spot().or(raw.members.spot()).unwrap_or_default();
            let mut error =
                self.report.error(spot, "members: statefulset needs the name of the scrapers' StatefulSet");
            if !text.is_empty() {
                error = error.value(&text);
            }
            error.hint(
                "add statefulset: NAME, or NAMESPACE/NAME where it is not in the allocator's own namespace",
            );
        }
        let kubeconfig_file = raw.kubeconfig_file.get().map(|file| paths::join(&self.dir, file));
        if let (Some(_), None, Some(spot)) = (&kubeconfig_file, namespace, raw.kubeconfig_file.spot()) {
            self.report
                .error(spot, "with kubeconfig_file nobody knows the namespace of the StatefulSet")
                .hint("write statefulset: NAMESPACE/NAME");
        }
        Members::StatefulSet(StatefulSetMembers {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            kubeconfig_file,
        })
    }

    fn replicas(&mut self, given: &Given<i64>) -> Option<u32> {
        let Given::Is(count, spot) = given else { return None };
        let replicas = u32::try_from(*count).ok().filter(|count| *count > 0);
        if replicas.is_none() {
            self.report
                .error(*spot, "this must be 1 or more")
                .value(&count.to_string())
                .hint("write how many scrapers there are to be, or remove the key");
        }
        replicas
    }

    /// `destinations`: how many entries `remote_write` has.
    pub(super) fn scraper(&mut self, raw: &Given<RawScraper>, destinations: usize) -> ScraperSettings {
        let default = ScraperSettings::default();
        let Some(raw) = raw.get() else { return default };
        ScraperSettings {
            heartbeat: self.positive(&raw.heartbeat, default.heartbeat),
            flush_timeout: self.own_duration(&raw.flush_timeout, default.flush_timeout),
            fence_max: self.positive(&raw.fence_max, default.fence_max),
            removed_destinations: self.removed_destinations(raw, default.removed_destinations),
            body_size_limit: self.positive_size(&raw.body_size_limit, default.body_size_limit),
            memory_limit: match &raw.memory_limit {
                Given::Is(Size(0), _) => Some(u64::MAX),
                Given::Is(Size(bytes), _) => Some(*bytes),
                _ => default.memory_limit,
            },
            queue: self.queue(&raw.queue, &default.queue, destinations),
        }
    }

    fn removed_destinations(
        &mut self,
        raw: &RawScraper,
        default: RemovedDestinations,
    ) -> RemovedDestinations {
        let choices = [("drain", RemovedDestinations::Drain), ("park", RemovedDestinations::Park)];
        match &raw.removed_destinations {
            Given::Is(text, spot) => {
                self.one_of(*spot, text, &choices, "way to treat removed destinations").unwrap_or(default)
            }
            _ => default,
        }
    }

    fn queue(
        &mut self,
        raw: &Given<RawQueue>,
        default: &QueueSettings,
        destinations: usize,
    ) -> QueueSettings {
        let Some(raw) = raw.get() else { return default.clone() };
        QueueSettings {
            max_bytes: self.positive_size(&raw.max_bytes, default.max_bytes),
            max_age: self.positive(&raw.max_age, default.max_age),
            when_full: self.when_full(raw, default.when_full, destinations),
            fsync: self.fsync(raw, default.fsync),
        }
    }

    fn when_full(&mut self, raw: &RawQueue, default: WhenFull, destinations: usize) -> WhenFull {
        let Given::Is(text, spot) = &raw.when_full else { return default };
        let choices = [("drop_oldest", WhenFull::DropOldest), ("back_pressure", WhenFull::BackPressure)];
        let chosen = self.one_of(*spot, text, &choices, "way to treat a full queue").unwrap_or(default);
        if chosen == WhenFull::BackPressure && destinations > 1 {
            self.report
                .error(*spot, "back_pressure is possible with a single remote_write only")
                .value(text)
                .hint(format!(
                    "there are {destinations}, and one that is away would stop the scrapes for all; write drop_oldest"
                ));
        }
        chosen
    }

    fn fsync(&mut self, raw: &RawQueue, default: FsyncPolicy) -> FsyncPolicy {
        let default_interval = match default {
            FsyncPolicy::Interval(interval) => interval,
            FsyncPolicy::Always | FsyncPolicy::Never => Duration::from_secs(1),
        };
        let interval = self.positive(&raw.fsync_interval, default_interval);
        let choices = [
            ("always", FsyncPolicy::Always),
            ("interval", FsyncPolicy::Interval(interval)),
            ("never", FsyncPolicy::Never),
        ];
        let policy = match &raw.fsync {
            Given::Is(text, spot) => self.one_of(*spot, text, &choices, "policy for fsync"),
            _ => None,
        };
        let policy = policy.unwrap_or(FsyncPolicy::Interval(interval));
        if let (Some(spot), FsyncPolicy::Always | FsyncPolicy::Never) = (raw.fsync_interval.spot(), policy) {
            self.report.warning(spot, "fsync_interval has an effect only with fsync: interval");
        }
        policy
    }

    /// In our own sections a key without a value means its default.
    fn own_duration(&self, given: &Given<RawDuration>, default: Duration) -> Duration {
        given.get().map_or(default, |duration| duration.value)
    }

    fn positive(&mut self, given: &Given<RawDuration>, default: Duration) -> Duration {
        match given {
            Given::Is(duration, spot) if duration.value.is_zero() => {
                let hint = format!("the default is {}", format_duration(default));
                self.report.error(*spot, "this must be longer than 0s").hint(hint);
                default
            }
            given => self.own_duration(given, default),
        }
    }

    fn positive_size(&mut self, given: &Given<Size>, default: u64) -> u64 {
        match given {
            Given::Is(Size(0), spot) => {
                self.report
                    .error(*spot, "this must be more than 0 bytes")
                    .hint("this bound cannot be switched off; write a large one, such as 100GB");
                default
            }
            Given::Is(size, _) => size.0,
            _ => default,
        }
    }
}

/// Whether this can name an object of Kubernetes.
fn fits_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    !name.is_empty() && name.bytes().all(inner)
}
