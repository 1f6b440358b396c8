//! What is read, what is refused and where; the dialect's part as well.

use super::*;

fn problem(text: &str) -> String {
    let document = parse(text.as_bytes());
    let problem = document.problems.first().expect("a problem");
    format!("{}:{} {}", problem.line, problem.column, problem.message)
}

#[test]
fn an_empty_file_has_no_root() {
    for empty in ["", "# only a comment\n", "\u{feff}", "---\n"] {
        let document = parse(empty.as_bytes());
        assert!(document.problems.is_empty(), "{:?}", document.problems);
    }
}

#[test]
fn positions_count_from_one() {
    let document = parse(b"a:\n  b: [1, x]\n");
    let Kind::Mapping(pairs) = &document.tree.node(document.root.unwrap()).kind else { panic!() };
    let Kind::Mapping(pairs) = &document.tree.node(pairs[0].1).kind else { panic!() };
    let Kind::Sequence(items) = &document.tree.node(pairs[0].1).kind else { panic!() };
    let node = document.tree.node(items[1]);
    assert_eq!((node.line, node.column), (2, 10));
}

#[test]
fn an_anchor_that_contains_itself_is_refused() {
    assert_eq!(problem("a: &x [1, *x]\n"), "1:11 an anchor that contains itself");
    assert_eq!(problem("a: &x {b: *x}\n"), "1:11 an anchor that contains itself");
}

#[test]
fn an_alias_without_an_anchor_is_refused() {
    assert!(problem("a: *.example.com\n").contains("no anchor of this name"));
}

#[test]
fn aliases_that_multiply_cost_no_nodes() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..40 {
        let list = vec![format!("*a{}", level - 1); 9].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    let document = parse(text.as_bytes());
    assert!(document.problems.is_empty());
    assert!(document.tree.len() < 200);
}

fn value(text: &str) -> String {
    let document = parse(text.as_bytes());
    assert!(document.problems.is_empty(), "{text:?}: {:?}", document.problems);
    let Kind::Mapping(pairs) = &document.tree.node(document.root.unwrap()).kind else { panic!() };
    let Kind::Scalar(scalar) = &document.tree.node(pairs[0].1).kind else { panic!() };
    scalar.text.to_string()
}

#[test]
fn what_only_prometheus_takes_means_what_it_means_there() {
    for (text, meaning) in [
        ("a: \"it\\'s ~ \\\"it\\'s\\\" \\\\'\"\n", "it's ~ \"it's\" \\'"),
        ("a: 'b'#c\n", "b"),
        ("{a: b#c\n}", "b#c"),
        ("{\n\t'a':\n\t'b\n\t\tc'\n\t}", "b c"),
        ("{'a': 'b'}#ä\n#c", "b"),
        ("a: b\n... c\n", "b"),
        ("{'a': 'b',#c\n\t'd': e}#f\n", "b"),
    ] {
        assert_eq!(value(text), meaning, "{text:?}");
    }
}

#[test]
fn what_only_prometheus_refuses_is_refused_at_its_place() {
    for (text, place) in [
        ("a: b\n\t\n", "2:1 "),
        ("a:\n  b: c\n  \t# d\n", "3:3 "),
        ("a: 'b'\n\n \t\n", "3:2 "),
        ("a: |\n  b\n\t\nc: d\n", "3:1 "),
        ("a: [b]\n\t# c\n", "2:1 "),
        ("{a: [b\n]}\n\t# c\n", "3:1 "),
        ("-\ta: b\n", "1:2 "),
        ("a: &b.c d\n", "1:4 "),
        ("a: \"b\\/c\"\n", "1:6 "),
        ("{'a'\n: b}\n", "2:1 "),
        ("{a b\n c: d}\n", "2:3 "),
        ("%YAML 1.2\n---\na: b\n", "1:1 "),
        ("#\n...\na: b\n", "2:1 "),
        ("...\n", "1:1 "),
    ] {
        let problem = problem(text);
        assert!(problem.starts_with(place), "{text:?}: {problem}");
    }
}

