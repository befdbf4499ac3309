#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| runtime::harness::log_file(bytes));
