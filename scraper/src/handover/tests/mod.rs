//! Two scrapers with all of their parts, on loopback: the test says what an allocator would, the rest is real.

mod companions;
mod flaps;
mod moves;
mod node;
mod reports;
mod restarts;
