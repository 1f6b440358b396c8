//! `global`: what jobs inherit, and the labels that every series carries.

use std::time::Duration;

use super::Builder;
use super::scalars::filled_duration;
use crate::config::raw::{Given, RawGlobal, RawScrapeShared};
use crate::config::{NameEscaping, NameValidation, ScrapeProtocol, expand, remarks};
use crate::labels::{Labels, is_legacy_label_name};

/// `scrape_interval` where nothing is said.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(60);
/// `scrape_timeout` where nothing is said, unless the interval is shorter.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of all values of `external_labels` together.
const EXTERNAL_BYTES_MAX: usize = 16 << 20;

/// What a job inherits. Limits of 0 are none.
#[derive(Clone, Debug, Default)]
pub(super) struct Global {
    pub(super) scrape_interval: Duration,
    pub(super) scrape_timeout: Duration,
    pub(super) scrape_protocols: Option<Vec<ScrapeProtocol>>,
    pub(super) limits: Limits,
    pub(super) validation: NameValidation,
    pub(super) escaping: NameEscaping,
    pub(super) scrape_native_histograms: bool,
    pub(super) convert_classic_histograms_to_nhcb: bool,
    pub(super) always_scrape_classic_histograms: bool,
    pub(super) extra_scrape_metrics: bool,
}

/// The limits that `global` and jobs have in common; 0: none, or inherited.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    pub(super) body_size: u64,
    /// It was given, as 0.
    pub(super) body_size_is_zero: bool,
    pub(super) samples: u64,
    pub(super) targets: u64,
    pub(super) labels: u64,
    pub(super) label_name_length: u64,
    pub(super) label_value_length: u64,
    pub(super) keep_dropped_targets: u64,
}

impl Limits {
    pub(super) fn new(raw: &RawScrapeShared) -> Self {
        let count = |given: &Given<u64>| given.get().copied().unwrap_or(0);
        Self {
            body_size: raw.body_size_limit.get().map_or(0, |size| size.0),
            body_size_is_zero: raw.body_size_limit.get().is_some_and(|size| size.0 == 0),
            samples: count(&raw.sample_limit),
            targets: count(&raw.target_limit),
            labels: count(&raw.label_limit),
            label_name_length: count(&raw.label_name_length_limit),
            label_value_length: count(&raw.label_value_length_limit),
            keep_dropped_targets: count(&raw.keep_dropped_targets),
        }
    }
}

impl Builder<'_> {
    pub(super) fn global(&mut self, raw: &Given<RawGlobal>) -> Global {
        let default = RawGlobal::default();
        let raw = &raw.get().unwrap_or(&default).shared;
        let own_interval = filled_duration(&raw.scrape_interval);
        let scrape_interval = own_interval.map_or(SCRAPE_INTERVAL, |interval| interval.value);
        let scrape_timeout = filled_duration(&raw.scrape_timeout);
        if let (Some(timeout), Some(spot)) = (scrape_timeout, raw.scrape_timeout.spot())
            && !raw.scrape_interval.is_broken()
        {
            self.timeout_fits(timeout, scrape_interval, own_interval, spot);
        }
        let validation = self.validation(&raw.metric_name_validation_scheme).unwrap_or_default();
        let escaping = self.escaping(&raw.metric_name_escaping_scheme).unwrap_or(match validation {
            NameValidation::Utf8 => NameEscaping::AllowUtf8,
            NameValidation::Legacy => NameEscaping::Underscores,
        });
        Global {
            scrape_interval,
            scrape_timeout: scrape_timeout
                .map_or(SCRAPE_TIMEOUT.min(scrape_interval), |timeout| timeout.value),
            scrape_protocols: self.protocols(&raw.scrape_protocols),
            limits: Limits::new(raw),
            validation,
            escaping,
            scrape_native_histograms: Self::inherited(&raw.scrape_native_histograms, false),
            convert_classic_histograms_to_nhcb: Self::inherited(
                &raw.convert_classic_histograms_to_nhcb,
                false,
            ),
            always_scrape_classic_histograms: Self::inherited(&raw.always_scrape_classic_histograms, false),
            extra_scrape_metrics: Self::inherited(&raw.extra_scrape_metrics, false),
        }
    }

    /// `external_labels` with environment variables expanded.
    pub(super) fn external_labels(&mut self, raw: &Given<RawGlobal>, global: &Global) -> Labels {
        let Some(labels) = raw.get().and_then(|global| global.external_labels.get()) else {
            return Labels::default();
        };
        let mut pairs = Vec::new();
        let mut bytes_left = EXTERNAL_BYTES_MAX;
        for pair in labels.iter() {
            if !self.label_name_fits(&pair.name, global.validation, pair.spot) {
                continue;
            }
            let Given::Is(value, spot) = &pair.value else { continue };
            let expansion = expand::expand(value, bytes_left, &|name| self.source.env(name));
            if expansion.is_cut {
                let mib = EXTERNAL_BYTES_MAX >> 20;
                self.report
                    .error(
                        *spot,
                        format!(
                            "up to here, external labels have more than {mib} MiB, with variables expanded"
                        ),
                    )
                    .value(value)
                    .hint("external labels are part of every series: give them short values");
                break;
            }
            bytes_left -= expansion.text.len();
            for name in &expansion.empty {
                self.report
                    .warning(
                        *spot,
                        format!("the environment variable {name} is not set, so it expands to nothing"),
                    )
                    .value(value)
                    .hint(if is_legacy_label_name(name) {
                        format!("set {name}, or write $$ for a dollar sign")
                    } else if let Some((name, _)) = name.split_once(':').filter(|(name, _)| is_legacy_label_name(name)) {
                        format!("no default can stand here: set {name} and write ${{{name}}}, or write the value itself")
                    } else {
                        "no variable has such a name: write the value itself, or $$ for a dollar sign"
                            .to_owned()
                    });
            }
            for name in &expansion.names {
                remarks::varying_external_label(self.report, *spot, value, name);
            }
            remarks::unfilled_external_label(self.report, *spot, value);
            pairs.push((pair.name.to_string(), expansion.text));
        }
        Labels::from_pairs(pairs)
    }

    /// Whether a label may have this name; if not, that is reported.
    pub(super) fn label_name_fits(
        &mut self,
        name: &str,
        names: NameValidation,
        spot: crate::config::report::Spot,
    ) -> bool {
        let fits = match names {
            NameValidation::Utf8 => !name.is_empty(),
            NameValidation::Legacy => is_legacy_label_name(name),
        };
        if !fits {
            let hint = match names {
                NameValidation::Utf8 => "a label's name must not be empty",
                NameValidation::Legacy => {
                    "with metric_name_validation_scheme legacy, names hold letters, digits and _ only"
                }
            };
            self.report.error(spot, "not a valid label name").value(name).hint(hint);
        }
        fits
    }
}
