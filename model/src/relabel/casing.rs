//! Lower and upper case as Go has them: one character to one character, whatever language it is.
//!
//! The standard library's mappings are the full ones, which may give several characters ("ß" becomes "SS"). Where
//! they do, Unicode's simple mapping is written out here.

/// Appends `text` in lower case.
pub(super) fn lowercase(text: &str, out: &mut String) {
    out.extend(text.chars().map(lower));
}

/// Appends `text` in upper case.
pub(super) fn uppercase(text: &str, out: &mut String) {
    out.extend(text.chars().map(upper));
}

fn lower(char: char) -> char {
    let mut mapped = char.to_lowercase();
    match (mapped.next(), mapped.next()) {
        (Some(only), None) => only,
        // Only "İ" has two.
        _ if char == 'İ' => 'i',
        _ => char,
    }
}

fn upper(char: char) -> char {
    let mut mapped = char.to_uppercase();
    match (mapped.next(), mapped.next()) {
        (Some(only), None) => only,
        _ => match char {
            // Greek with iota subscript: its capital is one character, and the full mapping two.
            '\u{1F80}'..='\u{1F87}' | '\u{1F90}'..='\u{1F97}' | '\u{1FA0}'..='\u{1FA7}' => shifted(char, 8),
            '\u{1FB3}' | '\u{1FC3}' | '\u{1FF3}' => shifted(char, 9),
            _ => char,
        },
    }
}

fn shifted(char: char, by: u32) -> char {
    char::from_u32(u32::from(char) + by).unwrap_or(char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_character_stays_one_character() {
        let cases = [
            ("Straße", "straße", "STRAßE"),
            ("İI", "ii", "İI"),
            ("ŉǰΐﬁ", "ŉǰΐﬁ", "ŉǰΐﬁ"),
            ("ᾳᾀᾼ", "ᾳᾀᾳ", "ᾼᾈᾼ"),
            ("ΑΣ", "ασ", "ΑΣ"),
            ("ǅ", "ǆ", "Ǆ"),
            ("ÿ", "ÿ", "Ÿ"),
        ];
        for (text, small, capital) in cases {
            let (mut low, mut up) = (String::new(), String::new());
            lowercase(text, &mut low);
            uppercase(text, &mut up);
            assert_eq!((low.as_str(), up.as_str()), (small, capital), "{text}");
        }
    }
}
