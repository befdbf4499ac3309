//! The journald driver, with a journal of the test's own.

use std::fs;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use monitor::Stream::{Stderr, Stdout};
use monitor::logs::{Logs, Options};

use crate::scratch::Scratch;

const CID: &str = "0123456789abcdef0123";

/// A journal of the test's own.
struct FakeJournal {
    dir: Scratch,
    socket: UnixDatagram,
}

impl FakeJournal {
    fn new() -> Self {
        let dir = Scratch::new("journal");
        let socket = UnixDatagram::bind(dir.join("socket")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { dir, socket }
    }

    fn open(&self, options: &Options) -> Logs {
        let options = Options { paths: vec!["journald:".into()], cid: CID.into(), ..options.clone() };
        Logs::open_with(&options, &self.dir.join("socket")).unwrap()
    }

    fn entry(&self) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 20];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let mut slices = [std::io::IoSliceMut::new(&mut buffer)];
        let got = rustix::net::recvmsg(
            self.socket.as_fd(),
            &mut slices,
            &mut control,
            rustix::net::RecvFlags::empty(),
        )
        .unwrap();
        let passed: Option<OwnedFd> = control.drain().find_map(|message| match message {
            rustix::net::RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let Some(passed) = passed else { return buffer[..got.bytes].to_vec() };
        let seals = rustix::fs::fcntl_get_seals(&passed).unwrap();
        assert!(seals.contains(rustix::fs::SealFlags::WRITE | rustix::fs::SealFlags::SEAL));
        let mut file = fs::File::from(passed);
        file.rewind().unwrap();
        let mut all = Vec::new();
        file.read_to_end(&mut all).unwrap();
        all
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.entry()).into_owned()
    }
}

#[test]
fn journal_entries_have_their_fields_in_order() {
    let journal = FakeJournal::new();
    let full = Options {
        name: Some("web".into()),
        tag: Some("tag".into()),
        labels: vec!["A=1".into(), "B_2=x y".into()],
        ..Options::default()
    };
    let mut logs = journal.open(&full);
    let rest = "CONTAINER_ID=0123456789ab\nCONTAINER_TAG=tag\nCONTAINER_NAME=web\nSYSLOG_IDENTIFIER=tag\n";
    logs.write(Stdout, b"hello\nhal");
    logs.write(Stderr, b"err\n");
    logs.write(Stdout, b"f\n<4>warned\n<9>not\nlast");
    logs.close();
    let message = |text: &str, priority: u8, partial: &str| {
        let head = if text.ends_with('\n') {
            format!("MESSAGE\n{}\0\0\0\0\0\0\0{text}\n", char::from(u8::try_from(text.len()).unwrap()))
        } else {
            format!("MESSAGE={text}\n")
        };
        format!("{head}CONTAINER_ID_FULL={CID}\nPRIORITY={priority}\n{rest}{partial}A=1\nB_2=x y\n")
    };
    assert_eq!(journal.text(), message("hello\n", 6, ""));
    assert_eq!(journal.text(), message("err\n", 3, ""));
    assert_eq!(journal.text(), message("half\n", 6, ""));
    assert_eq!(journal.text(), message("warned\n", 4, ""));
    assert_eq!(journal.text(), message("<9>not\n", 6, ""));
    assert_eq!(journal.text(), message("last", 6, "CONTAINER_PARTIAL_MESSAGE=true\n"));
}

#[test]
fn journal_identifier_and_partial_flag() {
    for (name, identifier) in [(Some("web".to_owned()), "web"), (None, "0123456789ab")] {
        let journal = FakeJournal::new();
        let mut logs = journal.open(&Options { name, no_partial_message: true, ..Options::default() });
        logs.write(Stdout, b"x");
        logs.close();
        let text = journal.text();
        assert!(text.ends_with(&format!("SYSLOG_IDENTIFIER={identifier}\n")), "{text}");
        assert!(!text.contains("PARTIAL"), "{text}");
    }
}

#[test]
fn journal_entries_of_any_size() {
    let journal = FakeJournal::new();
    // Labels as large as a socket's buffer: the entry can't be one datagram.
    let label = format!("BIG={}", "x".repeat(400_000));
    let mut logs = journal.open(&Options { labels: vec![label.clone()], ..Options::default() });
    logs.write(Stdout, b"hello\n");
    let entry = journal.text();
    assert!(entry.starts_with("MESSAGE\n\u{6}") && entry.ends_with(&format!("{label}\n")), "{}", entry.len());
}

/// The number that an entry's line is, or how many lines it says are lost.
fn number(entry: &str) -> Result<u64, u64> {
    let marker = entry.strip_prefix("MESSAGE=[wharf-monitor: ").and_then(|rest| rest.split(' ').next());
    match marker {
        Some(lost) => Err(lost.parse().unwrap()),
        None => Ok(entry[16..].split([' ', '\n']).next().unwrap().parse().unwrap()),
    }
}

