//! One scrape: fetched, parsed and staged, as a whole where the body is small and piece by piece as it comes where it
//! is large.

use std::time::Duration;

use url::Url;

use super::body::{BodyRules, Staging};
use super::cores::Cores;
use super::download::Body;
use super::failure::Failure;
use super::fetch::Fetcher;
use super::http::Connection;
use super::target_loop::Environment;
use crate::memory::{Full, Hold};
use crate::parse::{Format, PieceParser};
use crate::rules::SeriesRules;
use crate::series::{Scratch, SeriesCache};

/// A body up to this size is read before it is parsed; a larger one is parsed in pieces of about this size.
pub(super) const PIECE_BYTES: usize = 512 << 10;

/// What a scrape holds at least: room for the first read, and for some samples.
pub(super) const SCRAPE_BYTES_MIN: u64 = 128 << 10;

/// A byte of text becomes at most about this many bytes of series and samples: the shortest lines have a dozen bytes.
const GROWTH_FACTOR: usize = 4;

/// What an attempt needs of its loop.
pub(super) struct Attempt<'a> {
    pub(super) url: &'a Url,
    pub(super) timeout: Duration,
    pub(super) fetcher: &'a Fetcher,
    pub(super) connection: &'a mut Connection,
    pub(super) rules: &'a SeriesRules,
    pub(super) cache: &'a mut SeriesCache,
    pub(super) scratch: &'a mut Scratch,
    pub(super) environment: &'a Environment,
    pub(super) hold: &'a mut Hold,
    pub(super) body_rules: BodyRules,
    pub(super) time_ms: i64,
}

/// What an attempt held, in bytes.
#[derive(Clone, Copy, Debug)]
struct Held {
    series: usize,
    symbols: usize,
}

impl Attempt<'_> {
    /// Fetches the body and stages its samples. Bytes of the unpacked body are added to `body_bytes`.
    pub(super) async fn run(&mut self, body_bytes: &mut u64) -> Result<(), Failure> {
        let Environment { buffers, cores, .. } = self.environment;
        let wanted =
            usize::try_from(self.hold.bytes()).map_or(PIECE_BYTES, |held| (held / 2).min(PIECE_BYTES));
        let opened = self.fetcher.open(self.connection, self.url, self.timeout, wanted, buffers, cores).await;
        let mut body = opened?;
        let result = self.read(&mut body, cores).await;
        *body_bytes = body.total();
        body.close(self.connection, buffers);
        result
    }

    async fn read(&mut self, body: &mut Body, cores: &Cores) -> Result<(), Failure> {
        let before = Held { series: self.cache.memory(), symbols: self.environment.labels.symbols.bytes() };
        if !body.has_ended() && body.bytes().len() < PIECE_BYTES {
            self.hold.grow_to((PIECE_BYTES * 2) as u64)?;
            body.fill(PIECE_BYTES, cores).await?;
        }
        if body.has_ended() {
            self.grow(body, before)?;
            let bytes = body.bytes();
            return cores.run_sized(bytes.len(), || self.staging().whole(&body.content_type, bytes)).await;
        }
        let format = Format::choose(&body.content_type, self.body_rules.fallback)?;
        let mut parser = PieceParser::new(format, self.body_rules.histograms);
        loop {
            self.grow(body, before)?;
            let (bytes, last) = (body.bytes(), body.has_ended());
            let used = cores.run(|| self.staging().piece(&mut parser, bytes, last)).await?;
            body.consume(used);
            if last {
                return Ok(());
            }
            // Of a line that is longer than this, twice as much: otherwise a long one would be looked at again and again.
            let kept = body.bytes().len();
            body.fill(kept + kept.max(PIECE_BYTES), cores).await?;
        }
    }

    /// Asks for what reading the bytes at hand may take.
    fn grow(&mut self, body: &Body, before: Held) -> Result<(), Full> {
        let symbols = self.environment.labels.symbols.bytes();
        // What it has grown by so far, and what these bytes may add to it.
        let grown =
            self.cache.memory().saturating_sub(before.series) + symbols.saturating_sub(before.symbols);
        let is_small_and_steady = body.has_ended() && grown == 0 && !self.cache.is_empty();
        let coming = if is_small_and_steady { 0 } else { body.bytes().len() * GROWTH_FACTOR };
        self.hold.grow_to((body.held() + self.scratch.bytes() + grown + coming) as u64)
    }

    fn staging(&mut self) -> Staging<'_> {
        Staging {
            body_rules: &self.body_rules,
            rules: self.rules,
            cache: self.cache,
            scratch: self.scratch,
            time_ms: self.time_ms,
        }
    }
}
