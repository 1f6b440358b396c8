//! Our own sections, `allocator` and `scraper`.

use super::{List, RawDuration, Size, Text, section};

section! {
    /// `allocator`.
    RawAllocator as "allocator" {
        lapse: RawDuration,
        settle: RawDuration,
        members: Text,
        statefulset: Text,
        selector: Text,
        namespace: Text,
        kubeconfig_file: Text,
        scrapers: List<Text>,
        replicas: i64,
        clients: Text,
        strategy: Text,
        scraper_capacity: i64,
        serve_secrets: bool,
        rebalance_moves_per_minute: i64,
        rebalance_band: f64,
        handover_lead: RawDuration,
        handover_settle: RawDuration,
        handover_prepare_max: RawDuration,
    }
}

section! {
    /// `scraper`.
    RawScraper as "scraper" {
        heartbeat: RawDuration,
        flush_timeout: RawDuration,
        fence_max: RawDuration,
        removed_destinations: Text,
        body_size_limit: Size,
        memory_limit: Size,
        queue: RawQueue,
    }
}

section! {
    /// `scraper.queue`.
    RawQueue as "scraper.queue" {
        max_bytes: Size,
        max_age: RawDuration,
        when_full: Text,
        fsync: Text,
        fsync_interval: RawDuration,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::raw::Section;
    use crate::config::{
        AllocatorSettings, Clients, FsyncPolicy, Members, QueueSettings, RemovedDestinations,
        ScraperSettings, Strategy, WhenFull,
    };
    use crate::duration::format_duration;
    use crate::size::parse_size;

    const PAGE: &str = include_str!("../../../../docs/configuration.md");

    /// Keys and defaults as the page has them.
    fn rows() -> BTreeMap<String, String> {
        let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
        PAGE.lines()
            .filter(|line| line.starts_with("| `allocator.") || line.starts_with("| `scraper."))
            .map(|line| line.split('|').map(cell).collect::<Vec<_>>())
            .map(|cells| (cells[1].clone(), cells[2].clone()))
            .collect()
    }

    #[test]
    fn the_page_has_every_key_of_our_sections_and_no_other() {
        let sections = [
            ("allocator.", RawAllocator::keys()),
            ("scraper.", RawScraper::keys()),
            ("scraper.queue.", RawQueue::keys()),
        ];
        let keys =
            sections.iter().flat_map(|(prefix, keys)| keys.iter().map(move |key| format!("{prefix}{key}")));
        let mut keys: Vec<String> = keys.filter(|key| key != "scraper.queue").collect();
        keys.sort();
        assert_eq!(rows().into_keys().collect::<Vec<_>>(), keys);
    }

    /// The keys by which the allocator knows the scrapers are the chart's own, and those of other kinds of members an error there.
    #[test]
    fn the_chart_takes_every_key_that_is_left_to_its_users_and_no_other() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../../../helm/promring/values.schema.json")).unwrap();
        let settings = &schema["properties"]["allocator"]["properties"]["settings"];
        assert_eq!(settings["additionalProperties"], false);
        let mut taken: Vec<&str> =
            settings["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        taken.sort_unstable();
        let mut keys = RawAllocator::keys();
        keys.retain(|key| !["members", "statefulset", "selector", "namespace", "scrapers"].contains(key));
        keys.sort_unstable();
        assert_eq!(taken, keys);
    }

    #[test]
    fn the_page_has_the_defaults_that_the_types_have() {
        let AllocatorSettings {
            lapse,
            settle,
            replicas,
            members,
            clients,
            strategy,
            scraper_capacity,
            serve_secrets,
            rebalance_moves_per_minute,
            rebalance_band,
            handover_lead,
            handover_settle,
            handover_prepare_max,
        } = AllocatorSettings::default();
        assert_eq!(members, Members::Reporting);
        let ScraperSettings {
            heartbeat,
            flush_timeout,
            fence_max,
            removed_destinations,
            body_size_limit,
            memory_limit,
            queue,
        } = ScraperSettings::default();
        let QueueSettings { max_bytes, max_age, when_full, fsync } = queue;
        let FsyncPolicy::Interval(fsync_interval) = fsync else { panic!("the page says interval") };
        let rows = rows();
        for (key, default) in [
            ("allocator.lapse", lapse),
            ("allocator.settle", settle),
            ("allocator.handover_lead", handover_lead),
            ("allocator.handover_settle", handover_settle),
            ("allocator.handover_prepare_max", handover_prepare_max),
            ("scraper.heartbeat", heartbeat),
            ("scraper.flush_timeout", flush_timeout),
            ("scraper.fence_max", fence_max),
            ("scraper.queue.max_age", max_age),
            ("scraper.queue.fsync_interval", fsync_interval),
        ] {
            assert_eq!(rows[key], format_duration(default), "{key}");
        }
        for (key, default) in
            [("scraper.body_size_limit", body_size_limit), ("scraper.queue.max_bytes", max_bytes)]
        {
            assert_eq!(parse_size(&rows[key]), Ok(default), "{key}");
        }
        assert_eq!(rows["scraper.queue.fsync"], "interval");
        assert_eq!(rows["allocator.members"], "reporting");
        for key in ["statefulset", "selector", "namespace", "kubeconfig_file", "scrapers"] {
            assert_eq!(rows[&format!("allocator.{key}")], "", "{key} has no default");
        }
        assert_eq!((&*rows["allocator.clients"], clients), ("promring", Clients::Promring));
        let default_strategy = (&*rows["allocator.strategy"], strategy);
        assert_eq!(default_strategy, ("consistent-hashing", Strategy::ConsistentHashing));
        assert_eq!((&*rows["allocator.scraper_capacity"], scraper_capacity), ("none", None));
        assert_eq!((&*rows["allocator.serve_secrets"], serve_secrets), ("false", false));
        assert_eq!((memory_limit, rows["scraper.memory_limit"].as_str()), (None, "what the system allows"));
        assert_eq!((&*rows["scraper.queue.when_full"], when_full), ("drop_oldest", WhenFull::DropOldest));
        let removed = (&*rows["scraper.removed_destinations"], removed_destinations);
        assert_eq!(removed, ("drain", RemovedDestinations::Drain));
        assert_eq!((&*rows["allocator.replicas"], replicas), ("none", None));
        assert_eq!(rows["allocator.rebalance_moves_per_minute"], rebalance_moves_per_minute.to_string());
        assert_eq!(rows["allocator.rebalance_band"], rebalance_band.to_string());
    }
}
