//! From the raw configuration back to what was written.

use super::{Given, List, Map, Text, Unused};
use crate::config::{Secret, Written};

/// A value that can be handed on as it was written.
pub(crate) trait AsWritten {
    /// None for what nobody reads.
    fn written(&self) -> Option<Written>;

    /// What a key without a value means, where that is not its default.
    fn of_nothing() -> Option<Written> {
        None
    }
}

/// What a key says, if it says something.
pub(crate) fn put<T: AsWritten>(key: &str, given: &Given<T>, out: &mut Vec<(String, Written)>) {
    let value = match given {
        Given::Null(_) => T::of_nothing(),
        given => given.get().and_then(T::written),
    };
    out.extend(value.map(|value| (key.to_owned(), value)));
}

impl AsWritten for bool {
    fn written(&self) -> Option<Written> {
        Some(Written::Bool(*self))
    }

    fn of_nothing() -> Option<Written> {
        Some(Written::Bool(false))
    }
}

impl AsWritten for Text {
    /// A URL with a password is a secret, as in Prometheus.
    fn written(&self) -> Option<Written> {
        let with_password =
            self.contains('@') && url::Url::parse(self).is_ok_and(|url| url.password().is_some());
        Some(if with_password {
            Written::Secret(Secret::new(self.to_string()))
        } else {
            Written::Text(self.to_string())
        })
    }
}

impl AsWritten for Secret {
    fn written(&self) -> Option<Written> {
        Some(Written::Secret(self.clone()))
    }
}

impl<T> AsWritten for Unused<T> {
    fn written(&self) -> Option<Written> {
        None
    }
}

impl<T: AsWritten> AsWritten for Box<T> {
    fn written(&self) -> Option<Written> {
        T::written(self)
    }
}

impl<T: AsWritten> AsWritten for List<T> {
    fn written(&self) -> Option<Written> {
        let items = self.iter().filter_map(|item| item.get().and_then(T::written));
        Some(Written::List(items.collect()))
    }
}

impl<T: AsWritten> AsWritten for Map<T> {
    fn written(&self) -> Option<Written> {
        let mut pairs = Vec::new();
        for pair in self.iter() {
            put(&pair.name, &pair.value, &mut pairs);
        }
        Some(Written::Map(pairs))
    }
}

/// Declares a section like `section!`, with the way back.
macro_rules! written_section {
    (
        $(#[$meta:meta])*
        $name:ident as $shown:literal {
            $($(#[$field_meta:meta])* $key:ident: $type:ty,)*
        }
        $(inline { $($inline:ident: $inline_type:ty,)* })?
    ) => {
        $crate::config::raw::section! {
            $(#[$meta])*
            $name as $shown {
                $($(#[$field_meta])* $key: $type,)*
            }
            $(inline { $($inline: $inline_type,)* })?
        }

        impl $crate::config::raw::AsWritten for $name {
            fn written(&self) -> Option<$crate::config::Written> {
                let mut pairs = Vec::new();
                $($crate::config::raw::put(
                    stringify!($key).trim_start_matches("r#"),
                    &self.$key,
                    &mut pairs,
                );)*
                $($(if let Some($crate::config::Written::Map(inner)) = self.$inline.written() {
                    pairs.extend(inner);
                })*)?
                Some($crate::config::Written::Map(pairs))
            }
        }
    };
}
pub(crate) use written_section;
