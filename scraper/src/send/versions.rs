//! What a receiver's answers have shown of the versions of remote write that it speaks.
//!
//! Two kinds of answers tell. A 415 is plain. A 2xx to 2.0 that does not say how much it stored is a hint: so answers a
//! receiver that takes the request for one of 1.0, in which it is empty (Remote-Write 2.0, "Required Written Response Headers"), but also
//! something between that answers for a receiver, or takes the fields away. So the hint counts until something plain is said.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// After so many hints in a row a receiver has been replaced by another one; and one that takes nothing but 2.0 never says
/// how much it stored.
const HINTS_MAX: u32 = 10;

/// What is known of a receiver, by all lanes together.
#[derive(Debug, Default)]
pub(super) struct Versions(Mutex<Known>);

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// It has said how much it stored of a request of 2.0.
    speaks_v2: bool,
    /// Why everything goes as 1.0.
    lacks_v2: Option<Lack>,
    /// It refuses 1.0.
    refuses_v1: bool,
    /// Hints in a row.
    hints: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Hinted,
    Refused,
}

/// What follows from a hint for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hinted {
    /// It goes as 1.0. Where the receiver is known to speak 2.0, this copy may have been stored.
    AsV1 {
        /// Whether it may.
        maybe_stored: bool,
    },
    /// It goes once more.
    Again,
    /// It counts as stored: more is never said.
    Stored,
}

/// What follows from a 415.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The other version is spoken from now on.
    Other,
    /// The same, after a long pause: that one was refused as plainly.
    Neither,
}

impl Versions {
    /// Whether everything goes as 1.0.
    pub(super) fn lacks_v2(&self) -> bool {
        self.known().lacks_v2.is_some()
    }

    /// Whether what the receiver says to 2.0 is about the samples, and not about the version.
    pub(super) fn speaks_v2(&self) -> bool {
        let known = self.known();
        known.speaks_v2 || known.refuses_v1
    }

    /// The receiver has said how much it stored of a request of 2.0.
    pub(super) fn wrote_v2(&self) {
        let mut known = self.known();
        (known.speaks_v2, known.hints) = (true, 0);
        // Another lane was answered by somebody else.
        known.lacks_v2 = known.lacks_v2.filter(|lack| *lack == Lack::Refused);
    }

    /// It has accepted a request of 2.0 and has not said how much it stored.
    pub(super) fn hinted(&self) -> Hinted {
        let mut known = self.known();
        known.hints = known.hints.saturating_add(1);
        let many = known.hints > HINTS_MAX;
        if known.refuses_v1 {
            return if many { Hinted::Stored } else { Hinted::Again };
        }
        if known.speaks_v2 && !many {
            return Hinted::AsV1 { maybe_stored: true };
        }
        known.speaks_v2 = false;
        known.lacks_v2.get_or_insert(Lack::Hinted);
        Hinted::AsV1 { maybe_stored: false }
    }

    /// It has refused 2.0.
    pub(super) fn refused_v2(&self) -> Refused {
        let mut known = self.known();
        let neither = std::mem::take(&mut known.refuses_v1);
        (known.speaks_v2, known.lacks_v2) = (false, Some(Lack::Refused));
        if neither { Refused::Neither } else { Refused::Other }
    }

    /// It has refused what could also go as 2.0.
    pub(super) fn refused_v1(&self) -> Refused {
        let mut known = self.known();
        let neither = known.lacks_v2 == Some(Lack::Refused);
        *known = Known { speaks_v2: known.speaks_v2, refuses_v1: true, ..Known::default() };
        if neither { Refused::Neither } else { Refused::Other }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // It is replaced field by field, and any of them may be.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_of_1_0_gets_1_0_whichever_way_it_shows() {
        let versions = Versions::default();
        assert_eq!(versions.refused_v2(), Refused::Other);
        assert!(versions.lacks_v2());
        let versions = Versions::default();
        assert_eq!(versions.hinted(), Hinted::AsV1 { maybe_stored: false });
        assert!(versions.lacks_v2());
    }

    #[test]
    fn a_hint_yields_to_what_is_plain() {
        let versions = Versions::default();
        versions.hinted();
        assert_eq!(versions.refused_v1(), Refused::Other);
        assert!(!versions.lacks_v2() && versions.speaks_v2());
        let versions = Versions::default();
        versions.hinted();
        versions.wrote_v2();
        assert!(!versions.lacks_v2());
        versions.refused_v2();
        versions.wrote_v2();
        assert!(versions.lacks_v2(), "an answer of before");
    }

    #[test]
    fn one_hint_of_a_receiver_that_speaks_2_0_changes_nothing_and_many_do() {
        let versions = Versions::default();
        versions.wrote_v2();
        for _ in 0..HINTS_MAX {
            assert_eq!(versions.hinted(), Hinted::AsV1 { maybe_stored: true });
            assert!(!versions.lacks_v2());
        }
        versions.wrote_v2();
        for _ in 0..HINTS_MAX {
            versions.hinted();
        }
        assert!(!versions.lacks_v2());
        assert_eq!(versions.hinted(), Hinted::AsV1 { maybe_stored: false });
        assert!(versions.lacks_v2());
    }

    #[test]
    fn a_receiver_of_2_0_that_never_says_how_much_it_stored_is_not_asked_for_ever() {
        let versions = Versions::default();
        versions.hinted();
        versions.refused_v1();
        let hints: Vec<Hinted> = (0..=HINTS_MAX).map(|_| versions.hinted()).collect();
        assert_eq!((hints[0], hints[HINTS_MAX as usize]), (Hinted::Again, Hinted::Stored));
        assert!(!versions.lacks_v2());
    }

    #[test]
    fn one_that_refuses_both_is_asked_in_turn_and_slowly() {
        let versions = Versions::default();
        assert_eq!(versions.refused_v2(), Refused::Other);
        for _ in 0..3 {
            assert_eq!(versions.refused_v1(), Refused::Neither);
            assert!(!versions.lacks_v2());
            assert_eq!(versions.refused_v2(), Refused::Neither);
            assert!(versions.lacks_v2());
        }
    }
}
