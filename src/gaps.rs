//! What a configuration asks for that this version does not do: named by `check` and in the log of every role, instead of
//! being left out silently.

use promring_model::config::Config;

/// One line for each.
pub(crate) fn of(config: &Config) -> Vec<String> {
    let mut gaps = Vec::new();
    for job in &config.scrape_configs {
        let name = &job.job_name;
        if job.scrape_native_histograms {
            gaps.push(format!("job {name:?}: native histograms are not scraped yet; their classic form is"));
        }
        if job.convert_classic_histograms_to_nhcb {
            gaps.push(format!("job {name:?}: classic histograms are not converted to native ones yet"));
        }
        if job.extra_scrape_metrics {
            gaps.push(format!("job {name:?}: extra_scrape_metrics is not supported yet"));
        }
    }
    for destination in &config.remote_write {
        if destination.send_exemplars || destination.send_native_histograms {
            let name = &destination.name;
            gaps.push(format!("remote_write {name:?}: exemplars and native histograms are not sent yet"));
        }
    }
    gaps
}
