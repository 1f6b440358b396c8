//! Protobuf's variable-length integers: seven bits a byte, lowest first.

/// Bytes of a number.
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    // Zero takes one byte, too.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Appends a number.
#[inline]
pub fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a number from the front of `bytes`. None where they end within it, or it has more than 64 bits.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (value, rest) = split(bytes)?;
    *bytes = rest;
    Some(value)
}

/// The number at the front of `bytes`, and what follows it. (Given and returned by value, so that it stays in registers.)
#[inline]
fn split(bytes: &[u8]) -> Option<(u64, &[u8])> {
    if let Some(four) = bytes.first_chunk() {
        let word = u32::from_le_bytes(*four);
        let ends = !word & 0x8080_8080;
        if ends != 0 {
            // Without a jump for each byte: how many there are cannot be foreseen.
            let last_bit = ends.trailing_zeros();
            let word = word & (u32::MAX >> (31 - last_bit));
            let value = word & 0x7f | word >> 1 & 0x3f80 | word >> 2 & 0x1f_c000 | word >> 3 & 0xfe0_0000;
            return Some((value.into(), bytes.get(last_bit as usize / 8 + 1..)?));
        }
    }
    split_any(bytes)
}

fn split_any(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            // The tenth byte has room for one bit.
            return (at < 9 || byte <= 1).then_some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_reads_back_as_written(value: u64, shift in 0..64_u32, rest: Vec<u8>) {
            let value = value >> shift;
            let mut out = Vec::new();
            push_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            out.extend_from_slice(&rest);
            let mut bytes = &*out;
            prop_assert_eq!(take(&mut bytes), Some(value));
            prop_assert_eq!(bytes, &*rest);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            take(&mut &*bytes);
        }
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_no_number() {
        assert_eq!(take(&mut &[0x80][..]), None);
        assert_eq!(take(&mut &[0xff; 11][..]), None);
        assert_eq!(take(&mut &[][..]), None);
    }
}
