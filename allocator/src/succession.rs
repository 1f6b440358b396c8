//! What becomes of a job's sources when its configuration changes.
//!
//! The rule: sources that are as they were go on, whatever becomes of the others. Which of several that are new came instead of
//! which that is no more, the file does not say. So what one that is no more has told stays until all new ones of its kind have
//! told everything; where none of its kind is new, all new ones that have to ask somebody. Otherwise a changed URL would empty the
//! job for a moment, or for as long as the new one is down. Where a single one came instead, a group that it tells is no longer the
//! old one's. Where none came instead, what was told goes at once.

use std::mem::discriminant;

use promring_model::config::Discovery;

/// What becomes of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on, at this place.
    Stays(usize),
    /// It is no more. What it has told stays until the sources at these places, which are new, have told everything.
    Yields(Vec<usize>),
    /// It is no more, nor is what it has told.
    Goes,
}

impl Fate {
    /// Where that which waits for this source waits from now on.
    pub(crate) fn heirs(&self) -> &[usize] {
        match self {
            Self::Stays(place) => std::slice::from_ref(place),
            Self::Yields(places) => places,
            Self::Goes => &[],
        }
    }
}

/// The fate of each source of `before`, where `now` are those from now on.
pub(crate) fn fates(before: &[Discovery], now: &[Discovery]) -> Vec<Fate> {
    let mut new: Vec<(usize, &Discovery)> = now.iter().enumerate().collect();
    let mut stays = |old: &Discovery| {
        let at = new.iter().position(|(_, source)| *source == old)?;
        Some(new.remove(at).0)
    };
    let stays: Vec<Option<usize>> = before.iter().map(&mut stays).collect();
    let places = |of: &dyn Fn(&Discovery) -> bool| -> Vec<usize> {
        new.iter().filter(|(_, source)| of(source)).map(|(place, _)| *place).collect()
    };
    let fate = |(old, stays): (&Discovery, Option<usize>)| {
        if let Some(place) = stays {
            return Fate::Stays(place);
        }
        let mut heirs = places(&|source| discriminant(source) == discriminant(old));
        if heirs.is_empty() {
            heirs = places(&|source| !matches!(source, Discovery::Static(_)));
        }
        if heirs.is_empty() { Fate::Goes } else { Fate::Yields(heirs) }
    };
    before.iter().zip(stays).map(fate).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::config_in;

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
            let config = config_in(&text);
            config.scrape_configs[0].discovery[0].clone()
        };
        words.split_whitespace().map(one).collect()
    }

    #[test]
    fn what_is_as_it_was_goes_on_and_the_rest_yields_to_what_comes_instead() {
        use Fate::{Goes, Stays};
        let yields = |places: &[usize]| Fate::Yields(places.to_vec());
        for (before, now, expected) in [
            ("sa h1", "sa h1", vec![Stays(0), Stays(1)]),
            ("sa h1", "h1 sa", vec![Stays(1), Stays(0)]),
            ("sa h1", "sb h1", vec![yields(&[0]), Stays(1)]),
            ("sa h1", "h1", vec![Goes, Stays(0)]),
            ("sa h1", "h1 h2", vec![yields(&[1]), Stays(0)]),
            ("h1", "h2 h1x", vec![yields(&[0, 1])]),
            ("h1", "h1x sa d1 h2", vec![yields(&[0, 3])]),
            ("h1 h2", "h3 h4", vec![yields(&[0, 1]), yields(&[0, 1])]),
            ("h1 h2", "h3 h1x h2x", vec![yields(&[0, 1, 2]), yields(&[0, 1, 2])]),
            ("h1 h2 h3", "h2 h4", vec![yields(&[1]), Stays(0), yields(&[1])]),
            ("h1 h2", "h2 sa", vec![Goes, Stays(0)]),
            ("h1 h1", "h1", vec![Stays(0), Goes]),
            ("h1 h1", "h2 h1", vec![Stays(1), yields(&[0])]),
            ("h1", "d1 sa d2", vec![yields(&[0, 2])]),
            ("h1 d1", "h2 h3", vec![yields(&[0, 1]), yields(&[0, 1])]),
            ("h1 d1", "d2 h2", vec![yields(&[1]), yields(&[0])]),
            ("sa", "h1 sb", vec![yields(&[1])]),
            ("h1", "", vec![Goes]),
        ] {
            assert_eq!(fates(&sources(before), &sources(now)), expected, "{before:?} to {now:?}");
        }
    }

    fn words() -> impl Strategy<Value = Vec<String>> {
        let word = (prop::sample::select(vec!["h", "d", "s"]), 0..5_u8)
            .prop_map(|(kind, name)| format!("{kind}{name}"));
        prop::collection::vec(word, 0..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever else the same reload adds, takes away, changes or puts elsewhere: what a source that was changed has told
        /// waits for the one that it became.
        #[test]
        fn what_a_changed_source_has_told_waits_for_that_one_wherever_it_stands(
            before in words(),
            now in words(),
            kind in prop::sample::select(vec!["h", "d", "s"]),
            (at, to) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let (mut before, mut now) = (before, now);
            let (at, to) = (at.index(before.len() + 1), to.index(now.len() + 1));
            before.insert(at, format!("{kind}old"));
            now.insert(to, format!("{kind}edited"));
            let fate = fates(&sources(&before.join(" ")), &sources(&now.join(" "))).swap_remove(at);
            prop_assert!(matches!(&fate, Fate::Yields(_)) && fate.heirs().contains(&to), "{:?}", fate);
        }

        /// As many go on as are there before and after, each as itself, and nothing waits for those.
        #[test]
        fn as_many_go_on_as_are_there_before_and_after(before in words(), now in words()) {
            let fates = fates(&sources(&before.join(" ")), &sources(&now.join(" ")));
            let mut left = now.clone();
            let mut places = Vec::new();
            for (word, fate) in before.iter().zip(&fates) {
                let at = left.iter().position(|other| other == word);
                at.map(|at| left.swap_remove(at));
                prop_assert_eq!(matches!(fate, Fate::Stays(_)), at.is_some(), "{} {:?}", word, fate);
                if let Fate::Stays(place) = fate {
                    prop_assert_eq!(&now[*place], word);
                    places.push(*place);
                }
            }
            let waits = |fate: &&Fate| matches!(fate, Fate::Yields(_));
            places.extend(fates.iter().filter(waits).flat_map(Fate::heirs).collect::<std::collections::BTreeSet<_>>());
            let count = places.len();
            places.sort_unstable();
            places.dedup();
            prop_assert_eq!(places.len(), count);
        }
    }
}
