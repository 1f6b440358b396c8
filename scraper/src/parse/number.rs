//! Numbers as Go reads them, since that is what exporters are written against.

use promring_proto::remote_write::NORMAL_NAN_BITS;

/// Reads a float as Go's `strconv.ParseFloat` does, less the forms that the text format refuses
/// (underscores and hexadecimal): infinities and NaN in any case, overflow is an error, a signed NaN too.
/// Every NaN becomes the same one.
pub fn parse_float(text: &[u8]) -> Option<f64> {
    let last = *text.last()?;
    // Most values end in a digit; only the others can be a word.
    if !last.is_ascii_digit() && last != b'.' {
        return parse_word(text);
    }
    if let Some(value) = decimal(text) {
        return Some(value);
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    // Rust gives infinity for 1e400, Go an error.
    value.is_finite().then_some(value)
}

/// Digits that a float holds exactly, whatever they are.
const EXACT_DIGITS_MAX: usize = 15;

/// Digits that 64 bits hold, whatever they are.
const DIGITS_MAX: usize = 19;

const POWERS_OF_TEN: [u64; DIGITS_MAX + 1] = {
    let mut powers = [1; DIGITS_MAX + 1];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// Reads what nearly all values are: digits, perhaps with a point. None: it must be read in another way, if it can be read at
/// all.
#[inline]
pub(super) fn decimal(text: &[u8]) -> Option<f64> {
    leading_decimal(text).filter(|(_, len)| *len == text.len()).map(|(value, _)| value)
}

/// Reads such a number at the beginning of `text`, and tells how many bytes it has.
#[inline]
pub(super) fn leading_decimal(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(text.first() == Some(&b'-'));
    let digits = &text[sign..];
    // So many with a point are too many without it.
    let mut len = digits.len().min(DIGITS_MAX + 2);
    let (mut number, mut point) = (0_u64, None);
    for (at, byte) in digits[..len].iter().enumerate() {
        match byte.wrapping_sub(b'0') {
            // What is too long may be too large, and is not used then.
            digit @ 0..=9 => number = number.wrapping_mul(10).wrapping_add(digit.into()),
            _ if *byte == b'.' && point.is_none() => point = Some(at),
            _ => {
                len = at;
                break;
            }
        }
    }
    let count = len - usize::from(point.is_some());
    if !(1..=DIGITS_MAX).contains(&count) {
        return None;
    }
    let divisor = *POWERS_OF_TEN.get(point.map_or(0, |at| len - at - 1))?;
    let value = if count <= EXACT_DIGITS_MAX {
        // Both are exact as floats, so that their quotient is the nearest float (Clinger 1990). As signed numbers they become
        // floats in one step.
        number as i64 as f64 / divisor as i64 as f64
    } else {
        quotient(number, divisor)
    };
    Some((if sign > 0 { -value } else { value }, sign + len))
}

/// The float that is nearest to the quotient of two whole numbers; of two, the even one.
fn quotient(number: u64, divisor: u64) -> f64 {
    // Shifted so that the whole quotient has 63 or 64 bits, unless it is zero: more than a float, and some to round by, in
    // one division. All bits behind those matter in one way only: whether any of them is set.
    let (up, down) = (number.leading_zeros().min(63), divisor.leading_zeros());
    let (dividend, divisor) = (u128::from(number << up) << 63, u128::from(divisor << down));
    let (whole, rest) = ((dividend / divisor) as u64, dividend % divisor);
    let rounded = (whole | u64::from(rest != 0)) as f64;
    // A power of two changes nothing but the exponent.
    rounded * f64::from_bits(u64::from(1_023 + down - up - 63) << 52)
}

fn parse_word(text: &[u8]) -> Option<f64> {
    let (sign, word) = match text.first()? {
        b'+' => (Some(1.0), &text[1..]),
        b'-' => (Some(-1.0), &text[1..]),
        _ => (None, text),
    };
    if word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"infinity") {
        return Some(f64::INFINITY * sign.unwrap_or(1.0));
    }
    (word.eq_ignore_ascii_case(b"nan") && sign.is_none()).then_some(f64::from_bits(NORMAL_NAN_BITS))
}

/// Makes every NaN the same one: an exposed staleness marker is none.
pub fn normalise_nan(value: f64) -> f64 {
    if value.is_nan() { f64::from_bits(NORMAL_NAN_BITS) } else { value }
}

/// Reads a timestamp in Unix milliseconds: digits only, since the text format has no negative times.
pub fn parse_timestamp_ms(text: &[u8]) -> Option<i64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads OpenMetrics' timestamp, seconds as a float, into Unix milliseconds. It may be negative; infinities and NaN
/// are no times. What milliseconds cannot hold becomes the nearest that they can.
pub fn parse_timestamp_seconds(text: &[u8]) -> Option<i64> {
    let seconds = parse_float(text).filter(|seconds| seconds.is_finite())?;
    // As Prometheus does it, towards zero.
    Some((seconds * 1_000.0) as i64)
}

/// Writes a bucket's bound or a quantile in the one way that Prometheus writes it: `1` becomes `1.0`.
/// None where the text is no number or is written so already.
pub fn normalise_float(text: &str) -> Option<String> {
    if is_written_so(text.as_bytes()) {
        return None;
    }
    let written = format_float(parse_float(text.as_bytes())?);
    (written != text).then_some(written)
}

/// Whether a number is surely written as Prometheus writes it, which most bounds are: digits, a point, and decimals of which the
/// last is no zero unless it is the only one. So few digits are the shortest of the float that they are read as.
fn is_written_so(text: &[u8]) -> bool {
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let Some(point) = text.iter().position(|&byte| byte == b'.') else { return text == b"+Inf" };
    let (whole, decimals) = (&text[..point], &text[point + 1..]);
    let is_plain = match whole {
        // With more zeros it has an exponent.
        b"0" => !decimals.starts_with(b"0000"),
        [first, ..] => *first != b'0' && whole.len() <= 6,
        [] => false,
    };
    is_plain
        && text.len() <= EXACT_DIGITS_MAX
        && digits(whole)
        && digits(decimals)
        && (decimals == b"0" || !decimals.ends_with(b"0"))
}

/// A bucket's bound or a quantile as Prometheus writes it in a label.
pub fn format_float(value: f64) -> String {
    if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else if value.is_nan() {
        "NaN".to_owned()
    } else if value == 0.0 {
        // A negative zero loses its sign.
        "0.0".to_owned()
    } else {
        plain_decimal(value).unwrap_or_else(|| go_shortest(value))
    }
}

/// Decimals that the shortest form of most bounds has at most.
const DECIMALS_MAX: usize = 6;

/// The shortest form of a number that takes few decimals and no exponent, as most bounds do.
fn plain_decimal(value: f64) -> Option<String> {
    if !(1e-4..1e6).contains(&value) {
        return None;
    }
    // Both are whole and exact, so that a quotient equal to the value says that these digits read as it (Clinger 1990). They
    // are at most twelve, and two numbers of so few digits never read as the same float: there is none shorter.
    let (decimals, digits) = (1..=DECIMALS_MAX).find_map(|decimals| {
        let power = POWERS_OF_TEN[decimals] as f64;
        let digits = (value * power).round();
        (digits / power == value).then_some((decimals, digits as u64))
    })?;
    let (mut text, mut rest, mut at) = ([b'0'; 16], digits, 16);
    let point = 16 - decimals - 1;
    while rest > 0 || at > point - 1 {
        at -= 1;
        if at == point {
            text[at] = b'.';
            continue;
        }
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    Some(String::from_utf8_lossy(&text[at..]).into_owned())
}

/// Go's format 'g' with the shortest digits, and `.0` where neither a point nor an exponent is left
/// (model/textparse's `formatOpenMetricsFloat`).
fn go_shortest(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mended = even_digits(value, mantissa, exponent);
    let mantissa = mended.as_deref().unwrap_or(mantissa);
    // 'g' with the shortest digits takes an exponent below -4 or from 6 on.
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |digits| ("-", digits));
    let digits = mantissa.replace('.', "");
    let before = usize::try_from(exponent + 1).unwrap_or(0);
    match digits.split_at_checked(before) {
        Some(("", decimals)) => {
            let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
            format!("{sign}0.{:0<zeros$}{decimals}", "")
        }
        Some((whole, decimals)) if !decimals.is_empty() => format!("{sign}{whole}.{decimals}"),
        _ => format!("{sign}{digits:0<before$}.0"),
    }
}

/// Decimals behind the first digit that no float has more of.
const EXACT_DECIMALS_MAX: usize = 766;

/// Where a float lies in the middle between two numbers of as many digits, Rust writes either, and Go the one whose last digit is
/// even. None: it is written so, or lies elsewhere.
fn even_digits(value: f64, mantissa: &str, exponent: i32) -> Option<String> {
    let len = mantissa.len() - usize::from(mantissa.starts_with('-')) - 1;
    let (most, last) = mantissa.split_at_checked(mantissa.len().checked_sub(1)?)?;
    let last: u8 = last.parse().ok()?;
    // Of numbers of so few digits no two are read as one float, so none lies in the middle.
    if len <= EXACT_DIGITS_MAX || last.is_multiple_of(2) {
        return None;
    }
    let exact = format!("{value:.EXACT_DECIMALS_MAX$e}");
    let (same, rest) = exact.split_at_checked(mantissa.len())?;
    let rest = rest.split_once('e')?.0.strip_prefix('5')?;
    if rest.bytes().any(|digit| digit != b'0') {
        return None;
    }
    // An odd last digit has its even neighbours without a carry, but for a nine, above which a shorter number lies.
    let last = if same == mantissa { last + 1 } else { last - 1 };
    let even = format!("{most}{last}");
    let reads_back = format!("{even}e{exponent}").parse() == Ok(value);
    (last < 10 && reads_back).then_some(even)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn floats_read_as_go_reads_them() {
        for (text, value) in [
            ("1", 1.0),
            ("-1.5e3", -1_500.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("+Inf", f64::INFINITY),
            ("-infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(parse_float(text.as_bytes()), Some(value), "{text}");
        }
        assert_eq!(parse_float(b"NaN").map(f64::to_bits), Some(NORMAL_NAN_BITS));
    }

    proptest! {
        #[test]
        fn decimals_are_read_as_any_others(text in "[-+]?[0-9]{0,21}(\\.[0-9]{0,21})?") {
            let expected: Option<f64> = text.parse().ok();
            prop_assert_eq!(parse_float(text.as_bytes()).map(f64::to_bits), expected.map(f64::to_bits));
        }

        #[test]
        fn what_is_taken_to_be_written_in_the_one_way_is(text in "-?0?[0-9]{0,7}\\.?0{0,5}[0-9]{0,9}(e[0-9])?") {
            if is_written_so(text.as_bytes()) {
                prop_assert_eq!(&format_float(parse_float(text.as_bytes()).unwrap()), &text);
            }
        }
    }

    proptest! {
        #[test]
        fn a_bound_is_written_as_any_other(digits in 0..2_000_000_000_u64, decimals in 0..9_i32, bits: u64) {
            for value in [digits as f64 / 10_f64.powi(decimals), f64::from_bits(bits), f64::from_bits(bits >> 12 | 1023 << 52)] {
                if let Some(text) = plain_decimal(value) {
                    prop_assert_eq!(text, go_shortest(value));
                }
            }
        }
    }

    /// The shortest digits that read as `whole / 2^halvings`, of those the nearest, and of two of those the even ones: by whole numbers
    /// alone.
    fn shortest_digits(whole: u64, halvings: u32) -> String {
        // Multiplied by ten to the power of `halvings` it is a whole number.
        let exact = u128::from(whole) * 5_u128.pow(halvings);
        let value = whole as f64 / 2_f64.powi(halvings as i32);
        for cut in (0..=exact.ilog10()).rev() {
            let unit = 10_u128.pow(cut);
            let (lower, rest) = (exact / unit, exact % unit);
            let reads_back =
                |digits: &u128| format!("{digits}e{}", cut as i32 - halvings as i32).parse() == Ok(value);
            let mut found: Vec<u128> = [lower, lower + 1].into_iter().filter(reads_back).collect();
            found.sort_by_key(|&digits| (if digits == lower { rest } else { unit - rest }, digits % 2));
            if let Some(digits) = found.first() {
                return digits.to_string().trim_end_matches('0').to_owned();
            }
        }
        exact.to_string()
    }

    fn digits_of(text: &str) -> String {
        let digits = text.split('e').next().unwrap().replace('.', "");
        digits.trim_start_matches('0').trim_end_matches('0').to_owned()
    }

    proptest! {
        #[test]
        fn bounds_have_the_digits_that_go_gives_them(bits: u64, halvings in 1..22_u32) {
            // Many of these lie in the middle between two numbers of as many digits.
            let whole = bits >> 11 | 1 << 52 | 1;
            let value = whole as f64 / 2_f64.powi(halvings as i32);
            let text = go_shortest(value);
            prop_assert_eq!(digits_of(&text), shortest_digits(whole, halvings));
            prop_assert_eq!(text.parse(), Ok(value));
            prop_assert_eq!(go_shortest(-value), format!("-{text}"));
        }

        #[test]
        fn bounds_without_an_exponent_have_them_too(whole in 1..=999_999_u64 << 11, halvings in 0..16_u32) {
            let value = whole as f64 / 2_f64.powi(halvings as i32);
            prop_assert_eq!(digits_of(&go_shortest(value)), shortest_digits(whole, halvings));
        }
    }

    #[test]
    fn of_two_numbers_as_near_the_even_one_is_written() {
        // In eighths and in 2048ths.
        for (value, written) in [
            (1_690_094_308_842_941_f64 / 8.0, "2.1126178860536762e+14"),
            (-1_690_094_308_842_941_f64 / 8.0, "-2.1126178860536762e+14"),
            (7_200_000_000_000_002_f64 / 8.0, "9.000000000000002e+14"),
            (7_200_000_000_000_006_f64 / 8.0, "9.000000000000008e+14"),
            (2_047_997_953_f64 / 2_048.0, "999999.0004882812"),
            (2_047_997_955_f64 / 2_048.0, "999999.0014648438"),
        ] {
            assert_eq!(go_shortest(value), written);
        }
    }

    #[test]
    fn numbers_of_all_sizes_are_written_as_go_writes_them() {
        for (value, written) in [
            (123_456.0, "123456.0"),
            (-100_000.0, "-100000.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (0.5, "0.5"),
            (0.000_123, "0.000123"),
            (-0.000_1, "-0.0001"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(go_shortest(value), written);
        }
    }

    proptest! {
        #[test]
        fn floats_with_all_their_digits_are_read_as_they_were(bits: u64, exponent in -16..10_i32) {
            // As many digits as floats have, near and at the middle between two of them.
            let value = f64::from_bits(bits >> 12 | 1023 << 52) * 10_f64.powi(exponent);
            for text in [format!("{value}"), format!("{value:.17}"), format!("{value:.16}")] {
                let expected: f64 = text.parse().unwrap();
                prop_assert_eq!(parse_float(text.as_bytes()).map(f64::to_bits), Some(expected.to_bits()), "{}", text);
            }
            let middle = (u128::from(bits >> 11 | 1 << 53) * 2 + 1).to_string();
            let expected: f64 = middle.parse().unwrap();
            prop_assert_eq!(parse_float(middle.as_bytes()).map(f64::to_bits), Some(expected.to_bits()), "{}", middle);
        }
    }

    #[test]
    fn a_number_between_two_floats_becomes_the_even_one() {
        for text in [
            "9007199254740993",
            "9007199254740995",
            "900719925474099.3",
            "18014398509481990",
            "0.0000000000000000",
            "1.0000000000000001110",
            "9999999999999999999",
            "0.9999999999999999999",
            "1844674407370955161.5",
        ] {
            let expected = text.parse().ok();
            assert_eq!(parse_float(text.as_bytes()).map(f64::to_bits), expected.map(f64::to_bits), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "", "1e400", "-1e400", "+NaN", "-nan", "1_000", "0x1p-2", "0x10", "1e", "abc", " 1", "--1",
            "1.2.3",
        ] {
            assert_eq!(parse_float(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn bounds_are_written_in_one_way() {
        for (text, written) in [
            ("1", Some("1.0")),
            ("1.0", None),
            ("0.05", None),
            ("5e-3", Some("0.005")),
            ("+Inf", None),
            ("-0", Some("0.0")),
            ("Inf", Some("+Inf")),
            ("1000000", Some("1e+06")),
            ("123456", Some("123456.0")),
            ("1234567.5", Some("1.2345675e+06")),
            ("0.0001", None),
            ("1e22", Some("1e+22")),
            ("0.00001", Some("1e-05")),
            ("x", None),
        ] {
            assert_eq!(normalise_float(text).as_deref(), written, "{text}");
        }
    }

    #[test]
    fn bounds_as_clients_print_them_need_no_formatting() {
        for text in ["0.005", "0.0001", "0.25", "1.0", "10.0", "2.5", "123456.0", "0.0", "+Inf"] {
            assert!(is_written_so(text.as_bytes()), "{text}");
        }
        for text in ["1", "01.0", "1.50", "0.00001", "1234567.5", "-0.0", ".5", "1.", "", "."] {
            assert!(!is_written_so(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn seconds_become_milliseconds() {
        for (text, ms) in [
            ("1.5", Some(1_500)),
            ("1700000000.1239", Some(1_700_000_000_123)),
            ("-1.0015", Some(-1_001)),
            ("1e3", Some(1_000_000)),
            ("1e300", Some(i64::MAX)),
            ("NaN", None),
            ("+Inf", None),
            ("", None),
        ] {
            assert_eq!(parse_timestamp_seconds(text.as_bytes()), ms, "{text}");
        }
    }

    #[test]
    fn timestamps_are_digits_only() {
        assert_eq!(parse_timestamp_ms(b"1700000000000"), Some(1_700_000_000_000));
        for text in ["", "-1", "+1", "1.5", "99999999999999999999"] {
            assert_eq!(parse_timestamp_ms(text.as_bytes()), None, "{text}");
        }
    }
}
