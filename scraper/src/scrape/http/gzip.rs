//! Unpacking gzip.

use std::io::{Cursor, Read};
use std::sync::{Mutex, PoisonError};

use flate2::bufread::GzDecoder;

use crate::scrape::fetch::FetchError;

/// Other tasks may run after this many unpacked bytes.
const STEP_BYTES: u64 = 1 << 20;

/// Decoders that wait for the next body. Each holds about 40 KB, so they belong to nobody.
static DECODERS: Mutex<Vec<GzDecoder<Cursor<Vec<u8>>>>> = Mutex::new(Vec::new());

/// Decoders that are kept.
const DECODERS_MAX: usize = 8;

/// Unpacks `packed`, which may have several members, into `plain`, whose content goes. Stops where more than
/// `bytes_max` bytes come out. `packed` keeps its memory, not its content.
pub(in crate::scrape) async fn unpack(
    packed: &mut Vec<u8>,
    plain: &mut Vec<u8>,
    bytes_max: u64,
) -> Result<(), FetchError> {
    plain.clear();
    let input = Cursor::new(std::mem::take(packed));
    let mut decoder = match take() {
        Some(mut decoder) => {
            decoder.reset(input);
            decoder
        }
        None => GzDecoder::new(input),
    };
    let result = members(&mut decoder, plain, bytes_max).await;
    *packed = std::mem::take(decoder.get_mut().get_mut());
    packed.clear();
    give(decoder);
    result
}

async fn members(
    decoder: &mut GzDecoder<Cursor<Vec<u8>>>,
    plain: &mut Vec<u8>,
    bytes_max: u64,
) -> Result<(), FetchError> {
    let fail = |error: std::io::Error| FetchError::Encoding(format!("gzip: {error}"));
    loop {
        loop {
            // One byte more than is allowed is enough to know.
            let step = STEP_BYTES.min((bytes_max - plain.len() as u64).saturating_add(1));
            let count = decoder.by_ref().take(step).read_to_end(plain).map_err(fail)?;
            if plain.len() as u64 > bytes_max {
                return Err(FetchError::BodySize);
            }
            if (count as u64) < step {
                break;
            }
            tokio::task::yield_now().await;
        }
        let input = std::mem::take(decoder.get_mut());
        let more = input.position() < input.get_ref().len() as u64;
        decoder.reset(input);
        if !more {
            return Ok(());
        }
    }
}

fn take() -> Option<GzDecoder<Cursor<Vec<u8>>>> {
    DECODERS.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn give(decoder: GzDecoder<Cursor<Vec<u8>>>) {
    let mut kept = DECODERS.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < DECODERS_MAX {
        kept.push(decoder);
    }
}
