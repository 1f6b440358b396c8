//! Protobuf's wire format, read where it lies.

/// What is wrong with a message.
pub(in crate::parse) type WireResult<T> = Result<T, &'static str>;

/// The bytes end within a field.
pub(in crate::parse) const TRUNCATED: &str = "a protobuf message is cut off";
const WRONG_TYPE: &str = "a protobuf field has the wrong wire type";

/// Reads a message field by field. No claimed length is believed beyond the bytes that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::parse) struct Fields<'b> {
    rest: &'b [u8],
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::parse) enum Field<'b> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'b [u8]),
    Fixed32,
}

impl<'b> Fields<'b> {
    pub(in crate::parse) fn new(message: &'b [u8]) -> Self {
        Self { rest: message }
    }

    /// What is not read yet.
    pub(in crate::parse) fn rest(&self) -> &'b [u8] {
        self.rest
    }

    /// Number and value of the next field; None at the end.
    #[inline]
    pub(in crate::parse) fn next(&mut self) -> WireResult<Option<(u32, Field<'b>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| "a protobuf field has an illegal number")?;
        if number == 0 {
            return Err("a protobuf field has an illegal number");
        }
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.take()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| TRUNCATED)?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or(TRUNCATED)?;
                self.rest = rest;
                Field::Bytes(bytes)
            }
            5 => {
                let _: [u8; 4] = self.take()?;
                Field::Fixed32
            }
            _ => return Err("a protobuf field has an unknown wire type"),
        };
        Ok(Some((number, field)))
    }

    #[inline]
    pub(in crate::parse) fn varint(&mut self) -> WireResult<u64> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (&byte, rest) = self.rest.split_first().ok_or(TRUNCATED)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
            if shift >= 64 {
                return Err("a protobuf varint is too long");
            }
        }
    }

    fn take<const N: usize>(&mut self) -> WireResult<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

impl<'b> Field<'b> {
    pub(in crate::parse) fn varint(self) -> WireResult<u64> {
        if let Self::Varint(value) = self { Ok(value) } else { Err(WRONG_TYPE) }
    }

    pub(in crate::parse) fn double(self) -> WireResult<f64> {
        if let Self::Fixed64(bits) = self { Ok(f64::from_bits(bits)) } else { Err(WRONG_TYPE) }
    }

    pub(in crate::parse) fn bytes(self) -> WireResult<&'b [u8]> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(WRONG_TYPE) }
    }

    pub(in crate::parse) fn text(self) -> WireResult<&'b str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8")
    }

    /// The values of a repeated `sint64`, packed or one alone.
    pub(in crate::parse) fn each_sint64(self, mut each: impl FnMut(i64)) -> WireResult<()> {
        match self {
            Self::Varint(value) => each(zigzag(value)),
            Self::Bytes(bytes) => {
                let mut packed = Fields::new(bytes);
                while !packed.rest.is_empty() {
                    each(zigzag(packed.varint()?));
                }
            }
            Self::Fixed64(_) | Self::Fixed32 => return Err(WRONG_TYPE),
        }
        Ok(())
    }

    /// The values of a repeated `double`, packed or one alone.
    pub(in crate::parse) fn each_double(self, mut each: impl FnMut(f64)) -> WireResult<()> {
        match self {
            Self::Fixed64(bits) => each(f64::from_bits(bits)),
            Self::Bytes(bytes) => {
                let (values, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(TRUNCATED);
                }
                values.iter().for_each(|value| each(f64::from_le_bytes(*value)));
            }
            Self::Varint(_) | Self::Fixed32 => return Err(WRONG_TYPE),
        }
        Ok(())
    }
}

/// The number that a varint of type `sint64` stands for.
pub(in crate::parse) fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
