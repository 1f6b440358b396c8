//! What a series cache sends of any scrapes, beside a plain account of what each series was sent last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

/// Some texts lead to one series, more of them where the label x is dropped.
const TEXTS: &[&str] =
    &["a", "a{}", "a{x=\"1\"}", "a{x=\"2\"}", "a{x=\"1\",}", "b{y=\"1\"}", "b{y=\"1\",}", "c"];

/// Two texts of each of these series, which all have another name of a label: more than are compared one by one.
static MANY_NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let texts = |name| [format!("d{{n{name}=\"1\"}}"), format!("d{{n{name}=\"1\",}}")];
    (0..40).flat_map(texts).map(|text| &*text.leak()).collect()
});

/// Times of their own, counted from the scrape's: those of several scrapes coincide, and one is too far ahead.
const OFFSETS: &[i64] = &[-20_001, -10_001, -1, 9_999, 700_000];

#[derive(Clone, Debug)]
struct Line {
    text: &'static str,
    offset: Option<i64>,
    value: u16,
}

#[derive(Clone, Debug)]
enum Scraped {
    Body(Vec<Line>),
    /// So many lines were read when it failed.
    Failed(Vec<Line>),
    /// A body of no bytes.
    Nothing,
    Ended,
}

fn lines(texts: &'static [&'static str], timed: bool) -> impl Strategy<Value = Vec<Line>> {
    let offset = prop::option::weighted(if timed { 0.6 } else { 0.01 }, prop::sample::select(OFFSETS));
    let line = (prop::sample::select(texts), offset, 0_u16..100);
    prop::collection::vec(line.prop_map(|(text, offset, value)| Line { text, offset, value }), 0..texts.len())
}

fn scrapes(texts: &'static [&'static str], timed: bool) -> impl Strategy<Value = Vec<Scraped>> {
    let one = prop_oneof![
        8 => lines(texts, timed).prop_map(Scraped::Body),
        2 => lines(texts, timed).prop_map(Scraped::Failed),
        1 => Just(Scraped::Nothing),
    ];
    prop::collection::vec(one, 1..12).prop_map(|mut scrapes| {
        scrapes.push(Scraped::Ended);
        scrapes
    })
}

/// What was sent last of a series.
#[derive(Clone, Copy, Debug)]
struct LastSent {
    time_ms: i64,
    /// It had a time of its own, so that it is known for some minutes after the series' end.
    timed: bool,
}

#[derive(Debug, Default)]
struct Model {
    drops: bool,
    tracks: bool,
    last: BTreeMap<String, LastSent>,
    /// The texts of the last scrape that succeeded, and whether their ends are marked.
    texts: BTreeMap<&'static str, bool>,
    live: bool,
}

impl Model {
    fn series(&self, text: &str) -> String {
        let text = text.replace(",}", "}").replace('"', "");
        let text = if text.contains('{') { text } else { format!("{text}{{}}") };
        if self.drops { text.replace("x=1", "").replace("x=2", "") } else { text }
    }

    fn is_before(&self, series: &str, time_ms: i64) -> bool {
        self.last.get(series).is_none_or(|last| last.time_ms < time_ms)
    }

    /// Marks what of the last scrape is not among `seen`.
    fn mark(&mut self, time_ms: i64, seen: &BTreeSet<String>) -> Vec<String> {
        let ended = self.texts.iter().filter(|(_, tracked)| self.live && **tracked);
        let mut ended: BTreeSet<String> = ended.map(|(text, _)| self.series(text)).collect();
        ended.retain(|series| !seen.contains(series) && self.is_before(series, time_ms));
        for series in &ended {
            self.last.get_mut(series).unwrap().time_ms = time_ms;
        }
        ended.iter().map(|series| format!("{series} stale @{time_ms}")).collect()
    }

