//! Protobuf's variable-length integers, as encoding by hand needs them.

/// Bytes of a varint.
#[inline]
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    // 7 bits a byte; zero takes one.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Appends a varint.
#[inline]
pub fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_length_of_a_varint_is_what_is_written(value: u64, bits in 0..64_u32) {
            // Short ones as often as long ones.
            let value = value >> bits;
            let mut out = Vec::new();
            push_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
        }
    }
}
