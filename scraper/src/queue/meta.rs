//! The `meta` files of a queue's directory and of its sets of lanes: a few lines of text with a checksum
//! (docs/format/queue.md, meta).

use super::limits::LANES_MAX;

const QUEUE_TITLE: &str = "promring queue format ";
const SET_TITLE: &str = "promring queue set ";
const FORMAT: u32 = 1;

/// Why a text is not the `meta` that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadMeta {
    /// Not one of ours.
    Foreign,
    /// Written by a later version.
    Newer(u32),
    /// Ours, and not as it was written.
    Damaged,
}

/// Writes the `meta` of a queue.
pub(crate) fn encode_queue(destination: &str) -> String {
    // A name that holds a line break must not make lines of its own.
    let destination = destination.escape_default();
    with_checksum(&format!("{QUEUE_TITLE}{FORMAT}\ndestination {destination}\n"))
}

/// Reads the `meta` of a queue: the destination, as it was escaped.
pub(crate) fn decode_queue(bytes: &[u8]) -> Result<String, BadMeta> {
    let lines = checked_lines(bytes, QUEUE_TITLE)?;
    lines.iter().find_map(|line| line.strip_prefix("destination ")).map(str::to_owned).ok_or(BadMeta::Damaged)
}

/// What a set of lanes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// Ordinary lanes. Records go to the newest such set.
    Normal,
    /// Lanes beside them, for targets of a hand-over.
    Fence,
    /// Lanes for what a receiver has refused before: each sample of it is asked for alone, and nobody waits for that.
    Aside,
}

/// What must be true before anything of a set is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nothing.
    None,
    /// The lanes of an older set that may hold the same series are empty.
    After(u32),
    /// The process says that this condition is fulfilled.
    Until(String),
}

/// What stands in the `meta` of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetMeta {
    pub(crate) kind: SetKind,
    pub(crate) lanes: usize,
    pub(crate) hold: Hold,
}

impl SetMeta {
    pub(crate) fn encode(&self) -> String {
        let kind = match self.kind {
            SetKind::Normal => "normal",
            SetKind::Fence => "fence",
            SetKind::Aside => "aside",
        };
        let hold = match &self.hold {
            Hold::None => "none".to_owned(),
            Hold::After(set) => format!("after {set}"),
            Hold::Until(condition) => format!("until {}", condition.escape_default()),
        };
        with_checksum(&format!("{SET_TITLE}{FORMAT}\nkind {kind}\nlanes {}\nhold {hold}\n", self.lanes))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadMeta> {
        let lines = checked_lines(bytes, SET_TITLE)?;
        let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)).ok_or(BadMeta::Damaged);
        let kind = match value("kind ")? {
            "normal" => SetKind::Normal,
            "fence" => SetKind::Fence,
            "aside" => SetKind::Aside,
            _ => return Err(BadMeta::Damaged),
        };
        let lanes = value("lanes ")?.parse().ok().filter(|lanes| (1..=LANES_MAX).contains(lanes));
        let hold = match value("hold ")?.split_once(' ') {
            None => Hold::None,
            Some(("after", set)) => Hold::After(set.parse().map_err(|_| BadMeta::Damaged)?),
            Some(("until", condition)) => Hold::Until(condition.to_owned()),
            Some(_) => return Err(BadMeta::Damaged),
        };
        Ok(Self { kind, lanes: lanes.ok_or(BadMeta::Damaged)?, hold })
    }
}

fn with_checksum(text: &str) -> String {
    let crc = crc32fast::hash(text.as_bytes());
    format!("{text}crc32 {crc:08x}\n")
}

/// The lines between title and checksum.
fn checked_lines<'b>(bytes: &'b [u8], title: &str) -> Result<Vec<&'b str>, BadMeta> {
    if !bytes.starts_with(title.as_bytes()) {
        return Err(BadMeta::Foreign);
    }
    let text = str::from_utf8(bytes).map_err(|_| BadMeta::Damaged)?;
    let (content, crc) = text.rsplit_once("crc32 ").ok_or(BadMeta::Damaged)?;
    let crc = u32::from_str_radix(crc.trim_end(), 16).map_err(|_| BadMeta::Damaged)?;
    if crc != crc32fast::hash(content.as_bytes()) {
        return Err(BadMeta::Damaged);
    }
    let mut lines = content.lines();
    let format =
        lines.next().and_then(|line| line.strip_prefix(title)).and_then(|format| format.parse().ok());
    match format {
        Some(FORMAT) => Ok(lines.collect()),
        Some(newer) if newer > FORMAT => Err(BadMeta::Newer(newer)),
        Some(_) | None => Err(BadMeta::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_reads_as_it_was_written() {
        assert_eq!(decode_queue(encode_queue("prod").as_bytes()), Ok("prod".to_owned()));
        for hold in [Hold::None, Hold::After(7), Hold::Until("scraper-1 has sent up to 12:00".to_owned())] {
            for kind in [SetKind::Normal, SetKind::Fence, SetKind::Aside] {
                let meta = SetMeta { kind, lanes: 8, hold: hold.clone() };
                assert_eq!(SetMeta::decode(meta.encode().as_bytes()), Ok(meta));
            }
        }
    }

    #[test]
    fn a_name_with_a_line_break_adds_no_lines() {
        let text = encode_queue("a\nlanes 9");
        assert_eq!(text.lines().count(), 3);
        assert_eq!(decode_queue(text.as_bytes()), Ok("a\\nlanes 9".to_owned()));
    }

    #[test]
    fn damage_foreign_bytes_and_newer_formats_are_told_apart() {
        assert_eq!(decode_queue(b"{\"version\":1}"), Err(BadMeta::Foreign));
        assert_eq!(decode_queue(b""), Err(BadMeta::Foreign));
        let newer = with_checksum("promring queue format 2\nwhatever\n");
        assert_eq!(decode_queue(newer.as_bytes()), Err(BadMeta::Newer(2)));
        let good = encode_queue("prod").into_bytes();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let read = decode_queue(&bad);
            // The last byte is a line break that nobody needs.
            assert!(
                read == Err(BadMeta::Foreign) || read == Err(BadMeta::Damaged) || at + 1 == good.len(),
                "{at}"
            );
        }
    }
}