    fn scrape(&mut self, time_ms: i64, lines: &[Line]) -> Vec<String> {
        let (mut sent, mut seen) = (Vec::new(), BTreeSet::new());
        let (mut met, mut brought) = (BTreeSet::new(), BTreeSet::new());
        // Of which there is a sample that was taken, or one that may be the last one.
        let mut alive = BTreeSet::new();
        let mut texts = BTreeMap::new();
        for Line { text, offset, value } in lines {
            let series = self.series(text);
            let tracked = texts.entry(*text).or_insert(self.texts.get(text).copied().unwrap_or(false));
            seen.insert(series.clone());
            let is_again = !met.insert(*text) || brought.contains(&series);
            if is_again && offset.is_none() {
                continue;
            }
            let own_ms = time_ms + offset.unwrap_or(0);
            if own_ms - time_ms > FUTURE_MS_MAX {
                *tracked &= is_again;
                if let Some(last) = self.last.get_mut(&series).filter(|_| !is_again) {
                    last.timed = true;
                }
                continue;
            }
            *tracked = offset.is_none() || self.tracks;
            brought.insert(series.clone());
            let last = self.last.get(&series).map(|last| last.time_ms);
            let is_next = last.is_none_or(|last| last < own_ms);
            if is_next {
                sent.push(format!("{series} {value} @{own_ms}"));
            }
            if is_next || last == Some(own_ms) {
                alive.insert(series.clone());
            }
            let timed = offset.is_some() || !is_next;
            let time_ms = own_ms.max(last.unwrap_or(i64::MIN));
            self.last.insert(series, LastSent { time_ms, timed });
        }
        sent.extend(self.mark(time_ms, &alive));
        for (text, tracked) in &mut texts {
            *tracked &= alive.contains(&self.series(text));
        }
        for text in self.texts.keys() {
            let series = self.series(text);
            if !seen.contains(&series) && self.last.get(&series).is_some_and(|last| !last.timed) {
                self.last.remove(&series);
            }
        }
        (self.texts, self.live) = (texts, true);
        sent
    }

    fn fail(&mut self, time_ms: i64) -> Vec<String> {
        let sent = self.mark(time_ms, &BTreeSet::new());
        self.live = false;
        sent
    }
}

fn body(lines: &[Line], time_ms: i64) -> String {
    let line = |Line { text, offset, value }: &Line| match offset {
        None => format!("{text} {value}\n"),
        Some(offset) => format!("{text} {value} {}\n", time_ms + offset),
    };
    // Nothing at all is another thing than nothing but a comment.
    std::iter::once("# A body.\n".to_owned()).chain(lines.iter().map(line)).collect()
}

fn agrees(scrapes: &[Scraped], drops: bool, tracks: bool) -> Result<(), TestCaseError> {
    let mut config = format!("track_timestamps_staleness: {tracks}");
    if drops {
        config.push_str("\nmetric_relabel_configs: [{regex: x, action: labeldrop}]");
    }
    let mut target = Target::new(&config);
    // Longer ago than anything that a line says.
    target.now_ms = 100_000;
    let mut model = Model { drops, tracks, ..Model::default() };
    for (number, scraped) in scrapes.iter().enumerate() {
        let Target { cache, scratch, now_ms, .. } = &mut target;
        *now_ms += 10_000;
        let time_ms = *now_ms;
        let shared = Arc::clone(cache.labels.shared());
        let mut sent = Vec::new();
        let each = |outgoing: &Outgoing<'_>| {
            sent.push(format!("{} @{}", written(outgoing, &shared), outgoing.timestamp_ms));
        };
        let mut expected = match scraped {
            Scraped::Body(lines) => {
                target.stage(&body(lines, time_ms)).unwrap();
                target.cache.commit(time_ms, &mut target.scratch, each);
                model.scrape(time_ms, lines)
            }
            Scraped::Failed(lines) => {
                target.stage(&body(lines, time_ms)).unwrap();
                target.cache.fail(time_ms, &mut target.scratch, each);
                model.fail(time_ms)
            }
            Scraped::Nothing => {
                cache.begin(scratch);
                cache.commit_nothing(time_ms, scratch, each);
                model.fail(time_ms)
            }
            Scraped::Ended => {
                cache.end(time_ms, each);
                scratch.clear();
                model.fail(time_ms)
            }
        };
        sent.sort();
        expected.sort();
        prop_assert_eq!(sent, expected, "scrape {}", number);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn each_series_is_sent_once_a_scrape_and_in_order(
        scrapes in any::<bool>().prop_flat_map(|timed| scrapes(TEXTS, timed)), drops: bool, tracks: bool
    ) {
        agrees(&scrapes, drops, tracks)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn so_is_each_of_many_series_whose_names_of_labels_come_and_go(
        scrapes in any::<bool>().prop_flat_map(|timed| scrapes(&MANY_NAMES, timed)), tracks: bool
    ) {
        agrees(&scrapes, false, tracks)?;
    }
}
