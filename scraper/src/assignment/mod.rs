//! The assignment: what this scraper is to scrape, as the allocator tells it.

mod client;
mod held;
mod saved;

pub use client::{AllocatorAccess, AllocatorClient, Poll, ReportError};
pub use held::{Change, Difference, Held};
pub use saved::{SavedAssignment, SavedState};
