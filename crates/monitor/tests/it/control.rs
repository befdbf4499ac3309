//! The control protocol over real sockets, with a host that only pretends.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::{Exit, ExitRecord, Oom, Usage};
use monitor::control::protocol::{self, Answer, Exec, FailureKind, FdRole, MESSAGE_BYTES, Op, Reply};
use monitor::control::{Client, ExecKey, ExecRequest, ExecResult, Host, Server, Status};
use monitor::poll::{Kind, Poll};
use serde_json::json;
use sys::socket::{self, Blocking};

use crate::scratch::Scratch;

/// What the test tells the process to let happen.
enum Event {
    Exited,
    Stop,
}

#[derive(Default)]
struct FakeHost {
    log: Vec<String>,
    /// Execs that are to be reported on.
    begun: Vec<(ExecKey, ExecRequest)>,
    running: BTreeMap<u32, Option<OwnedFd>>,
    ended: Vec<(ExecKey, ExecResult)>,
}

fn result(exit: Exit) -> ExecResult {
    ExecResult { exit, message: String::new(), finished_ns: 5, usage: Usage::default() }
}

impl Host for FakeHost {
    fn status(&self) -> Status {
        let execs = u32::try_from(self.running.len()).unwrap();
        Status { id: "c1".into(), pid: 11, monitor_pid: 10, exit: None, execs }
    }
    fn resize(&mut self, exec: Option<ExecKey>, rows: u16, columns: u16) -> io::Result<()> {
        self.log.push(format!("resize {exec:?} {rows} {columns}"));
        if rows == 0 { Err(io::Error::other("no terminal")) } else { Ok(()) }
    }
    fn reopen_logs(&mut self) {
        self.log.push("reopen".into());
    }
    fn attach(&mut self, socket: OwnedFd) -> io::Result<()> {
        socket::send_with_fds(socket, b"attached", &[])?;
        Ok(())
    }
    fn exec(&mut self, key: ExecKey, request: ExecRequest) -> io::Result<()> {
        if request.process.windows(6).any(|part| part == b"refuse") {
            return Err(io::Error::other("the container has ended"));
        }
        self.begun.push((key, request));
        Ok(())
    }
    fn cancel_exec(&mut self, key: ExecKey) -> io::Result<()> {
        self.running.remove(&key.0);
        self.ended.push((key, result(Exit::Signal(9))));
        Ok(())
    }
    fn signal_exec(&mut self, key: ExecKey, signal: i32) -> io::Result<()> {
        self.log.push(format!("signal {key:?} {signal}"));
        Ok(())
    }
}

fn record() -> ExitRecord {
    ExitRecord {
        version: ExitRecord::VERSION,
        id: "c1".into(),
        pid: 11,
        exit: Exit::Code(3),
        oom: Oom::None,
        finished_ns: 1,
        boottime_ns: 2,
        boot_id: "b".into(),
        usage: Usage::default(),
    }
}

/// Serves until told to stop, then says what the host was asked to do and how many descriptors are open.
fn serve(path: PathBuf, events: Receiver<Event>) -> Vec<String> {
    let poll = Poll::new().unwrap();
    let mut server = Server::bind(&path, &poll).unwrap();
    let mut host = FakeHost::default();
    let mut ready = Vec::new();
    loop {
        poll.wait(&mut ready, Some(Duration::from_millis(5))).unwrap();
        for (token, flags) in &ready {
            match token.kind {
                Kind::ControlListener => server.accept(&poll),
                Kind::ControlClient => server.ready(token.index, *flags, &mut host, &poll),
                other => panic!("{other:?}"),
            }
        }
        for (key, request) in std::mem::take(&mut host.begun) {
            let process: serde_json::Value = serde_json::from_slice(&request.process).unwrap();
            if process["args"][0] == "missing" {
                let message = "no such file".to_owned();
                server.exec_ended(key, &ExecResult { message, ..result(Exit::StartError) }, &poll);
                continue;
            }
            if let Some(out) = &request.stdio[1] {
                std::fs::File::from(out.try_clone().unwrap()).write_all(b"output").unwrap();
            }
            let terminal = request.terminal.then(|| std::fs::File::open("/dev/null").unwrap());
            server.exec_started(key, 42, terminal.as_ref().map(|file| file.as_fd()), &poll);
            if process["args"][0] == "quick" {
                let timeout = u8::try_from(request.timeout.map_or(0, |timeout| timeout.as_millis())).unwrap();
                server.exec_ended(key, &result(Exit::Code(timeout)), &poll);
            } else {
                host.running.insert(key.0, None);
            }
        }
        for (key, result) in std::mem::take(&mut host.ended) {
            server.exec_ended(key, &result, &poll);
        }
        match events.try_recv() {
            Ok(Event::Exited) => server.exited(&record(), &poll),
            Ok(Event::Stop) => {
                server.close();
                assert!(!path.exists());
                return host.log;
            }
            Err(_) => {}
        }
    }
}

