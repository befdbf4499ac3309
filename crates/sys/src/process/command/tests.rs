use std::io::Read as _;

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;
use crate::durable::tests::TempDir;

/// Runs a shell script with its output in a pipe.
fn output(script: &str, with: impl FnOnce(&mut Command<'_>)) -> (String, Reaped) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).env("PATH", "/usr/bin:/bin");
    let child = {
        // The command keeps borrows of descriptors: a short life lets the writer be dropped.
        let mut command = command;
        let writer_fd = unsafe_borrow(&writer);
        command.fd(writer_fd, 1);
        with(&mut command);
        command.spawn().unwrap()
    };
    drop(writer);
    let mut text = String::new();
    std::fs::File::from(reader).read_to_string(&mut text).unwrap();
    (text, child.wait().unwrap())
}

/// The borrow outlives the block above only in the type.
fn unsafe_borrow(fd: &OwnedFd) -> BorrowedFd<'static> {
    #[expect(unsafe_code, reason = "the tests' closures need one lifetime")]
    // SAFETY: the descriptor is open until the command is dropped.
    unsafe {
        BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(fd))
    }
}

#[test]
fn passes_what_is_stated_and_nothing_else() {
    // Inherited without close-on-exec: must not get through.
    let leak = std::fs::File::open("/dev/zero").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let (text, reaped) = output(
        "env | grep -v -e ^PWD -e ^SHLVL -e ^_= -e ^OLDPWD; ls -l /proc/self/fd | grep -v /proc/ | sed -n 's/.*[0-9] \\([0-9]* ->\\)/\\1/p'; pwd",
        |command| {
            command.env("A", "1").env("A", "2 3").cwd("/tmp");
        },
    );
    assert!(reaped.status.success(), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.contains(&"A=2 3") && lines.contains(&"PATH=/usr/bin:/bin"), "{text}");
    assert!(lines.contains(&"0 -> /dev/null") && lines.contains(&"2 -> /dev/null"), "{text}");
    assert!(!text.contains("/dev/zero"), "{text}");
    assert_eq!(lines.last(), Some(&"/tmp"), "{text}");
    assert_eq!(lines.len(), 6, "{text}");
}

#[test]
fn descriptors_may_swap_numbers() {
    let dir = TempDir::new("swap");
    let open = |name: &str| std::fs::File::create(dir.0.join(name)).unwrap();
    let (a, b, c) = (open("a"), open("b"), open("c"));
    // Targets that are the others' sources, in a circle.
    let number = std::os::fd::AsRawFd::as_raw_fd;
    let child = Command::new("sh")
        .args(["-c", &format!("echo a >&{}; echo b >&{}; echo c >&{}", number(&b), number(&c), number(&a))])
        .fd(a.as_fd(), number(&b))
        .fd(b.as_fd(), number(&c))
        .fd(c.as_fd(), number(&a))
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().status.success());
    for name in ["a", "b", "c"] {
        assert_eq!(std::fs::read_to_string(dir.0.join(name)).unwrap(), format!("{name}\n"));
    }
}

#[test]
fn errors_name_the_step() {
    let error = Command::new("/nonexistent/program").spawn().unwrap_err();
    assert_eq!(error.to_string(), "exec /nonexistent/program: no such file or directory");
    let error = Command::new("/bin/true").cwd("/nonexistent").spawn().unwrap_err();
    assert_eq!((error.op, error.is_gone()), ("enter directory for", true));
    assert!(Command::new("no-such-program-anywhere").spawn().unwrap_err().is_gone());
    Command::new("/bin/true").arg("a\0b").spawn().unwrap_err();
    let error = Command::new("/bin/true").session(Session::NewWithTerminal(0)).spawn().unwrap_err();
    assert_eq!(error.op, "set terminal for");
    // All reaped.
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(
        crate::proc::children(own)
            .unwrap()
            .iter()
            .all(|pid| { crate::proc::stat(*pid).is_ok_and(|stat| stat.state != 'Z') })
    );
}

#[test]
fn signals_are_reset() {
    crate::process::signal::ignore(libc::SIGUSR2).unwrap();
    crate::process::signal::block(&[libc::SIGUSR1, libc::SIGTERM]).unwrap();
    let (text, _) = output("grep -e SigIgn -e SigBlk /proc/self/status", |_| {});
    assert_eq!(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[test]
fn sessions() {
    // $$ is the shell; fields 5 and 6 of stat are the group and the session.
    let script =
        "set -- $(cat /proc/$$/stat); [ $5 = $$ ] && echo leader; [ $6 = $$ ] && echo session; umask";
    let run = |session| {
        output(script, |command| {
            command.session(session).umask(0o27);
        })
        .0
    };
    assert_eq!(run(Session::Inherit), "0027\n");
    assert_eq!(run(Session::NewGroup), "leader\n0027\n");
    assert_eq!(run(Session::New), "leader\nsession\n0027\n");
}

#[test]
fn holds_until_it_is_let_go() {
    let dir = TempDir::new("hold");
    let mut command = Command::new("touch");
    command.arg(dir.0.join("ran"));
    let stopped = command.spawn_stopped().unwrap();
    assert!(crate::proc::stat(stopped.pid()).unwrap().state != 'Z');
    assert!(!dir.0.join("ran").exists());
    let child = stopped.release().unwrap();
    assert!(child.wait_within(Duration::from_secs(30)).unwrap().unwrap().status.success());
    assert!(dir.0.join("ran").exists());
    let stopped = command.arg(dir.0.join("again")).spawn_stopped().unwrap();
    let pid = stopped.pid();
    drop(stopped);
    assert!(crate::proc::stat(pid).is_err_and(|error| error.is_gone()));
    assert!(!dir.0.join("again").exists());
    let stopped = Command::new("/nonexistent").spawn_stopped().unwrap();
    assert_eq!(stopped.release().unwrap_err().op, "exec");
}

#[test]
fn runs_from_a_descriptor() {
    let program = rustix::fs::open("/bin/sh", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let child = Command::from_fd(program.as_fd(), "name").args(["-c", "exit 5"]).spawn().unwrap();
    let reaped = child.wait().unwrap();
    assert_eq!(reaped.status.code(), Some(5));
    assert!(reaped.usage.max_rss_kib > 0);
    assert_eq!(child.wait().unwrap_err().errno(), Some(libc::ECHILD));
}

#[test]
fn dies_with_the_thread_that_made_it() {
    let child =
        std::thread::spawn(|| Command::new("sleep").arg("1000").death_signal(libc::SIGKILL).spawn().unwrap());
    let child = child.join().unwrap();
    let reaped = child.wait_within(Duration::from_secs(30)).unwrap().unwrap();
    assert_eq!(reaped.status.signal(), Some(libc::SIGKILL));
}
