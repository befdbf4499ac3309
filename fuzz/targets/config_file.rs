#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(value) = toml::from_str(text)
    {
        model::harness::config(value);
    }
    model::harness::config_file(bytes);
});
