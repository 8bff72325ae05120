//! The fuzzer's bytes, to [`holdfast_fuzz::lz4::check`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| holdfast_fuzz::measured(bytes, holdfast_fuzz::lz4::check));
