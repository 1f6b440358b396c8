//! Settings as they stand in the file, for those who hand them on to another program.

use std::fmt;

use serde_json::{Map, Value};

use super::Secret;

/// A value of the file. Merge keys and aliases are resolved; everything else is as it was written, paths above all:
/// whoever it is handed to may run elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub enum Written {
    /// `true` or `false`.
    Bool(bool),
    /// A text.
    Text(String),
    /// A text that must not be shown.
    Secret(Secret),
    /// A list.
    List(Vec<Self>),
    /// Keys and values in the order of their documentation.
    Map(Vec<(String, Self)>),
}

impl fmt::Debug for Written {
    /// Nothing of it: even a name or a header that is no secret by its key may be one to its owner.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<as written>")
    }
}

impl Default for Written {
    /// No settings at all.
    fn default() -> Self {
        Self::Map(Vec::new())
    }
}

impl Written {
    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::List(items) => items.is_empty(),
            Self::Map(pairs) => pairs.is_empty(),
            Self::Bool(_) | Self::Text(_) | Self::Secret(_) => false,
        }
    }

    /// Whether a secret stands in it. An empty one is none.
    #[must_use]
    pub fn has_secret(&self) -> bool {
        match self {
            Self::Bool(_) | Self::Text(_) => false,
            Self::Secret(secret) => !secret.expose().is_empty(),
            Self::List(items) => items.iter().any(Self::has_secret),
            Self::Map(pairs) => pairs.iter().any(|(_, value)| value.has_secret()),
        }
    }

    /// The same as JSON, with its secrets.
    #[must_use]
    pub fn expose_json(&self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Text(text) => Value::String(text.clone()),
            Self::Secret(secret) => Value::String(secret.expose().to_owned()),
            Self::List(items) => items.iter().map(Self::expose_json).collect(),
            Self::Map(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| (key.clone(), value.expose_json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }
}
