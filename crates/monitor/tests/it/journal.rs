//! The journald driver, with a journal of the test's own.

use std::fs;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

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

#[test]
fn a_journal_that_takes_nothing_delays_but_does_not_block() {
    let journal = FakeJournal::new();
    let mut logs = journal.open(&Options::default());
    for number in 0..2000 {
        logs.write(Stdout, format!("{number}\n").as_bytes());
    }
    assert!(logs.failure().unwrap().ends_with("entries lost: it takes none"));
    let mut seen = 0;
    journal.socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    while journal.socket.recv(&mut buffer).is_ok() {
        seen += 1;
    }
    std::thread::sleep(Duration::from_millis(300));
    logs.write(Stdout, b"again\n");
    assert_eq!(logs.failure(), None);
    let marker = journal.text();
    let expected = format!("MESSAGE=[wharf-monitor: {} lines lost: the journal took none]\n", 2000 - seen);
    assert!(marker.starts_with(&expected), "{marker}");
    assert!(journal.text().contains("again\n"));
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
