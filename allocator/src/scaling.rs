//! How many scrapers the present load wants.

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use promring_proto::api::{ApiResponse, Scaling};

use crate::{Allocator, State};

/// How many scrapers the targets want that there are now, if each is to carry `capacity` samples a second.
#[must_use]
pub fn scaling(state: &State, capacity: u64) -> Scaling {
    let targets = state.jobs().flat_map(|job| job.active().values());
    wanted(targets.map(|target| state.weight(target)), capacity)
}

/// The same where the scrapers tell what their targets yield.
///
/// # Errors
/// Why there is no number yet: nobody has told anything, and somebody may; or scrapers have targets that are not known here.
pub(crate) fn told(state: &State, capacity: u64, now_ms: i64) -> Result<Scaling, String> {
    if let Some(reason) = state.unknown_load() {
        // They are scraped: without them the load would look as if it had shrunk.
        return Err(reason);
    }
    let scaling = scaling(state, capacity);
    let is_guess = scaling.targets > 0 && scaling.targets == scaling.targets_unknown;
    // Where no scraper is there, a scaler that has no number would leave it at that: a guess is what it begins with.
    if is_guess && !state.hears_no_scraper(now_ms) {
        return Err("no scraper has told yet how many samples its targets have".to_owned());
    }
    Ok(scaling)
}

/// How many scrapers would carry targets that yield so many samples a second each, if each carried `capacity`. Each weight
/// comes with whether it is known: one of a new target, and of every target of drop-in clients, is guessed by the others, so
/// that a restart of the allocator does not look like a lull. A target that is down keeps the weight that it had.
fn wanted(weights: impl Iterator<Item = (f64, bool)>, capacity: u64) -> Scaling {
    let (mut known, mut unknown, mut samples_per_second) = (0_u64, 0_u64, 0.0);
    for (weight, is_known) in weights {
        samples_per_second += weight;
        *(if is_known { &mut known } else { &mut unknown }) += 1;
    }
    Scaling {
        // The cast saturates; what is left of rounding must not ask for one more.
        wanted: ((samples_per_second / capacity as f64 - 1e-9).ceil() as u64).max(1),
        samples_per_second,
        capacity,
        targets: known + unknown,
        targets_unknown: unknown,
    }
}

/// Shows it as metrics, for an HPA.
pub(crate) fn show(scaling: &Scaling) {
    metrics::gauge!("promring_allocator_scrapers_wanted").set(scaling.wanted as f64);
    metrics::gauge!("promring_allocator_samples_per_second").set(scaling.samples_per_second);
}

/// `GET /api/v1/scaling`. Where there is no number, there is no 200 either: a scaler then keeps what it has.
pub(crate) async fn handler(
    Shared(allocator): Shared<Allocator>,
) -> Result<Json<ApiResponse<Scaling>>, (StatusCode, String)> {
    let Some(capacity) = allocator.scraper_capacity() else {
        let text = "set allocator.scraper_capacity, the samples a second that one scraper is to carry\n";
        return Err((StatusCode::NOT_FOUND, text.to_owned()));
    };
    let scaling = allocator.scaling(capacity);
    let scaling = scaling.map_err(|reason| (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")))?;
    Ok(Json(ApiResponse::success(scaling)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(weights: &[f64], capacity: u64) -> Scaling {
        wanted(weights.iter().map(|weight| (*weight, true)), capacity)
    }

    #[test]
    fn as_many_are_wanted_as_carry_the_load() {
        assert_eq!(of(&[50.0, 50.0], 100).wanted, 1, "exactly full is enough");
        assert_eq!(of(&[50.0, 50.1], 100).wanted, 2);
        assert_eq!(of(&[0.1; 3], 1).wanted, 1, "whatever rounding makes of the sum");
        assert_eq!(of(&[0.1; 30], 1).wanted, 3);
        assert_eq!(of(&[], 100).wanted, 1, "somebody has to be there for the first target");
    }

    #[test]
    fn what_is_guessed_counts_and_is_told_apart() {
        let scaling = wanted([(300.0, true), (200.0, false), (100.0, true)].into_iter(), 100);
        assert_eq!((scaling.wanted, scaling.samples_per_second), (6, 600.0));
        assert_eq!((scaling.targets, scaling.targets_unknown), (3, 1));
    }
}
