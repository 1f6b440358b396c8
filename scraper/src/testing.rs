//! What unit tests of this crate share: a job made from a piece of YAML.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use promring_model::config::{Config, ConfigSource, Discovery, ScrapeConfig, load};
use promring_model::labels::Labels;
use promring_model::target::{Assembled, DiscoveredLabels, Target};

use crate::rules::{Classes, SeriesRules};

struct Text(String);

impl ConfigSource for Text {
    fn read(&self, _path: &Path) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }

    fn glob(&self, _pattern: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _name: &str) -> Option<String> {
        None
    }
}

/// A job with these keys; a static target `host:1` where none is given, and one destination.
pub(crate) fn job(keys: &str) -> Arc<ScrapeConfig> {
    Arc::clone(&config_of(keys, &[""]).scrape_configs[0])
}

/// The same with a destination for each of these settings, named one, two, …
pub(crate) fn config_of(keys: &str, destinations: &[&str]) -> Config {
    let mut text = "remote_write:\n".to_owned();
    for (name, settings) in ["one", "two", "three"].iter().zip(destinations) {
        text.push_str(&format!("- {{url: 'http://receiver/', name: {name}, {settings}}}\n"));
    }
    text.push_str("scrape_configs:\n- job_name: job\n");
    for line in keys.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    if !keys.contains("static_configs") {
        text.push_str("  static_configs: [{targets: ['host:1']}]\n");
    }
    config_in(&text)
}

/// The configuration in this file.
pub(crate) fn config_in(text: &str) -> Config {
    let loaded = load(Path::new("test.yml"), &Text(text.to_owned()));
    loaded.config.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}

/// The job's first static target.
pub(crate) fn target_of(job: &ScrapeConfig) -> Target {
    let Discovery::Static(groups) = &job.discovery[0] else { panic!("the job has no static target") };
    match DiscoveredLabels::new(job, &groups[0].labels, &groups[0].targets[0]).assemble() {
        Assembled::Target(target) => *target,
        other => panic!("{other:?}"),
    }
}

/// The rules for that target's series, with one class of destinations.
pub(crate) fn rules_for(job: &ScrapeConfig) -> SeriesRules {
    SeriesRules::new(job, &target_of(job), &Labels::default(), &Classes::one())
}
