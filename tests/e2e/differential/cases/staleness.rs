//! Series and targets that come and go, and timestamps of the exposition's own.

use super::{Case, Ending, Step, TEXT, bodies, family};

pub(super) fn cases(now_ms: i64) -> Vec<Case> {
    let mut cases = bodies(
        "series-vanish",
        "",
        TEXT,
        &[
            ("all", "a 1\nb 2\nc 3\n"),
            ("one-less", "a 1\nc 3\n"),
            ("still-less", "a 1\nc 3\n"),
            ("back", "a 1\nb 5\nc 3\n"),
            ("another-order", "c 3\na 1\nb 5\n"),
            ("last-gone", "c 3\na 1\n"),
            ("all-others", "x 1\ny 2\n"),
            ("none", ""),
            ("all-again", "a 1\nb 2\nc 3\n"),
            ("twice-then-once", "a 1\na 2\n"),
            ("once", "a 1\n"),
        ],
    );
    // One series where x is dropped: one sample each time, whatever was before.
    let two = "a{x=\"1\"} 1\na{x=\"2\"} 2\nb 1\n";
    cases.extend(bodies(
        "two-texts-vanish",
        "metric_relabel_configs: [{regex: x, action: labeldrop}]",
        TEXT,
        &[
            ("both", two),
            ("neither", "b 1\n"),
            ("both-again", two),
            ("the-second", "a{x=\"2\"} 2\nb 1\n"),
            ("neither-again", "b 1\n"),
            ("still-neither", "b 1\n"),
            ("both-at-last", two),
            ("a-third", "b 1\na{x=\"3\"} 3\na{x=\"1\"} 1\n"),
        ],
    ));
    cases.extend(bodies(
        "empty-body",
        "",
        TEXT,
        &[
            ("two", "a 1\nb 1\n"),
            ("empty", ""),
            ("two-again", "a 1\nb 1\n"),
            ("comment", "# a\n"),
            ("again", "a 1\nb 1\n"),
        ],
    ));
    cases.extend(bodies(
        "other-type",
        "",
        TEXT,
        &[
            ("none", "a 1\nb{le=\"1\"} 1\n"),
            ("counter", "# TYPE a counter\na 1\nb{le=\"1\"} 1\n"),
            ("histogram", "# TYPE b histogram\na 1\nb{le=\"1\"} 2\n"),
        ],
    ));
    let sized = [
        ("html", "text/html", "a 1\n"),
        ("none", "", "a 1\nb 1\n"),
        ("text", TEXT, "a 1\n"),
        ("none-and-empty", "", ""),
    ];
    let sized = sized.map(|(name, content_type, body)| Step::new(name, content_type, body));
    cases.extend(family("body-size", "extra_scrape_metrics: true", sized.to_vec()));
    let body = "a 1\nb{x=\"1\"} 2\n";
    let bad = |name: &str| Step::new(name, TEXT, body);
    let good = |name: &str| Step::new(name, TEXT, body);
    cases.extend(family(
        "target-dies",
        "",
        vec![
            good("alive"),
            bad("closed").ending(Ending::Closed),
            bad("closed-again").ending(Ending::Closed),
            good("alive-again"),
            bad("cut-off").ending(Ending::Cut(5)),
            good("alive-a-third-time"),
            bad("hangs").ending(Ending::Hang),
            good("alive-a-fourth-time"),
            bad("malformed-after-all").ending(Ending::Whole).status(500),
            Step::new("malformed", TEXT, "a 1\nb{x=\"1\"} 2\nc"),
            good("alive-at-last"),
        ],
    ));
    cases.extend(family(
        "target-dies-at-first",
        "",
        vec![
            bad("closed").ending(Ending::Closed),
            Step::new("malformed", TEXT, "new 1\nc"),
            good("alive"),
            Step::new("malformed-with-new-series", TEXT, "a 1\nnew 1\nc"),
            good("alive-again"),
        ],
    ));
    // Each step has times of its own: this much further for each.
    let at = |step: i64, offset: i64| now_ms + step * 1_000 + offset;
    let timed: Vec<(&str, String)> = vec![
        ("both-kinds", format!("a 1 {}\nb 2\n", at(0, 0))),
        ("later", format!("a 2 {}\nb 2\n", at(1, 0))),
        ("timed-series-vanishes", "b 2\n".to_owned()),
        ("back-without-time", "a 3\nb 2\n".to_owned()),
        ("and-vanishes", "b 2\n".to_owned()),
        ("several-times-of-one", format!("c 1 {}\nc 2 {}\nc 3 {}\nb 2\n", at(5, 1), at(5, 2), at(5, 3))),
        ("one-with-and-one-without", format!("d 1\nd 2 {}\nb 2\n", at(60, 0))),
        ("without-a-time", "g 1\nb 2\n".to_owned()),
        ("and-then-with-one", format!("g 2 {}\nb 2\n", at(70, 0))),
        ("all-gone", String::new()),
    ];
    cases.extend(bodies("timestamps", "", TEXT, &timed));
    cases.extend(bodies("timestamps-tracked", "track_timestamps_staleness: true", TEXT, &timed));
    cases.extend(bodies("timestamps-not-honored", "honor_timestamps: false", TEXT, &timed));
    let odd: Vec<(&str, String)> = vec![
        ("the-same-time", format!("a 1 {0}\nb 2\n", at(0, 0))),
        ("the-same-time-again", format!("a 1 {0}\nb 2\n", at(0, 0))),
        ("the-same-time-another-value", format!("a 7 {0}\nb 2\n", at(0, 0))),
        ("an-earlier-time", format!("a 1 {}\nb 2\n", at(-30, 0))),
        ("a-later-time", format!("a 1 {}\nb 2\n", at(4, 0))),
        ("in-descending-order", format!("e 1 {}\ne 2 {}\nb 2\n", at(5, 2), at(5, 1))),
        ("the-same-time-twice", format!("f 1 {0}\nf 2 {0}\nb 2\n", at(6, 0))),
        ("far-in-the-future", format!("g 1 {}\nb 2\n", at(3_600, 0))),
        ("in-the-future", format!("h 1 {}\nb 2\n", at(300, 0))),
        ("nought", "i 1 0\nb 2\n".to_owned()),
        ("long-ago", "j 1 1000\nb 2\n".to_owned()),
    ];
    let refused: Vec<(&str, String)> = vec![
        ("taken", format!("a 1 {}\nb 1\nc 1\n", at(0, 0))),
        ("older", format!("a 2 {}\nb 2\nc 2 {}\n", at(-1, 0), at(-300, 0))),
        ("older-again", format!("a 2 {}\nb 3\nc 3 {}\n", at(-1, 0), at(-300, 0))),
        ("taken-again", format!("a 4 {}\nb 4\nc 4\n", at(60, 0))),
        ("far-ahead", format!("a 5 {0}\nb 5 {0}\nc 5\n", at(3_600, 0))),
        ("far-ahead-again", format!("a 6 {0}\nb 6 {0}\nc 6\n", at(3_601, 0))),
        ("gone", "d 1\n".to_owned()),
    ];
    cases.extend(bodies("refused-times", "", TEXT, &refused));
    cases.extend(bodies("refused-times-tracked", "track_timestamps_staleness: true", TEXT, &refused));
    cases.extend(bodies("odd-timestamps", "", TEXT, &odd));
    cases.extend(bodies("odd-timestamps-tracked", "track_timestamps_staleness: true", TEXT, &odd));
    cases
}
