//! Remarks on environment variables: those that differ from pod to pod, and those that nobody expands.

use crate::config::Secret;
use crate::config::masked::{self, is_hidden};
use crate::config::report::{Report, Spot};

/// Variables whose value is another one on every pod.
const POD_VARIABLES: [&str; 16] = [
    "HOSTNAME",
    "HOST_NAME",
    "POD",
    "POD_NAME",
    "PODNAME",
    "POD_IP",
    "PODIP",
    "POD_IPS",
    "POD_UID",
    "POD_INDEX",
    "NODE",
    "NODE_NAME",
    "NODENAME",
    "NODE_IP",
    "HOST_IP",
    "SHARD",
];

/// What people put before one of these.
const PREFIXES: [&str; 7] = ["MY_", "K8S_", "KUBE_", "KUBERNETES_", "CURRENT_", "THIS_", "POD_"];

/// What to do about an external label that differs from pod to pod.
const SAME_EVERYWHERE: &str = "remove it: external_labels must be the same on every scraper; for replication run two releases, each with its own replica label";

/// What to do about a variable where none is expanded.
const NOT_EXPANDED: &str = "environment variables are expanded in external_labels only";
const WRITE_THE_VALUE: &str =
    "environment variables are expanded in external_labels only: write the value, or fill the file in before";

/// Warns of an external label that differs from scraper to scraper.
pub(crate) fn varying_external_label(report: &mut Report, spot: Spot, value: &str, variable: &str) {
    if differs_from_pod_to_pod(variable) {
        report
            .warning(spot, format!("${variable} differs from pod to pod, and external labels are part of every series: a series would become another one when its target moves to another scraper"))
            .value(value)
            .hint(SAME_EVERYWHERE);
    }
}

/// Warns of `$(NAME)` in an external label: Kubernetes and the reloader of prometheus-operator fill in such a variable, and
/// nobody does where the file is read. The same of `%{NAME}`, which vmagent fills in.
pub(crate) fn unfilled_external_label(report: &mut Report, spot: Spot, value: &str) {
    let Some(variable) =
        variables(value).find(|variable| !matches!(variable.form, Form::Braces | Form::Bare))
    else {
        return;
    };
    let (shown, name) = (variable.to_string(), variable.name);
    let who = match variable.form {
        Form::Percent => "vmagent fills it in",
        _ => "prometheus-operator's config-reloader fills it in, before Prometheus reads the file",
    };
    let message = format!("{shown} stands for itself here, in every series: only {who}");
    let finding = report.warning(spot, message).value(value);
    if differs_from_pod_to_pod(name) {
        finding.hint(SAME_EVERYWHERE);
    } else {
        finding.hint(format!("write ${{{name}}} for the environment variable"));
    }
}

/// Whole names: `POD_NAMESPACE` is the same for all pods of a release.
fn differs_from_pod_to_pod(variable: &str) -> bool {
    let upper = variable.to_ascii_uppercase();
    let rest = PREFIXES.iter().find_map(|prefix| upper.strip_prefix(prefix));
    POD_VARIABLES.iter().any(|name| upper == *name || rest == Some(name))
}

/// Warns of a variable where none is expanded. In relabelling rules a dollar sign is a group's.
pub(crate) fn unexpanded(report: &mut Report, spot: Spot, text: &str) {
    if !text.contains(['$', '%']) || report.has_key(spot.path, has_dollars_of_its_own) {
        return;
    }
    // Of a password in a URL, a header or a token among the parameters nothing is shown, and the name may be one.
    let shown = masked::value(text);
    let message = match variables(&shown).next() {
        Some(variable) if !is_hidden(report, spot.path) => {
            format!("{variable} stands for itself here: {NOT_EXPANDED}")
        }
        _ if is_variable(text) => format!("this looks like a variable and stands for itself: {NOT_EXPANDED}"),
        _ => return,
    };
    if let Some(finding) = report.warning_unless_error(spot, message) {
        finding.hint("write the value, or fill the file in before promring reads it");
    }
}

/// The same for a secret, of which nothing is shown.
pub(crate) fn unexpanded_secret(report: &mut Report, spot: Spot, secret: &Secret) {
    if is_variable(secret.expose()) {
        let message = format!("this looks like a variable and stands for itself: {NOT_EXPANDED}");
        let hint = match report.last_key(spot.path) {
            // An item of a list: http_headers, proxy_connect_header.
            None => "keep the secret in a file: http_headers names it under files",
            Some(_) => "keep the secret in a file, and name that with the key that ends in _file",
        };
        if let Some(finding) = report.warning_unless_error(spot, message) {
            finding.hint(hint);
        }
    }
}

/// What to do about a value that could not be read, where it is a variable.
pub(crate) fn variable_hint(text: &str) -> Option<&'static str> {
    variables(text).next().map(|_| WRITE_THE_VALUE)
}

/// Sections in which a dollar sign means something, or that nobody reads.
fn has_dollars_of_its_own(key: &str) -> bool {
    matches!(
        key,
        "external_labels"
            | "relabel_configs"
            | "metric_relabel_configs"
            | "write_relabel_configs"
            | "rule_files"
    )
}

