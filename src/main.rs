//! The `promring` binary.
fn main() {}
