//! Protobuf's fields and snappy's length, as bytes: what is not looked at is not touched.

use promring_proto::varint::push_varint;

use super::Undecodable;

/// Bytes that the length before a snappy block can take.
pub(in crate::send) const SNAPPY_LENGTH_BYTES_MAX: usize = 5;

/// The decompressed length that a snappy block begins with, and the elements after it.
pub(in crate::send) fn snappy_parts(body: &[u8]) -> Option<(usize, &[u8])> {
    let mut rest = body;
    let len = take_varint(&mut rest)?;
    let taken = body.len() - rest.len();
    (taken <= SNAPPY_LENGTH_BYTES_MAX).then_some(())?;
    Some((usize::try_from(len).ok().filter(|len| *len <= u32::MAX as usize)?, rest))
}

/// One field of a message.
#[derive(Clone, Copy)]
pub(super) struct Field<'b> {
    pub(super) number: u64,
    /// From its tag on, in the message.
    pub(super) start: usize,
    pub(super) end: usize,
    /// All of it, with its tag.
    pub(super) bytes: &'b [u8],
    pub(super) value: Value<'b>,
}

#[derive(Clone, Copy)]
pub(super) enum Value<'b> {
    Varint(u64),
    /// A text, a message, or packed numbers.
    Bytes(&'b [u8]),
    /// A number of fixed length, which nobody here looks at.
    Fixed,
}

impl<'b> Field<'b> {
    /// What is in it, if it can hold a text or a message.
    pub(super) fn content(&self) -> Result<&'b [u8], Undecodable> {
        match self.value {
            Value::Bytes(content) => Ok(content),
            Value::Varint(_) | Value::Fixed => Err(Undecodable),
        }
    }

    /// Its value, if it is a varint; else zero.
    pub(super) fn varint(&self) -> u64 {
        match self.value {
            Value::Varint(value) => value,
            Value::Bytes(_) | Value::Fixed => 0,
        }
    }
}

/// The fields of a message.
pub(super) fn fields(bytes: &[u8]) -> impl Iterator<Item = Result<Field<'_>, Undecodable>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = next_field(bytes, &mut rest);
        if field.is_none() {
            // Nothing after it can be found.
            rest = &[];
        }
        Some(field.ok_or(Undecodable))
    })
}

fn next_field<'b>(message: &'b [u8], rest: &mut &'b [u8]) -> Option<Field<'b>> {
    let start = message.len() - rest.len();
    let tag = take_varint(rest)?;
    let value = match tag & 7 {
        0 => Value::Varint(take_varint(rest)?),
        1 => {
            *rest = rest.get(8..)?;
            Value::Fixed
        }
        2 => {
            let len = usize::try_from(take_varint(rest)?).ok()?;
            let (content, after) = rest.split_at_checked(len)?;
            *rest = after;
            Value::Bytes(content)
        }
        5 => {
            *rest = rest.get(4..)?;
            Value::Fixed
        }
        _ => return None,
    };
    let end = message.len() - rest.len();
    Some(Field { number: tag >> 3, start, end, bytes: message.get(start..end)?, value })
}

pub(super) fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *rest = rest.get(at + 1..)?;
            return Some(value);
        }
    }
    None
}

/// Appends a length-delimited field of a number below 16.
pub(super) fn push_bytes(number: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    push_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}
