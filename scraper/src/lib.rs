//! temp
#![allow(missing_docs)]
pub mod assignment;
pub mod buffers;
pub mod observe;
pub mod parse;
pub mod rules;
pub mod scrape { pub mod fetch; }
pub mod series;
pub mod statuses;
#[cfg(test)]
mod testing;
