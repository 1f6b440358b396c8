//! Escapes and bracket expressions.

use std::collections::HashSet;

use super::parse::Parser;
use super::{CLASS_RANGES_MAX, Class, ClassItem, Error, Node, unicode};

const DIGIT: &[(char, char)] = &[('0', '9')];
const SPACE: &[(char, char)] = &[('\t', '\n'), ('\x0C', '\r'), (' ', ' ')];
const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];

/// `[:name:]`
const POSIX: &[(&str, &[(char, char)])] = &[
    ("alnum", &[('0', '9'), ('A', 'Z'), ('a', 'z')]),
    ("alpha", &[('A', 'Z'), ('a', 'z')]),
    ("ascii", &[('\0', '\x7F')]),
    ("blank", &[('\t', '\t'), (' ', ' ')]),
    ("cntrl", &[('\0', '\x1F'), ('\x7F', '\x7F')]),
    ("digit", DIGIT),
    ("graph", &[('!', '~')]),
    ("lower", &[('a', 'z')]),
    ("print", &[(' ', '~')]),
    ("punct", &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
    ("space", &[('\t', '\r'), (' ', ' ')]),
    ("upper", &[('A', 'Z')]),
    ("word", WORD),
    ("xdigit", &[('0', '9'), ('A', 'F'), ('a', 'f')]),
];

/// Reads an escape outside of brackets that is not a condition or a quotation.
pub(super) fn escape(parser: &mut Parser<'_>) -> Result<Node, Error> {
    let fold = parser.flags.fold;
    if let Some(item) = class_escape(parser)? {
        return Ok(Node::Class(Class { negated: false, fold, items: vec![item] }));
    }
    let code = character_escape(parser)?;
    Ok(match char::from_u32(code) {
        Some(char) => Node::Literal { char, fold },
        // A surrogate: no text holds one.
        None => Node::Class(Class { negated: false, fold, items: Vec::new() }),
    })
}

/// Reads `[…]`.
pub(super) fn bracket(parser: &mut Parser<'_>) -> Result<Class, Error> {
    let start = parser.at;
    parser.at += 1;
    let negated = parser.rest().starts_with('^');
    if negated {
        parser.at += 1;
    }
    let mut class = Class { negated, fold: parser.flags.fold, items: Vec::new() };
    let mut seen = HashSet::new();
    let mut first = true;
    // A `]` that stands first is a literal.
    while first || !parser.rest().starts_with(']') {
        first = false;
        let item = match posix(parser)? {
            Some(item) => Some(item),
            None => class_escape(parser)?,
        };
        match item {
            // The same set once more changes nothing, and would cost the engine as much as the first.
            Some(item) if seen.contains(&item) => {}
            Some(item) => {
                seen.insert(item.clone());
                class.items.push(item);
            }
            None => class.items.extend(range(parser, start)?),
        }
        if class.items.len() > CLASS_RANGES_MAX {
            return Err(Error {
                message: format!("a bracket expression of the regex has more than {CLASS_RANGES_MAX} ranges"),
                hint: Some("write ranges such as `a-z` instead of single characters"),
            });
        }
    }
    parser.at += 1;
    Ok(class)
}

/// `a` or `a-z`; None where it holds nothing but surrogates.
fn range(parser: &mut Parser<'_>, bracket: usize) -> Result<Option<ClassItem>, Error> {
    let start = parser.at;
    let low = class_character(parser, bracket)?;
    let mut high = low;
    let mut rest = parser.rest().chars();
    if rest.next() == Some('-') && rest.next().is_some_and(|next| next != ']') {
        parser.at += 1;
        let is_class = ["\\d", "\\D", "\\s", "\\S", "\\w", "\\W", "\\p", "\\P"]
            .iter()
            .any(|class| parser.rest().starts_with(class));
        high = class_character(parser, bracket).map_err(|error| {
            let hint = "a range ends in a single character: write `\\-` for a hyphen";
            if is_class { Error { hint: Some(hint), ..error } } else { error }
        })?;
    }
    if high < low {
        return Err(parser.error(
            "invalid character class range",
            start..parser.at,
            Some("the lower character goes first; write `\\-` for a hyphen"),
        ));
    }
    // Text holds no surrogates, so a border among them moves to the next character that it may hold.
    let low = char::from_u32(low).unwrap_or('\u{E000}');
    let high = char::from_u32(high).unwrap_or('\u{D7FF}');
    Ok((low <= high).then_some(ClassItem::Range(low, high)))
}

fn class_character(parser: &mut Parser<'_>, bracket: usize) -> Result<u32, Error> {
    match parser.rest().chars().next() {
        None => {
            let shown = bracket..parser.text.len();
            Err(parser.error("missing closing ]", shown, Some("write `\\[` for a literal bracket")))
        }
        Some('\\') => character_escape(parser),
        Some(char) => {
            parser.at += char.len_utf8();
            Ok(char.into())
        }
    }
}

/// `[:name:]` and `[:^name:]`.
fn posix(parser: &mut Parser<'_>) -> Result<Option<ClassItem>, Error> {
    let rest = parser.rest();
    let Some(body) = rest.strip_prefix("[:") else { return Ok(None) };
    if parser.last_named_class.is_none_or(|last| last < parser.at + 2) {
        return Ok(None);
    }
    let Some(end) = body.find(":]") else { return Ok(None) };
    let (name, negated) = match body[..end].strip_prefix('^') {
        Some(name) => (name, true),
        None => (&body[..end], false),
    };
    let start = parser.at;
    parser.at += end + 4;
    match POSIX.iter().find(|(known, _)| *known == name) {
        Some((_, ranges)) => Ok(Some(ClassItem::Table { ranges, negated })),
        None => {
            let hint = "the classes are alnum, alpha, ascii, blank, cntrl, digit, graph, lower, print, punct, space, upper, word, xdigit";
            Err(parser.error("invalid character class range", start..parser.at, Some(hint)))
        }
    }
}

/// `\d`, `\W`, `\pN`, `\p{Greek}` and so on.
fn class_escape(parser: &mut Parser<'_>) -> Result<Option<ClassItem>, Error> {
    let rest = parser.rest();
    let Some(b'\\') = rest.as_bytes().first() else { return Ok(None) };
    let (ranges, negated) = match rest.as_bytes().get(1) {
        Some(b'd') => (DIGIT, false),
        Some(b'D') => (DIGIT, true),
        Some(b's') => (SPACE, false),
        Some(b'S') => (SPACE, true),
        Some(b'w') => (WORD, false),
        Some(b'W') => (WORD, true),
        Some(b'p' | b'P') => return property(parser).map(Some),
        _ => return Ok(None),
    };
    parser.at += 2;
    Ok(Some(ClassItem::Table { ranges, negated }))
}

fn property(parser: &mut Parser<'_>) -> Result<ClassItem, Error> {
    let rest = parser.rest();
    let start = parser.at;
    let mut negated = rest.starts_with("\\P");
    let named = &rest[2..];
    let (name, len) = match named.strip_prefix('{').map(|braced| braced.split_once('}')) {
        Some(Some((name, _))) => (name, name.len() + 2),
        Some(None) => ("", named.len()),
        None => {
            let len = named.chars().next().map_or(0, char::len_utf8);
            (&named[..len], len)
        }
    };
    parser.at += 2 + len;
    let name = match name.strip_prefix('^') {
        Some(name) => {
            negated = !negated;
            name
        }
        None => name,
    };
    unicode::property(name, negated).ok_or_else(|| {
        let hint =
            "RE2 knows the general categories (`\\pL`, `\\p{Lu}`, `\\p{Letter}`) and scripts (`\\p{Greek}`)";
        parser.error("invalid character class range", start..parser.at, Some(hint))
    })
}

/// Reads an escape that stands for one character. It may be a surrogate.
fn character_escape(parser: &mut Parser<'_>) -> Result<u32, Error> {
    let start = parser.at;
    let mut chars = parser.rest()[1..].chars();
    let Some(char) = chars.next() else {
        return Err(trailing_backslash());
    };
    parser.at += 1 + char.len_utf8();
    let octal = |c: Option<char>| c.and_then(|c| c.to_digit(8));
    match char {
        'a' => return Ok(0x07),
        'f' => return Ok(0x0C),
        'n' => return Ok(0x0A),
        'r' => return Ok(0x0D),
        't' => return Ok(0x09),
        'v' => return Ok(0x0B),
        'x' => {
            if let Some((code, len)) = hexadecimal(chars.as_str()) {
                parser.at += len;
                return Ok(code);
            }
        }
        // `\1` alone would be a backreference; `\12` is octal.
        '0'..='7' if char == '0' || octal(chars.clone().next()).is_some() => {
            let mut code = octal(Some(char)).unwrap_or(0);
            for _ in 1..3 {
                let Some(digit) = octal(chars.next()) else { break };
                code = code * 8 + digit;
                parser.at += 1;
            }
            return Ok(code);
        }
        _ if char.is_ascii() && !char.is_ascii_alphanumeric() => return Ok(char.into()),
        _ => {}
    }
    Err(parser.error("invalid escape sequence", start..parser.at, escape_hint(char)))
}

/// The digits after `\x`: two, or any number in braces.
fn hexadecimal(text: &str) -> Option<(u32, usize)> {
    let (digits, len) = match text.strip_prefix('{') {
        Some(braced) => {
            let digits = &braced[..braced.find('}')?];
            (digits, digits.len() + 2)
        }
        None => (text.get(..2)?, 2),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let digits = match digits.trim_start_matches('0') {
        "" => "0",
        significant => significant,
    };
    let code = u32::from_str_radix(digits, 16).ok()?;
    (code <= 0x0010_FFFF).then_some((code, len))
}

pub(super) fn trailing_backslash() -> Error {
    Error {
        message: "error parsing regexp: trailing backslash at end of expression".to_owned(),
        hint: Some("write `\\\\` for a literal backslash"),
    }
}

fn escape_hint(char: char) -> Option<&'static str> {
    Some(match char {
        '1'..='9' => {
            "RE2 has no backreferences: compare two labels with the actions `keepequal` and `dropequal`"
        }
        'Z' => "the end of the text is `\\z`; the regex is anchored already",
        'E' => "there is no `\\Q` that it ends",
        'h' => "write `[ \\t]`",
        'R' => "write `\\r?\\n`",
        'u' | 'U' => "write `\\x{…}` with the hexadecimal code of the character",
        'x' => "write two hexadecimal digits, or any number of them in braces: `\\x{1F600}`",
        _ => "write the character without the backslash, or `\\\\` for a literal backslash",
    })
}