#[test]
fn what_both_take_is_taken() {
    for text in [
        "a: b\t# c\n",
        "a:\tb\n",
        "a:\n  b\n    \tc\n",
        "a:\n  b: c\n     \t\n  d: e\n",
        "a: |\n  \tb\n \n",
        "? a\n: b\n",
        "{? a\n : b}\n",
        "a: {b: c}\t\n",
        "a: '\n\tb'\n",
        "%YAML 1.1\n%TAG !e! x\n--- \ta\n",
        "---\n...\n",
        "---\n...\n\t\n",
        "  a:\n- b:\n-\tc\n",
        "a: &b-_1 c\nd: *b-_1\n",
    ] {
        let document = parse(text.as_bytes());
        assert!(document.problems.is_empty(), "{text:?}: {:?}", document.problems);
    }
}

#[test]
fn a_file_with_too_much_to_rewrite_is_refused_in_bounded_time() {
    let text = "- {a: b}#c\n".repeat(100_000);
    assert!(problem(&text).contains("comments must be separated"));
    let tabs = format!("[\n{}]\n", "\t'a',\n".repeat(100_000));
    assert!(parse(tabs.as_bytes()).problems.is_empty());
}

#[test]
fn every_problem_has_a_hint() {
    for text in [
        "a: [b\n",
        "a: 'b\n",
        "a: \"b\n",
        "\ta: b\n",
        "a: b: c\n",
        "a\nb: c\n",
        "a: }\n",
        "a: @b\n",
        "a: *b\n",
        "a: &\n",
        "a: !<x\n",
        "a: !x!y z\n",
        "a: |0\n b\n",
        "a: | b\n",
        "a: b\n c: d\n",
        "- a\nb: c\n",
        "a:\n- b\n c\n- d: e\n f\n",
        "%\n---\na: b\n",
        "a: b\n%YAML 1.1\n---\n",
        "{a: b]\n",
        "[a, - b]\n",
        "a: 'b' c\n",
        "a: \"\\q\"\n",
        "a: b\n  # c\n  d\n",
        "a: &x [*x]\n",
        "a: \u{7}\n",
        "a: !!int b\n",
        "a: {{ b }}c\n",
        "--- a\n--- b: c: d\n",
        "a: >\n\tb\n",
        "{a: b\n",
    ] {
        for problem in parse(text.as_bytes()).problems {
            assert!(problem.hint.is_some(), "{text:?}: {problem:?}");
        }
    }
    assert!(parse("[".repeat(100).as_bytes()).problems[0].hint.is_some());
}

#[test]
fn deep_nesting_is_refused() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
        let message = problem(&text);
        assert!(message.contains("64 lists and maps"), "{message}");
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_place() {
    let document = parse(b"a: b\nc: \xff\n");
    assert_eq!((document.problems[0].line, document.problems[0].column), (2, 4));
}

#[test]
fn utf_16_is_read_as_prometheus_reads_it() {
    for bytes in [[0xff, 0xfe, b'a', 0], [0xfe, 0xff, 0, b'a']] {
        let document = parse(&bytes);
        let Kind::Scalar(scalar) = &document.tree.node(document.root.unwrap()).kind else { panic!() };
        assert_eq!(&*scalar.text, "a");
    }
}

#[test]
fn too_many_values_are_refused() {
    let message = |text: &str| parse_bounded(text.as_bytes(), 10).problems.pop().map(|found| found.message);
    assert_eq!(message("[a, b, c, d, e, f, g, h, i]"), None);
    let refused = Some("the file has more than 10 values".to_owned());
    assert_eq!(message("[a, b, c, d, e, f, g, h, i, j]"), refused);
    assert_eq!(message("{a: b, c: d, e: f, g: h, i: [j]}"), refused);
}

#[test]
fn control_characters_are_refused_with_their_place() {
    assert_eq!(problem("a: b\nc: \u{7}\n"), "2:4 the control character U+0007 is not allowed");
    assert!(parse("a: \u{85}\tü\u{1f600}".as_bytes()).problems.is_empty());
}

