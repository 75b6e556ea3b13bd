//! `edge::fuzz::jwt` says what is promised.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| edge::fuzz::jwt(input));
