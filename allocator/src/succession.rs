//! What becomes of a job's sources when its configuration changes. Those that are as they were go on, whatever becomes of the
//! others. What one has told that is no more stays only where another one comes instead of it, and until that has told
//! everything: otherwise a changed URL would empty the job for a moment, or for as long as the new one is down.

use std::mem::discriminant;

use promring_model::config::Discovery;

/// What becomes of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on, at this place.
    Stays(usize),
    /// It is no more. What it has told stays until the source at this place, which is new, has told everything.
    Yields(usize),
    /// It is no more, nor is what it has told.
    Goes,
}

/// The fate of each source of `before`, where `now` are those from now on.
///
/// A source that is no more yields to a new one of its kind: the first to the first, the second to the second, those that are
/// left over to the last one. Without one of its kind it yields to any other new one that has to ask somebody.
pub(crate) fn fates(before: &[Discovery], now: &[Discovery]) -> Vec<Fate> {
    let mut fates = vec![Fate::Goes; before.len()];
    let mut new: Vec<usize> = (0..now.len()).collect();
    for (fate, old) in fates.iter_mut().zip(before) {
        if let Some(at) = new.iter().position(|&place| now.get(place) == Some(old)) {
            *fate = Fate::Stays(new.remove(at));
        }
    }
    let mut unclaimed = new.clone();
    for (fate, old) in fates.iter_mut().zip(before).filter(|(fate, _)| **fate == Fate::Goes) {
        let is_alike = |place: usize| now.get(place).map(discriminant) == Some(discriminant(old));
        let asks = |place: usize| now.get(place).is_some_and(|new| !matches!(new, Discovery::Static(_)));
        let first = unclaimed.iter().position(|&place| is_alike(place)).map(|at| unclaimed.remove(at));
        let backwards = || new.iter().rev().copied();
        let heir = first
            .or_else(|| backwards().find(|&place| is_alike(place)))
            .or_else(|| backwards().find(|&place| asks(place)));
        *fate = heir.map_or(Fate::Goes, Fate::Yields);
    }
    fates
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use promring_model::config::{ConfigSource, load};

    use super::*;

    struct Text(String);

    impl ConfigSource for Text {
        fn read(&self, _path: &Path) -> Result<Vec<u8>, String> {
            Ok(self.0.clone().into_bytes())
        }

        fn glob(&self, _pattern: &Path) -> Result<Vec<PathBuf>, String> {
            Ok(Vec::new())
        }

        fn env(&self, _name: &str) -> Option<String> {
            None
        }
    }

    /// Sources as words: `hX` asks http://X/, `dX` asks DNS, `sX` is the static target X.
    fn sources(words: &str) -> Vec<Discovery> {
        let one = |word: &str| -> Discovery {
            let (kind, name) = word.split_at(1);
            let keys = match kind {
                "h" => format!("http_sd_configs: [{{url: 'http://{name}/'}}]"),
                "d" => format!("dns_sd_configs: [{{names: [{name}]}}]"),
                _ => format!("static_configs: [{{targets: ['{name}:1']}}]"),
            };
            let text = format!("scrape_configs: [{{job_name: web, {keys}}}]");
            let config = load(Path::new("test.yml"), &Text(text)).config.unwrap();
            config.scrape_configs[0].discovery[0].clone()
        };
        words.split_whitespace().map(one).collect()
    }

    #[test]
    fn what_is_as_it_was_goes_on_and_the_rest_yields_to_what_comes_instead() {
        use Fate::{Goes, Stays, Yields};
        for (before, now, expected) in [
            ("sa h1", "sa h1", &[Stays(0), Stays(1)][..]),
            ("sa h1", "h1 sa", &[Stays(1), Stays(0)]),
            ("sa h1", "sb h1", &[Yields(0), Stays(1)]),
            ("sa h1", "h1", &[Goes, Stays(0)]),
            ("sa h1", "h1 h2", &[Yields(1), Stays(0)]),
            ("h1 h2", "h3 h4", &[Yields(0), Yields(1)]),
            ("h1 h2 h3", "h2 h4", &[Yields(1), Stays(0), Yields(1)]),
            ("h1 h2", "h2 sa", &[Goes, Stays(0)]),
            ("h1 h1", "h1", &[Stays(0), Goes]),
            ("h1", "d1 sa", &[Yields(0)]),
            ("h1 d1", "h2 h3", &[Yields(0), Yields(1)]),
            ("h1", "", &[Goes]),
        ] {
            assert_eq!(fates(&sources(before), &sources(now)), expected, "{before:?} to {now:?}");
        }
    }
}
