//! Random rules and label sets: close to what people write, and full of what is read in two ways.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};

const ACTIONS: [(&str, u32); 11] = [
    ("replace", 12),
    ("labelmap", 4),
    ("lowercase", 2),
    ("uppercase", 2),
    ("hashmod", 2),
    ("labeldrop", 2),
    ("labelkeep", 1),
    ("keep", 1),
    ("drop", 2),
    ("keepequal", 1),
    ("dropequal", 2),
];

/// Names of labels, the more often listed the likelier.
const NAMES: [&str; 30] = [
    "env",
    "env",
    "team",
    "team",
    "pod",
    "app",
    "A_b9",
    "__tmp",
    "__tmp_hash",
    "job",
    "instance",
    "__name__",
    "zone.name",
    "größe",
    "x y",
    "Ж",
    "__meta_pod",
    "__meta_pod_label_app",
    "__meta_pod_label_team",
    "__meta_filepath",
    "__param_module",
    "__param_",
    "__address__",
    "__metrics_path__",
    "__scheme__",
    "__scrape_interval__",
    "__scrape_timeout__",
    "__scrape_native_histograms__",
    "absent",
    "1st",
];

/// Pieces of values; patterns are made of them too.
const PIECES: [&str; 36] = [
    "prod", "eu", "web", "10.0.0.1", "9100", "a", "b", "B", "foo", "true", "1", "0", "42", "-", "_", ".",
    ":", ";", "/", " ", "\n", "\t", "$1", "\\", "é", "ß", "İ", "ı", "K", "ſ", "Σ", "ς", "ǆ", "日", "😀",
    "\u{2028}",
];

const CLASSES: [&str; 34] = [
    ".",
    ".",
    "[a-z]",
    "[^;]",
    "[0-9]",
    "[a-zA-Z_]",
    r"\d",
    r"\D",
    r"\w",
    r"\W",
    r"\s",
    r"\S",
    "[[:alpha:]]",
    "[[:^digit:]]",
    "[[:space:][:punct:]]",
    r"\pL",
    r"\PL",
    r"\p{Greek}",
    r"\p{^Lu}",
    r"[\d\-_]",
    r"[^\n]",
    "[é-ü]",
    "[^a-z.]",
    r"\.",
    r"\x41",
    r"\x{e9}",
    r"\Q.*\E",
    r"\n",
    r"\t",
    r"\/",
    "[]a]",
    "[a-]",
    r"[\w.]",
    "[[a]",
];

const LOOKS: [&str; 6] = ["^", "$", r"\b", r"\B", r"\A", r"\z"];

