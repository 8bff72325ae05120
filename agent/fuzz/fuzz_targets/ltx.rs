//! The fuzzer's bytes, to [`holdfast_fuzz::ltx::check`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::measured(bytes, holdfast_fuzz::ltx::check));
