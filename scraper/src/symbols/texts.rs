//! Texts one behind the other in blocks, each of which goes back to the system as soon as nothing in it is used.
//!
//! An allocation for each would take twice as much for short ones, and what is freed between others would stay with the
//! process. What came together mostly goes together, so blocks empty by themselves; out of those that do not, what is
//! left can be moved.

/// Bytes of a block: so many that the C library has it from the system for itself.
pub(super) const BLOCK_BYTES: usize = 1 << 20;

/// A text that is longer than this has a block for itself, so that little of a block stays empty.
const SHARED_BYTES_MAX: usize = BLOCK_BYTES / 8;

/// Where a text stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    block: u32,
    at: u32,
    len: u32,
}

#[derive(Debug, Default)]
pub(super) struct Texts {
    blocks: Vec<Block>,
    /// Numbers of blocks that were given back.
    free: Vec<u32>,
    /// The block that texts are added to.
    open: Option<u32>,
    /// Bytes in all blocks, and those of them that are of a text in use.
    written: usize,
    used: usize,
}

#[derive(Debug, Default)]
struct Block {
    text: String,
    used: usize,
}

impl Texts {
    /// The text at a place; empty where there is none.
    #[inline]
    pub(super) fn get(&self, place: Place) -> &str {
        let Place { block, at, len } = place;
        let block = self.blocks.get(block as usize);
        block.and_then(|block| block.text.get(at as usize..at as usize + len as usize)).unwrap_or_default()
    }

    pub(super) fn add(&mut self, text: &str) -> Place {
        if text.is_empty() {
            return Place::default();
        }
        let number = self.block_for(text.len());
        let block = &mut self.blocks[number as usize];
        let at = block.text.len() as u32;
        block.text.push_str(text);
        block.used += text.len();
        self.written += text.len();
        self.used += text.len();
        Place { block: number, at, len: text.len() as u32 }
    }

    /// A block with room for so many bytes.
    fn block_for(&mut self, bytes: usize) -> u32 {
        let is_alone = bytes > SHARED_BYTES_MAX;
        let has_room = |number: &u32| {
            self.blocks.get(*number as usize).is_some_and(|block| block.text.len() + bytes <= BLOCK_BYTES)
        };
        if let Some(open) = self.open.filter(has_room).filter(|_| !is_alone) {
            return open;
        }
        let text = String::with_capacity(if is_alone { bytes } else { BLOCK_BYTES });
        let block = Block { text, used: 0 };
        let number = match self.free.pop() {
            Some(number) => {
                self.blocks[number as usize] = block;
                number
            }
            None => {
                self.blocks.push(block);
                (self.blocks.len() - 1) as u32
            }
        };
        if !is_alone {
            self.open = Some(number);
        }
        number
    }

    pub(super) fn remove(&mut self, place: Place) {
        let len = place.len as usize;
        let Some(block) = self.blocks.get_mut(place.block as usize).filter(|_| len > 0) else { return };
        block.used -= len;
        self.used -= len;
        if block.used > 0 {
            return;
        }
        self.written -= block.text.len();
        if self.open == Some(place.block) {
            block.text.clear();
        } else {
            block.text = String::new();
            self.free.push(place.block);
        }
    }

    /// Whether more than half of what is held is of no use, so that it is worth to move what is.
    pub(super) fn has_garbage(&self) -> bool {
        self.written > 2 * self.used + 2 * BLOCK_BYTES
    }

    /// Moves a text out of its block, where more than a quarter of that is of no use. That is less than what it takes to
    /// have garbage: then much has to be freed before it is looked at all texts again.
    pub(super) fn tidy(&mut self, place: &mut Place) {
        let Some(block) = self.blocks.get(place.block as usize).filter(|_| place.len > 0) else { return };
        if self.open == Some(place.block) || block.used > block.text.len() / 4 * 3 {
            return;
        }
        let text = self.get(*place).to_owned();
        self.remove(std::mem::take(place));
        *place = self.add(&text);
    }

    /// Bytes of the texts that are used.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Memory held, in bytes, about.
    pub(super) fn bytes(&self) -> usize {
        self.written + self.blocks.capacity() * size_of::<Block>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many of these texts fill some blocks.
    const COUNT: usize = 300_000;

    fn text(number: usize) -> String {
        format!("é, a text with number {number}")
    }

    fn filled() -> (Texts, Vec<Place>) {
        let mut texts = Texts::default();
        let places = (0..COUNT).map(|number| texts.add(&text(number))).collect();
        (texts, places)
    }

    #[test]
    fn texts_of_any_length_are_found_at_their_places() {
        let (mut texts, places) = filled();
        let long = "é".repeat(BLOCK_BYTES);
        let (long_at, empty_at, next_at) = (texts.add(&long), texts.add(""), texts.add("next"));
        assert!((0..COUNT).all(|number| texts.get(places[number]) == text(number)));
        assert_eq!((texts.get(long_at), texts.get(empty_at), texts.get(next_at)), (&*long, "", "next"));
        assert_eq!(
            next_at.block,
            places[COUNT - 1].block,
            "a long one does not end the block that is filled"
        );
        let before = texts.bytes();
        texts.remove(long_at);
        assert!(texts.bytes() <= before - long.len());
    }

    #[test]
    fn blocks_of_which_nothing_is_used_are_given_back_and_used_again() {
        let (mut texts, places) = filled();
        let blocks = texts.blocks.len();
        assert!(blocks > 4);
        places[..COUNT - 1].iter().for_each(|place| texts.remove(*place));
        assert_eq!(texts.free.len(), blocks - 1);
        assert_eq!(texts.get(places[COUNT - 1]), text(COUNT - 1));
        texts.remove(places[COUNT - 1]);
        assert_eq!((texts.written, texts.used), (0, 0));
        (0..COUNT).for_each(|number| _ = texts.add(&text(number)));
        assert_eq!(texts.blocks.len(), blocks);
    }

    #[test]
    fn what_is_left_here_and_there_is_moved_together() {
        let (mut texts, mut places) = filled();
        (0..COUNT).filter(|number| number % 10 > 0).for_each(|number| {
            texts.remove(std::mem::take(&mut places[number]));
        });
        assert!(texts.has_garbage());
        places.iter_mut().for_each(|place| texts.tidy(place));
        assert!(!texts.has_garbage());
        assert!(texts.written - texts.used < BLOCK_BYTES);
        assert!((0..COUNT).step_by(10).all(|number| texts.get(places[number]) == text(number)));
    }
}
