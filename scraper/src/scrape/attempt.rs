//! One scrape: fetched, parsed and staged, as a whole where the body is small and piece by piece as it comes where it
//! is large.

use promring_model::target::Target;

use super::body::BodyRules;
use super::cores::Cores;
use super::download::Body;
use super::fetch::{FetchError, Fetcher};
use super::http::Connection;
use super::target_loop::Environment;
use crate::memory::{Full, Hold};
use crate::parse::{Format, Item, ParseError, Parser, PieceParser, UnsupportedContentType};
use crate::rules::{Refusal, SeriesRules};
use crate::series::{Scratch, SeriesCache};

/// A body up to this size is read before it is parsed; a larger one is parsed in pieces of about this size.
pub(super) const PIECE_BYTES: usize = 512 << 10;

/// What a scrape holds at least: room for the first read, and for some samples.
pub(super) const SCRAPE_BYTES_MIN: u64 = 128 << 10;

/// A byte of text becomes at most about this many bytes of series and samples: the shortest lines have a dozen bytes.
const GROWTH_FACTOR: usize = 4;

/// Why a scrape failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// There is no body, or not the whole of it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The target must not be asked.
    #[error("{0}")]
    Refused(String),
    /// The body cannot be read.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Nobody knows how to read the body.
    #[error(transparent)]
    ContentType(#[from] UnsupportedContentType),
    /// A series cannot be.
    #[error(transparent)]
    Series(#[from] Refusal),
    /// There are more samples than sample_limit allows. The text is Prometheus's.
    #[error("sample limit exceeded")]
    SampleLimit,
    /// The scraper's memory does not suffice.
    #[error("the scraper's memory_limit does not suffice for the scrape")]
    Memory(Full),
}

impl From<Full> for Failure {
    fn from(full: Full) -> Self {
        Self::Memory(full)
    }
}

impl Failure {
    /// Whether what was read of the body counts: a body that did not come whole was not read, as in Prometheus.
    pub(super) fn was_read(&self) -> bool {
        match self {
            Self::Parse(_) | Self::Series(_) | Self::SampleLimit => true,
            Self::Fetch(_) | Self::Refused(_) | Self::ContentType(_) | Self::Memory(_) => false,
        }
    }
}

/// What an attempt needs of its loop.
pub(super) struct Attempt<'a> {
    pub(super) target: &'a Target,
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
        let Target { url, timeout, .. } = self.target;
        let opened = self.fetcher.open(self.connection, url, *timeout, wanted, buffers, cores).await;
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
            return cores.run_sized(bytes.len(), || self.stage_whole(&body.content_type, bytes)).await;
        }
        let format = Format::choose(&body.content_type, self.body_rules.fallback)?;
        let mut parser = PieceParser::new(format, self.body_rules.histograms);
        loop {
            self.grow(body, before)?;
            let (bytes, last) = (body.bytes(), body.has_ended());
            let used = cores.run(|| self.stage_piece(&mut parser, bytes, last)).await?;
            body.consume(used);
            if last {
                return Ok(());
            }
            body.fill(body.bytes().len() + PIECE_BYTES, cores).await?;
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

    /// Reads the whole body before anything takes effect: a scrape is stored as a whole or not at all.
    fn stage_whole(&mut self, content_type: &str, body: &[u8]) -> Result<(), Failure> {
        let BodyRules { fallback, histograms, .. } = self.body_rules;
        let mut parser = Parser::new(content_type, fallback, histograms, body)?;
        while let Some(item) = parser.next_item()? {
            self.stage(item)?;
        }
        self.check_limit()
    }

    /// The same for a piece; returns how much of it was read.
    fn stage_piece(&mut self, parser: &mut PieceParser, piece: &[u8], last: bool) -> Result<usize, Failure> {
        let used = parser.read(piece, last, |item| self.stage(item))?;
        self.check_limit()?;
        Ok(used)
    }

    #[inline]
    fn stage(&mut self, item: Item<'_>) -> Result<(), Failure> {
        let Self { cache, scratch, rules, time_ms, .. } = self;
        match item {
            Item::Sample(sample) => cache.stage(&sample, *time_ms, rules, scratch)?,
            Item::Histogram(sample) => cache.stage_histogram(&sample, *time_ms, rules, scratch)?,
            Item::Converted(sample) => cache.stage_converted(*sample, *time_ms, rules, scratch)?,
            Item::Metadata(metadata) => cache.describe(&metadata, scratch),
        }
        Ok(())
    }

    /// Looked at once a piece, so that a small body's samples are all counted, as in Prometheus.
    fn check_limit(&self) -> Result<(), Failure> {
        match self.body_rules.sample_limit {
            Some(limit) if self.cache.tally().kept > limit => {
                self.environment.metrics.exceeded_sample_limit.increment(1);
                Err(Failure::SampleLimit)
            }
            Some(_) | None => Ok(()),
        }
    }
}
