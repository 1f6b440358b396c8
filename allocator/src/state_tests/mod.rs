//! What the allocator tells whom, and when: the state with scrapers' own state machines, and no socket in between.

mod fleet;
mod forgotten;
mod handover;
mod members;
mod nodes;
mod reasons;
mod reports;
mod targets;
mod weights;

use fleet::{Fleet, config, discover};
