//! Comparing short texts, eight bytes at a time and inline.
//!
//! Names and values are a few dozen bytes long, and most of those that differ do so in the first eight. A call of the C
//! library's memcmp costs several times as much: its masked loads take dozens of cycles on some processors.

use std::cmp::Ordering;

/// Whether the two are equal.
#[inline]
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && same(a, b)
}

/// Whether `text` begins with `prefix`.
#[inline]
pub(crate) fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|head| same(head, prefix))
}

/// Whether `text` ends with `suffix`.
#[inline]
pub(crate) fn ends_with(text: &[u8], suffix: &[u8]) -> bool {
    text.len().checked_sub(suffix.len()).is_some_and(|at| same(&text[at..], suffix))
}

/// Compares two of one length.
#[inline]
fn same(mut a: &[u8], mut b: &[u8]) -> bool {
    while let (Some((head_a, rest_a)), Some((head_b, rest_b))) =
        (a.split_first_chunk::<8>(), b.split_first_chunk::<8>())
    {
        if u64::from_ne_bytes(*head_a) != u64::from_ne_bytes(*head_b) {
            return false;
        }
        (a, b) = (rest_a, rest_b);
    }
    if let (Some((head_a, rest_a)), Some((head_b, rest_b))) =
        (a.split_first_chunk::<4>(), b.split_first_chunk::<4>())
    {
        if u32::from_ne_bytes(*head_a) != u32::from_ne_bytes(*head_b) {
            return false;
        }
        (a, b) = (rest_a, rest_b);
    }
    a.iter().zip(b).all(|(a, b)| a == b)
}

/// The order of the two, as `a.cmp(b)` has it.
#[inline]
#[must_use]
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    match (a.first(), b.first()) {
        // Most names differ in the first byte already.
        (Some(a), Some(b)) if a != b => a.cmp(b),
        _ => compare_words(a, b),
    }
}

#[inline]
fn compare_words(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while let (Some((head_a, rest_a)), Some((head_b, rest_b))) =
        (a.split_first_chunk::<8>(), b.split_first_chunk::<8>())
    {
        let order = u64::from_be_bytes(*head_a).cmp(&u64::from_be_bytes(*head_b));
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    let differs = a.iter().zip(b).map(|(a, b)| a.cmp(b)).find(|order| order.is_ne());
    differs.unwrap_or_else(|| a.len().cmp(&b.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_bytes(a in "[ab\u{ff}]{0,20}", b in "[ab\u{ff}]{0,20}", common in "[ab]{0,17}") {
            let (a, b) = (common.clone() + &a, common + &b);
            prop_assert_eq!(compare(a.as_bytes(), b.as_bytes()), a.cmp(&b));
        }
    }

    #[test]
    fn it_agrees_with_the_standard_library_at_every_length() {
        let text: Vec<u8> = (0..40).collect();
        for len in 0..=text.len() {
            let part = &text[..len];
            assert!(
                equal(part, &Vec::from(part)) && starts_with(&text, part) && ends_with(&text, &text[len..])
            );
            for at in 0..len {
                let mut other = part.to_vec();
                other[at] ^= 1;
                assert!(!equal(part, &other) && !starts_with(&text, &other), "{len}, {at}");
                assert!(!ends_with(part, &other[at..]), "{len}, {at}");
            }
            assert!(!equal(&text, part) || len == text.len());
            assert!(!starts_with(part, &text) || len == text.len());
        }
    }
}