struct Monitor {
    dir: Scratch,
    events: Sender<Event>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Monitor {
    fn start() -> Self {
        let dir = Scratch::new("control");
        let (events, inbox) = channel();
        let path = dir.join("control");
        let server_path = path.clone();
        let thread = Some(std::thread::spawn(move || serve(server_path, inbox)));
        while !path.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Self { dir, events, thread }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("control")
    }

    fn client(&self) -> Client {
        // The name is there a moment before anybody listens.
        let mut tries = 0;
        loop {
            match Client::connect(&self.path()) {
                Ok(client) => return client,
                Err(_) if tries < 1000 => tries += 1,
                Err(error) => panic!("{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn raw(&self) -> OwnedFd {
        drop(self.client());
        socket::connect(self.path(), socket::Kind::SeqPacket, Blocking::Yes).unwrap()
    }

    fn stop(mut self) -> Vec<String> {
        self.events.send(Event::Stop).unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The thread may be gone already, when the test failed in it.
            let _ = self.events.send(Event::Stop);
            let _ = thread.join();
        }
    }
}

fn exec(args: &[&str]) -> Exec {
    Exec { process: Some(json!({ "args": args })), ..Exec::default() }
}

/// What a raw message is answered with.
fn answer(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Reply {
    socket::send_with_fds(socket, bytes, fds).unwrap();
    protocol::recv(socket).unwrap().unwrap().0
}

#[test]
fn simple_requests() {
    let monitor = Monitor::start();
    let mut client = monitor.client();
    let seq = client.send(Op::Hello, &[]).unwrap();
    let (Answer::Hello { program, status }, _) = client.reply(seq).unwrap() else { panic!() };
    assert!(program.starts_with("wharf-monitor "));
    assert_eq!((status.id.as_str(), status.pid), ("c1", 11));
    assert_eq!(client.state().unwrap(), status);
    client.act(Op::Resize { rows: 24, columns: 80 }, &[]).unwrap();
    let error = client.act(Op::Resize { rows: 0, columns: 80 }, &[]).unwrap_err();
    assert_eq!(error.to_string(), "no terminal");
    client.act(Op::ReopenLog, &[]).unwrap();
    assert_eq!(monitor.stop(), ["resize None 24 80", "resize None 0 80", "reopen"]);
}

#[test]
fn attach_passes_a_socket() {
    let monitor = Monitor::start();
    let mut client = monitor.client();
    let (ours, theirs) = socket::pair(socket::Kind::SeqPacket, Blocking::Yes).unwrap();
    client.act(Op::Attach, &[(FdRole::Attach, theirs.as_fd())]).unwrap();
    let mut buffer = [0; 20];
    assert_eq!(socket::recv_with_fds(&ours, &mut buffer, 0).unwrap().len, 8);
    let error = client.act(Op::Attach, &[]).unwrap_err();
    assert_eq!(error.to_string(), "attach needs a descriptor");
}

#[test]
fn waiting_for_the_end() {
    let monitor = Monitor::start();
    let mut early = monitor.client();
    let seq = early.send(Op::Wait, &[]).unwrap();
    // Another request on the same connection is answered meanwhile.
    early.state().unwrap();
    let mut other = monitor.client();
    let seq_now = other.send(Op::ExitRecord, &[]).unwrap();
    assert_eq!(other.reply(seq_now).unwrap().0, Answer::Exit { record: None });
    monitor.events.send(Event::Exited).unwrap();
    assert_eq!(early.reply(seq).unwrap().0, Answer::Exit { record: Some(record()) });
    assert_eq!(monitor.client().wait().unwrap(), record());
}

#[test]
fn execs() {
    let monitor = Monitor::start();
    let mut client = monitor.client();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let quick = Exec { timeout_ms: Some(7), ..exec(&["quick"]) };
    let started = client.exec(quick, &[(FdRole::Stdout, writer.as_fd())]).unwrap().unwrap();
    drop(writer);
    assert_eq!((started.exec, started.pid), (ExecKey(1), 42));
    assert!(started.terminal.is_none());
    assert_eq!(client.exec_end(&started).unwrap(), result(Exit::Code(7)));
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    assert_eq!(output, "output");

    let missing = client.exec(exec(&["missing"]), &[]).unwrap().unwrap_err();
    assert_eq!((missing.exit, missing.message.as_str()), (Exit::StartError, "no such file"));
    assert_eq!(client.exec(exec(&["refuse"]), &[]).unwrap_err().to_string(), "the container has ended");

    let terminal = Exec { process: Some(json!({"args": ["x"], "terminal": true})), ..Exec::default() };
    let started = client.exec(terminal, &[]).unwrap().unwrap();
    assert!(started.terminal.is_some());
    client.act(Op::ExecResize { exec: started.exec, rows: 1, columns: 2 }, &[]).unwrap();
    client.act(Op::ExecSignal { exec: started.exec, signal: 15 }, &[]).unwrap();
    let mut other = monitor.client();
    let wait = other.send(Op::ExecWait { exec: started.exec }, &[]).unwrap();
    other.act(Op::ExecCancel { exec: started.exec }, &[]).unwrap();
    let ended = Answer::Ended { exec: started.exec, result: result(Exit::Signal(9)) };
    assert_eq!(other.reply(wait).unwrap().0, ended);
    assert_eq!(client.exec_end(&started).unwrap(), result(Exit::Signal(9)));
    // The end is remembered, but there is nothing left to cancel.
    let late = other.send(Op::ExecWait { exec: started.exec }, &[]).unwrap();
    assert_eq!(other.reply(late).unwrap().0, ended);
    let error = other.act(Op::ExecCancel { exec: started.exec }, &[]).unwrap_err();
    assert_eq!(error.to_string(), format!("no exec {} runs", started.exec.0));
    let key = started.exec;
    assert_eq!(monitor.stop(), [format!("resize {:?} 1 2", Some(key)), format!("signal {key:?} 15")]);
}

#[test]
fn a_large_process_comes_by_descriptor() {
    let monitor = Monitor::start();
    let mut client = monitor.client();
    let text = json!({"args": ["quick", "x".repeat(MESSAGE_BYTES)]}).to_string();
    let inline = Exec { process: Some(serde_json::from_str(&text).unwrap()), ..Exec::default() };
    assert!(client.exec(inline, &[]).unwrap_err().to_string().contains("too many"));
    let memfd = rustix::fs::memfd_create("process", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    std::fs::File::from(memfd.try_clone().unwrap()).write_all(text.as_bytes()).unwrap();
    let by_fd = [(FdRole::Process, memfd.as_fd())];
    let started = client.exec(Exec::default(), &by_fd).unwrap().unwrap();
    assert_eq!(client.exec_end(&started).unwrap().exit, Exit::Code(0));
    // A pipe could make the monitor wait.
    let (reader, _writer) = std::io::pipe().unwrap();
    let error = client.exec(Exec::default(), &[(FdRole::Process, reader.as_fd())]).unwrap_err();
    assert!(error.to_string().contains("regular file"), "{error}");
    assert_eq!(client.exec(Exec::default(), &[]).unwrap_err().to_string(), "exec needs a process");
}

#[test]
fn an_exec_outlives_its_client_unless_told_otherwise() {
    let monitor = Monitor::start();
    let mut watcher = monitor.client();
    for kill_on_close in [false, true] {
        let mut client = monitor.client();
        let started = client.exec(Exec { kill_on_close, ..exec(&["long"]) }, &[]).unwrap().unwrap();
        let wait = watcher.send(Op::ExecWait { exec: started.exec }, &[]).unwrap();
        drop(client);
        if !kill_on_close {
            // Whatever the closing does is done before this is answered.
            monitor.client().state().unwrap();
            assert_eq!(watcher.state().unwrap().execs, 1);
            watcher.act(Op::ExecCancel { exec: started.exec }, &[]).unwrap();
        }
        let ended = Answer::Ended { exec: started.exec, result: result(Exit::Signal(9)) };
        assert_eq!(watcher.reply(wait).unwrap().0, ended);
    }
}

#[test]
fn strange_messages_are_answered_and_leak_nothing() {
    let monitor = Monitor::start();
    let socket = monitor.raw();
    let hello = br#"{"version":1,"seq":3,"op":"hello"}"#;
    assert!(answer(&socket, hello, &[]).ok.is_some());
    let open = || sys::proc::open_fds().unwrap().len();
    let null = std::fs::File::open("/dev/null").unwrap();
    let before = open();
    let many = vec![null.as_fd(); 250];
    let cases: [(&[u8], &[BorrowedFd<'_>], u64, FailureKind); 9] = [
        (b"{", &[], 0, FailureKind::BadRequest),
        (b"\0\xff", &[], 0, FailureKind::BadRequest),
        (&hello[..20], &[], 0, FailureKind::BadRequest),
        (br#"{"version":2,"seq":4,"op":"hello"}"#, &[], 4, FailureKind::Version),
        (br#"{"version":1,"seq":5,"op":"nothing"}"#, &[], 5, FailureKind::BadRequest),
        (br#"{"version":1,"seq":6,"op":"attach","fds":["attach"]}"#, &[], 6, FailureKind::BadRequest),
        (hello, &many[..2], 3, FailureKind::BadRequest),
        (hello, &many, 0, FailureKind::BadRequest),
        (
            br#"{"version":1,"seq":7,"fds":["stdin","stdin"],"op":"hello"}"#,
            &many[..2],
            7,
            FailureKind::BadRequest,
        ),
    ];
    for (bytes, fds, seq, kind) in cases {
        let reply = answer(&socket, bytes, fds);
        let text = String::from_utf8_lossy(bytes).into_owned();
        assert_eq!((reply.seq, reply.error.unwrap().kind), (seq, kind), "{text}");
    }
    let oversized = [hello.as_slice(), &vec![b' '; MESSAGE_BYTES]].concat();
    assert_eq!(answer(&socket, &oversized, &[]).error.unwrap().kind, FailureKind::BadRequest);
    assert!(answer(&socket, hello, &[]).ok.is_some(), "the connection goes on");
    drop(many);
    assert!(open() <= before, "descriptors leak");
}

#[test]
fn another_user_is_turned_away() {
    let monitor = Monitor::start();
    drop(monitor.client());
    let path = monitor.path();
    let mode = |path: &PathBuf, mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&path, 0o666);
    let other = std::thread::spawn(move || {
        let user = rustix::process::Uid::from_raw(12_345);
        // Of this thread alone.
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        let socket = socket::connect(&path, socket::Kind::SeqPacket, Blocking::Yes).unwrap();
        // It may be closed before or after this.
        let _ = socket::send_with_fds(&socket, br#"{"version":1,"op":"hello"}"#, &[]);
        !matches!(protocol::recv(&socket), Ok(Some(_)))
    });
    assert!(other.join().unwrap());
    monitor.client().state().unwrap();
}

#[test]
fn a_client_that_takes_no_replies_is_dropped_alone() {
    let monitor = Monitor::start();
    let greedy = monitor.raw();
    rustix::io::ioctl_fionbio(&greedy, true).unwrap();
    let request = br#"{"version":1,"op":"hello"}"#;
    let mut sent = 0;
    // Until the monitor stops listening to it for good: its own queue is full, and stays so.
    let mut full = 0;
    while full < 50 {
        match socket::send_with_fds(&greedy, request, &[]) {
            Ok(_) => (sent, full) = (sent + 1, 0),
            Err(_) => {
                full += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    assert!(sent > 10);
    monitor.client().state().unwrap();
    // What was answered is all there when it reads at last.
    rustix::io::ioctl_fionbio(&greedy, false).unwrap();
    for _ in 0..sent {
        assert!(protocol::recv(&greedy).unwrap().is_some());
    }
}

#[test]
fn many_clients_come_and_go() {
    let monitor = Monitor::start();
    for _ in 0..3 {
        let mut clients: Vec<Client> = (0..100).map(|_| monitor.client()).collect();
        for client in &mut clients {
            client.state().unwrap();
        }
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while sys::proc::open_fds().unwrap().len() > 50 {
        assert!(Instant::now() < deadline, "the monitor keeps clients that are gone");
        std::thread::sleep(Duration::from_millis(5));
    }
}
