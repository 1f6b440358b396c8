//! Every role against what Prometheus makes of the same objects, and the watches against an API server on a socket that
//! does everything that servers and networks do to them.

pub(crate) mod api_server;
pub(crate) mod following;
mod roles;
mod sharing;
mod watching;
