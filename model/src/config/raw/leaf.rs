//! Single values, lists and free maps.

use std::fmt::Display;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::reader::Pair;
use super::{At, FromNode, Given, Reader};
use crate::config::Secret;
use crate::config::yaml::{Kind, Resolved, Scalar, resolve};
use crate::config::{hints, masked, remarks};
use crate::duration::parse_duration;
use crate::size::parse_size;

/// A text: any scalar, as it is written.
pub(crate) type Text = Arc<str>;

impl FromNode for Text {
    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self> {
        let text = reader.scalar(at, "a text")?.text.clone();
        remarks::unexpanded(reader.report, reader.spot(at), &text);
        Some(text)
    }
}

/// A text that no message may show.
impl FromNode for Secret {
    const SHOWN: bool = false;

    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self> {
        let secret = Self::new(reader.scalar(at, "a text")?.text.to_string());
        remarks::unexpanded_secret(reader.report, reader.spot(at), &secret);
        Some(secret)
    }
}

impl FromNode for bool {
    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self> {
        let scalar = reader.scalar(at, "true or false")?;
        if let Resolved::Bool(value) = resolve(scalar) {
            return Some(value);
        }
        let quoted = !scalar.plain && matches!(&*scalar.text, "true" | "false");
        let hint = if quoted { "remove the quotes" } else { "write true or false" };
        reader.refuse(at, "this must be true or false", &scalar.text, hint);
        None
    }
}

/// A count that is not negative. A fraction is cut off, as Prometheus does.
impl FromNode for u64 {
    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self> {
        let scalar = reader.scalar(at, "a number")?;
        let value = match resolve(scalar) {
            Resolved::Int(int) => Self::try_from(int).ok(),
            Resolved::Float(float) if float >= 0.0 && float < Self::MAX as f64 => Some(float as Self),
            _ => None,
        };
        if value.is_none() {
            let hint = whole_number(scalar, &Self::MAX);
            reader.refuse(at, "this must be a whole number, 0 or more", &scalar.text, hint);
        }
        value
    }
}

/// A number that may be negative where Prometheus has an `int`.
impl FromNode for i64 {
    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self> {
        let scalar = reader.scalar(at, "a number")?;
        let value = match resolve(scalar) {
            Resolved::Int(int) => Self::try_from(int).ok(),
            Resolved::Float(float) if float.abs() < Self::MAX as f64 => Some(float as Self),
            _ => None,
        };
        if value.is_none() {
            let hint = whole_number(scalar, &Self::MAX);
            reader.refuse(at, "this must be a whole number", &scalar.text, hint);
        }
        value
    }
}

/// How to write a whole number that could not be read.
fn whole_number(scalar: &Scalar, max: &dyn Display) -> String {
    let digits = scalar.text.strip_prefix('-').unwrap_or(&scalar.text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && !scalar.plain {
        "remove the quotes".to_owned()
    } else if is_number && digits.len() == scalar.text.len() {
        format!("the largest number is {max}")
    } else {
        "write digits only, such as 1000".to_owned()
    }
}

impl FromNode for f64 {
    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self> {
        let scalar = reader.scalar(at, "a number")?;
        match resolve(scalar) {
            Resolved::Int(int) => Some(int as Self),
            Resolved::Float(float) => Some(float),
            _ => {
                let hint = "write a number such as 1.1, without quotes and units";
                reader.refuse(at, "this must be a number", &scalar.text, hint);
                None
            }
        }
    }
}

/// A duration, and how it is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawDuration {
    pub(crate) value: Duration,
    pub(crate) written: Text,
}

impl FromNode for RawDuration {
    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self> {
        let scalar = reader.scalar(at, "a duration such as 15s")?;
        parse_duration(&scalar.text)
            .map(|value| Self { value, written: scalar.text.clone() })
            .map_err(|error| {
                let hint = hints::duration(&scalar.text, &error);
                reader.refuse(at, "not a valid duration", &scalar.text, hint);
            })
            .ok()
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromNode for Size {
    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self> {
        let scalar = reader.scalar(at, "a size such as 10MB")?;
        parse_size(&scalar.text)
            .map(Self)
            .map_err(|_| {
                let hint = hints::size(&scalar.text);
                reader.refuse(at, "not a valid size", &scalar.text, hint);
            })
            .ok()
    }
}

/// A value that nobody reads: of Prometheus's server, or of something that promring does not have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ignored;

impl FromNode for Ignored {
    fn from_node(_: &mut Reader<'_>, _: At) -> Option<Self> {
        Some(Self)
    }
}

/// A value that is read for its type alone, which Prometheus looks at, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unused<T>(PhantomData<T>);

impl<T: FromNode> FromNode for Unused<T> {
    const SHOWN: bool = T::SHOWN;

    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self> {
        T::from_node(reader, at).map(|_| Self(PhantomData))
    }
}

/// A list.
#[derive(Clone, Debug)]
pub(crate) struct List<T>(Vec<Given<T>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for List<T> {
    type Target = [Given<T>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: FromNode> FromNode for List<T> {
    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self> {
        match reader.kind(at) {
            Kind::Sequence(items) => {
                // Items can be aliases, and be many more than what the walk gets to.
                let mut list = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    if reader.is_exhausted() {
                        break;
                    }
                    // Where nothing more is shown, an item is read for the number of its mistakes and not kept: what
                    // aliases bring a hundred thousand times would fill the memory for a file that is refused.
                    let (is_kept, paths) = (!reader.report.is_full(), reader.report.paths());
                    let path = reader.report.index(at.path, index);
                    let item = reader.given(At { node: *item, path });
                    if is_kept {
                        list.push(item);
                    } else {
                        reader.report.forget_paths(paths);
                    }
                }
                Some(Self(list))
            }
            Kind::Broken => None,
            other => {
                let spot = reader.spot(at);
                let (found, hint) =
                    hints::not_a_list(other, T::SHOWN && !masked::is_hidden(reader.report, at.path));
                reader.report.error(spot, format!("this must be a list, and is {found}")).hint(hint);
                None
            }
        }
    }
}

const MAP_WANTED: &str = "a map of names to values";

/// A map whose keys are free.
#[derive(Clone, Debug)]
pub(crate) struct Map<T>(Vec<Pair<T>>);

impl<T> Default for Map<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for Map<T> {
    type Target = [Pair<T>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: FromNode> FromNode for Map<T> {
    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self> {
        let mut pairs = Vec::new();
        reader.fill_pairs(&mut pairs, at, MAP_WANTED).then_some(Self(pairs))
    }

    fn fill_up(&mut self, reader: &mut Reader<'_>, at: At) -> Option<()> {
        reader.fill_pairs(&mut self.0, at, MAP_WANTED);
        Some(())
    }
}
