//! Descriptors that come in for the program, and pidfds that go out.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;

use testkit::Bundle;

use crate::kit::{Oci, Outcome};

/// Runs wharf-oci with `args` by a shell that has run `before`; `$1` is the bundle's directory.
fn after(before: &str, oci: &Oci, bundle: &Bundle, args: &[&str]) -> Outcome {
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("cd \"$1\"; {before}; shift; exec \"$@\""), "sh"])
        .arg(bundle.path())
        .args([env!("CARGO_BIN_EXE_wharf-oci"), "--root"])
        .arg(oci.root())
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn sockets_of_the_service_manager_come_first_and_those_of_the_option_after_them() {
    let line = "for n in 3 4 5; do cat <&$n; done 2>/dev/null; echo ${LISTEN_FDS-none} ${LISTEN_PID-none}";
    let bundle = Bundle::shell("fds", line).edit(|spec| {
        // What the image says of them is not what came.
        spec["process"]["env"].as_array_mut().unwrap().push("LISTEN_FDS=7".into());
    });
    for name in ["a", "b", "c"] {
        fs::write(bundle.path().join(name), format!("{name}\n")).unwrap();
    }
    let oci = Oci::new();
    let run = |before: &str, options: &[&str]| {
        let args = [&["run", "--bundle", "."], options, &[bundle.id()]].concat();
        after(&format!("exec 3<a 4<b 5<c; {before}"), &oci, &bundle, &args)
    };
    let handed = "export LISTEN_FDS=2 LISTEN_PID=$$";
    assert_eq!(run(handed, &[]).ok().out, "a\nb\n2 1\n");
    assert_eq!(run(handed, &["--preserve-fds", "1"]).ok().out, "a\nb\nc\n2 1\n");
    assert_eq!(run("true", &["--preserve-fds=2"]).ok().out, "a\nb\n7 none\n");
    // Those of another process (sd_listen_fds(3)).
    assert_eq!(run("export LISTEN_FDS=2 LISTEN_PID=1", &[]).ok().out, "7 none\n");
    assert_eq!(run("export LISTEN_FDS=2", &[]).ok().out, "7 none\n");
}

#[test]
fn a_descriptor_that_is_not_there_is_an_error() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("nofd"));
    fs::write(bundle.path().join("a"), "").unwrap();
    let words = "hand on descriptor 4: no such file or directory";
    let before = "exec 3<a 4<&- 5<a";
    after(before, &oci, &bundle, &["run", "--preserve-fds", "3", bundle.id()]).fails(words);
    let listening = format!("{before}; export LISTEN_FDS=1 LISTEN_PID=$$");
    after(&listening, &oci, &bundle, &["create", "--preserve-fds", "1", bundle.id()]).fails(words);
    assert!(!oci.root().join(bundle.id()).exists());
    let _container = oci.start(&bundle);
    let exec = after(before, &oci, &bundle, &["exec", "--preserve-fds", "2", bundle.id(), "true"]);
    assert_eq!(exec.fails(words).code, 255);
    after(before, &oci, &bundle, &["exec", "--preserve-fds", "1", bundle.id(), "true"]).ok();
}

/// The word and the process of the pidfd that comes next.
fn received(listener: &UnixListener) -> (String, String) {
    let (stream, _) = listener.accept().unwrap();
    let mut word = [0u8; 64];
    let message = sys::socket::recv_with_fds(&stream, &mut word, 1).unwrap();
    let info = format!("/proc/self/fdinfo/{}", message.fds[0].as_raw_fd());
    let text = fs::read_to_string(info).unwrap();
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim().to_owned();
    (String::from_utf8_lossy(&word[..message.len]).into_owned(), pid)
}

#[test]
fn a_pidfd_socket_gets_the_process() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("pidfd"));
    let path = bundle.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let socket = path.to_string_lossy().into_owned();
    oci.create_with(&bundle, &["--pidfd-socket", &socket]).ok();
    let container = crate::kit::Container { oci: &oci, bundle: &bundle };
    assert_eq!(received(&listener), ("standard".to_owned(), container.pid().to_string()));
    oci.run(&["start", bundle.id()]).ok();
    let file = bundle.path().join("pid");
    let options = ["--detach", "--pid-file", &file.to_string_lossy(), "--pidfd-socket", &socket];
    let mut command = oci.command();
    command.arg("exec").args(options).args([bundle.id(), "sleep", "1000"]);
    assert!(command.stdout(std::process::Stdio::null()).status().unwrap().success());
    assert_eq!(received(&listener), ("setns".to_owned(), fs::read_to_string(&file).unwrap()));
    container.exec(&["--pidfd-socket", "/nonexistent/s"], &["true"]).fails("/nonexistent/s");
}
