//! Sample exporters and the auditing receiver, for the demo, tests and benchmarks.
//!
//! [`exporter`] plays the services that are scraped, [`receiver`] the server that remote write goes to, and
//! [`audit`] is the judge between them: it knows from the exporters' own list and the configuration which sample
//! is due when, and says what is missing, doubled, out of order or not wanted. Nothing here knows of allocator
//! or scraper, so that neither can make its own mistakes look right.

pub mod audit;
pub mod clock;
pub mod exporter;
pub mod receiver;
pub mod wire;