/// Does what is due, as the loop would.
fn serve(logs: &mut Logs) {
    if logs.flush_in() == Some(Duration::ZERO) {
        logs.tick();
    }
}

#[test]
fn a_journal_that_takes_nothing_is_given_up_and_told_later() {
    let journal = FakeJournal::new();
    let mut logs = journal.open(&Options::default());
    let mut next = 0u64;
    let mut write = |logs: &mut Logs| {
        logs.write(Stdout, format!("{next} {}\n", "-".repeat(100)).as_bytes());
        next += 1;
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    // As long as there is hope, the container's output rests.
    while !logs.congested() && logs.failure().is_none() {
        assert!(Instant::now() < deadline);
        write(&mut logs);
    }
    while logs.congested() {
        assert!(logs.flush_in().is_some() && Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
        serve(&mut logs);
    }
    // Then it goes on, and in the end lines are dropped.
    while logs.failure().is_none() {
        assert!(!logs.congested() && Instant::now() < deadline);
        write(&mut logs);
    }
    assert!(logs.failure().unwrap().ends_with("entries lost: it takes none"));
    for _ in 0..1000 {
        write(&mut logs);
    }
    assert!(!logs.congested());
    let last = next;
    let mut expected = 0;
    let mut lost = 0;
    journal.socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    while lost == 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
        serve(&mut logs);
        while let Ok(len) = journal.socket.recv(&mut buffer) {
            match number(&String::from_utf8_lossy(&buffer[..len])) {
                Ok(number) => {
                    assert_eq!(number, expected, "all that was kept comes in its order");
                    expected += 1;
                }
                Err(count) => lost = count,
            }
        }
    }
    assert_eq!(expected + lost, last, "each line has come or is counted");
    assert_eq!(logs.failure(), None);
    logs.write(Stdout, b"again\n");
    let len = journal.socket.recv(&mut buffer).unwrap();
    assert!(String::from_utf8_lossy(&buffer[..len]).contains("again\n"));
}

#[test]
fn a_slow_journal_gets_everything() {
    // In all less than the queue takes, as below.
    const COUNT: u64 = 20_000;
    let journal = FakeJournal::new();
    let mut logs = journal.open(&Options::default());
    let reader = std::thread::spawn(move || {
        for expected in 0..COUNT {
            if expected.is_multiple_of(2_000) {
                std::thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(number(&journal.text()), Ok(expected));
        }
        journal
    });
    let lines: Vec<String> = (0..COUNT).map(|number| format!("{number}\n")).collect();
    // Reads as large as they can be, far more than the queue's limit in entries.
    for read in lines.chunks(2_500) {
        while logs.congested() {
            std::thread::sleep(logs.flush_in().unwrap_or_default());
            serve(&mut logs);
        }
        logs.write(Stdout, read.concat().as_bytes());
    }
    logs.close();
    assert_eq!(logs.failure(), None);
    reader.join().unwrap();
}

#[test]
fn before_the_end_a_slow_journal_is_waited_for() {
    let journal = FakeJournal::new();
    let mut logs = journal.open(&Options::default());
    let text: String = (0..1500).map(|number| format!("{number}\n")).collect();
    logs.write(Stdout, text.as_bytes());
    let reader = std::thread::spawn(move || {
        (0..1500).for_each(|expected| assert_eq!(number(&journal.text()), Ok(expected)));
    });
    logs.close();
    reader.join().unwrap();
    assert_eq!(logs.failure(), None);
}

#[test]
fn the_program_loses_nothing_to_a_slow_journal() {
    // In all less than the queue takes: who stops it, or this test, for a second makes no difference.
    const COUNT: u64 = 20_000;
    let journal = FakeJournal::new();
    let dir = crate::logs_program::stage("journal-program", &format!("seq 0 {}; exit 7", COUNT - 1));
    // A journal of the program's own, in a mount namespace of its own.
    let mut command = std::process::Command::new("unshare");
    let at = "/run/systemd/journal";
    let line =
        format!("mount -t tmpfs none /run && mkdir -p {at} && mount --bind \"$0\" {at} && exec \"$@\"");
    command.args(["-m", "sh", "-c", &line]).arg(journal.dir.path()).arg(crate::stand::MONITOR);
    command.args(["-l", "journald:"]);
    let mut running =
        crate::logs_program::Running(crate::logs_program::monitor(&mut command, dir.path(), CID));
    for expected in 0..COUNT {
        let entry = journal.text();
        assert_eq!(number(&entry), Ok(expected), "{entry}");
        if expected.is_multiple_of(5_000) {
            // Longer than the queue lasts.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert_eq!(running.0.wait().unwrap().code(), Some(7));
}

#[test]
fn without_a_journal_nothing_happens() {
    let dir = Scratch::new("journal");
    let options = Options { paths: vec!["journald".into()], cid: CID.into(), ..Options::default() };
    let mut logs = Logs::open_with(&options, &dir.join("none")).unwrap();
    logs.write(Stdout, b"x\n");
    assert_eq!(logs.failure(), None);
    logs.close();
}
