//! Targets change their scraper, and every series goes on having exactly one sample a slot: the real binary, an allocator
//! and scrapers as processes, three hundred targets, and the receiver that audits every slot.

mod clocks;
mod cutover;
mod fleet;
mod planned;
mod receivers;
mod unplanned;
