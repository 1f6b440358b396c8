//! What the state has come to, as metrics: set anew whenever somebody looks, so that nothing is shown of a scraper that has
//! gone, or by an allocator that no longer leads.

use promring_model::handover::Step;
use promring_model::placement::ScraperLoad;

use crate::State;

/// Sets the gauges of an allocator that leads; others have nothing to show.
pub(crate) fn show(state: &State, now_ms: i64) {
    let Some(lead) = state.leading() else { return };
    let leader = &lead.leader;
    metrics::gauge!("promring_allocator_assignment_version").set(leader.version().counter as f64);
    let takers = leader.membership().takers().count();
    metrics::gauge!("promring_allocator_scrapers", "state" => "ready").set(takers as f64);
    let mut others = 0;
    for (name, member) in leader.membership().members() {
        show_queues(state, name);
        // It went as planned, and has nothing any more.
        let leaves = member.draining || leader.membership().is_leaving(name);
        if leaves && state.assigned(name) == 0 {
            continue;
        }
        others += usize::from(!member.takes_targets());
        let scraper = name.to_owned();
        metrics::gauge!("promring_allocator_targets", "scraper" => scraper.clone())
            .set(state.assigned(name) as f64);
        let in_force = state.reported(name).and_then(|reported| reported.report.handover.version);
        metrics::gauge!("promring_allocator_scraper_version", "scraper" => scraper.clone())
            .set(in_force.map_or(0.0, |version| version.counter as f64));
        metrics::gauge!("promring_allocator_scraper_behind_seconds", "scraper" => scraper)
            .set(lead.behind_ms(name, in_force, now_ms) as f64 / 1_000.0);
        show_mismatches(state, name);
    }
    metrics::gauge!("promring_allocator_scrapers", "state" => "lost_or_draining").set(others as f64);
    show_loads(&lead.loads());
    for step in Step::ALL {
        let moves = leader.moves().filter(|status| status.step == step);
        let (count, keys) = moves.fold((0, 0), |(count, keys), status| (count + 1, keys + status.keys));
        metrics::gauge!("promring_allocator_handovers", "step" => step.name()).set(f64::from(count));
        metrics::gauge!("promring_allocator_handover_targets", "step" => step.name()).set(keys as f64);
    }
    let (_, given_up) = leader.moves_ended();
    metrics::counter!("promring_allocator_handovers_given_up_total").absolute(given_up);
    metrics::counter!("promring_allocator_fences_forced_total").absolute(leader.fences_forced());
}

/// Whether this allocator is ready, and whether it leads.
pub(crate) fn show_ready(is_ready: bool, leads: bool) {
    metrics::gauge!("promring_allocator_ready").set(flag(is_ready));
    metrics::gauge!("promring_allocator_leader").set(flag(leads));
}

/// What waits in a scraper's queues: also where it has gone, as its volume may have some of it.
fn show_queues(state: &State, name: &str) {
    for queue in state.reported(name).iter().flat_map(|reported| &reported.report.queues) {
        let labels = [("scraper", name.to_owned()), ("remote_name", queue.destination.clone())];
        metrics::gauge!("promring_allocator_queued_samples", &labels).set(queue.samples as f64);
        metrics::gauge!("promring_allocator_aside_samples", &labels).set(queue.aside_samples as f64);
    }
}

/// How many jobs a scraper's own file has otherwise, or not at all.
fn show_mismatches(state: &State, name: &str) {
    let Some(reported) = state.reported(name) else { return };
    let report = &reported.report;
    for (kind, jobs) in [("differs", &report.config_mismatch), ("absent", &report.unknown_jobs)] {
        let labels = [("scraper", name.to_owned()), ("kind", kind.to_owned())];
        metrics::gauge!("promring_allocator_config_mismatches", &labels).set(jobs.len() as f64);
    }
}

/// What the scrapers are to carry, and how unevenly.
fn show_loads(loads: &[ScraperLoad]) {
    let total: f64 = loads.iter().map(|load| load.weight).sum();
    let heaviest = loads.iter().map(|load| load.weight).fold(0.0, f64::max);
    for load in loads {
        metrics::gauge!("promring_allocator_weight", "scraper" => load.scraper.to_string()).set(load.weight);
    }
    if total > 0.0 {
        metrics::gauge!("promring_allocator_imbalance_ratio").set(heaviest * loads.len() as f64 / total);
    }
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}
