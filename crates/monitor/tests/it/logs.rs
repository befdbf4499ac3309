//! Logs, written to real files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use monitor::Stream::{self, Stderr, Stdout};
use monitor::logs::{Logs, Options};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::scratch::Scratch;

const CID: &str = "0123456789abcdef0123";

fn options(path: &Path) -> Options {
    Options { paths: vec![path.display().to_string()], cid: CID.into(), max_files: 1, ..Options::default() }
}

/// What a log says: for each line its stream, its tag and its content.
fn entries(log: &[u8]) -> Vec<(&'static str, char, Vec<u8>)> {
    let mut last = String::new();
    let parse = |line: &[u8]| {
        let (head, content) = line.split_at(45);
        let head = std::str::from_utf8(head).unwrap();
        let words: Vec<&str> = head.split(' ').collect();
        assert_eq!(words.len(), 4, "{head:?}");
        assert_eq!(words[0].len(), 35, "{head:?}");
        assert!(words[0] >= last.as_str(), "time went back: {last} to {}", words[0]);
        last = words[0].to_owned();
        let stream = if words[1] == "stdout" { "stdout" } else { "stderr" };
        assert_eq!(words[1], stream);
        (stream, words[2].chars().next().unwrap(), content.to_vec())
    };
    assert!(log.is_empty() || log.ends_with(b"\n"), "the log ends within a line");
    log.split_inclusive(|byte| *byte == b'\n').map(|line| &line[..line.len() - 1]).map(parse).collect()
}

/// What a reader makes of it: the bytes of `stream`.
fn content(log: &[u8], stream: Stream) -> Vec<u8> {
    let of_stream = entries(log).into_iter().filter(|(of, ..)| *of == stream.as_str());
    of_stream.fold(Vec::new(), |mut all, (_, tag, content)| {
        all.extend(content);
        all.extend((tag == 'F').then_some(b'\n'));
        all
    })
}

fn texts(path: &Path) -> Vec<(&'static str, char, String)> {
    let text = |content: Vec<u8>| String::from_utf8(content).unwrap();
    entries(&fs::read(path).unwrap())
        .into_iter()
        .map(|(stream, tag, bytes)| (stream, tag, text(bytes)))
        .collect()
}

/// Lets time pass as the loop would.
fn wait_until_quiet(logs: &mut Logs) {
    while let Some(wait) = logs.flush_in() {
        std::thread::sleep(wait);
        logs.tick();
    }
}

