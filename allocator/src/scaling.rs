//! How many scrapers the present load wants.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use promring_model::placement::PlacementOptions;
use promring_proto::api::{ApiResponse, Scaling};

use crate::targets::Discovered;
use crate::{Allocator, State};

/// How many scrapers the targets want that there are now, if each is to carry `capacity` samples a second.
#[must_use]
pub fn scaling(state: &State, capacity: u64) -> Scaling {
    let targets = state.jobs().flat_map(|job| job.active().values());
    let weight = |target: &Arc<Discovered>| {
        let report = state.health(target.target.id).filter(|report| report.samples > 0)?;
        Some(report.samples as f64 / target.target.interval.as_secs_f64())
    };
    wanted(targets.map(weight), capacity)
}

/// How many scrapers would carry targets that yield so many samples a second each, if each carried `capacity`.
///
/// A target of which nothing is known (a new one, and every target of drop-in clients) counts as the mean of the others, so
/// that a restart of the allocator does not look like a lull.
fn wanted(weights: impl Iterator<Item = Option<f64>>, capacity: u64) -> Scaling {
    let (mut known, mut sum, mut unknown) = (0_u64, 0.0, 0_u64);
    for weight in weights {
        match weight {
            Some(weight) => {
                sum += weight;
                known += 1;
            }
            None => unknown += 1,
        }
    }
    let mean = if known > 0 { sum / known as f64 } else { PlacementOptions::default().weight_default };
    let samples_per_second = sum + unknown as f64 * mean;
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

    fn of(weights: &[Option<f64>], capacity: u64) -> Scaling {
        wanted(weights.iter().copied(), capacity)
    }

    #[test]
    fn as_many_are_wanted_as_carry_the_load() {
        assert_eq!(of(&[Some(50.0), Some(50.0)], 100).wanted, 1, "exactly full is enough");
        assert_eq!(of(&[Some(50.0), Some(50.1)], 100).wanted, 2);
        assert_eq!(of(&[Some(0.1); 3], 1).wanted, 1, "whatever rounding makes of the sum");
        assert_eq!(of(&[Some(0.1); 30], 1).wanted, 3);
        assert_eq!(of(&[], 100).wanted, 1, "somebody has to be there for the first target");
    }

    #[test]
    fn what_is_unknown_counts_as_the_mean_of_the_rest() {
        let scaling = of(&[Some(300.0), None, Some(100.0), None], 100);
        assert_eq!((scaling.wanted, scaling.samples_per_second), (8, 800.0));
        assert_eq!((scaling.targets, scaling.targets_unknown), (4, 2));
        assert_eq!(
            of(&[None; 20], 1_000).wanted,
            2,
            "100 samples a second each, where nothing is known of any"
        );
    }
}
