//! The `holdfast` binary; also answers to the name `litestream`.
fn main() {}
