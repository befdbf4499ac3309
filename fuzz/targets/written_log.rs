#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monitor::harness::written_log(bytes));
