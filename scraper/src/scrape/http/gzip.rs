//! Unpacking gzip, of one member or several, as it comes.

use std::io::{self, BufRead, ErrorKind, Read};
use std::sync::{Mutex, PoisonError};

use flate2::bufread::GzDecoder;

use super::Incoming;
use crate::scrape::fetch::FetchError;

/// Decoders that wait for the next body. Each holds about 40 KB, so they belong to nobody.
static DECODERS: Mutex<Vec<GzDecoder<Feed>>> = Mutex::new(Vec::new());

/// Decoders that are kept.
const DECODERS_MAX: usize = 8;

/// What a decoder reads: the bytes that are there. Where they end, it is told to come back, or that this was all.
#[derive(Debug, Default)]
struct Feed {
    bytes: Vec<u8>,
    at: usize,
    /// The bytes from here on are not to be read.
    end: usize,
    is_last: bool,
}

/// How far an unpacker came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrape) enum Unpacked {
    /// As far as it was wanted, or somewhat further.
    Enough,
    /// All that is there, and more must come.
    Hungry,
    /// To the end.
    All,
}

/// One body being unpacked.
pub(in crate::scrape) struct Unpacker {
    decoder: Option<GzDecoder<Feed>>,
    /// Behind a member, where another one may follow.
    between: bool,
    /// Unpacked bytes so far.
    total: u64,
    bytes_max: u64,
}

impl Unpacker {
    /// An unpacker that stops where more than `bytes_max` bytes come out.
    pub(in crate::scrape) fn new(bytes_max: u64) -> Self {
        let kept = DECODERS.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut decoder = kept.unwrap_or_else(|| GzDecoder::new(Feed::default()));
        decoder.reset(Feed::default());
        Self { decoder: Some(decoder), between: false, total: 0, bytes_max }
    }

    /// Unpacks from `incoming` to the end of `plain` until that has `wanted` bytes. `is_last`: nothing follows what
    /// `incoming` has.
    pub(in crate::scrape) fn unpack(
        &mut self,
        incoming: &mut Incoming,
        is_last: bool,
        plain: &mut Vec<u8>,
        wanted: usize,
    ) -> Result<Unpacked, FetchError> {
        let Some(decoder) = &mut self.decoder else { return Ok(Unpacked::All) };
        let (buffer, end) = incoming.buffer();
        // Lent, so that nothing is copied.
        *decoder.get_mut() = Feed { bytes: std::mem::take(buffer), at: 0, end, is_last };
        let result =
            Self::members(decoder, &mut self.between, &mut self.total, self.bytes_max, plain, wanted);
        let Feed { bytes, at, .. } = std::mem::take(decoder.get_mut());
        *incoming.buffer().0 = bytes;
        incoming.consume(at);
        result
    }

    fn members(
        decoder: &mut GzDecoder<Feed>,
        between: &mut bool,
        total: &mut u64,
        bytes_max: u64,
        plain: &mut Vec<u8>,
        wanted: usize,
    ) -> Result<Unpacked, FetchError> {
        while plain.len() < wanted {
            if *between {
                let feed = std::mem::take(decoder.get_mut());
                let (is_empty, is_last) = (feed.at == feed.end, feed.is_last);
                if is_empty {
                    *decoder.get_mut() = feed;
                    return Ok(if is_last { Unpacked::All } else { Unpacked::Hungry });
                }
                decoder.reset(feed);
                *between = false;
            }
            // One byte more than is allowed is enough to know.
            let step = ((wanted - plain.len()) as u64).min((bytes_max - *total).saturating_add(1));
            let before = plain.len();
            let read = decoder.by_ref().take(step).read_to_end(plain);
            *total += (plain.len() - before) as u64;
            if *total > bytes_max {
                return Err(FetchError::BodySize);
            }
            match read {
                Ok(count) => *between = (count as u64) < step,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Unpacked::Hungry),
                Err(error) => return Err(FetchError::Encoding(format!("gzip: {error}"))),
            }
        }
        Ok(Unpacked::Enough)
    }
}

impl Drop for Unpacker {
    fn drop(&mut self) {
        if let Some(decoder) = self.decoder.take() {
            let mut kept = DECODERS.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < DECODERS_MAX {
                kept.push(decoder);
            }
        }
    }
}

impl Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.end && !self.is_last {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(&self.bytes[self.at..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}
