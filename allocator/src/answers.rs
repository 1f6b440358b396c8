//! Answers to polls, encoded once: one that is asked for again, as it got lost or came to nothing, is sent as it lies.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use promring_proto::api::Version;

use crate::lead::Answer;

/// Bytes of all answers that are kept. Beyond it they are made anew.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// The newest answer of each scraper that it has not shown to have, compressed.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_scraper: HashMap<String, KeptAnswer>,
    bytes: usize,
}

#[derive(Debug)]
struct KeptAnswer {
    held: Option<Version>,
    version: Version,
    body: Bytes,
}

impl Answers {
    /// The answer that brings a scraper from `held` to `version`, if it is there.
    pub(crate) fn get(&self, scraper: &str, held: Option<Version>, version: Version) -> Option<Bytes> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = kept.by_scraper.get(scraper)?;
        (answer.held == held && answer.version == version).then(|| answer.body.clone())
    }

    /// Keeps an answer in place of the one before.
    pub(crate) fn keep(&self, scraper: &str, held: Option<Version>, version: Version, body: Bytes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += body.len();
        let answer = KeptAnswer { held, version, body };
        if let Some(before) = kept.by_scraper.insert(scraper.to_owned(), answer) {
            kept.bytes -= before.body.len();
        }
        if kept.bytes > KEPT_BYTES_MAX {
            *kept = Kept::default();
        }
    }

    /// A scraper has this version: it does not ask again for what led there.
    pub(crate) fn received(&self, scraper: &str, version: Version) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.by_scraper.get(scraper).is_some_and(|answer| answer.version == version)
            && let Some(answer) = kept.by_scraper.remove(scraper)
        {
            kept.bytes -= answer.body.len();
        }
    }
}

/// An answer as JSON, compressed where that is wanted. Takes milliseconds for thousands of targets.
///
/// # Errors
/// Where it cannot be written as JSON, which it always can.
pub(crate) fn encode(answer: &Answer, gzip: bool) -> std::io::Result<Bytes> {
    if !gzip {
        return Ok(Bytes::from(serde_json::to_vec(answer)?));
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let mut buffered = std::io::BufWriter::with_capacity(64 << 10, &mut encoder);
    serde_json::to_writer(&mut buffered, answer)?;
    buffered.flush()?;
    drop(buffered);
    Ok(Bytes::from(encoder.finish()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(counter: u64) -> Version {
        Version { term: 1, counter }
    }

    #[test]
    fn an_answer_is_kept_for_the_one_question_that_it_answers() {
        let answers = Answers::default();
        answers.keep("a", Some(version(1)), version(2), Bytes::from_static(b"x"));
        assert!(answers.get("a", Some(version(1)), version(2)).is_some());
        assert_eq!(answers.get("a", None, version(2)), None);
        assert_eq!(answers.get("a", Some(version(1)), version(3)), None);
        assert_eq!(answers.get("b", Some(version(1)), version(2)), None);
    }

    #[test]
    fn an_answer_is_kept_until_its_scraper_has_it() {
        let answers = Answers::default();
        answers.keep("a", None, version(2), Bytes::from_static(b"x"));
        answers.received("b", version(2));
        answers.received("a", version(1));
        assert!(answers.get("a", None, version(2)).is_some());
        answers.received("a", version(2));
        assert_eq!(answers.get("a", None, version(2)), None);
        assert_eq!(answers.0.lock().unwrap().bytes, 0);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let answers = Answers::default();
        let body = Bytes::from(vec![0; KEPT_BYTES_MAX / 2]);
        for name in ["a", "a", "b", "b"] {
            answers.keep(name, None, version(1), body.clone());
        }
        assert!(answers.get("b", None, version(1)).is_some(), "the same again costs nothing more");
        answers.keep("c", None, version(1), Bytes::from_static(b"x"));
        assert!(answers.get("b", None, version(1)).is_none());
    }
}
