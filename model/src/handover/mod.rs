//! Hand-over: how a key changes its owner without a gap, without a duplicate, and in order. The README beside this
//! file has the protocol, what it promises, and what it does not.
//!
//! Two state machines that know neither clock nor I/O: [`Leader`] in the allocator and [`Member`] in each scraper.
//! Time and messages come in as arguments; what they want done comes out. `tests/handover` drives both through
//! faults in simulated time.
//!
//! Nothing here knows of targets' labels, of where keys should be (that is placement), or of records and files.

mod allowance;
mod leader;
mod member;
mod words;

#[cfg(test)]
mod tests;

pub use allowance::Allowance;
pub use leader::{Leader, LeaderOptions, MoveStatus, Reply, Step, Transfer};
pub use member::{Drain, Effect, Member, MemberOptions, Saved, SavedKey, SavedMove};
pub use words::{
    Claim, Grant, MemberReport, MoveId, MoveReport, MoveTerms, Name, NotAVersion, Progress, Staying, Told,
    Version,
};
