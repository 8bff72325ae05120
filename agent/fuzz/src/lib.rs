//! What has to hold of every parser, whatever bytes it is given. Each function takes bytes and panics on a finding.
//!
//! The fuzz targets and `agent/tests/fuzz.rs` call the same functions: the test over a seed corpus, with every run
//! of the tests, so that no target goes stale. `cargo install cargo-fuzz` once; then, in `agent/`,
//!
//! ```text
//! CORPUS=$PWD/fuzz/corpus cargo test --release --test fuzz        # writes the seeds out
//! cargo +nightly fuzz run ltx -- -max_total_time=600              # or lz4, names, wal
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none ltx -- …      # with the stable compiler
//! ```
//! A finding is replayed with `cargo fuzz run ltx fuzz/artifacts/ltx/crash-…` and becomes the lowest unit test that
//! shows it.
//!
//! The format room touches nothing but bytes and integers, so it is compiled here by itself: coverage then counts
//! parsers alone, and a build takes seconds.

#[path = "../../src/format/mod.rs"]
pub mod format;
pub mod ltx;
pub mod lz4;
pub mod names;
pub mod wal;

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs `check`, and panics if it takes more memory than `bytes` account for.
pub fn measured(bytes: &[u8], check: fn(&[u8])) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    check(bytes);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    // LZ4 expands 255 times at most; what it expands to is compressed and expanded again.
    let limit = FIXED + bytes.len() * 600;
    assert!(taken <= limit, "{taken} bytes of memory for {} bytes of input", bytes.len());
}

/// The C library takes two blocks of 4 MiB for a frame that allows them, whatever it holds.
const FIXED: usize = 16 << 20;
