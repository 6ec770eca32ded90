//! Memora.
fn main() {}
