//! The real program beside a real container: how podman and CRI-O call it.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use serde_json::Value;
use testkit::{Bundle, Scratch, wait_for, wait_until};

pub(crate) const MONITOR: &str = env!("CARGO_BIN_EXE_wharf-monitor");

/// A container's bundle and the directories that its monitor writes to. The runtime is `WHARF_TEST_RUNTIME`, else runc.
pub(crate) struct Stand {
    pub(crate) bundle: Bundle,
    pub(crate) dir: Scratch,
    pub(crate) runtime: PathBuf,
    /// What starts, kills and deletes.
    tool: PathBuf,
}

impl Stand {
    pub(crate) fn new(bundle: Bundle) -> Self {
        let dir = Scratch::new("stand");
        for name in ["exits", "persist", "sockets"] {
            dir.dir(name);
        }
        let tool = testkit::runtime_under_test().path;
        Self { bundle: bundle.in_cgroup(), dir, runtime: tool.clone(), tool }
    }

    pub(crate) fn shell(line: &str) -> Self {
        Self::new(Bundle::shell("mon", line))
    }

    /// With this runtime, whichever the run of the suite is for.
    pub(crate) fn with_runtime(mut self, runtime: PathBuf) -> Self {
        self.runtime.clone_from(&runtime);
        self.tool = runtime;
        self
    }

    /// With a runtime that is a few lines of shell: `$PIDFILE` is where it writes the pid, `$DIR` is the stand's,
    /// `beget LINES` makes the container's process. That is an orphan at once, as the shell would reap a child of its own.
    pub(crate) fn fake(lines: &str) -> Self {
        let mut stand = Self::new(Bundle::new("fake", &["true"]));
        stand.set_fake(lines);
        stand
    }

    pub(crate) fn set_fake(&mut self, lines: &str) {
        let text = format!(
            "#!/bin/sh\nDIR={}\nfor a in \"$@\"; do [ \"$last\" = --pid-file ] && PIDFILE=$a; [ \"$last\" = \
             --console-socket ] && CONSOLE=$a; last=$a; done\nexport PIDFILE DIR\nbeget() {{ (sh -c 'echo $$ >$PIDFILE.new; mv \
             $PIDFILE.new $PIDFILE; '\"$1\" & ); while [ ! -s $PIDFILE ]; do sleep 0.02; done; }}\n{lines}\n",
            self.dir.path().display()
        );
        self.runtime = testkit::script(&self.dir, "runtime", &text);
    }

    pub(crate) fn id(&self) -> &str {
        self.bundle.id()
    }

