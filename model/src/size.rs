//! Sizes in bytes as Prometheus writes them: `10MB`, `512KiB`; every unit is a power of 1,024.

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid size: {0:?}; write a number and a unit, such as 512KB, 10MB or 1GB")]
pub struct SizeError(pub String);

/// Reads a size in bytes as Prometheus's `Base2Bytes` does: numbers, whole or not, each with one of B, KB, MB, GB,
/// TB, PB, EB, or with one of B, KiB, MiB, …; all are powers of 1,024. `0` needs no unit.
///
/// # Errors
/// Where the text is no such size, is negative, or is more than 2^63 bytes.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let fail = || SizeError(text.to_owned());
    if matches!(text, "0" | "+0" | "-0") {
        return Ok(0);
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    // One text keeps to one way of writing units.
    let bytes = sum(unsigned, "iB").or_else(|| sum(unsigned, "B")).ok_or_else(fail)?;
    if bytes < i64::MAX as f64 { Ok(bytes as u64) } else { Err(fail()) }
}

/// Whether it is a size, and more than any number of bytes holds.
pub(crate) fn is_too_large(text: &str) -> bool {
    sum(text, "iB").or_else(|| sum(text, "B")).is_some_and(|bytes| bytes >= i64::MAX as f64)
}

/// The sum of all numbers times their units, where a unit is `B`, or a letter and this suffix.
fn sum(text: &str, suffix: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let number_end = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.bytes().take_while(|b| !b.is_ascii_digit() && *b != b'.').count();
        let (unit, after) = after.split_at_checked(unit_end)?;
        let power = match unit {
            "B" => 0,
            _ => {
                1 + ["K", "M", "G", "T", "P", "E"]
                    .iter()
                    .position(|letter| unit.strip_prefix(letter) == Some(suffix))?
            }
        };
        if number.matches('.').count() > 1 || !number.bytes().any(|b| b.is_ascii_digit()) {
            return None;
        }
        total += number.parse::<f64>().ok()? * 1_024_f64.powi(power as i32);
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("10MB"), Ok(10 << 20));
        assert_eq!(parse_size("10MiB"), Ok(10 << 20));
        assert_eq!(parse_size("1KB512B"), Ok(1_536));
        assert_eq!(parse_size("1KiB512B"), Ok(1_536));
        assert_eq!(parse_size("1.5MB"), Ok(3 << 19));
        assert_eq!(parse_size(".5KB"), Ok(512));
        assert_eq!(parse_size("0"), Ok(0));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for bad in
            ["", "10", "MB", "10mb", "-1MB", "99999EB", "1KiB1KB", "1.5.5MB", ".MB", "1KiiB", "10 MB", "1MBä"]
        {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }
}
