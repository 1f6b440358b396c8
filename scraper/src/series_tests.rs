//! What the series cache keeps, marks and forgets.

use promring_model::labels::Labels;
use promring_proto::pen;
use promring_proto::remote_write::is_stale_marker;
use promring_proto::remote_write::v1::{self, WriteRequest};
use prost::Message;

use super::*;
use crate::parse::protobuf::HistogramOptions;
use crate::parse::text::TextParser;
use crate::parse::{Format, Found, Item, Parser};
use crate::rules::{Classes, SeriesRules};
use crate::testing::{config_in, job, rules_for, target_of};

#[path = "series_model_tests.rs"]
mod model;

struct Target {
    cache: SeriesCache,
    rules: SeriesRules,
    scratch: Scratch,
    now_ms: i64,
    format: Format,
}

impl Target {
    fn new(config: &str) -> Self {
        Self::sharing(config, &Arc::default())
    }

    /// With the strings of other targets.
    fn sharing(config: &str, shared: &Arc<Shared>) -> Self {
        let rules = rules_for(&job(config));
        let cache = SeriesCache::new(&rules, shared);
        Self { cache, rules, scratch: Scratch::default(), now_ms: 0, format: Format::Text }
    }

    /// Scrapes `body`; what is written comes as `name{…} value`, staleness markers as `stale`.
    fn scrape(&mut self, body: &str) -> Vec<String> {
        self.now_ms += 10_000;
        self.stage(body).unwrap();
        let mut out = Vec::new();
        let shared = Arc::clone(self.cache.labels.shared());
        self.cache.commit(self.now_ms, &mut self.scratch, |outgoing| out.push(written(outgoing, &shared)));
        out
    }

    fn stage(&mut self, body: &str) -> Result<(), Refusal> {
        self.cache.begin(&mut self.scratch);
        let mut parser = Parser::of(self.format, HistogramOptions::default(), body.as_bytes());
        while let Some(found) = parser.next_expecting(self.cache.expected(&self.scratch)).unwrap() {
            let Self { cache, scratch, rules, now_ms, .. } = self;
            match found {
                Found::Expected { value, timestamp_ms } => {
                    cache.stage_expected(value, timestamp_ms, *now_ms, rules, scratch);
                }
                Found::Item(Item::Sample(sample)) => cache.stage(&sample, *now_ms, rules, scratch)?,
                Found::Item(_) => {}
            }
        }
        Ok(())
    }

    /// Scrapes a body of no bytes.
    fn scrape_nothing(&mut self) -> Vec<String> {
        self.now_ms += 10_000;
        self.cache.begin(&mut self.scratch);
        let mut out = Vec::new();
        let shared = Arc::clone(self.cache.labels.shared());
        let each = |outgoing: &Outgoing<'_>| out.push(written(outgoing, &shared));
        self.cache.commit_nothing(self.now_ms, &mut self.scratch, each);
        out
    }

    fn fail(&mut self, body: &str) -> Vec<String> {
        self.now_ms += 10_000;
        let _ = self.stage(body);
        let mut out = Vec::new();
        let shared = Arc::clone(self.cache.labels.shared());
        self.cache.fail(self.now_ms, &mut self.scratch, |outgoing| out.push(written(outgoing, &shared)));
        out
    }

    fn end(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        let shared = Arc::clone(self.cache.labels.shared());
        self.cache.end(self.now_ms, |outgoing| out.push(written(outgoing, &shared)));
        out
    }
}

