//! Kubernetes selectors, checked as far as the API server would refuse them.

/// What is wrong with a selector.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SelectorProblem {
    pub(crate) message: &'static str,
    pub(crate) hint: &'static str,
}

const LABEL: SelectorProblem = SelectorProblem {
    message: "not a valid label selector",
    hint: "join requirements by commas: a=b, a!=b, a in (x,y), a notin (x), a, !a",
};

const FIELD: SelectorProblem = SelectorProblem {
    message: "not a valid field selector",
    hint: "join terms by commas: status.phase=Running,spec.nodeName!=a",
};

/// Why this is no field selector, if it is none: terms `a=b`, `a==b` or `a!=b`, joined by commas. In a value `,`, `=` and
/// `\` stand behind a backslash.
pub(crate) fn field_problem(text: &str) -> Option<SelectorProblem> {
    let fits =
        split_terms(text).iter().all(|term| term.is_empty() || term_value(term).is_some_and(is_escaped));
    (!fits).then_some(FIELD)
}

/// What stands behind the first operator.
fn term_value(term: &str) -> Option<&str> {
    // A backslash does not keep it from being one.
    let operator = term.find('=')?;
    // The sign of `!=` is before it; a second one of `==` behind it.
    let value = &term[operator + 1..];
    Some(if term[..operator].ends_with('!') { value } else { value.strip_prefix('=').unwrap_or(value) })
}

/// Whether all that must stand behind a backslash does, and nothing else.
fn is_escaped(value: &str) -> bool {
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next().is_none_or(|next| !"\\,=".contains(next)) => return false,
            '=' | ',' => return false,
            _ => {}
        }
    }
    true
}

/// A backslash keeps the comma after it from ending a term.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if c == ',' && !escaped {
            terms.push(&text[start..at]);
            start = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    terms.push(&text[start..]);
    terms
}

/// Why this is no label selector, if it is none.
pub(crate) fn label_problem(text: &str) -> Option<SelectorProblem> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    loop {
        let Some(after) = requirement(rest) else { return Some(LABEL) };
        let after = after.trim_start();
        match after.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None if after.is_empty() => return None,
            None => return Some(LABEL),
        }
    }
}

/// Takes one requirement off the beginning.
fn requirement(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('!') {
        return word(rest.trim_start()).filter(|(key, _)| is_key(key)).map(|(_, rest)| rest);
    }
    let (key, rest) = word(text)?;
    if !is_key(key) {
        return None;
    }
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with(',') {
        return Some(rest);
    }
    for operator in ["==", "!=", "="] {
        if let Some(rest) = rest.strip_prefix(operator) {
            let rest = rest.trim_start();
            return match word(rest) {
                Some((value, rest)) => is_value(value).then_some(rest),
                // An empty value is one.
                None => Some(rest),
            };
        }
    }
    if let Some(bound) = rest.strip_prefix(['<', '>']) {
        return word(bound.trim_start()).filter(|(n, _)| n.parse::<i64>().is_ok()).map(|(_, rest)| rest);
    }
    let (operator, rest) = word(rest)?;
    if operator != "in" && operator != "notin" {
        return None;
    }
    let (values, rest) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
    values.split(',').all(|value| is_value(value.trim())).then_some(rest)
}

/// The longest beginning without white space and operators.
fn word(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| c.is_whitespace() || "=!,()<>".contains(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// `name` or `prefix/name`.
fn is_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let prefix_fits = prefix.is_none_or(|prefix| {
        !prefix.is_empty()
            && prefix.len() <= 253
            && prefix.split('.').all(|part| {
                let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
            })
    });
    prefix_fits && !name.is_empty() && is_value(name)
}

/// At most 63 bytes: letters, digits, `-`, `_` and `.`, the ends letters or digits.
fn is_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let end_fits = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && end_fits(bytes.first())
        && end_fits(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_selectors_are_taken_as_kubernetes_takes_them() {
        for good in [
            "",
            "a",
            "!a",
            "a=b",
            "a==b",
            "a != b",
            "a=",
            "app.kubernetes.io/name=x,tier in (a, b)",
            "x notin (a)",
            "x in ()",
            "n > 5",
        ] {
            assert_eq!(label_problem(good), None, "{good:?}");
        }
        for bad in ["a b", "a=b c", "=b", "a in b", "a=b,", "-a", "a=b=c", "a/b/c=d", "a=~b", "n > x"] {
            assert_eq!(label_problem(bad), Some(LABEL), "{bad:?}");
        }
    }

    #[test]
    fn field_selectors_are_terms_with_a_value() {
        for good in [
            "",
            "status.phase=Running",
            "spec.nodeName!=a,metadata.name==b",
            "a=b\\,c",
            "=x",
            "a=",
            "a=b\\=c",
        ] {
            assert_eq!(field_problem(good), None, "{good:?}");
        }
        for bad in ["status.phase", "a=b,c", "a=b=c", "a=b\\c", "a!==b", "a=b\\"] {
            assert_eq!(field_problem(bad), Some(FIELD), "{bad:?}");
        }
    }
}
