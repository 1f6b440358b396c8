//! Searching for what most often is a few bytes away, in place. memchr's functions are for long ways: they look up what the
//! processor can do, and the call and that take longer than comparing the sixteen bytes that most labels and values fit in.

#[cfg(target_arch = "x86_64")]
use memchr::arch::x86_64::sse2::memchr::{One, Three, Two};

/// The first of a byte.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn find(byte: u8, text: &[u8]) -> Option<usize> {
    One::new(byte)?.find(text)
}

/// The first of two bytes.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn find2(one: u8, two: u8, text: &[u8]) -> Option<usize> {
    Two::new(one, two)?.find(text)
}

/// The first of three bytes.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn find3(one: u8, two: u8, three: u8, text: &[u8]) -> Option<usize> {
    Three::new(one, two, three)?.find(text)
}

/// The last of a byte.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn rfind(byte: u8, text: &[u8]) -> Option<usize> {
    One::new(byte)?.rfind(text)
}

// Elsewhere nothing is looked up at run time.
#[cfg(not(target_arch = "x86_64"))]
pub(super) use memchr::{memchr as find, memchr2 as find2, memchr3 as find3, memrchr as rfind};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_at_any_distance_and_not_where_there_are_none() {
        for len in 0..100 {
            let mut text = vec![b'x'; len];
            assert_eq!(
                (find2(b'a', b'b', &text), find3(b'a', b'b', b'c', &text), rfind(b'a', &text)),
                (None, None, None)
            );
            for at in 0..len {
                for byte in [b'a', b'b', b'c'] {
                    text[at] = byte;
                    assert_eq!(find2(b'a', b'b', &text), Some(at).filter(|_| byte != b'c'));
                    assert_eq!(find3(b'a', b'b', b'c', &text), Some(at));
                    assert_eq!(rfind(byte, &text), Some(at));
                }
                text[at] = b'x';
            }
        }
    }
}
