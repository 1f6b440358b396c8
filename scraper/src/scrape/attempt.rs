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

/// What a scrape holds until its target answers: the request, and room for the head of the answer. There may be very many of
/// these, of targets that never answer.
pub(super) const ASKED_BYTES: u64 = 16 << 10;

/// Of a body of which nothing is known so much is read first, and then twice as much as is there: who sends little holds
/// little, however long it takes.
const READ_BYTES_MIN: usize = 16 << 10;

/// Reading a piece may take this many times its bytes: the buffer grows by doubling, and some samples are staged.
const READ_FACTOR: usize = 2;

/// What a scrape claims that did not find what it needed while it read: as much as a body takes that is read whole.
pub(super) const CLAIM_BYTES_MIN: u64 = (PIECE_BYTES * READ_FACTOR) as u64;

/// A series that is not known takes about this many bytes beside its strings: entry, sample, places in tables.
const SERIES_BYTES: usize = 128;

/// A byte of the text of a series that is not known becomes at most about this many: short strings take more than their text.
const TEXT_FACTOR: usize = 4;

/// The same for series that are known, of which only samples are staged: the shortest lines have a dozen bytes.
const KNOWN_FACTOR: usize = 2;

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
    /// What it claims once the target answers.
    pub(super) expected_bytes: u64,
    pub(super) body_rules: BodyRules,
    pub(super) time_ms: i64,
    /// The last scrape brought no new series, so that none is expected.
    pub(super) is_steady: bool,
}

impl Attempt<'_> {
    /// Fetches the body and stages its samples. Bytes of the unpacked body are added to `body_bytes`.
    pub(super) async fn run(&mut self, body_bytes: &mut u64) -> Result<(), Failure> {
        let Environment { buffers, scratches, cores, memory, .. } = self.environment;
        let mut body = self.fetcher.open(self.connection, self.url, self.timeout, memory).await?;
        // Not before: who never answers keeps neither this nor a buffer from the others.
        *self.scratch = scratches.take();
        let result = self.read(&mut body, cores).await;
        *body_bytes = body.total();
        body.close(self.connection, buffers);
        result
    }

    async fn read(&mut self, body: &mut Body, cores: &Cores) -> Result<(), Failure> {
        let before = self.cache.memory();
        if !body.has_ended() {
            self.begin_reading(body, cores).await?;
        }
        if body.has_ended() && body.bytes().is_empty() {
            // As in Prometheus, whatever the answer says of its type.
            return Ok(());
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

    /// Reads a body whole, or a first piece of it, once there is room for what the last one took.
    async fn begin_reading(&mut self, body: &mut Body, cores: &Cores) -> Result<(), Failure> {
        if !body.before_deadline(self.hold.claim(self.expected_bytes)).await {
            // No fault of the target: it is asked again, if the slot lasts.
            return Err(Full::Others.into());
        }
        body.take_buffers(&self.environment.buffers);
        let expected = usize::try_from(self.hold.bytes()).unwrap_or(usize::MAX) / READ_FACTOR;
        let mut wanted = expected.clamp(READ_BYTES_MIN, PIECE_BYTES);
        loop {
            self.hold.grow_to((wanted * READ_FACTOR + body.unpacking_bytes()) as u64)?;
            if body.fill(wanted, cores).await? || body.bytes().len() >= PIECE_BYTES {
                return Ok(());
            }
            wanted = (body.bytes().len() * 2).min(PIECE_BYTES);
        }
    }

    /// Asks for what reading the bytes at hand may take, before it is taken. `before`: what the series took then.
    fn grow(&mut self, body: &Body, before: usize) -> Result<(), Full> {
        let (interned, grown) = (self.cache.interned_bytes(), self.cache.memory().saturating_sub(before));
        let bytes = body.bytes();
        let coming = if !self.is_steady || interned + grown > 0 {
            // In protobuf, this byte begins most strings.
            let lines = memchr::memchr_iter(b'\n', bytes).count();
            lines * SERIES_BYTES + bytes.len() * TEXT_FACTOR + self.scratch.growth_bytes(lines)
        } else if body.has_ended() {
            0
        } else {
            bytes.len() * KNOWN_FACTOR
        };
        if interned > 0 {
            self.environment.count_symbols();
        }
        let wanted = body.held() + self.scratch.bytes() + grown + coming;
        self.hold.grow_beside(wanted as u64, interned as u64)
    }

    fn staging(&mut self) -> Staging<'_> {
        Staging {
            body_rules: &self.body_rules,
            rules: self.rules,
            cache: self.cache,
            scratch: self.scratch,
            time_ms: self.time_ms,
            over_buckets: false,
        }
    }
}
