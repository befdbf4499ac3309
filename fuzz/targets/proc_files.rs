#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sys::harness::proc_files(bytes));
