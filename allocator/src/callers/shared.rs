//! Tokens that all scrapers share, in a file that is read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use promring_net::client::SECRET_FILE_BYTES_MAX;
use promring_net::files::read_bounded;
use promring_net::reload::Watched;

use super::Refusal;

/// The tokens of a file, one a line: two while one takes the other's place.
pub(super) struct SharedTokens {
    path: PathBuf,
    held: Mutex<Held>,
}

struct Held {
    tokens: Vec<String>,
    watched: Watched,
}

impl std::fmt::Debug for SharedTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedTokens").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SharedTokens {
    /// Reads the file.
    ///
    /// # Errors
    /// Where it cannot be read, or has no token.
    pub(super) fn read(path: PathBuf) -> Result<Self, String> {
        // Looked at before it is read: what changes in between is read twice rather than never.
        let watched = Watched::new([path.clone()], Vec::new());
        let tokens = tokens(&path)?;
        Ok(Self { path, held: Mutex::new(Held { tokens, watched }) })
    }

    /// Whether the token is one of them.
    pub(super) fn check(&self, token: &str) -> Result<(), Refusal> {
        // Each is looked at whole, so that the time taken tells nothing of it.
        let good = self.refreshed().tokens.iter().fold(false, |good, known| good | same(known, token));
        if good { Ok(()) } else { Err(Refusal::Token("the token is not that of the scrapers".to_owned())) }
    }

    fn refreshed(&self) -> MutexGuard<'_, Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.watched.changed() {
            match tokens(&self.path) {
                Ok(tokens) => held.tokens = tokens,
                Err(error) => {
                    tracing::error!(error, "the changed token file cannot be used; the old tokens stay");
                }
            }
        }
        held
    }
}

fn tokens(path: &Path) -> Result<Vec<String>, String> {
    let fail = |reason: &str| format!("token file {}: {reason}", path.display());
    let content = read_bounded(path, SECRET_FILE_BYTES_MAX).map_err(|reason| fail(&reason))?;
    let text = String::from_utf8(content).map_err(|_| fail("it is not UTF-8"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tokens: Vec<String> = lines.map(str::to_owned).collect();
    if tokens.is_empty() { Err(fail("it has no token")) } else { Ok(tokens) }
}

fn same(known: &str, shown: &str) -> bool {
    let different = known.bytes().zip(shown.bytes()).fold(0, |different, (a, b)| different | (a ^ b));
    known.len() == shown.len() && different == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_of_the_file_is_good_and_a_changed_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        assert!(SharedTokens::read(path.clone()).unwrap_err().contains("tokens: "));
        std::fs::write(&path, "\n \n").unwrap();
        assert!(SharedTokens::read(path.clone()).unwrap_err().contains("it has no token"));
        std::fs::write(&path, "first\nsecond\n").unwrap();
        let tokens = SharedTokens::read(path.clone()).unwrap();
        for (token, good) in
            [("first", true), ("second", true), ("firs", false), ("first ", false), ("", false)]
        {
            assert_eq!(tokens.check(token).is_ok(), good, "{token}");
        }
        std::fs::write(&path, "the third\n").unwrap();
        assert_eq!((tokens.check("the third").is_ok(), tokens.check("first").is_ok()), (true, false));
        std::fs::write(&path, "").unwrap();
        assert!(tokens.check("the third").is_ok(), "a file without a token changes nothing");
    }
}