const REPEATS: [&str; 14] =
    ["*", "*", "+", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{0,}", "{0}", "{2,3}?", "{,2}"];

/// What most likely is no pattern, or none that Go takes.
const ODD: [&str; 24] = [
    "(",
    ")",
    "[",
    "]",
    "*",
    "+",
    "{1001}",
    "{2,1}",
    "{",
    "}",
    r"\Z",
    r"\1",
    r"\",
    "(?=a)",
    "(?<!a)",
    "(?z)",
    "(?i",
    "[z-a]",
    r"\p{Nope}",
    r"[[:nope:]]",
    "(?P<1>a)",
    "(?P<a b>c)",
    "**",
    r"\8",
];

const TEMPLATES: [&str; 24] = [
    "$1", "$1", "${1}", "$2", "$0", "$n", "${n}", "${1}_x", "x_$1", "$1_x", "$1$2", "$1-${2}", "$$1", "$",
    "${", "${1", "$3", "const", "const", "", "é$1", "$01", "${1}é", "$1é",
];

const SEPARATORS: [&str; 6] = ["", ":", ";", "-", "--", "é"];

/// Things at random, from a seed that is printed.
pub(super) struct Random {
    rng: StdRng,
    seed: u64,
}

impl Random {
    /// From the seed in the environment, or from a new one.
    pub(super) fn from_environment() -> Self {
        let seed = crate::chance::seed();
        Self { rng: StdRng::seed_from_u64(seed), seed }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub(super) fn number(&mut self, below: usize) -> usize {
        self.rng.random_range(0..below)
    }

    pub(super) fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.number(from.len())]
    }

    /// A value of up to five pieces.
    pub(super) fn value(&mut self) -> String {
        (0..=self.number(5)).map(|_| self.pick(&PIECES)).collect()
    }

    pub(super) fn name(&mut self) -> &'static str {
        self.pick(&NAMES)
    }

    /// A rule that has what its action needs; one in many is refused all the same.
    pub(super) fn rule(&mut self) -> Value {
        let action = self.action();
        let by_name = matches!(action, "labelmap" | "labeldrop" | "labelkeep");
        let compares = matches!(action, "keepequal" | "dropequal");
        let sets = matches!(action, "replace" | "hashmod" | "lowercase" | "uppercase");
        let mut rule = Map::new();
        let mut set = |key: &str, value: Value| rule.insert(key.to_owned(), value);
        if !by_name {
            let sources: Vec<&str> = (0..[1, 1, 1, 2, 3, 0][self.number(6)]).map(|_| self.name()).collect();
            set("source_labels", json!(sources));
            if !compares && self.chance(15) {
                set("separator", json!(self.pick(&SEPARATORS)));
            }
        }
        if sets || compares {
            let templated = action == "replace" && self.chance(20);
            set("target_label", json!(if templated { self.pick(&TEMPLATES) } else { self.target() }));
        }
        match action {
            // Without its reserved labels a target is none.
            "labelkeep" => set("regex", json!(format!("__.*|{}", self.name_pattern()))),
            "labelmap" | "labeldrop" => set("regex", json!(self.name_pattern())),
            "replace" | "keep" | "drop" if self.chance(85) => set("regex", json!(self.pattern(0))),
            _ => None,
        };
        if action == "labelmap" && self.chance(70) || action == "replace" && self.chance(70) {
            set("replacement", json!(self.pick(&TEMPLATES)));
        }
        if action == "hashmod" {
            set("modulus", json!([1, 2, 7, 16, 1_000_003, u64::MAX][self.number(6)]));
        }
        if action != "replace" || self.chance(30) {
            let name = if self.chance(10) { action.to_uppercase() } else { action.to_owned() };
            set("action", json!(name));
        }
        Value::Object(rule)
    }

    /// A rule that may lack anything and have too much.
    pub(super) fn any_rule(&mut self) -> Value {
        let mut rule = self.rule();
        let map = rule.as_object_mut().unwrap();
        if self.chance(50) {
            let odd = if self.chance(50) { 40 } else { 0 };
            let pattern = self.pattern(odd);
            map.insert("regex".to_owned(), json!(pattern));
        }
        for _ in 0..self.number(3) {
            let key = self.pick(&[
                "source_labels",
                "separator",
                "target_label",
                "regex",
                "modulus",
                "replacement",
                "action",
            ]);
            let value = match key {
                _ if self.chance(10) => Value::Null,
                "source_labels" => json!([self.name()]),
                "separator" => json!(self.pick(&SEPARATORS)),
                "target_label" => json!(self.pick(&["a", "a.b", "${1}", "a_$1", "", "1a", "a b", "$1}"])),
                "regex" => json!(self.pick(&["(.*)", ".*", "", "a"])),
                "modulus" => json!(self.number(3)),
                "replacement" => json!(self.pick(&TEMPLATES)),
                _ => json!(self.pick(&[
                    "replace",
                    "keep",
                    "labelmap",
                    "labeldrop",
                    "rename",
                    "",
                    "Keep",
                    "keep_equal"
                ])),
            };
            if self.chance(30) {
                map.remove(key);
            } else {
                map.insert(key.to_owned(), value);
            }
        }
        rule
    }

    fn action(&mut self) -> &'static str {
        let total: u32 = ACTIONS.iter().map(|(_, weight)| weight).sum();
        let mut at = self.rng.random_range(0..total);
        for (action, weight) in ACTIONS {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return action,
            }
        }
        unreachable!("the weights add up");
    }

    /// The label that a rule writes; those that make the URL are rare, so that targets stay targets.
    fn target(&mut self) -> &'static str {
        let name = self.name();
        if name.starts_with("__") && !name.starts_with("__meta") && self.chance(85) { "team" } else { name }
    }

    /// A pattern for names: of some labels and their common beginnings.
    fn name_pattern(&mut self) -> String {
        match self.number(5) {
            0 => {
                format!("{}(.*)", self.pick(&["__meta_", "__meta_pod_", "__meta_pod_label_", "e", "", "te"]))
            }
            1 => format!("{}|{}", self.name(), self.name()),
            2 => "(.)(.*)".to_owned(),
            3 => format!("({})", self.name()),
            _ => self.pattern(0),
        }
    }

    /// A pattern. `odd`: how many in a hundred of its pieces are likely mistakes.
    fn pattern(&mut self, odd: u32) -> String {
        match self.number(8) {
            0 => "(.*)".to_owned(),
            1 => "(.+)".to_owned(),
            2 => format!("({}):(.*)", self.pattern_of(2, odd)),
            3 => format!(".*{}.*", self.pattern_of(1, odd)),
            _ => self.pattern_of(3, odd),
        }
    }

    fn pattern_of(&mut self, depth: u32, odd: u32) -> String {
        let mut pattern = String::new();
        for _ in 0..=self.number(4) {
            let mut piece = self.pattern_piece(depth, odd);
            if self.chance(35) {
                piece.push_str(self.pick(&REPEATS));
            }
            pattern.push_str(&piece);
        }
        pattern
    }

    fn pattern_piece(&mut self, depth: u32, odd: u32) -> String {
        if self.chance(odd / 4) {
            return self.pick(&ODD).to_owned();
        }
        match self.number(if depth == 0 { 6 } else { 10 }) {
            0..=2 => escape(self.pick(&PIECES)),
            3..=4 => self.pick(&CLASSES).to_owned(),
            5 if self.chance(30) => self.pick(&LOOKS).to_owned(),
            5 => self.pick(&[".*", ".+", "(.*)", "(.+)", "(?P<n>.*)"]).to_owned(),
            6..=7 => {
                let open = self.pick(&[
                    "(", "(", "(?:", "(?P<n>", "(?<n>", "(?i:", "(?i)(", "(?-s:", "(?U:", "(?m:", "(?i-s:",
                ]);
                format!("{open}{})", self.pattern_of(depth - 1, odd))
            }
            _ => {
                let open = self.pick(&["(", "(?:", "(?i:"]);
                let (one, other) = (self.pattern_of(depth - 1, odd), self.pattern_of(depth - 1, odd));
                format!("{open}{one}|{other})")
            }
        }
    }
}

fn escape(text: &str) -> String {
    text.chars()
        .map(|char| if r"\.+*?()|[]{}^$".contains(char) { format!("\\{char}") } else { char.to_string() })
        .collect()
}
