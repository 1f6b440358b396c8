//! Sizes in bytes as Prometheus writes them: `10MB`, `512KiB`; every unit is a power of 1,024.

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid size: {0:?}; write a number and a unit, such as 512KB, 10MB or 1GB")]
pub struct SizeError(pub String);

/// Reads a size in bytes: a number and one of B, KB, MB, GB, TB, PB, EB (or KiB, MiB, …), all powers of 1,024
/// as in Prometheus's `Base2Bytes`. `0` needs no unit.
///
/// # Errors
/// Where the text is no such size, or more than 2^63 bytes.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    const UNITS: [&str; 7] = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];
    let fail = || SizeError(text.to_owned());
    if text == "0" {
        return Ok(0);
    }
    let mut rest = text;
    let mut total = 0_u64;
    if rest.is_empty() {
        return Err(fail());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let name = rest[digits..digits + unit].replace('i', "");
        let power = UNITS.iter().position(|unit| *unit == name).ok_or_else(fail)?;
        let number: u64 = rest[..digits].parse().map_err(|_| fail())?;
        let bytes = number.checked_mul(1 << (10 * power)).ok_or_else(fail)?;
        total = total.checked_add(bytes).filter(|&total| total <= i64::MAX as u64).ok_or_else(fail)?;
        rest = &rest[digits + unit..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("10MB"), Ok(10 << 20));
        assert_eq!(parse_size("10MiB"), Ok(10 << 20));
        assert_eq!(parse_size("1KB512B"), Ok(1_536));
        assert_eq!(parse_size("0"), Ok(0));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for bad in ["", "10", "MB", "10mb", "-1MB", "1.5MB", "99999EB"] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }
}
