//! Clients that are not promring's scrapers: OpenTelemetry Collectors, Prometheus, vmagent.
//!
//! They fetch lists of targets and say nothing in return. So they are members by what the API server or the configuration
//! says of them ([`pool`]), targets change owner at once, and all that they are told follows from a [`Board`]: what there
//! was at the last change, looked at by every request. It shares with the one before whatever has not changed ([`list`]), and
//! the pool makes it beside the threads that serve. `routes` serves it, `render` writes jobs as Prometheus's
//! configuration.
//!
//! This is beside [`crate::State`], which knows reports and hand-over: nothing of that concerns these clients. What both
//! share are the jobs.

mod board;
mod list;
mod pool;
mod render;
mod routes;

pub(crate) use board::Board;
pub(crate) use pool::Pool;
pub(crate) use routes::routes;

#[cfg(test)]
mod tests;
