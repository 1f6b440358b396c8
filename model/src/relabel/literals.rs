//! A set of literal texts, asked for each series: one hash, one comparison.

use super::matcher::held_bytes;
use crate::bytes::equal;
use crate::hash::hash64;

/// Few texts are compared one by one.
const LINEAR_MAX: usize = 4;

/// Distinct texts, numbered in the order in which they came.
#[derive(Debug)]
pub(super) struct LiteralSet {
    texts: Box<[Box<str>]>,
    /// Open addressing over hashes: the number of a text plus one; 0: free. Half of it stays free. Empty where there are few texts.
    table: Box<[u32]>,
    /// A text as long as 0 to 62 bytes sets its bit, longer ones share the last: most values end here.
    lengths: u64,
}

impl LiteralSet {
    /// The set of these texts, and for each of them which it was of those that came; of equal ones the first counts.
    pub(super) fn new(texts: impl IntoIterator<Item = String>) -> (Self, Vec<usize>) {
        let texts: Vec<String> = texts.into_iter().collect();
        let mut table = vec![0_u32; (texts.len() * 2).next_power_of_two()];
        let mut kept: Vec<Box<str>> = Vec::with_capacity(texts.len());
        let mut came = Vec::with_capacity(texts.len());
        let mut lengths = 0;
        for (at, text) in texts.into_iter().enumerate() {
            let Err(free) = probe(&table, &kept, &text) else { continue };
            lengths |= length_bit(text.len());
            kept.push(text.into_boxed_str());
            came.push(at);
            table[free] = kept.len() as u32;
        }
        if kept.len() <= LINEAR_MAX {
            table.clear();
        }
        (Self { texts: kept.into_boxed_slice(), table: table.into_boxed_slice(), lengths }, came)
    }

    /// Bytes beside its own size.
    pub(super) fn held_bytes(&self) -> usize {
        let texts: usize = self.texts.iter().map(|text| held_bytes(&**text)).sum();
        held_bytes(&*self.texts) + texts + held_bytes(&*self.table)
    }

    /// The number of `text`, where it is in the set.
    pub(super) fn find(&self, text: &str) -> Option<usize> {
        if self.lengths & length_bit(text.len()) == 0 {
            return None;
        }
        if self.table.is_empty() {
            return self.texts.iter().position(|known| equal(known.as_bytes(), text.as_bytes()));
        }
        probe(&self.table, &self.texts, text).ok()
    }
}

fn length_bit(len: usize) -> u64 {
    1 << len.min(63)
}

/// The number of `text`, or else the free place where it would be entered.
fn probe(table: &[u32], texts: &[Box<str>], text: &str) -> Result<usize, usize> {
    let mask = table.len() - 1;
    let mut at = hash64(text.as_bytes()) as usize & mask;
    loop {
        match table[at].checked_sub(1) {
            None => return Err(at),
            Some(number) if equal(texts[number as usize].as_bytes(), text.as_bytes()) => {
                return Ok(number as usize);
            }
            Some(_) => at = (at + 1) & mask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_found_under_the_number_of_its_first_coming() {
        for count in [0, 1, 4, 5, 100, 1000] {
            let texts = || (0..count).map(|n| format!("metric_{n}_{}", "x".repeat(n % 80)));
            let (set, came) = LiteralSet::new(texts().chain(texts()));
            assert_eq!(came, (0..count).collect::<Vec<_>>());
            for (number, text) in texts().enumerate() {
                assert_eq!(set.find(&text), Some(number));
                assert_eq!(set.find(&format!("{text}!")), None);
            }
            assert_eq!(set.find(""), None);
        }
    }

    #[test]
    fn the_empty_text_is_a_text_too() {
        let (set, _) = LiteralSet::new([String::new()]);
        assert_eq!(set.find(""), Some(0));
        assert_eq!(set.find("a"), None);
    }
}
