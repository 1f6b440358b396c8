//! Columns as people count them, in characters, where a parser counts bytes.

/// The column, in characters from 1, of what such a parser finds in a line of this text. `line` and `column` are its own,
/// from 1 and in bytes; 0 stays 0.
#[must_use]
pub fn in_characters(text: &[u8], line: usize, column: usize) -> usize {
    if column == 0 {
        return 0;
    }
    let line = text.split(|byte| *byte == b'\n').nth(line.saturating_sub(1)).unwrap_or_default();
    // One that lies within a character is the character's.
    characters(&line[..column.min(line.len())]) + usize::from(column > line.len())
}

/// How many characters begin in these bytes of UTF-8.
pub(crate) fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| !matches!(byte, 0x80..0xc0)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_several_bytes_count_once() {
        let text = "a\näé\u{1f600}x".as_bytes();
        assert_eq!(in_characters(text, 1, 1), 1);
        assert_eq!(in_characters(text, 2, 1), 1);
        assert_eq!(in_characters(text, 2, 2), 1, "within a character");
        assert_eq!(in_characters(text, 2, 3), 2);
        assert_eq!(in_characters(text, 2, 9), 4);
        assert_eq!(in_characters(text, 2, 99), 5, "behind the line");
        assert_eq!(in_characters(text, 9, 2), 1, "behind the text");
        assert_eq!(in_characters(text, 2, 0), 0);
    }
}