/// A variable in a text.
struct Variable<'t> {
    form: Form,
    name: &'t str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `${NAME}`, also with a default behind the name, as shells have it.
    Braces,
    /// `$NAME`
    Bare,
    /// `$(NAME)`, as Kubernetes has it.
    Parentheses,
    /// `%{NAME}`, as vmagent has it.
    Percent,
}

impl std::fmt::Display for Variable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name;
        match self.form {
            Form::Braces => write!(f, "${{{name}}}"),
            Form::Bare => write!(f, "${name}"),
            Form::Parentheses => write!(f, "$({name})"),
            Form::Percent => write!(f, "%{{{name}}}"),
        }
    }
}

/// What braces enclose is looked for in so many bytes: a text may be full of those that nothing closes.
const ENCLOSED_MAX: usize = 200;

/// The variables in a text. A name without braces is in capitals, unless it is the whole text: a dollar sign before anything
/// else is most often one.
fn variables(text: &str) -> impl Iterator<Item = Variable<'_>> {
    text.match_indices(['$', '%']).filter_map(|(at, sign)| {
        let (before, rest) = (&text[..at], &text[at + 1..]);
        let name_len =
            |text: &str| text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        let enclosed = |open: char, close: char| {
            let inner = rest.strip_prefix(open).filter(|inner| name_len(inner) > 0)?;
            let end = inner.bytes().take(ENCLOSED_MAX).position(|byte| byte == close as u8)?;
            Some(&inner[..end])
        };
        let is_upper = |name: &str| !name.bytes().any(|b| b.is_ascii_lowercase());
        if before.ends_with(sign) {
            return None;
        }
        if let Some(inner) = enclosed('{', '}') {
            let name = inner.split([':', '-', '=', '?', '+']).next().unwrap_or_default();
            let form = if sign == "%" { Form::Percent } else { Form::Braces };
            return is_name(name).then_some(Variable { form, name });
        }
        if sign == "%" {
            return None;
        }
        if let Some(name) = enclosed('(', ')') {
            let fits = is_name(name) && is_upper(name);
            return fits.then_some(Variable { form: Form::Parentheses, name });
        }
        let len = name_len(rest);
        let name = &rest[..len];
        let is_whole = before.is_empty() && len == rest.len();
        let fits = is_name(name) && len > 1 && (is_whole || is_upper(name));
        fits.then_some(Variable { form: Form::Bare, name })
    })
}

/// Whether a secret is or holds a variable. It may hold a dollar sign of its own.
fn is_variable(secret: &str) -> bool {
    variables(secret).any(|variable| {
        let is_whole = variable.to_string().len() == secret.len();
        let is_upper = !variable.name.bytes().any(|b| b.is_ascii_lowercase());
        match variable.form {
            Form::Braces => true,
            Form::Bare => is_whole && is_upper,
            Form::Parentheses | Form::Percent => is_whole,
        }
    })
}

fn is_name(name: &str) -> bool {
    name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        variables(text).map(|variable| variable.to_string()).collect()
    }

    #[test]
    fn variables_are_seen_where_they_are_meant() {
        assert_eq!(shown("http://${HOST}:1/"), ["${HOST}"]);
        assert_eq!(shown("http://$HOST:1/$PATH_PREFIX/x"), ["$HOST", "$PATH_PREFIX"]);
        assert_eq!(shown("${HOST:-localhost}:1"), ["${HOST}"]);
        assert_eq!(shown("$(POD_NAME)"), ["$(POD_NAME)"]);
        assert_eq!(shown("%{HOST}:1"), ["%{HOST}"]);
        assert_eq!(shown("$env"), ["$env"]);
        for none in [
            "pa$$word",
            "$${HOST}",
            "${1}",
            "$5",
            "a$b",
            "x$Pass",
            "up{a=~\"b$\"}",
            "a%20b",
            "$(a)",
            "$",
            "${",
            &format!("${{A{}}}", " ".repeat(ENCLOSED_MAX)),
        ] {
            assert_eq!(shown(none), [""; 0], "{none}");
        }
    }

    #[test]
    fn a_secret_may_hold_a_dollar_sign() {
        for variable in ["$PASSWORD", "${PASSWORD}", "x${password}", "%{PASSWORD}", "$(PASSWORD)"] {
            assert!(is_variable(variable), "{variable}");
        }
        for secret in ["x$PASSWORD", "$password", "a%{B}", "a$(B)", "$$PASSWORD", "$1", ""] {
            assert!(!is_variable(secret), "{secret}");
        }
    }

    #[test]
    fn names_count_as_a_whole() {
        for name in
            ["HOSTNAME", "hostname", "MY_POD_NAME", "K8S_NODE_NAME", "POD_IP", "POD_HOSTNAME", "SHARD"]
        {
            assert!(differs_from_pod_to_pod(name), "{name}");
        }
        for name in [
            "POD_NAMESPACE",
            "INGRESS_HOSTNAME",
            "NODE_NAMESPACE",
            "CLUSTER",
            "SHARDS",
            "HOST_IP_RANGE",
            "TRIPOD_NAME",
        ] {
            assert!(!differs_from_pod_to_pod(name), "{name}");
        }
    }
}