fn written(outgoing: &Outgoing<'_>, shared: &Shared) -> String {
    let (mut labels, mut body) = (Vec::new(), Vec::new());
    let Value::Float(bits) = outgoing.value else { panic!("not a float: {outgoing:?}") };
    let time_ms = outgoing.timestamp_ms;
    let set = outgoing.series.class(0).unwrap();
    pen::append(&mut labels, |pen| set.write_v1(&shared.symbols.reading(), pen));
    v1::push_series(&labels, f64::from_bits(bits), time_ms, &mut body);
    let series = WriteRequest::decode(&*body).unwrap().timeseries.remove(0);
    let labels: Labels = series.labels.iter().map(|label| (&label.name, &label.value)).collect();
    let value = series.samples[0].value;
    let name = labels.get("__name__").unwrap_or_default();
    let rest: Vec<String> = labels
        .iter()
        .filter(|(name, _)| !["__name__", "instance", "job"].contains(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let value = if is_stale_marker(value) { "stale".to_owned() } else { value.to_string() };
    format!("{name}{{{}}} {value}", rest.join(","))
}

#[test]
fn a_steady_scrape_adds_no_series() {
    let mut target = Target::new("");
    assert_eq!(target.scrape("a 1\nb{x=\"1\"} 2\n"), ["a{} 1", "b{x=1} 2"]);
    assert_eq!(target.cache.tally().added, 2);
    assert_eq!(target.scrape("a 3\nb{x=\"1\"} 4\n"), ["a{} 3", "b{x=1} 4"]);
    assert_eq!(target.cache.tally(), Tally { scraped: 2, kept: 2, ..Tally::default() });
}

#[test]
fn a_text_that_is_known_is_checked_anew_in_another_format() {
    let mut target = Target::new("");
    let (text, openmetrics) = ("a{x=\"1\", y=\"2\"} 1\nz 1\n", "a{x=\"1\", y=\"2\"} 1\nz 1\n# EOF\n");
    let written = ["a{x=1,y=2} 1", "z{} 1"];
    assert_eq!(target.scrape(text), written);
    for _ in 0..2 {
        target.format = Format::OpenMetrics;
        // A blank stands between labels in the Prometheus text format only.
        assert!(matches!(target.stage(openmetrics), Err(Refusal::Malformed { .. })));
        target.fail(openmetrics);
        target.format = Format::Text;
        assert_eq!(target.scrape(text), written);
    }
}

#[test]
fn a_series_goes_on_where_its_target_answers_in_the_other_text_format() {
    let mut target = Target::new("");
    assert_eq!(target.scrape("a{x=\"1\"} 1\nz 1\n"), ["a{x=1} 1", "z{} 1"]);
    for format in [Format::OpenMetrics, Format::Text, Format::OpenMetrics] {
        target.format = format;
        assert_eq!(target.scrape("a{x=\"1\"} 2\nz 3\n# EOF\n"), ["a{x=1} 2", "z{} 3"]);
        assert_eq!(target.cache.tally(), Tally { scraped: 2, kept: 2, ..Tally::default() });
        assert_eq!(target.scrape("a{x=\"1\"} 4\nz 5\n# EOF\n"), ["a{x=1} 4", "z{} 5"]);
    }
    assert_eq!(target.scrape("z 6\n# EOF\n"), ["z{} 6", "a{x=1} stale"]);
}

#[test]
fn a_series_that_vanished_is_marked_once_and_forgotten() {
    let mut target = Target::new("");
    target.scrape("a 1\nb 2\nc 3\n");
    assert_eq!(target.scrape("c 1\na 1\n"), ["c{} 1", "a{} 1", "b{} stale"]);
    assert_eq!(target.cache.len(), 2);
    assert_eq!(target.scrape("c 1\na 1\n"), ["c{} 1", "a{} 1"]);
    assert_eq!(target.scrape("a 1\nb 2\nc 3\n"), ["a{} 1", "b{} 2", "c{} 3"]);
    assert_eq!(target.cache.tally().added, 1);
}

#[test]
fn a_failed_scrape_marks_everything_once_and_keeps_what_is_known() {
    let mut target = Target::new("");
    target.scrape("a 1\nb 2\n");
    assert_eq!(target.fail("a 1\nnew 5\n"), ["a{} stale", "b{} stale"]);
    assert_eq!(target.fail(""), Vec::<String>::new(), "a second failure has nothing to mark");
    assert_eq!(target.cache.len(), 2, "what only the failed scrape brought is forgotten");
    assert_eq!(target.scrape("a 1\n"), ["a{} 1"], "b was marked when the scrape failed");
    assert_eq!(target.cache.tally().added, 0);
}

#[test]
fn a_series_is_known_again_however_many_scrapes_failed() {
    // More than a byte can count, so that each turn comes by again.
    for failures in 250..260 {
        let mut target = Target::new("");
        target.scrape("a 1\nb 2\n");
        for _ in 0..failures {
            target.fail("a 1\n");
        }
        assert_eq!(target.scrape("a 1\nb 2\n"), ["a{} 1", "b{} 2"], "after {failures}");
        assert_eq!(target.scrape("b 2\n"), ["b{} 2", "a{} stale"], "after {failures}");
        assert_eq!(target.scrape("b 2\n"), ["b{} 2"]);
    }
}

#[test]
fn a_failed_first_scrape_marks_nothing() {
    let mut target = Target::new("");
    assert_eq!(target.fail("a 1\n"), Vec::<String>::new());
    assert!(target.cache.is_empty());
}

#[test]
fn the_end_of_a_target_marks_its_series_once() {
    let mut target = Target::new("");
    target.scrape("a 1\nb 2\n");
    assert_eq!(target.end(), ["a{} stale", "b{} stale"]);
    assert_eq!(target.end(), Vec::<String>::new());
}

#[test]
fn a_dropped_series_costs_an_entry_and_writes_nothing() {
    let mut target =
        Target::new("metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}]");
    assert_eq!(target.scrape("a 1\nb 2\n"), ["a{} 1"]);
    assert_eq!(target.cache.tally(), Tally { scraped: 2, kept: 1, added: 1, ..Tally::default() });
    assert_eq!(target.scrape("a 1\n"), ["a{} 1"], "nothing to mark where nothing was written");
}

#[test]
fn a_series_without_any_label_is_dropped_and_one_without_its_name_fails_the_scrape() {
    let mut target = Target::new("metric_relabel_configs: [{regex: kept, action: labelkeep}]");
    assert_eq!(target.scrape("a 1\nb{other=\"x\"} 2\n"), Vec::<String>::new());
    assert!(matches!(target.stage("a 1\nb{kept=\"x\"} 2\n"), Err(Refusal::NoName(_))));
}

#[test]
fn the_second_sample_of_a_series_is_left_out_and_counted() {
    let mut target = Target::new("");
    for _ in 0..3 {
        assert_eq!(target.scrape("a 1\na 2\nb 3\n"), ["a{} 1", "b{} 3"]);
        assert_eq!(target.cache.tally().duplicates, 1);
    }
    assert_eq!(target.scrape("b 1\n"), ["b{} 1", "a{} stale"]);
}

#[test]
fn two_texts_with_the_same_labels_are_one_series() {
    let config = "metric_relabel_configs: [{regex: id, action: labeldrop}]";
    let mut target = Target::new(config);
    assert_eq!(target.scrape("a{id=\"1\"} 1\na{id=\"2\"} 2\n"), ["a{} 1"]);
    assert_eq!(target.scrape("a{id=\"2\"} 2\n"), ["a{} 2"], "the other text goes on with the series");
    assert_eq!(target.scrape("a{id=\"3\"} 3\n"), ["a{} 3"], "a third takes it over");
    assert_eq!(target.scrape("b 1\n"), ["b{} 1", "a{} stale"]);
}

#[test]
fn the_second_text_of_a_series_is_found_whenever_its_first_one_brought_a_new_string() {
    let mut target = Target::new("");
    // The first ones have a new string each; what has none meets all that came before it, and what comes after it.
    let body = "a{x=\"1\",y=\"2\"} 1\na{x=\"3\"} 2\na{y=\"2\",x=\"1\"} 3\na{x=\"4\",y=\"2\"} 4\na{y=\"2\",x=\"4\"} 5\n";
    for _ in 0..2 {
        assert_eq!(target.scrape(body), ["a{x=1,y=2} 1", "a{x=3} 2", "a{x=4,y=2} 4"]);
        assert_eq!(target.cache.tally().duplicates, 2);
    }
    assert_eq!(target.scrape(""), ["a{x=1,y=2} stale", "a{x=3} stale", "a{x=4,y=2} stale"]);
}

#[test]
fn a_body_that_changes_whole_leaves_no_memory_of_the_one_before() {
    const COUNT: usize = 30_000;
    let body = |turn: usize| (0..COUNT).map(|n| format!("a{{x=\"{turn} {n}\"}} 1\n")).collect::<String>();
    let mut target = Target::new("");
    target.scrape(&body(0));
    let before = target.cache.memory();
    for turn in 1..4 {
        assert_eq!(target.scrape(&body(turn)).len(), 2 * COUNT, "samples and markers");
        // Numbers may have become longer.
        let held = target.cache.memory();
        assert!(held < before + before / 8, "{held} after {before} bytes");
    }
}

#[test]
fn exposed_timestamps_are_kept_and_their_series_not_marked() {
    let mut target = Target::new("");
    target.scrape("a 1 5000\nb 2\n");
    assert_eq!(target.scrape(""), ["b{} stale"]);
}

#[test]
fn exposed_timestamps_are_marked_where_asked_for() {
    let mut target = Target::new("track_timestamps_staleness: true");
    target.scrape("a 1 5000\n");
    assert_eq!(target.scrape(""), ["a{} stale"]);
}

#[test]
fn exposed_timestamps_are_discarded_where_asked_for() {
    let mut target = Target::new("honor_timestamps: false");
    target.scrape("a 1 5000\n");
    assert_eq!(target.scrape(""), ["a{} stale"]);
}

#[test]
fn samples_far_in_the_future_are_left_out() {
    let mut target = Target::new("");
    assert_eq!(target.scrape("a 1 99999999999999\nb 1\n"), ["b{} 1"]);
    assert_eq!(target.cache.tally().out_of_bounds, 1);
}

#[test]
fn the_targets_labels_win_and_the_exposed_one_is_renamed() {
    let mut target = Target::new("static_configs: [{targets: ['host:1'], labels: {env: prod}}]");
    assert_eq!(
        target.scrape("a{env=\"dev\",exported_env=\"x\"} 1\n"),
        ["a{env=prod,exported_env=x,exported_exported_env=dev} 1"]
    );
}

#[test]
fn with_honor_labels_the_exposed_label_wins() {
    let config = "honor_labels: true\nstatic_configs: [{targets: ['host:1'], labels: {env: prod, zone: a}}]";
    assert_eq!(Target::new(config).scrape("a{env=\"dev\"} 1\n"), ["a{env=dev,zone=a} 1"]);
}

#[test]
fn of_labels_that_a_labelmap_makes_one_the_targets_beat_the_exposed() {
    let config = "metric_relabel_configs: [{regex: 'zz|env|exported_env', replacement: to, action: labelmap}]
static_configs: [{targets: ['host:1'], labels: {env: prod}}]";
    let mut target = Target::new(config);
    assert_eq!(target.scrape("a{zz=\"z\"} 1\n"), ["a{env=prod,to=prod,zz=z} 1"]);
    let mut target = Target::new(config);
    let renamed = "a{env=prod,exported_env=dev,to=dev,zz=z} 1";
    assert_eq!(target.scrape("a{zz=\"z\",env=\"dev\"} 1\n"), [renamed]);
    let mut honoring = Target::new(&format!("honor_labels: true\n{config}"));
    assert_eq!(honoring.scrape("a{zz=\"z\",env=\"dev\"} 1\n"), ["a{env=dev,to=z,zz=z} 1"]);
}

#[test]
fn of_labels_that_a_labelmap_of_a_destination_makes_one_the_external_beat_the_series() {
    let job = job("static_configs: [{targets: ['host:1']}]");
    let external = Labels::from_pairs([("cluster", "c"), ("zz", "external")]);
    let text = "remote_write:
- {url: 'http://a:1', write_relabel_configs: [{regex: 'cluster|zz', replacement: to, action: labelmap}]}";
    let (classes, _) = Classes::of(&config_in(text).remote_write);
    let rules = SeriesRules::new(&job, &target_of(&job), &external, &classes);
    let to = |body: &str| {
        let mut parser = TextParser::new(body.as_bytes());
        let sample = parser.next_sample().unwrap().unwrap();
        let sets = rules
            .resolve(&sample.series, &mut promring_model::labels::SpareLabels::default())
            .unwrap()
            .unwrap();
        sets[0].as_ref().unwrap().get("to").to_owned()
    };
    assert_eq!(to("a 1\n"), "external");
    assert_eq!(to("a{zz=\"exposed\"} 1\n"), "c");
}

#[test]
fn under_new_rules_only_series_that_are_no_more_are_marked() {
    let mut before = Target::new("");
    before.scrape("a 1\nb 2\nc 3\n");
    let mut after = Target::sharing(
        "metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}]",
        before.cache.labels.shared(),
    );
    after.now_ms = before.now_ms;
    after.cache = SeriesCache::new(&after.rules, before.cache.labels.shared());
    after.cache.supersede(before.cache);
    assert_eq!(after.fail(""), ["a{} stale", "b{} stale", "c{} stale"]);
    assert_eq!(after.scrape("a 1\nb 2\nc 3\n"), ["a{} 1", "c{} 3"], "each is marked once");

    let mut before = Target::sharing("", after.cache.labels.shared());
    before.scrape("a 1\nb 2\nc 3\n");
    after.cache = SeriesCache::new(&after.rules, before.cache.labels.shared());
    after.cache.supersede(before.cache);
    assert_eq!(after.scrape("a 1\nb 2\n"), ["a{} 1", "b{} stale", "c{} stale"]);
    assert_eq!(after.scrape("a 1\nb 2\n"), ["a{} 1"]);
}

#[test]
fn many_series_that_come_and_go_leave_nothing_behind() {
    let mut target = Target::new("");
    for round in 0..20 {
        let body: String = (0..500).map(|n| format!("a{{n=\"{}\"}} 1\n", n + round * 250)).collect();
        let written = target.scrape(&body);
        let stale = if round == 0 { 0 } else { 250 };
        assert_eq!(written.len(), 500 + stale);
        assert_eq!(target.cache.len(), 500);
    }
    assert!(target.cache.arena.len() < 3 * 500 * 16, "label sets of forgotten series are given back");
    let kept = target.cache.labels.reading().kept();
    assert!(kept < 1_100, "strings that no series uses are freed: {kept} are kept");
}

#[test]
fn an_empty_value_takes_a_label_away_that_was_given_before_or_after() {
    let mut target = Target::new("");
    assert_eq!(target.scrape("a{x=\"1\",x=\"\",y=\"2\"} 1\nb{x=\"\",x=\"1\"} 1\n"), ["a{y=2} 1", "b{} 1"]);
}

#[test]
fn a_targets_label_that_is_exposed_with_a_value_and_then_without_is_renamed() {
    let mut target = Target::new("");
    assert_eq!(target.scrape("g{job=\"z\",job=\"\"} 1\n"), ["g{exported_job=z} 1"]);
    assert_eq!(
        target.scrape("h{job=\"\",job=\"z\"} 1\ni{x=\"1\",x=\"\"} 2\n"),
        ["h{} 1", "i{} 2", "g{exported_job=z} stale"]
    );
    let mut target = Target::new("honor_labels: true\n");
    assert_eq!(target.scrape("g{job=\"z\",job=\"\"} 1\n"), ["g{} 1"]);
}

#[test]
fn with_honor_labels_an_exposed_empty_label_takes_the_targets_away() {
    let config = "honor_labels: true\nstatic_configs: [{targets: ['host:1'], labels: {env: prod, zone: a}}]";
    assert_eq!(Target::new(config).scrape("a{env=\"\"} 1\n"), ["a{zone=a} 1"]);
    let config = "static_configs: [{targets: ['host:1'], labels: {env: prod}}]";
    assert_eq!(Target::new(config).scrape("a{env=\"\"} 1\n"), ["a{env=prod} 1"], "only with honor_labels");
}

#[test]
fn a_sample_that_is_not_newer_than_the_last_of_its_series_is_left_out() {
    let mut target = Target::new("");
    assert_eq!(target.scrape("a 1 5000\nb 1\n"), ["a{} 1", "b{} 1"]);
    assert_eq!(target.scrape("a 1 5000\nb 1\n"), ["b{} 1"], "the same sample again");
    assert_eq!(target.cache.tally().out_of_order, 1);
    assert_eq!(target.scrape("a 2 4000\nb 1\n"), ["b{} 1"]);
    assert_eq!(target.scrape("a 3 100000\nb 1\n"), ["a{} 3", "b{} 1"]);
    assert_eq!(target.scrape("a 4\nb 1\n"), ["b{} 1"], "the time of this scrape is before a's last one");
    target.now_ms = 200_000;
    assert_eq!(target.scrape("a 5\nb 1\n"), ["a{} 5", "b{} 1"]);
    assert_eq!(target.scrape("b 1\n"), ["b{} 1", "a{} stale"]);
    assert!(target.cache.order.is_empty(), "nothing is kept of what has times of scrapes");
}

#[test]
fn a_series_that_comes_back_is_known_for_five_minutes() {
    let mut target = Target::new("");
    target.scrape("a 1 5000\nb 1\n");
    assert_eq!(target.scrape("b 1\n"), ["b{} 1"]);
    assert_eq!(target.scrape("a 1 5000\nb 1\n"), ["b{} 1"], "the same sample again");
    assert_eq!(target.scrape("a{} 1 5000\nb 1\n"), ["b{} 1"], "and by another text");
    target.scrape("b 1\n");
    target.now_ms += 300_000;
    assert_eq!(target.scrape("b 1\n"), ["b{} 1"]);
    assert!(target.cache.order.is_empty(), "then it is forgotten");
    assert_eq!(target.scrape("a 1 5000\nb 1\n"), ["a{} 1", "b{} 1"]);
}

#[test]
fn of_many_series_that_ended_the_last_ones_are_known() {
    let mut target = Target::new("");
    for round in 0..20 {
        let body: String =
            (0..500).map(|n| format!("a{{n=\"{}\"}} 1 {}\n", n + round * 500, 9 + round)).collect();
        assert_eq!(target.scrape(&body).len(), 500);
    }
    target.scrape("b 1\n");
    let kept = target.cache.labels.reading().kept();
    // What was given back last is counted off with the next new string.
    assert!((1_000..1_600).contains(&kept), "{kept} are kept");
    assert!(target.cache.order.memory() < 200_000, "{}", target.cache.order.memory());
    assert_eq!(target.scrape("a{n=\"9999\"} 1 28\na{n=\"0\"} 1 9\n"), ["a{n=0} 1", "b{} stale"]);
}

#[test]
fn a_series_that_begins_to_have_times_sends_none_from_before() {
    let mut target = Target::new("");
    assert_eq!(target.scrape("a 1\n"), ["a{} 1"]);
    let nothing = [] as [&str; 0];
    let ended = target.scrape("a 2 7500\nnew 1 7500\n");
    assert_eq!(
        ended,
        ["new{} 1", "a{} stale"],
        "a's last one is from 10,000, and what is refused is no sign of life"
    );
    assert_eq!(target.scrape("a 3 20000\n"), nothing, "at the time of the marker");
    assert_eq!(target.scrape("a 4 20001\n"), ["a{} 4"]);
    assert_eq!(target.cache.tally().out_of_order, 0);
}

#[test]
fn a_series_whose_sample_is_refused_for_its_time_ends_once_and_begins_with_the_next_one_that_is_taken() {
    let mut target = Target::new("track_timestamps_staleness: true");
    let nothing = [] as [&str; 0];
    assert_eq!(target.scrape("a 1 7500\nb 1\nc 1\n"), ["a{} 1", "b{} 1", "c{} 1"]);
    assert_eq!(
        target.scrape("a 1 7500\nb 2\nc 2\n"),
        ["b{} 2", "c{} 2"],
        "the same sample shows that it is there"
    );
    // One is older, one too far ahead, and of one another sample is taken.
    let ended = target.scrape("a 2 7499\nb 3 700000\nc 3 700000\nc 4 29000\n");
    assert_eq!(ended, ["c{} 4", "a{} stale", "b{} stale"]);
    assert_eq!(target.scrape("a 2 7499\nb 3 710000\nc 5\n"), ["c{} 5"], "one marker is enough");
    assert_eq!(target.fail("a 2 7499\n"), ["c{} stale"]);
    assert_eq!(target.scrape("a 2 7499\nb 3 730000\nc 5 55000\n"), ["c{} 5"]);
    assert_eq!(target.scrape("a 3\nb 4\n"), ["a{} 3", "b{} 4", "c{} stale"]);
    assert_eq!(target.end(), ["a{} stale", "b{} stale"]);
    assert_eq!(target.scrape("b 700000 799999\n"), nothing);
}

#[test]
fn what_lags_behind_a_marker_is_left_out() {
    let mut target = Target::new("track_timestamps_staleness: true");
    assert_eq!(target.scrape("a 1 7500\nb 1\n"), ["a{} 1", "b{} 1"]);
    assert_eq!(target.fail(""), ["a{} stale", "b{} stale"], "at 20,000");
    assert_eq!(target.scrape("a 2 17500\nb 1\n"), ["b{} 1"]);
    assert_eq!(target.scrape("a 3 27500\nb 1\n"), ["a{} 3", "b{} 1"]);
    assert_eq!(target.scrape("b 1\n"), ["b{} 1", "a{} stale"], "at 50,000");
    assert_eq!(target.scrape("a 4 47500\nb 1\n"), ["b{} 1"]);
    assert_eq!(target.scrape("a 5 57500\nb 1\n"), ["a{} 5", "b{} 1"]);
}

#[test]
fn two_texts_of_one_series_have_one_last_time() {
    let mut target = Target::new("metric_relabel_configs: [{regex: x, action: labeldrop}]");
    for step in 1..4 {
        let (now, before) = (step * 10_000, step * 10_000 - 100);
        assert_eq!(target.scrape(&format!("a{{x=\"1\"}} 1 {now}\na{{x=\"2\"}} 2 {now}\n")), ["a{} 1"]);
        assert_eq!(target.cache.tally().out_of_order, 1);
        let mut target = Target::new("metric_relabel_configs: [{regex: x, action: labeldrop}]");
        assert_eq!(target.scrape(&format!("a{{x=\"1\"}} 1 {now}\na{{x=\"2\"}} 2 {before}\n")), ["a{} 1"]);
    }
}

#[test]
fn two_texts_of_one_series_that_come_back_are_one_series() {
    let mut target = Target::new("metric_relabel_configs: [{regex: x, action: labeldrop}]");
    let both = "a{x=\"1\"} 1\na{x=\"2\"} 2\nb 1\n";
    for _ in 0..3 {
        assert_eq!(target.scrape(both), ["a{} 1", "b{} 1"]);
        assert_eq!(target.scrape("b 1\n"), ["b{} 1", "a{} stale"]);
        (0..4).for_each(|_| drop(target.scrape("b 1\n")));
    }
}

#[test]
fn an_empty_body_ends_all_series_and_forgets_none() {
    let mut target = Target::new("");
    target.scrape("a 1\nb 2\n");
    for _ in 0..2 {
        assert_eq!(target.scrape_nothing(), ["a{} stale", "b{} stale"]);
        assert_eq!(target.scrape_nothing(), [] as [&str; 0], "they are marked");
        assert_eq!(target.scrape("b 1\na 2\n"), ["b{} 1", "a{} 2"]);
        assert_eq!(target.cache.tally().added, 0, "they are known");
        target.scrape("a 1\nb 2\n");
    }
    assert_eq!(target.scrape("# nothing\n"), ["a{} stale", "b{} stale"]);
    target.scrape("a 1\nb 2\n");
    assert_eq!(target.cache.tally().added, 2, "a comment is a body");
}

#[test]
fn a_failed_scrape_says_nothing_of_a_series() {
    let mut target = Target::new("");
    target.scrape("a 1\n");
    assert_eq!(target.fail("a 2 15000\n"), ["a{} stale"], "its last sample had none");
}

#[test]
fn under_another_type_a_series_goes_on() {
    let mut target = Target::new("");
    target.scrape("# TYPE a gauge\na 1 5000\nb{le=\"1\"} 1\n");
    assert_eq!(
        target.scrape("# TYPE a histogram\na 1 5000\nb{le=\"1\"} 2\n"),
        ["b{le=1.0} 2", "b{le=1} stale"]
    );
    assert_eq!(target.cache.tally().added, 0, "the texts are known");
}

#[test]
fn a_failed_scrape_does_not_move_the_last_time_of_a_series() {
    let mut target = Target::new("");
    target.scrape("a 1 5000\n");
    target.fail("a 2 6000\n");
    assert_eq!(target.scrape("a 2 6000\n"), ["a{} 2"]);
}

#[test]
fn no_marker_is_older_than_the_last_sample() {
    let mut target = Target::new("track_timestamps_staleness: true");
    assert_eq!(target.scrape("a 1 100000\nb 1 5000\n"), ["a{} 1", "b{} 1"]);
    assert_eq!(target.scrape(""), ["b{} stale"]);
    assert_eq!(target.scrape("a 1 100001\n"), ["a{} 1"]);
    assert_eq!(target.end(), Vec::<String>::new());
}

#[test]
fn two_texts_of_one_series_that_vanish_together_get_one_marker() {
    let mut target = Target::new("");
    assert_eq!(target.scrape("a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 2\nb 1\n"), ["a{x=1,y=2} 1", "b{} 1"]);
    assert_eq!(target.scrape("b 1\n"), ["b{} 1", "a{x=1,y=2} stale"]);
}

#[test]
fn what_is_malformed_is_no_sample() {
    let mut target = Target::new("");
    target.fail("a 1\nb{x} 2\n");
    assert_eq!(target.cache.tally().scraped, 1);
    target.fail("a 1\nb{x=\"1\",x=\"2\"} 2\n");
    assert_eq!(target.cache.tally().scraped, 2, "well-formed, and refused");
}

#[test]
fn duplicates_do_not_count_as_samples_to_store() {
    let mut target = Target::new("");
    target.scrape("a 1\na 2\na 3\nb 1\n");
    assert_eq!((target.cache.tally().kept, target.cache.tally().to_store()), (4, 2));
}

#[test]
fn a_label_with_neither_name_nor_value_is_none() {
    assert_eq!(Target::new("").scrape("a{\"\"=\"\",x=\"1\"} 1\n"), ["a{x=1} 1"]);
    assert!(Target::new("").stage("a{\"\"=\"1\"} 1\n").is_err());
}
