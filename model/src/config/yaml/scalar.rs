//! What a plain scalar stands for, by the rules of Prometheus's YAML library (YAML 1.1 with its own changes):
//! `yes` is true, `010` is eight, `1_000` is a thousand.

use super::Scalar;

/// What a scalar stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Resolved {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// Anything else. Where a text is wanted, the others are taken as they are written, but for null.
    Text,
}

/// A tag that says what a value is: `!!int`, `!!str`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    Text,
    Int,
    Float,
    Bool,
    Null,
    Binary,
}

/// Why a value cannot be what its tag says, with a hint.
pub(super) fn mistagged(scalar: &Scalar) -> Option<(String, &'static str)> {
    let tag = scalar.tag?;
    let (name, fits) = match (tag, resolve(scalar)) {
        (Core::Text, _) => return None,
        (Core::Binary, _) => {
            return Some((
                "not supported: a value in base64 (!!binary)".to_owned(),
                "write the text itself, in quotes",
            ));
        }
        (Core::Int, found) => ("!!int", matches!(found, Resolved::Int(_))),
        (Core::Float, found) => ("!!float", matches!(found, Resolved::Int(_) | Resolved::Float(_))),
        (Core::Bool, found) => ("!!bool", matches!(found, Resolved::Bool(_))),
        (Core::Null, found) => ("!!null", found == Resolved::Null),
    };
    (!fits).then(|| (format!("not valid YAML: this is no {name}"), "remove the tag"))
}

/// What this scalar stands for. A tag counts more than quotes do.
pub(crate) fn resolve(scalar: &Scalar) -> Resolved {
    if scalar.tag.map_or(!scalar.plain, |tag| matches!(tag, Core::Text | Core::Binary)) {
        return Resolved::Text;
    }
    match &*scalar.text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Resolved::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Resolved::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Resolved::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
        _ => {}
    }
    match scalar.text.as_bytes().first() {
        Some(b'0'..=b'9' | b'+' | b'-' | b'.') => number(&scalar.text),
        _ => Resolved::Text,
    }
}

fn number(text: &str) -> Resolved {
    let text = text.replace('_', "");
    if let Some(int) = integer(&text) {
        return Resolved::Int(int);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let mut parts = unsigned.splitn(2, ['e', 'E']);
    let mantissa = parts.next().unwrap_or_default();
    let exponent = parts.next().map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    if mantissa_fits && exponent.is_none_or(digits) {
        // What is beyond all floats is none: 1e400.
        text.parse().ok().filter(|float: &f64| float.is_finite()).map_or(Resolved::Text, Resolved::Float)
    } else {
        Resolved::Text
    }
}

/// Go's integers: `0x`, `0o`, `0b`, and a leading zero for octal. Only what fits 64 bits, signed or not.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = if let Some(hex) = lower.strip_prefix("0x") {
        (hex, 16)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (octal, 8)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (binary, 2)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (&lower[1..], 8)
    } else {
        (&*lower, 10)
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    match negative {
        true if -value < i128::from(i64::MIN) => None,
        true => Some(-value),
        false => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Resolved {
        resolve(&Scalar { text: text.into(), plain: true, tag: None })
    }

    #[test]
    fn plain_scalars_resolve_as_in_yaml_1_1() {
        assert_eq!(plain("yes"), Resolved::Bool(true));
        assert_eq!(plain("off"), Resolved::Bool(false));
        assert_eq!(plain("~"), Resolved::Null);
        assert_eq!(plain(""), Resolved::Null);
        assert_eq!(plain("15"), Resolved::Int(15));
        assert_eq!(plain("-15"), Resolved::Int(-15));
        assert_eq!(plain("010"), Resolved::Int(8));
        assert_eq!(plain("0x1F"), Resolved::Int(31));
        assert_eq!(plain("1_000"), Resolved::Int(1_000));
        assert_eq!(plain("08"), Resolved::Float(8.0));
        assert_eq!(plain("1.5e3"), Resolved::Float(1_500.0));
        assert_eq!(plain("1."), Resolved::Float(1.0));
        assert_eq!(plain("18446744073709551615"), Resolved::Int(i128::from(u64::MAX)));
        for text in ["15s", "1.2.3", "-", "+", "1e", "truee", "0x", "e5", ".", "--1", "0x-1", "1e400"] {
            assert_eq!(plain(text), Resolved::Text, "{text:?}");
        }
    }

    #[test]
    fn quotes_make_a_text_of_everything() {
        for text in ["", "5", "yes", "null"] {
            let scalar = Scalar { text: text.into(), plain: false, tag: None };
            assert_eq!(resolve(&scalar), Resolved::Text);
        }
    }
}
