//! The raw configuration: a mirror of the file.
//!
//! Every key of the file is a field here, and nothing is checked but its type: defaults, inheritance and what
//! keys mean to each other belong to `build`. Each field is a [`Given`]: it knows whether the key was written,
//! and where, so that every later finding can point at it.

mod discovery;
mod file;
mod http;
mod leaf;
mod ours;
mod reader;
mod remote_write;
mod scrape;
mod written;

use super::report::Spot;

pub(crate) use discovery::*;
pub(crate) use file::*;
pub(crate) use http::*;
pub(crate) use leaf::*;
pub(crate) use ours::*;
pub(crate) use reader::{At, Reader};
pub(crate) use remote_write::*;
pub(crate) use scrape::*;
pub(crate) use written::{AsWritten, put, written_section};

/// What a file says for one key.
#[derive(Clone, Debug, Default)]
pub(crate) enum Given<T> {
    /// Nothing.
    #[default]
    Absent,
    /// The key, without a value. For a section this is an empty one; for a text, a number or a boolean it is
    /// the zero value, which need not be the default.
    Null(Spot),
    /// Something of another type. That is reported already.
    Broken(Spot),
    /// A value.
    Is(T, Spot),
}

impl<T> Given<T> {
    /// Where it stands, if it is written at all.
    pub(crate) fn spot(&self) -> Option<Spot> {
        match self {
            Self::Absent => None,
            Self::Null(spot) | Self::Broken(spot) | Self::Is(_, spot) => Some(*spot),
        }
    }

    /// The value, if there is one.
    pub(crate) fn get(&self) -> Option<&T> {
        match self {
            Self::Is(value, _) => Some(value),
            _ => None,
        }
    }

    /// Whether something was written that could not be read; what follows from its absence is then no mistake.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self, Self::Broken(_))
    }
}

/// A type that a node of the file can be read as.
pub(crate) trait FromNode: Sized {
    /// Whether messages may show what stands in the file.
    const SHOWN: bool = true;

    /// Reads a node that is not null. `None` where it is something else, after a report of that.
    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self>;

    /// Reads a map over what a merge key has brought: what it does not say stays. `None` where a value takes the place of the one
    /// before as a whole.
    fn fill_up(&mut self, _reader: &mut Reader<'_>, _at: At) -> Option<()> {
        None
    }
}

/// Sections that few others have stand in a box, so that jobs without them stay small.
impl<T: FromNode> FromNode for Box<T> {
    fn from_node(reader: &mut Reader<'_>, at: At) -> Option<Self> {
        T::from_node(reader, at).map(Self::new)
    }

    fn fill_up(&mut self, reader: &mut Reader<'_>, at: At) -> Option<()> {
        T::fill_up(self, reader, at)
    }
}

/// A map of the file whose keys are known.
pub(crate) trait Section: Default {
    /// What messages call it.
    const NAME: &'static str;

    /// Its keys, those of inlined sections included.
    fn keys() -> Vec<&'static str>;

    /// Takes the value of one key. False for a key that it does not know.
    fn set(&mut self, key: &str, reader: &mut Reader<'_>, at: At) -> bool;
}

/// Declares a [`Section`]: a struct whose fields are the keys of a map in the file.
macro_rules! section {
    (
        $(#[$meta:meta])*
        $name:ident as $shown:literal {
            $($(#[$field_meta:meta])* $key:ident: $type:ty,)*
        }
        $(inline { $($inline:ident: $inline_type:ty,)* })?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name {
            $($(#[$field_meta])* pub(crate) $key: $crate::config::raw::Given<$type>,)*
            $($(pub(crate) $inline: $inline_type,)*)?
        }

        impl $crate::config::raw::Section for $name {
            const NAME: &'static str = $shown;

            fn keys() -> Vec<&'static str> {
                #[allow(unused_mut)]
                let mut keys = vec![$(stringify!($key).trim_start_matches("r#"),)*];
                $($(keys.extend(<$inline_type as $crate::config::raw::Section>::keys());)*)?
                keys
            }

            fn set(
                &mut self,
                key: &str,
                reader: &mut $crate::config::raw::Reader<'_>,
                at: $crate::config::raw::At,
            ) -> bool {
                $(if key == stringify!($key).trim_start_matches("r#") {
                    reader.give(&mut self.$key, key, at);
                    return true;
                })*
                $($(if self.$inline.set(key, reader, at) {
                    return true;
                })*)?
                false
            }
        }

        impl $crate::config::raw::FromNode for $name {
            fn from_node(
                reader: &mut $crate::config::raw::Reader<'_>,
                at: $crate::config::raw::At,
            ) -> Option<Self> {
                reader.section(at)
            }

            fn fill_up(
                &mut self,
                reader: &mut $crate::config::raw::Reader<'_>,
                at: $crate::config::raw::At,
            ) -> Option<()> {
                reader.fill_section(self, at);
                Some(())
            }
        }
    };
}
use section;

/// The keys of every section that keys are most often misplaced from, with what messages call it.
pub(crate) fn keys_of_all_sections() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        (RawScrapeConfig::NAME, RawScrapeConfig::keys()),
        (RawGlobal::NAME, RawGlobal::keys()),
        (RawFile::NAME, RawFile::keys()),
        (RawRemoteWrite::NAME, RawRemoteWrite::keys()),
        (RawRule::NAME, RawRule::keys()),
        (RawTargetGroup::NAME, RawTargetGroup::keys()),
        (RawFileSd::NAME, RawFileSd::keys()),
        (RawHttpSd::NAME, RawHttpSd::keys()),
        (RawDns::NAME, RawDns::keys()),
        (RawKubernetes::NAME, RawKubernetes::keys()),
        (RawTls::NAME, RawTls::keys()),
        (RawBasicAuth::NAME, RawBasicAuth::keys()),
        (RawAuthorization::NAME, RawAuthorization::keys()),
        (RawOAuth2::NAME, RawOAuth2::keys()),
        (RawQueueConfig::NAME, RawQueueConfig::keys()),
        (RawMetadataConfig::NAME, RawMetadataConfig::keys()),
        (RawAllocator::NAME, RawAllocator::keys()),
        (RawScraper::NAME, RawScraper::keys()),
    ]
}
