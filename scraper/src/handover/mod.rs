//! The scraper's side of a hand-over (`model/src/handover` has the protocol): what stands around the `Member`, which
//! decides, and knows neither clock nor disk nor network.
//!
//! `gate` is asked by every target at every slot; `talk` polls and reports; `saving` makes safe what is then said;
//! `tend` looks after what takes time: fences, what a giver has sent, what a taker asks for; `stop` ends the process.

mod ask;
mod gate;
mod given;
mod metrics;
mod routes;
mod saving;
mod stop;
mod talk;
mod tend;
#[cfg(test)]
mod tests;

pub(crate) use gate::{End, Gate, Refused};
pub use given::Last;
pub(crate) use given::LastSeries;

pub(crate) use routes::routes;

pub(crate) use tend::Tending;
