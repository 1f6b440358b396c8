//! The configuration: a raw type that mirrors the file, and the validated types that everything else uses.

mod secret;
mod types;

pub use secret::Secret;
pub use types::*;
