//! A member's targets of one job, in the order of their keys: a list whose copies share what they have in common.
//!
//! It is kept in pieces. A board takes a copy, which costs a reference a piece; a change after that copies one piece, and
//! not the list.

use std::sync::Arc;

use promring_model::target::TargetKey;

use crate::targets::Discovered;

/// Targets of a piece at most: what a change copies.
const PIECE_MAX: usize = 256;

type Piece = Vec<Arc<Discovered>>;

/// Targets by key and identity. No piece is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    pieces: Vec<Arc<Piece>>,
    len: usize,
}

impl List {
    /// How many targets there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The targets, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Discovered>> {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }

    /// Adds a target. There may be others of its key.
    pub(crate) fn insert(&mut self, target: Arc<Discovered>) {
        self.len += 1;
        let order = |target: &Arc<Discovered>| (target.target.key, target.target.id);
        let new = order(&target);
        let after =
            self.pieces.partition_point(|piece| piece.first().is_some_and(|first| order(first) <= new));
        let at = after.saturating_sub(1);
        let Some(piece) = self.pieces.get_mut(at) else {
            self.pieces.push(Arc::new(vec![target]));
            return;
        };
        let piece = Arc::make_mut(piece);
        piece.insert(piece.partition_point(|known| order(known) <= new), target);
        if piece.len() > PIECE_MAX {
            let rest = piece.split_off(PIECE_MAX / 2);
            self.pieces.insert(at + 1, Arc::new(rest));
        }
    }

    /// Takes out the targets of a key.
    pub(crate) fn remove(&mut self, key: TargetKey) -> Vec<Arc<Discovered>> {
        let mut removed = Vec::new();
        // Those of one key may lie in several pieces.
        loop {
            let ends_before = |piece: &Arc<Piece>| piece.last().is_some_and(|last| last.target.key < key);
            let at = self.pieces.partition_point(ends_before);
            let Some(piece) = self.pieces.get_mut(at) else { break };
            let begin = piece.partition_point(|known| known.target.key < key);
            let end = piece.partition_point(|known| known.target.key <= key);
            if begin == end {
                break;
            }
            let piece = Arc::make_mut(piece);
            removed.extend(piece.drain(begin..end));
            if piece.is_empty() {
                self.pieces.remove(at);
            } else {
                self.join(at);
            }
            self.join(at.saturating_sub(1));
        }
        self.len -= removed.len();
        removed
    }

    /// Makes one piece of this one and the next, where that is a small one.
    fn join(&mut self, at: usize) {
        let len = |at: usize| self.pieces.get(at).map(|piece| piece.len());
        let (Some(one), Some(next)) = (len(at), len(at + 1)) else { return };
        if one + next <= PIECE_MAX / 2 {
            let next = self.pieces.remove(at + 1);
            if let Some(piece) = self.pieces.get_mut(at) {
                Arc::make_mut(piece).extend(next.iter().cloned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use promring_model::target::TargetId;
    use proptest::prelude::*;

    use super::*;
    use crate::discovery::Group;
    use crate::packed::Packed;
    use crate::targets::PackedTarget;

    fn target(key: u64, id: u128) -> Arc<Discovered> {
        let target = PackedTarget {
            id: TargetId(id),
            key: TargetKey(key),
            job: Arc::from("web"),
            labels: Packed::from_pairs::<&str, &str>([]),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
        };
        let labels = Packed::from_pairs::<&str, &str>([]);
        let group = Group { source: Arc::from("g"), labels, targets: Box::new([]) };
        Arc::new(Discovered::new(target, Arc::new(group), 0))
    }

    fn told(list: &List) -> Vec<(u64, u128)> {
        list.iter().map(|target| (target.target.key.0, target.target.id.0)).collect()
    }

    proptest! {
        /// Whatever came before, the list has what was put in and not taken out, and a copy what there was.
        #[test]
        fn a_list_has_what_it_was_given_and_copies_never_change(
            steps in prop::collection::vec((0..40_u64, 0..400_usize), 1..60),
        ) {
            let (mut list, mut model) = (List::default(), std::collections::BTreeSet::new());
            let mut next = 0;
            for (key, count) in steps {
                let (copy, before) = (list.clone(), told(&list));
                if count < 150 {
                    let removed: Vec<u64> = list.remove(TargetKey(key)).iter().map(|t| t.target.key.0).collect();
                    prop_assert_eq!(removed.len(), model.iter().filter(|(known, _)| *known == key).count());
                    prop_assert!(removed.iter().all(|removed| *removed == key));
                    model.retain(|(known, _)| *known != key);
                } else {
                    for n in 0..count {
                        next += 1;
                        // Some spread over the keys, some of one key in a row.
                        let key = if n % 2 == 0 { key } else { (key + n as u64) % 40 };
                        list.insert(target(key, next));
                        model.insert((key, next));
                    }
                }
                prop_assert_eq!(told(&list), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(list.len(), model.len());
                prop_assert!(list.pieces.iter().all(|piece| (1..=PIECE_MAX).contains(&piece.len())));
                let pairs = list.pieces.windows(2).filter(|pair| pair[0].len() + pair[1].len() <= PIECE_MAX / 2);
                prop_assert_eq!(pairs.count(), 0, "no two small ones lie side by side");
                prop_assert_eq!(told(&copy), before);
            }
        }
    }
}
