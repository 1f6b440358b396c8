//! Any bytes as a segment of the queue. With the first byte odd, checksums are put right first, or hardly anything would
//! get past them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use promring_scraper::queue::examine;

fuzz_target!(|input: &[u8]| {
    let Some((mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 != 0 {
        put_checksums_right(&mut bytes);
    }
    let len = bytes.len();
    if let Some(examined) = examine(bytes) {
        assert!(examined.buffer_bytes_max <= len.max(8), "a body is no longer than the file");
        assert!(examined.records <= (len / 72) as u64, "records do not overlap");
    }
});

/// docs/format/queue.md says what stands where.
fn put_checksums_right(bytes: &mut [u8]) {
    let end = bytes.len();
    for at in 0..end.saturating_sub(71) {
        if &bytes[at..at + 4] != b"PREC" {
            continue;
        }
        let len = u32::from_le_bytes([bytes[at + 8], bytes[at + 9], bytes[at + 10], bytes[at + 11]]) as usize;
        if let Some(body) = bytes.get(at + 72..at + 72 + len.min(end)) {
            let crc = crc32fast::hash(body);
            put(bytes, at + 12, crc);
        }
        let crc = crc32fast::hash(&bytes[at + 8..at + 72]);
        put(bytes, at + 4, crc);
    }
    if end >= 80 && &bytes[end - 80..end - 76] == b"PEND" {
        let crc = crc32fast::hash(&bytes[end - 72..]);
        put(bytes, end - 76, crc);
    }
    if end >= 32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..12]);
        crc.update(&bytes[16..32]);
        put(bytes, 12, crc.finalize());
    }
}

fn put(bytes: &mut [u8], at: usize, crc: u32) {
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}