#[test]
fn lines_and_pieces() {
    let dir = Scratch::new("logs");
    let path = dir.join("log");
    let mut logs = Logs::open(&options(&path)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    wait_until_quiet(&mut logs);
    assert_eq!(logs.flush_in(), None, "no timer runs when nothing is going on");
    logs.write(Stdout, b"one\ntwo\nthr");
    logs.write(Stderr, b"err\n\n");
    logs.write(Stdout, b"ee\n");
    assert_eq!(
        texts(&path),
        [
            ("stdout", 'F', "one".into()),
            ("stdout", 'F', "two".into()),
            ("stderr", 'F', "err".into()),
            ("stderr", 'F', String::new()),
            ("stdout", 'F', "three".into()),
        ]
    );
    logs.write(Stdout, b"$ ");
    assert_eq!(texts(&path).len(), 5, "an unfinished line is held back");
    wait_until_quiet(&mut logs);
    assert_eq!(texts(&path)[5], ("stdout", 'P', "$ ".into()), "but not for ever");
    logs.write(Stdout, b"ls\nlast");
    logs.close();
    assert_eq!(texts(&path)[6..], [("stdout", 'F', "ls".into()), ("stdout", 'P', "last".into())]);
    assert_eq!(content(&fs::read(&path).unwrap(), Stdout), b"one\ntwo\nthree\n$ ls\nlast");
}

#[test]
fn a_line_that_grows_slowly_appears_before_its_end() {
    let dir = Scratch::new("logs");
    let path = dir.join("log");
    let mut logs = Logs::open(&options(&path)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while fs::metadata(&path).unwrap().len() == 0 {
        assert!(Instant::now() < deadline);
        logs.write(Stdout, b".");
        std::thread::sleep(Duration::from_millis(20));
        if logs.flush_in() == Some(Duration::ZERO) {
            logs.tick();
        }
    }
    assert_eq!(texts(&path)[0].1, 'P');
}

#[test]
fn several_logs_and_none() {
    let dir = Scratch::new("logs");
    let (one, two) = (dir.join("one"), dir.join("two"));
    let paths = ["none".to_owned(), format!("k8s-file:{}", one.display()), two.display().to_string()];
    let mut logs = Logs::open(&Options { paths: paths.to_vec(), ..options(&one) }).unwrap();
    logs.write(Stdout, b"x\n");
    logs.close();
    for path in [&one, &two] {
        assert_eq!(texts(path), [("stdout", 'F', "x".into())]);
    }
    let mut none = Logs::open(&Options { paths: vec!["none:".into()], ..options(&one) }).unwrap();
    none.write(Stdout, b"x\n");
    wait_until_quiet(&mut none);
    none.close();
    assert!(
        Logs::open(&options(&dir.join("no/such/dir")))
            .unwrap_err()
            .to_string()
            .starts_with("Failed to open log file")
    );
}

#[test]
fn size_limit_replaces_the_file() {
    let dir = Scratch::new("logs");
    let path = dir.join("log");
    let mut logs = Logs::open(&Options { size_max: Some(150), ..options(&path) }).unwrap();
    // 47 bytes each: three fit.
    for line in [b"1\n", b"2\n", b"3\n"] {
        logs.write(Stdout, line);
    }
    assert_eq!(texts(&path).len(), 3);
    logs.write(Stdout, b"4\n5\n");
    assert_eq!(texts(&path), [("stdout", 'F', "4".into()), ("stdout", 'F', "5".into())]);
    let long = format!("{}\n", "x".repeat(500));
    logs.write(Stdout, long.as_bytes());
    assert_eq!(texts(&path), [("stdout", 'F', "x".repeat(500))], "a line is never split by the limit");
    logs.write(Stdout, b"6\n");
    assert_eq!(texts(&path), [("stdout", 'F', "6".into())]);
    drop(logs);
    // The size of a file that is there counts from the start.
    let mut again = Logs::open(&Options { size_max: Some(92), ..options(&path) }).unwrap();
    again.write(Stdout, b"7\n8\n");
    assert_eq!(texts(&path), [("stdout", 'F', "8".into())]);
    assert!(!dir.join("log.tmp").exists());
}

#[test]
fn global_limit_writes_the_crossing_line_whole() {
    let dir = Scratch::new("logs");
    let path = dir.join("log");
    let mut logs = Logs::open(&Options { global_size_max: Some(100), ..options(&path) }).unwrap();
    logs.write(Stdout, b"1\n2\n3\n4\n");
    logs.write(Stdout, b"5\n");
    logs.close();
    assert_eq!(texts(&path).iter().map(|line| line.2.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
}

#[test]
fn rotation_keeps_backups() {
    let dir = Scratch::new("logs");
    let path = dir.join("log");
    let rotating = Options { size_max: Some(100), rotate: true, max_files: 2, ..options(&path) };
    let mut logs = Logs::open(&rotating).unwrap();
    for number in 1..=7 {
        logs.write(Stdout, format!("{number}\n").as_bytes());
    }
    let read = |suffix: &str| {
        let path = dir.join(&format!("log{suffix}"));
        texts(&path).into_iter().map(|line| line.2).collect::<String>()
    };
    assert_eq!([read(""), read(".1"), read(".2")], ["7", "56", "34"]);
    assert!(!dir.join("log.3").exists() && !dir.join("log.new").exists());
    logs.reopen();
    assert_eq!([read(""), read(".1"), read(".2")], ["", "7", "56"]);
}

#[test]
fn unsafe_paths_are_not_rotated() {
    let dir = Scratch::new("logs");
    let real = dir.join("real");
    fs::create_dir(&real).unwrap();
    symlink(&real, dir.join("dir")).unwrap();
    fs::write(real.join("target"), "").unwrap();
    symlink(real.join("target"), real.join("link")).unwrap();
    let lines = |name: &str, allowlist: Vec<std::path::PathBuf>| {
        let path = dir.join(name);
        let rotating = Options { size_max: Some(100), rotate: true, allowlist, ..options(&path) };
        let mut logs = Logs::open(&rotating).unwrap();
        for _ in 0..5 {
            logs.write(Stdout, b"x\n");
        }
        texts(&path).len()
    };
    assert_eq!(lines("real/safe", vec![]), 1, "rotated twice");
    assert_eq!(lines("real/allowed", vec!["/usr".into(), dir.path().into()]), 1);
    assert_eq!(lines("real/elsewhere", vec!["/usr".into()]), 5);
    assert_eq!(lines("dir/log", vec![]), 5);
    assert_eq!(lines("real/link", vec![]), 5);
    assert_eq!(lines("real/../real/dots", vec![]), 5);
}

#[test]
fn reopen_follows_a_rename_and_keeps_what_was_not_renamed() {
    let dir = Scratch::new("logs");
    let (path, old) = (dir.join("log"), dir.join("log.old"));
    let mut logs = Logs::open(&options(&path)).unwrap();
    logs.write(Stdout, b"1\nhal");
    fs::rename(&path, &old).unwrap();
    logs.write(Stdout, b"f\n2\n");
    logs.reopen();
    assert!(path.exists(), "the file is there at once");
    logs.write(Stdout, b"3\n");
    let inode = fs::metadata(&path).unwrap().ino();
    logs.reopen();
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    let said = |path| texts(path).into_iter().map(|line| line.2).collect::<Vec<_>>();
    assert_eq!(said(&old), ["1", "half", "2"]);
    assert_eq!(said(&path), ["3"]);
}

#[test]
fn a_directory_that_vanishes_and_comes_back() {
    let dir = Scratch::new("logs");
    let home = dir.join("home");
    fs::create_dir(&home).unwrap();
    let path = home.join("log");
    let mut logs = Logs::open(&options(&path)).unwrap();
    fs::rename(&home, dir.join("away")).unwrap();
    logs.write(Stdout, b"1\n");
    logs.reopen();
    assert!(logs.failure().unwrap().starts_with("reopen "), "{:?}", logs.failure());
    logs.write(Stdout, b"2\n");
    fs::create_dir(&home).unwrap();
    logs.write(Stdout, b"3\n");
    assert_eq!(logs.failure(), None);
    assert_eq!(texts(&dir.join("away/log")).len(), 2);
    assert_eq!(texts(&path), [("stdout", 'F', "3".into())]);
}

#[test]
fn a_full_disk_loses_nothing_while_the_buffer_lasts() {
    let dir = Scratch::tmpfs("logs", 512);
    let path = dir.join("log");
    let mut logs = Logs::open(&options(&path)).unwrap();
    fs::write(dir.join("filler"), vec![0; 480 * 1024]).unwrap();
    let line = |number: u32| format!("{number:0>99}\n");
    for number in 0..1000 {
        logs.write(Stdout, line(number).as_bytes());
    }
    assert!(logs.failure().is_some());
    fs::remove_file(dir.join("filler")).unwrap();
    logs.tick();
    for number in 1000..1010 {
        logs.write(Stdout, line(number).as_bytes());
    }
    assert_eq!(logs.failure(), None);
    let expected: String = (0..1010).map(line).collect();
    assert_eq!(content(&fs::read(&path).unwrap(), Stdout), expected.as_bytes());
}

#[test]
fn a_disk_that_stays_full_is_told_of() {
    let dir = Scratch::tmpfs("logs", 1024);
    let path = dir.join("log");
    let mut logs = Logs::open(&options(&path)).unwrap();
    fs::write(dir.join("filler"), vec![0; 1000 * 1024]).unwrap();
    let line = |number: u32| format!("{number:0>99}\n");
    for number in 0..5000 {
        logs.write(Stdout, line(number).as_bytes());
    }
    fs::remove_file(dir.join("filler")).unwrap();
    logs.write(Stdout, line(9999).as_bytes());
    let all = texts(&path);
    let (last, before) = (&all[all.len() - 1], &all[all.len() - 2]);
    assert_eq!(last.2, line(9999).trim_end());
    let lost = 5000 - (all.len() - 2);
    let marker =
        format!("[wharf-monitor: {lost} lines ({} bytes) lost: the log could not be written]", lost * 100);
    assert_eq!(before, &("stderr", 'F', marker));
    for (number, entry) in all[..all.len() - 2].iter().enumerate() {
        assert_eq!(entry.2, line(u32::try_from(number).unwrap()).trim_end());
    }
}

#[test]
fn a_cut_line_goes_to_the_new_file_whole() {
    let dir = Scratch::new("logs");
    let small = Scratch::tmpfs("logs", 64);
    let link = dir.join("log");
    symlink(small.join("log"), &link).unwrap();
    let mut logs = Logs::open(&options(&link)).unwrap();
    let line = |number: u32| format!("{number:0>99}\n");
    for number in 0..600 {
        logs.write(Stdout, line(number).as_bytes());
    }
    assert!(logs.failure().is_some());
    fs::remove_file(&link).unwrap();
    logs.reopen();
    assert_eq!(logs.failure(), None);
    let mut all = content(&fs::read(small.join("log")).unwrap(), Stdout);
    all.extend(content(&fs::read(&link).unwrap(), Stdout));
    assert_eq!(all, (0..600).map(line).collect::<String>().as_bytes());
}

#[test]
fn writing_to_a_full_device_never_blocks() {
    let mut logs = Logs::open(&options(Path::new("/dev/full"))).unwrap();
    let line = [[b'x'; 99].as_slice(), b"\n"].concat().repeat(600);
    for _ in 0..100 {
        logs.write(Stdout, &line);
    }
    assert!(logs.failure().unwrap().starts_with("write /dev/full: "), "{:?}", logs.failure());
    assert!(logs.flush_in().is_some());
    logs.close();
}

/// Lines of all lengths around which copying changes its ways, in reads of any size: exactly what was said.
#[test]
fn lines_of_every_length() {
    let lengths = (0..=1100).chain(16_300..=16_400).chain([40_000, 0, 1, 300_000, 5, 0]);
    let text: Vec<u8> =
        lengths.flat_map(|len| [vec![b"0123456789abcdef"[len % 16]; len], vec![b'\n']].concat()).collect();
    for read in [1_000, 8_192, 65_536, 262_144, text.len()] {
        let dir = Scratch::new("logs");
        let path = dir.join("log");
        let mut logs = Logs::open(&options(&path)).unwrap();
        for bytes in text.chunks(read) {
            logs.write(Stdout, bytes);
        }
        logs.close();
        let log = fs::read(&path).unwrap();
        assert!(content(&log, Stdout) == text, "reads of {read}");
        let cut = entries(&log).iter().filter(|(_, tag, _)| *tag == 'P').count();
        // 16 lines of 16,385 to 16,400 bytes, and the two long ones.
        assert_eq!(cut, 16 + 2 + 18, "reads of {read}");
    }
}

/// The limits count the same whether lines come one by one or many at once.
#[test]
fn limits_do_not_depend_on_reads() {
    let lines: Vec<String> =
        (0..400).map(|number| format!("{number}{}\n", "-".repeat(number % 90))).collect();
    for (size_max, global_size_max) in [(Some(3_000), None), (None, Some(9_999)), (Some(2_500), Some(12_000))]
    {
        let files = [1, 7, 400].map(|at_once| {
            let dir = Scratch::new("logs");
            let path = dir.join("log");
            let limited =
                Options { size_max, global_size_max, rotate: true, max_files: 100, ..options(&path) };
            let mut logs = Logs::open(&limited).unwrap();
            for lines in lines.chunks(at_once) {
                logs.write(Stdout, lines.concat().as_bytes());
            }
            logs.close();
            let backups = (1..).map(|number| dir.join(&format!("log.{number}")));
            let files = std::iter::once(path).chain(backups).take_while(|path| path.exists());
            files.map(|path| texts(&path)).collect::<Vec<_>>()
        });
        assert_eq!(files[0], files[1]);
        assert_eq!(files[0], files[2]);
        assert_eq!(files[0].len() > 3, size_max.is_some(), "{}", files[0].len());
    }
}

/// What a read of the output, or something from outside, does to the logs.
#[derive(Debug, Clone)]
enum Step {
    Write(Stream, Vec<u8>),
    Rename,
    Reopen,
    Idle,
}

fn step() -> impl Strategy<Value = Step> {
    let stream = any::<bool>().prop_map(|out| if out { Stdout } else { Stderr });
    let text = prop_oneof![
        4 => vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\n'), 1 => any::<u8>()], 0..200),
        1 => (1usize..40_000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ];
    prop_oneof![
        8 => (stream, text).prop_map(|(stream, text)| Step::Write(stream, text)),
        1 => Just(Step::Rename),
        1 => Just(Step::Reopen),
        1 => Just(Step::Idle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes in whatever pieces, with renames, reopens and rotation at any point: all files together say
    /// exactly what the container said.
    #[test]
    fn nothing_is_lost_or_doubled(steps in vec(step(), 0..40), size in proptest::option::of(200u64..5_000)) {
        let dir = Scratch::new("logs-prop");
        let path = dir.join("log");
        let rotating = Options { size_max: size, rotate: true, max_files: 100_000, ..options(&path) };
        let mut logs = Logs::open(&rotating).unwrap();
        let mut said: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut renamed = Vec::new();
        // Backups count down to the newest; a rename by somebody else sets all there is aside.
        let set_aside = |renamed: &mut Vec<Vec<u8>>| {
            for number in (1..).take_while(|number| dir.join(&format!("log.{number}")).exists()).collect::<Vec<_>>().into_iter().rev() {
                let backup = dir.join(&format!("log.{number}"));
                renamed.push(fs::read(&backup).unwrap());
                fs::remove_file(backup).unwrap();
            }
        };
        for step in steps {
            match step {
                Step::Write(stream, bytes) => {
                    logs.write(stream, &bytes);
                    said.entry(stream.index()).or_default().extend(bytes);
                }
                Step::Rename => {
                    set_aside(&mut renamed);
                    fs::rename(&path, dir.join("aside")).unwrap();
                    logs.reopen();
                    renamed.push(fs::read(dir.join("aside")).unwrap());
                }
                Step::Reopen => logs.reopen(),
                Step::Idle => {
                    logs.tick();
                }
            }
        }
        logs.close();
        set_aside(&mut renamed);
        renamed.push(fs::read(&path).unwrap());
        let all = renamed.concat();
        for stream in [Stdout, Stderr] {
            let said = said.remove(&stream.index()).unwrap_or_default();
            prop_assert_eq!(content(&all, stream), said);
        }
    }
}
