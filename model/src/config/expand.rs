//! Environment variables in `external_labels`, expanded as Go's `os.Expand` does.

/// A text with its variables expanded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expansion {
    pub(crate) text: String,
    /// The variables that stood in it, each once, up to [`NAMES_MAX`].
    pub(crate) names: Vec<String>,
    /// Those that are not set, or are empty; the same.
    pub(crate) empty: Vec<String>,
    /// It would be longer than it may be, and ends before that.
    pub(crate) is_cut: bool,
}

/// Nobody reads about more variables of one text.
const NAMES_MAX: usize = 20;

/// Replaces `$NAME` and `${NAME}` by the variable's value, and `$$` by a dollar sign. A dollar sign before
/// anything else stays. A text of some hundred kilobytes can name a long variable ten thousands of times: the result has at most
/// `bytes_max`, and where it would have more, what was made so far, which ends a variable's value behind them at the latest.
pub(crate) fn expand(text: &str, bytes_max: usize, variable: &dyn Fn(&str) -> Option<String>) -> Expansion {
    let mut out = Expansion::default();
    let mut rest = text;
    // Looked for once: a text may be full of opening braces that nothing closes.
    let last_brace = text.rfind('}').unwrap_or(0);
    while let Some(at) = rest.find('$') {
        out.text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if after.is_empty() {
            rest = &rest[at..];
            break;
        }
        if out.text.len() > bytes_max {
            out.is_cut = true;
            return out;
        }
        let (name, width) = name(after, last_brace > text.len() - after.len());
        match name {
            "" if width == 0 => out.text.push('$'),
            "" => {}
            "$" => out.text.push('$'),
            name => {
                let value = variable(name).unwrap_or_default();
                if value.is_empty() {
                    note(name, &mut out.empty);
                }
                note(name, &mut out.names);
                out.text.push_str(&value);
            }
        }
        rest = &after[width..];
    }
    out.is_cut = out.text.len() + rest.len() > bytes_max;
    if !out.is_cut {
        out.text.push_str(rest);
    }
    out
}

fn note(name: &str, names: &mut Vec<String>) {
    if names.len() < NAMES_MAX && names.iter().all(|known| known != name) {
        names.push(name.to_owned());
    }
}

/// The name after a dollar sign, and how many bytes it takes. No name and some bytes: broken, to be left out. `closes`: whether
/// there is a closing brace behind it.
fn name(after: &str, closes: bool) -> (&str, usize) {
    let special = |byte: u8| byte.is_ascii_digit() || b"*#$@!?-".contains(&byte);
    let bytes = after.as_bytes();
    match bytes.first() {
        Some(b'{') if !closes => ("", 1),
        Some(b'{') => match after.find('}') {
            Some(1) => ("", 2),
            Some(end) => (&after[1..end], end + 1),
            None => ("", 1),
        },
        Some(first) if special(*first) => (&after[..1], 1),
        _ => {
            let end = bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
            (&after[..end], end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 1 << 20;

    fn expanded(text: &str) -> String {
        expand(text, BYTES_MAX, &|name| (name == "A_1").then(|| "value".to_owned())).text
    }

    #[test]
    fn variables_expand_as_prometheus_expands_them() {
        assert_eq!(expanded("x-$A_1-y"), "x-value-y");
        assert_eq!(expanded("x${A_1}y"), "xvaluey");
        assert_eq!(expanded("$A_1y"), "", "the longest name counts");
        assert_eq!(expanded("a$$b"), "a$b");
        assert_eq!(expanded("${$}"), "$");
        assert_eq!(expanded("100$"), "100$");
        assert_eq!(expanded("$ä"), "$ä");
        assert_eq!(expanded("${}x"), "x");
        assert_eq!(expanded("${x"), "x");
        assert_eq!(expanded("$1x"), "x");
    }

    #[test]
    fn it_tells_what_was_used_and_what_is_not_set() {
        let out = expand("$A_1 $B", BYTES_MAX, &|name| (name == "A_1").then(|| "value".to_owned()));
        assert_eq!(out.names, ["A_1", "B"]);
        assert_eq!(out.empty, ["B"]);
    }

    #[test]
    fn it_does_not_grow_beyond_its_limit() {
        let variable = |_: &str| Some("v".repeat(1_000));
        let out = expand(&"$A_1".repeat(2_000), BYTES_MAX, &variable);
        assert!(out.is_cut && out.text.len() <= BYTES_MAX + 1_000);
        assert!(!expand(&"$A_1".repeat(1_000), BYTES_MAX, &variable).is_cut);
        assert!(expand(&"v".repeat(BYTES_MAX + 1), BYTES_MAX, &variable).is_cut);
        assert!(!expand(&"v".repeat(BYTES_MAX), BYTES_MAX, &variable).is_cut);
    }

    #[test]
    fn it_tells_of_a_variable_once_and_of_many_not_at_all() {
        let text: String = (0..100).map(|at| format!("$B ${{C{at}}} ")).collect();
        let out = expand(&text, BYTES_MAX, &|_| None);
        assert_eq!((out.names.len(), &*out.names[0], &*out.names[1]), (NAMES_MAX, "B", "C0"));
        assert_eq!(out.names, out.empty);
        assert_eq!(out.text, "  ".repeat(100));
    }
}
