//! What allocator and scraper both need around HTTP: the client block of the configuration, the server's
//! plumbing, reading the configuration from files, reload and shutdown.
//!
//! Neither role's own rules live here.

pub mod client;
pub mod clock;
pub mod files;
pub mod hostname;
pub mod observe;
mod pem;
pub mod reload;
pub mod server;
pub mod shutdown;
