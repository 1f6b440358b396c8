//! The regexes of many rules: each is parsed once and compiled once, and rules that are written with it share it.

use std::collections::HashMap;
use std::sync::Arc;

use super::expand::Template;
use super::matcher::{COMPILED_BYTES_MAX, Matcher, Paths};
use super::re2::{Error, Pattern};

/// Regexes by how they are written, and what they take.
///
/// What cannot be parsed or compiled is kept, too: to find it out may take as long as compiling what can be.
#[derive(Debug)]
pub struct Regexes {
    known: HashMap<String, Result<Known, Error>>,
    bytes: usize,
    paths: Paths,
}

/// What is kept of a regex. Its tree is not: it takes fifty times the text.
#[derive(Debug)]
struct Known {
    groups: Arc<[Option<String>]>,
    /// For rules that only ask whether it matches.
    tests: Option<Result<Arc<Matcher>, Error>>,
    /// For rules that ask what its groups caught.
    catches: Option<Result<Arc<Matcher>, Error>>,
    /// What rules make of a match, by how it is written.
    templates: HashMap<String, Arc<Template>>,
}

/// A regex that could be parsed.
#[derive(Debug)]
pub(super) struct Parsed<'r> {
    regex: &'r str,
    known: &'r mut Known,
    bytes: &'r mut usize,
    paths: Paths,
    /// Its tree, where it was parsed just now.
    pattern: Option<Pattern>,
}

impl Default for Regexes {
    fn default() -> Self {
        Self::new(Paths::Fast)
    }
}

impl Regexes {
    pub(super) fn new(paths: Paths) -> Self {
        Self { known: HashMap::new(), bytes: 0, paths }
    }

    /// Bytes that all of them take, each once however many rules share it, and up to which those were compiled that
    /// are too large.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// `regex` as a rule has it, which need not be compiled for every action.
    pub(super) fn parse<'r>(&'r mut self, regex: &'r str) -> Result<Parsed<'r>, Error> {
        let Self { known, bytes, paths } = self;
        let mut pattern = None;
        let known = known.entry(regex.to_owned()).or_insert_with(|| {
            *bytes += regex.len();
            let parsed = Pattern::anchored(regex)?;
            let groups = Arc::clone(&parsed.groups);
            let names: usize = groups.iter().flatten().map(String::len).sum();
            *bytes += size_of_val(&*groups) + names;
            pattern = Some(parsed);
            Ok(Known { groups, tests: None, catches: None, templates: HashMap::new() })
        });
        match known {
            Ok(known) => Ok(Parsed { regex, known, bytes, paths: *paths, pattern }),
            Err(error) => Err(error.clone()),
        }
    }
}

impl Parsed<'_> {
    /// A text with places for what its groups catch.
    pub(super) fn template(&mut self, text: &str) -> Arc<Template> {
        if let Some(template) = self.known.templates.get(text) {
            return Arc::clone(template);
        }
        let template = Arc::new(Template::new(text, &self.known.groups));
        *self.bytes += text.len() + template.bytes();
        self.known.templates.insert(text.to_owned(), Arc::clone(&template));
        template
    }

    /// The regex, compiled. `groups`: what its groups catch will be asked for.
    pub(super) fn matcher(&mut self, groups: bool) -> Result<Arc<Matcher>, Error> {
        let Known { tests, catches, .. } = &mut *self.known;
        let place = if groups { catches } else { tests };
        if let Some(compiled) = place {
            return compiled.clone();
        }
        let parsed = self.pattern.take().map_or_else(|| Pattern::anchored(self.regex), Ok);
        let compiled =
            parsed.and_then(|pattern| Matcher::compile(&pattern, groups, self.paths)).map(Arc::new);
        *self.bytes += compiled.as_ref().map_or(COMPILED_BYTES_MAX, |matcher| matcher.bytes());
        place.insert(compiled).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regex_is_compiled_once_for_each_use_and_counted_then() {
        let mut regexes = Regexes::default();
        let mut bytes = Vec::new();
        let mut matchers = Vec::new();
        for (regex, groups) in [("(a|b)", true), ("(a|b)", true), ("(a|b)", false), ("(a|c)", true)] {
            matchers
                .push(regexes.parse(regex).and_then(|mut parsed| parsed.matcher(groups)).expect("compiled"));
            bytes.push(regexes.bytes());
        }
        assert!(Arc::ptr_eq(&matchers[0], &matchers[1]) && bytes[0] == bytes[1], "{bytes:?}");
        assert!(!Arc::ptr_eq(&matchers[0], &matchers[2]) && bytes[1] < bytes[2], "{bytes:?}");
        assert!(!Arc::ptr_eq(&matchers[0], &matchers[3]) && bytes[2] < bytes[3], "{bytes:?}");
    }

    #[test]
    fn what_is_refused_is_refused_again_and_counted_once() {
        let mut regexes = Regexes::default();
        for regex in ["a)", "\\pL{900}"] {
            let mut refuse =
                || regexes.parse(regex).and_then(|mut parsed| parsed.matcher(false)).unwrap_err();
            let first = refuse();
            assert_eq!(first, refuse());
            let counted = regexes.bytes();
            let again = regexes.parse(regex).and_then(|mut parsed| parsed.matcher(false));
            assert!(again.is_err() && regexes.bytes() == counted, "{regex}");
        }
        assert!(regexes.bytes() > COMPILED_BYTES_MAX);
    }
}