    /// podman's call for a new container.
    pub(crate) fn podman(&self) -> Call<'_> {
        self.call(Kind::Seqpacket).args(["--api-version", "1"]).args(self.head()).args(["--full-attach"])
    }

    /// CRI-O's.
    pub(crate) fn crio(&self) -> Call<'_> {
        let sockets = self.dir.join("sockets");
        self.call(Kind::Pipe).args(self.head()).arg("--socket-dir-path").arg(&sockets)
    }

    fn head(&self) -> Vec<OsString> {
        let id = self.id();
        let at = |name: &str| self.dir.join(name).into_os_string();
        let mut log = OsString::from("k8s-file:");
        log.push(self.log());
        vec![
            "-c".into(),
            id.into(),
            "-u".into(),
            id.into(),
            "-n".into(),
            "name".into(),
            "-r".into(),
            self.runtime.clone().into(),
            "-b".into(),
            self.bundle.path().into(),
            "-p".into(),
            at("pidfile"),
            "--conmon-pidfile".into(),
            at("conmon.pid"),
            "--exit-dir".into(),
            at("exits"),
            "--persist-dir".into(),
            at("persist"),
            "-l".into(),
            log,
        ]
    }

    /// podman's call for an exec of `args`, with a bundle of its own.
    pub(crate) fn podman_exec(&self, args: &[&str]) -> Call<'_> {
        let bundle = self.dir.dir("session");
        let at = |name: &str| self.dir.join(name).into_os_string();
        self.call(Kind::Seqpacket)
            .args([
                "--api-version",
                "1",
                "-c",
                self.id(),
                "-u",
                "session",
                "-e",
                "-l",
                "none",
                "--full-attach",
            ])
            .arg("-r")
            .arg(&self.runtime)
            .arg("-b")
            .arg(&bundle)
            .args([OsString::from("-p"), at("exec.pid"), "--exit-dir".into(), bundle.into_os_string()])
            .args([OsString::from("--exec-process-spec"), self.process(args, false)])
    }

    /// CRI-O's ExecSync.
    pub(crate) fn crio_exec(&self, args: &[&str]) -> Call<'_> {
        let at = |name: &str| self.dir.join(name).into_os_string();
        std::fs::write(self.dir.join("exec.pid"), "").unwrap();
        self.call(Kind::Pipe)
            .args(["-c", self.id(), "-n", self.id(), "-e", "--sync", "--log-level", "info"])
            .arg("-r")
            .arg(&self.runtime)
            .args([OsString::from("-p"), at("exec.pid"), "-l".into(), at("exec.log")])
            .arg("--socket-dir-path")
            .arg(self.dir.join("sockets"))
            .args(["--log-global-size-max", "16777216"])
            .args([OsString::from("--exec-process-spec"), self.process(args, false)])
    }

    /// The file with an OCI process that runs `args`.
    pub(crate) fn process(&self, args: &[&str], terminal: bool) -> OsString {
        let path = self.dir.join("process.json");
        std::fs::write(&path, self.process_json(args, terminal).to_string()).unwrap();
        path.into_os_string()
    }

    pub(crate) fn process_json(&self, args: &[&str], terminal: bool) -> Value {
        let mut process = self.bundle.spec()["process"].clone();
        process["args"] = args.into();
        process["terminal"] = terminal.into();
        process
    }

    fn call(&self, kind: Kind) -> Call<'_> {
        Call {
            stand: self,
            kind,
            args: Vec::new(),
            env: Vec::new(),
            pass: Vec::new(),
            stdout: None,
            start: false,
            attach: false,
            sync: true,
            number: None,
        }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The log's lines without their stamps: `stdout F text`.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines = text.split_terminator('\n');
        lines.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    fn tool(&self, args: &[&str]) -> Output {
        std::process::Command::new(&self.tool).args(args).output().unwrap()
    }

    /// The runtime's `start`.
    pub(crate) fn start(&self) {
        let output = self.tool(&["start", self.id()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn kill(&self, signal: &str) {
        let output = self.tool(&["kill", self.id(), signal]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// What stands in `EXITDIR/CID`, once it is there.
    pub(crate) fn exit_file(&self) -> String {
        let path = self.dir.join("exits").join(self.id());
        wait_for("the exit file", || std::fs::read_to_string(&path).ok())
    }

    pub(crate) fn has_exit_file(&self) -> bool {
        self.dir.join("exits").join(self.id()).exists()
    }

    /// The monitor's pid.
    pub(crate) fn monitor_pid(&self) -> i32 {
        std::fs::read_to_string(self.dir.join("conmon.pid")).unwrap().parse().unwrap()
    }

    /// Waits until the monitor of this pid is gone.
    pub(crate) fn wait_gone(&self, pid: i32) {
        wait_until("the monitor's end", || !is_there(pid));
    }

    /// Runs the container from a create of podman's to its end.
    pub(crate) fn run(&self, call: Call<'_>) -> String {
        let monitor = call.spawn();
        assert_eq!(monitor.first(), 0, "{}", monitor.stderr());
        monitor.pid_message("data");
        let pid = self.monitor_pid();
        self.start();
        let exit = self.exit_file();
        self.wait_gone(pid);
        exit
    }
}

/// Whether process `pid` is there and no zombie.
pub(crate) fn is_there(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.tool(&["delete", "--force", self.id()]);
        let monitor = std::fs::read_to_string(self.dir.join("conmon.pid")).ok();
        if let Some(pid) = monitor.and_then(|pid| pid.parse().ok()).and_then(rustix::process::Pid::from_raw)
            && std::thread::panicking()
            && is_monitor(pid.as_raw_nonzero().get())
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn is_monitor(pid: i32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(MONITOR))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// podman's sync pipe.
    Seqpacket,
    /// CRI-O's.
    Pipe,
}

/// One call of the monitor, yet to be made.
pub(crate) struct Call<'a> {
    pub(crate) stand: &'a Stand,
    kind: Kind,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    pass: Vec<(OwnedFd, i32)>,
    stdout: Option<OwnedFd>,
    start: bool,
    attach: bool,
    sync: bool,
    number: Option<String>,
}

const SYNC: i32 = 20;
const START: i32 = 21;
const ATTACH: i32 = 22;

impl Call<'_> {
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Leaves out an option, and its value.
    pub(crate) fn without(mut self, option: &str, values: usize) -> Self {
        let at = self.args.iter().position(|arg| arg == option).unwrap();
        self.args.drain(at..=at + values);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Passes a descriptor under this number.
    pub(crate) fn pass(mut self, fd: OwnedFd, number: i32) -> Self {
        self.pass.push((fd, number));
        self
    }

    pub(crate) fn stdout(mut self, fd: OwnedFd) -> Self {
        self.stdout = Some(fd);
        self
    }

    pub(crate) fn start_pipe(mut self) -> Self {
        self.start = true;
        self
    }

    pub(crate) fn attach_pipe(mut self) -> Self {
        self.attach = true;
        self
    }

    /// No sync pipe, but this in its variable.
    pub(crate) fn sync_variable(mut self, value: Option<&str>) -> Self {
        self.sync = false;
        self.number = value.map(str::to_owned);
        self
    }

    /// Makes the call.
    pub(crate) fn spawn(self) -> Monitor {
        let (ours, theirs) = match self.kind {
            Kind::Seqpacket => pair(rustix::net::SocketType::SEQPACKET),
            Kind::Pipe => rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap(),
        };
        let (stderr, stderr_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let start = self.start.then(|| pair(rustix::net::SocketType::SEQPACKET));
        let attach = self.attach.then(|| pair(rustix::net::SocketType::SEQPACKET));
        let mut command = sys::process::Command::new(MONITOR);
        command.args(&self.args).inherit_env().cwd(self.stand.dir.path()).fd(stderr_end.as_fd(), 2);
        if let Some(stdout) = &self.stdout {
            command.fd(stdout.as_fd(), 1);
        }
        if self.sync {
            command.fd(theirs.as_fd(), SYNC).env("_OCI_SYNCPIPE", SYNC.to_string());
        } else if let Some(value) = &self.number {
            command.env("_OCI_SYNCPIPE", value);
        }
        for (pair, number, name) in [(&start, START, "_OCI_STARTPIPE"), (&attach, ATTACH, "_OCI_ATTACHPIPE")]
        {
            if let Some((_, theirs)) = pair {
                command.fd(theirs.as_fd(), number).env(name, number.to_string());
            }
        }
        for (fd, number) in &self.pass {
            command.fd(fd.as_fd(), *number);
        }
        for (name, value) in &self.env {
            command.env(name, value);
        }
        let child = command.spawn().unwrap();
        Monitor {
            child,
            sync: ours,
            kind: self.kind,
            held: Vec::new().into(),
            start: start.map(|(ours, _)| ours),
            attach: attach.map(|(ours, _)| ours),
            stderr,
        }
    }

    /// A call that fails at once: status and stderr.
    pub(crate) fn refused(self) -> (i32, String) {
        let monitor = self.spawn();
        let status = monitor.first();
        assert_eq!(monitor.message(), None, "nothing is sent");
        (status, monitor.stderr())
    }
}

pub(crate) fn pair(kind: rustix::net::SocketType) -> (OwnedFd, OwnedFd) {
    let flags = rustix::net::SocketFlags::CLOEXEC;
    rustix::net::socketpair(rustix::net::AddressFamily::UNIX, kind, flags, None).unwrap()
}

/// A call that was made.
pub(crate) struct Monitor {
    child: sys::process::Child,
    sync: OwnedFd,
    kind: Kind,
    held: std::cell::RefCell<Vec<u8>>,
    pub(crate) start: Option<OwnedFd>,
    pub(crate) attach: Option<OwnedFd>,
    stderr: OwnedFd,
}

/// Waits until `fd` is readable or at its end.
pub(crate) fn wait_readable(fd: &OwnedFd, what: &str) {
    assert!(is_readable(fd, testkit::deadline()), "waited in vain for {what}");
}

pub(crate) fn is_readable(fd: &OwnedFd, patience: Duration) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let patience = rustix::event::Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap(),
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    rustix::event::poll(&mut fds, Some(&patience)).unwrap() > 0
}

impl Monitor {
    /// The exit status of the process that was called (128 + N for a signal).
    pub(crate) fn first(&self) -> i32 {
        let reaped = self.child.wait_within(testkit::deadline()).unwrap().expect("the first process ends");
        i32::from(reaped.status.exit().code())
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// The next message on the sync pipe as podman reads it; `None` at the end.
    pub(crate) fn message(&self) -> Option<Value> {
        let mut held = self.held.borrow_mut();
        loop {
            if let Some(end) = held.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = held.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            wait_readable(&self.sync, "a sync message");
            let mut buffer = [0u8; 4096];
            let len = match rustix::io::read(&self.sync, &mut buffer) {
                Ok(len) => len,
                Err(rustix::io::Errno::CONNRESET) => 0,
                Err(error) => panic!("read sync pipe: {error}"),
            };
            if len == 0 {
                assert!(held.is_empty(), "half a message: {held:?}");
                return None;
            }
            // On podman's socket each message is whole.
            assert!(self.kind == Kind::Pipe || buffer[len - 1] == b'\n', "cut: {:?}", &buffer[..len]);
            held.extend_from_slice(&buffer[..len]);
        }
    }

    /// The message that tells the process's pid under `key`.
    pub(crate) fn pid_message(&self, key: &str) -> i32 {
        let message = self.message().expect("a message");
        let pid = message[key].as_i64().unwrap_or_else(|| panic!("{message}"));
        assert!(pid > 0, "{message}");
        i32::try_from(pid).unwrap()
    }

    pub(crate) fn no_message_yet(&self) -> bool {
        self.held.borrow().is_empty() && !is_readable(&self.sync, Duration::from_millis(200))
    }

    /// Lets it go on: one byte into the start pipe.
    pub(crate) fn go(&self) {
        rustix::io::write(self.start.as_ref().unwrap(), b"1").unwrap();
    }

    pub(crate) fn stderr(&self) -> String {
        let mut text = String::new();
        File::from(self.stderr.try_clone().unwrap()).read_to_string(&mut text).unwrap();
        text
    }
}
