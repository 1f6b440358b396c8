//! Patterns of file names, as Go's `filepath.Match` has them: `*`, `?`, `[a-z]`, `[^a-z]`, and `\\` before a character that
//! stands for itself. A pattern has elements between slashes, as a path has; nothing but a slash matches a slash.
//!
//! Pure: who lists directories matches each of their names with [`is_match`].

/// Why a pattern cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// `[` without `]`.
    #[error("a bracket is not closed")]
    OpenBracket,
    /// `[]`, `[a-]`, `[-a]`.
    #[error("what stands in brackets is no set of characters")]
    BadSet,
    /// A backslash at the end.
    #[error("a backslash stands at the end")]
    LastBackslash,
}

/// Whether anything in a pattern does not stand for itself.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// Whether each element of this pattern can be used.
///
/// # Errors
/// Why the first one that is wrong cannot be.
pub fn check(pattern: &str) -> Result<(), GlobError> {
    pattern.split('/').try_for_each(|element| tokens(element).map(drop))
}

/// Whether an element of a pattern matches a whole name. A pattern that cannot be used matches nothing.
#[must_use]
pub fn is_match(element: &str, name: &str) -> bool {
    let Ok(tokens) = tokens(element) else { return false };
    let name: Vec<char> = name.chars().collect();
    let (mut token, mut at) = (0, 0);
    // Where to go on when the last asterisk takes one character more.
    let mut retry = None;
    while at < name.len() {
        match tokens.get(token) {
            Some(Token::Any) => {
                token += 1;
                retry = Some((token, at));
            }
            Some(one) if one.takes(name[at]) => (token, at) = (token + 1, at + 1),
            _ => match retry {
                Some((after, from)) => {
                    retry = Some((after, from + 1));
                    (token, at) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    tokens[token..].iter().all(|token| matches!(token, Token::Any))
}

#[derive(Debug)]
enum Token {
    Any,
    One,
    Char(char),
    Set { negated: bool, ranges: Vec<(char, char)> },
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Char(own) => *own == c,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

fn tokens(element: &str) -> Result<Vec<Token>, GlobError> {
    let mut tokens = Vec::new();
    let mut rest = element.chars();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '*' => Token::Any,
            '?' => Token::One,
            '[' => {
                let (set, after) = set(rest.as_str())?;
                rest = after.chars();
                set
            }
            '\\' => Token::Char(rest.next().ok_or(GlobError::LastBackslash)?),
            c => Token::Char(c),
        });
    }
    Ok(tokens)
}

/// What stands behind a bracket, and what follows its end.
fn set(text: &str) -> Result<(Token, &str), GlobError> {
    let (negated, mut rest) = match text.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut ranges = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(']').filter(|_| !ranges.is_empty()) {
            return Ok((Token::Set { negated, ranges }, after));
        }
        let (low, after) = one_of_set(rest)?;
        let (high, after) = match after.strip_prefix('-') {
            Some(after) => one_of_set(after)?,
            None => (low, after),
        };
        ranges.push((low, high));
        rest = after;
    }
}

fn one_of_set(text: &str) -> Result<(char, &str), GlobError> {
    let mut chars = text.chars();
    let c = match chars.next().ok_or(GlobError::OpenBracket)? {
        '-' | ']' => return Err(GlobError::BadSet),
        '\\' => chars.next().ok_or(GlobError::OpenBracket)?,
        c => c,
    };
    Ok((c, chars.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_go() {
        for (pattern, name) in [
            ("a.json", "a.json"),
            ("*", ""),
            ("*", ".hidden"),
            ("*.json", "a.b.json"),
            ("a**b", "ab"),
            ("a*b*c", "axbxbxc"),
            ("?", "ä"),
            ("[a-c]x", "bx"),
            ("[^a-c]x", "dx"),
            ("[!a]", "!"),
            ("[\\]]", "]"),
            ("[a\\-c]", "-"),
            ("\\*", "*"),
            ("{a,b}", "{a,b}"),
        ] {
            assert!(is_match(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("a", "A"), ("?", ""), ("[a-c]", "d"), ("[z-a]", "m"), ("*.json", "a.jsonx"), ("\\*", "a")]
        {
            assert!(!is_match(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_that_go_refuses_are_refused() {
        for (pattern, error) in [
            ("a/[", GlobError::OpenBracket),
            ("[a", GlobError::OpenBracket),
            ("a[/]b", GlobError::OpenBracket),
            ("[]a]", GlobError::BadSet),
            ("[a-]", GlobError::BadSet),
            ("[-a]", GlobError::BadSet),
            ("a\\", GlobError::LastBackslash),
        ] {
            assert_eq!(check(pattern), Err(error), "{pattern}");
            assert!(!is_match(pattern, pattern));
        }
        for good in ["a]", "[^a]", "a/*/b?", "[\\-a]", "**", ""] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn many_asterisks_cost_no_more_than_name_times_pattern() {
        assert!(!is_match(&"a*".repeat(500), &"a".repeat(5_000)[..499]));
    }
}
