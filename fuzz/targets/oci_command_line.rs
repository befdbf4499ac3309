#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ocirun::harness::command_line(bytes));
