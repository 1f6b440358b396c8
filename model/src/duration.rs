//! Durations as Prometheus writes them: `1h30m`, `15s`, `500ms`.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing to read.
    #[error("empty duration string")]
    Empty,
    /// Not of the form `1h30m`.
    #[error("not a valid duration string: {0:?}; write a number and a unit, such as 15s, 1m or 1h30m")]
    Syntax(String),
    /// More milliseconds than fit.
    #[error("duration out of range: {0:?}")]
    Range(String),
}

/// Units in the order that they must stand in, with their length in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration by Prometheus's grammar: numbers with units, each unit at most once, in descending order.
/// `0` needs no unit.
///
/// # Errors
/// Where the text does not follow that grammar.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let syntax = || DurationError::Syntax(text.to_owned());
    let range = || DurationError::Range(text.to_owned());
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total_ms = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let (number, name) = (&rest[..digits], &rest[digits..digits + unit]);
        if digits == 0 {
            return Err(syntax());
        }
        let (_, length_ms) = units.find(|(unit, _)| *unit == name).ok_or_else(syntax)?;
        let number: u64 = number.parse().map_err(|_| range())?;
        total_ms =
            number.checked_mul(*length_ms).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(range)?;
        rest = &rest[digits + unit..];
    }
    // Go holds durations as nanoseconds in an i64.
    if total_ms > i64::MAX as u64 / 1_000_000 { Err(range()) } else { Ok(Duration::from_millis(total_ms)) }
}

/// Writes a duration as Prometheus does: `1h30m`, `15s`, `1d1h`; years and weeks only where they divide it.
/// What is under a millisecond is left out.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, length_ms) in UNITS {
        let exact_only = matches!(unit, "y" | "w");
        if (exact_only && ms % length_ms != 0) || ms < length_ms {
            continue;
        }
        text.push_str(&(ms / length_ms).to_string());
        text.push_str(unit);
        ms %= length_ms;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_prometheus_reads_them() {
        let ms = |text| parse_duration(text).map(|d| d.as_millis());
        assert_eq!(ms("15s"), Ok(15_000));
        assert_eq!(ms("1h30m"), Ok(5_400_000));
        assert_eq!(ms("1m500ms"), Ok(60_500));
        assert_eq!(ms("0"), Ok(0));
        assert_eq!(ms("4w"), Ok(4 * 7 * 24 * 3_600_000));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for bad in ["", "1", "1.5h", "-1m", "1m1h", "1s1s", "s", "1x", " 1s", "294y", "99999999999999999999s"]
        {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn writing_and_reading_give_the_same() {
        for text in ["0s", "1ms", "15s", "1m30s", "1h", "1d", "1w", "1y", "1d1h", "8d", "1h30m500ms"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), *text);
        }
    }
}
