use std::io::Write as _;

use super::*;

struct Log {
    dir: PathBuf,
}

impl Log {
    fn new(what: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("wh-logs-{what}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("c.log")
    }

    fn write(&self, file: &str, records: &[(&str, &str, &str)]) {
        let mut out = std::fs::File::options().append(true).create(true).open(self.dir.join(file)).unwrap();
        for (stream, tag, content) in records {
            writeln!(out, "2026-01-01T00:00:00.000000000Z {stream} {tag} {content}").unwrap();
        }
    }

    fn read(&self, options: LogOptions) -> Vec<String> {
        let mut core = Core::open(&self.path(), options).unwrap();
        drain(&mut core, true)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn drain(core: &mut Core, last: bool) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let pumped = core.pump(last).unwrap();
        lines.extend(pumped.lines.iter().map(|l| String::from_utf8_lossy(&l.content).into_owned()));
        if pumped.at_end {
            return lines;
        }
    }
}

fn tail(n: usize) -> LogOptions {
    LogOptions { tail: Some(n), ..LogOptions::default() }
}

#[test]
fn rotated_files_come_first() {
    let log = Log::new("rotated");
    log.write("c.log.20260101-000000", &[("stdout", "F", "oldest")]);
    log.write("c.log.2", &[("stdout", "F", "older")]);
    log.write("c.log.1", &[("stdout", "F", "old"), ("stdout", "P", "torn ")]);
    log.write("c.log", &[("stdout", "F", "apart"), ("stdout", "F", "new")]);
    assert_eq!(log.read(LogOptions::default()), ["oldest", "older", "old", "torn apart", "new"]);
    assert_eq!(log.read(tail(2)), ["torn apart", "new"]);
    assert_eq!(log.read(tail(3)), ["old", "torn apart", "new"]);
    assert_eq!(log.read(tail(100)).len(), 5);
    assert_eq!(log.read(tail(0)), Vec::<String>::new());
}

#[test]
fn a_tail_has_whole_lines_of_both_streams() {
    let log = Log::new("tail");
    log.write("c.log", &[("stderr", "P", "begin ")]);
    for i in 0..5000 {
        log.write("c.log", &[("stdout", "P", "a"), ("stdout", "P", "b"), ("stdout", "F", &i.to_string())]);
    }
    log.write("c.log", &[("stderr", "F", "end"), ("stdout", "F", "last"), ("stdout", "P", "no newline")]);
    assert_eq!(log.read(tail(3)), ["begin end", "last", "no newline"]);
    assert_eq!(log.read(tail(5)), ["ab4998", "ab4999", "begin end", "last", "no newline"][..]);
    let since = LogOptions { since_ns: Some(u64::MAX), ..LogOptions::default() };
    assert_eq!(log.read(since), Vec::<String>::new());
}

#[test]
fn bad_lines_are_left_out() {
    let log = Log::new("bad");
    log.write("c.log", &[("stdout", "F", "one"), ("stdin", "F", "x"), ("stdout", "Q", "y")]);
    std::fs::OpenOptions::new().append(true).open(log.path()).unwrap().write_all(b"\n\xff\xff\n\n").unwrap();
    log.write("c.log", &[("stdout", "F", "two")]);
    std::fs::OpenOptions::new()
        .append(true)
        .open(log.path())
        .unwrap()
        .write_all(b"2026-01-01T00:00")
        .unwrap();
    assert_eq!(log.read(LogOptions::default()), ["one", "two"]);
}

#[test]
fn rotations_while_reading_lose_nothing() {
    let log = Log::new("rotating");
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let mut core = Core::open(&log.path(), follow).unwrap();
    assert_eq!(drain(&mut core, false), Vec::<String>::new());
    log.write("c.log", &[("stdout", "F", "1")]);
    assert_eq!(drain(&mut core, false), ["1"]);
    // Two rotations between two reads, and a write to the old file before the first of them.
    log.write("c.log", &[("stdout", "F", "2")]);
    std::fs::rename(log.path(), log.dir.join("c.log.2")).unwrap();
    log.write("c.log", &[("stdout", "F", "3")]);
    std::fs::rename(log.path(), log.dir.join("c.log.1")).unwrap();
    assert_eq!(drain(&mut core, false), ["2"], "the writer has not opened the new file yet");
    log.write("c.log", &[("stdout", "F", "4")]);
    assert_eq!(drain(&mut core, false), ["3", "4"]);
    // The file that is read is renamed and removed; the next ones are all new.
    log.write("c.log", &[("stdout", "F", "5")]);
    std::fs::remove_file(log.path()).unwrap();
    std::fs::remove_file(log.dir.join("c.log.1")).unwrap();
    std::fs::remove_file(log.dir.join("c.log.2")).unwrap();
    log.write("c.log", &[("stdout", "F", "6")]);
    assert_eq!(drain(&mut core, false), ["5", "6"]);
    // Cut off in place.
    std::fs::write(log.path(), b"").unwrap();
    assert_eq!(drain(&mut core, false), Vec::<String>::new());
    log.write("c.log", &[("stdout", "F", "7"), ("stderr", "P", "8")]);
    assert_eq!(drain(&mut core, false), ["7"]);
    assert_eq!(drain(&mut core, true), ["8"]);
}
