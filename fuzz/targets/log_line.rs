#![no_main]
use model::log::Record;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = Record::parse(bytes) {
        let line = record.to_line();
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        assert_eq!(Record::parse(line), Ok(record), "a record does not survive being written");
    }
});
