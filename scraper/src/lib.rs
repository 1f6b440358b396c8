//! scraper
pub mod parse;
