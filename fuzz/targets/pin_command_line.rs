#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monitor::harness::pin_command_line(bytes));
