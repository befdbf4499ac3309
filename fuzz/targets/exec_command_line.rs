#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ocirun::harness::exec_command_line(bytes));
