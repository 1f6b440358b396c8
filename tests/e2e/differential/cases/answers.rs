//! What HTTP can do to a body.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Case, Ending, Step, TEXT, family};

pub(super) fn cases() -> Vec<Case> {
    let body = "a 1\nb{x=\"1\"} 2\n";
    let plain = |name: &str| Step::new(name, TEXT, body);
    let zipped = |name: &str, bytes: Vec<u8>| Step::new(name, TEXT, bytes).head("Content-Encoding: gzip");
    let whole = gzip(body);
    let two_members = [gzip("a 1\n"), gzip("b{x=\"1\"} 2\n")].concat();
    let cut = whole[..whole.len() - 6].to_vec();
    let mut damaged = whole.clone();
    let checksum = damaged.len() - 5;
    damaged[checksum] ^= 1;
    let with_garbage = [whole.clone(), b"garbage".to_vec()].concat();
    let mut cases = family(
        "statuses",
        "",
        [200_u16, 201, 204, 206, 301, 302, 400, 401, 404, 503, 299]
            .iter()
            .map(|&status| plain(&status.to_string()).status(status))
            .collect(),
    );
    cases.extend(family(
        "gzip",
        "",
        vec![
            zipped("whole", whole.clone()),
            zipped("two-members", two_members),
            zipped("cut-off", cut),
            zipped("checksum-wrong", damaged),
            zipped("garbage-behind", with_garbage),
            zipped("not-gzip", body.as_bytes().to_vec()),
            zipped("empty", Vec::new()),
            Step::new("in-capitals", TEXT, whole.clone()).head("Content-Encoding: GZIP"),
            Step::new("unasked-for-deflate", TEXT, body).head("Content-Encoding: deflate"),
            Step::new("identity", TEXT, body).head("Content-Encoding: identity"),
            zipped("whole-at-last", whole.clone()),
        ],
    ));
    cases.extend(family(
        "no-compression",
        "enable_compression: false",
        vec![plain("plain"), zipped("unasked-for-gzip", whole), plain("plain-again")],
    ));
    cases.extend(family(
        "redirects",
        "",
        vec![
            plain("plain"),
            plain("to-another-path").status(302).head("Location: /elsewhere"),
            plain("without-location").status(302),
            plain("to-nowhere").status(302).head("Location: http://127.0.0.1:1/"),
            plain("plain-again"),
        ],
    ));
    cases.extend(family(
        "no-redirects",
        "follow_redirects: false",
        vec![plain("plain"), plain("to-another-path").status(302).head("Location: /elsewhere")],
    ));
    cases.extend(family(
        "cut-off",
        "",
        vec![
            plain("at-nought").ending(Ending::Cut(0)),
            plain("after-a-line").ending(Ending::Cut(4)),
            plain("before-the-last-newline").ending(Ending::Cut(body.len() - 1)),
            plain("whole"),
        ],
    ));
    cases
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}
