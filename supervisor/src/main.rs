//! PID 1: checks, restores, launches, forwards, reaps, and proves the final sync.
fn main() {}