#[test]
fn half_a_character_of_utf_16_is_refused() {
    let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let first = |bytes: &[u8]| {
        let problem = &parse(bytes).problems[0];
        format!("{}:{} {}", problem.line, problem.column, problem.message)
    };
    let good = utf16("\u{feff}a: b\nc: d");
    assert!(parse(&good).problems.is_empty());
    let odd = [good.as_slice(), b"\n"].concat();
    assert_eq!(first(&odd), "2:5 half of a character of UTF-16");
    let unpaired = [good.as_slice(), &[0x00, 0xd8, 0x0a, 0x00]].concat();
    assert_eq!(first(&unpaired), "2:5 half of a character of UTF-16");
}

#[test]
fn what_stands_behind_the_end_is_not_read() {
    for text in ["a: b\n...\n@", "a: b\n---\n\"c", "{a: b} c"] {
        let document = parse(text.as_bytes());
        assert!(document.problems.is_empty() && document.root.is_some(), "{text}: {document:?}");
        assert!(document.unread.is_some(), "{text}: {document:?}");
    }
    for text in ["{a: b}}", "a: [b]]", "{a: b} @", "[a] \"b"] {
        assert!(!parse(text.as_bytes()).problems.is_empty(), "{text}");
    }
    assert_eq!(parse(b"{a: b} # c\n...\n").unread, None);
}

#[test]
fn a_second_document_is_not_read() {
    let document = parse(b"a: 1\n---\nb: [\n");
    assert!(document.problems.is_empty());
    assert_eq!(document.unread, Some(2));
}

#[test]
fn a_file_that_is_too_large_is_refused_before_it_is_read() {
    let document = parse(&vec![b' '; FILE_BYTES_MAX + 1]);
    assert!(document.problems[0].message.contains("larger than 32 MiB"));
}

#[test]
fn a_syntax_error_comes_with_the_mistake_that_is_behind_it() {
    let hint = |text: &str| {
        let problem = parse(text.as_bytes()).problems.pop().expect("a problem");
        problem.hint.unwrap_or_default()
    };
    let blank = "put a blank after the colon: ";
    for (text, wanted) in [
        ("a:\n- job_name:a\n  scheme: http\n", "job_name: a"),
        ("a:\n- scheme: http\n  job_name:a\n", "job_name: a"),
        ("a:\n- scheme: http\n  job_name:a\n  params: {}\n", "job_name: a"),
        ("a:\n- url:http://u:hidden@a/write\n  name: x\n", "url: http://<secret>@a/write"),
        ("a:\n  password:hidden\n  username: u\n", "password: …"),
        ("a:\n  basic_auth:{username: u, password: hidden}\n  b: c\n", "basic_auth: {…}"),
        ("a:\n  b: {targets:[a:1]}\n", "targets: [a:1]"),
        ("params: {module:[x]}\n", "module: […]"),
        ("a: {values:[hidden], b: c}\n", "values: […]"),
        ("labels:\n  env: x\n  team:hidden\n", "team: …"),
        ("labels:\n  team:hidden\n  env: x\n", "team: …"),
    ] {
        assert_eq!(hint(text), format!("{blank}{wanted}"), "{text}");
    }
    let quotes = "put the value into single quotes: ";
    for (text, wanted) in [
        ("- regex: [a-z]+-\\d+\n  action: keep\n", "regex: '[a-z]+-\\d+'"),
        ("- action: keep\n  regex: [^:]+(it's) # text\n", "regex: '[^:]+(it''s)'"),
        ("- regex: [^]]+\n", "regex: '[^]]+'"),
        ("- {source_labels: [a], regex: [[:alpha:]]+, action: keep}\n", "regex: '[[:alpha:]]+'"),
        ("- {source_labels: [a], regex: [a-z]{2}, action: keep}\n", "regex: '[…]'"),
        ("password: [x]hidden\n", "password: '[…]'"),
    ] {
        assert_eq!(hint(text), format!("{quotes}{wanted}"), "{text}");
    }
    assert_eq!(hint("a:\n  -job_name: a\n   b: c\n"), "put a blank after the dash: - job_name: …");
    for other in
        ["a:\n- targets:\n  - b:9100\n    labels: x\n", "source_labels: [a] [b]\n", "a:\n - b\n  - c: d\n"]
    {
        let hint = hint(other);
        assert!(!hint.contains("blank after") && !hint.contains("single quotes"), "{other}: {hint}");
    }
}
