//! Seccomp's notify: a supervisor outside answers a system call of the container; with runc and crun as the measure.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags, notify_id_valid};
use serde_json::{Value, json};
use testkit::{Bundle, Scratch};

/// The descriptor that a runtime sends to `listener`, and what it tells with it.
fn descriptor(listener: &UnixListener) -> (OwnedFd, Value) {
    let (connection, _) = listener.accept().unwrap();
    let mut buffer = [0; 16384];
    let mut received = sys::socket::recv_with_fds(&connection, &mut buffer, 1).unwrap();
    // crun ends its message with a NUL.
    let text = String::from_utf8_lossy(&buffer[..received.len]);
    (received.fds.pop().unwrap(), serde_json::from_str(text.trim_end_matches('\0')).unwrap())
}

/// Runs `shell` with mkdir(2) answered by `answer`; gives what the container printed and what the supervisor was told.
fn supervised(program: &Path, shell: &str, answer: fn(u64) -> ScmpNotifResp) -> (String, Value) {
    let scratch = Scratch::new("notify");
    let socket = scratch.join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let bundle = Bundle::shell("notify", shell).edit(|spec| {
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "listenerPath": socket, "listenerMetadata": "of the harbour",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    let supervisor = std::thread::spawn(move || {
        let (fd, told) = descriptor(&listener);
        let request = ScmpNotifReq::receive(fd.as_raw_fd()).unwrap();
        notify_id_valid(fd.as_raw_fd(), request.id).unwrap();
        answer(request.id).respond(fd.as_raw_fd()).unwrap();
        told
    });
    let output = Command::new(program)
        .arg("--root")
        .arg(scratch.join("root"))
        .args(["run", "--bundle", &bundle.path().to_string_lossy(), bundle.id()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {output:?}", program.display());
    let told = supervisor.join().unwrap();
    assert_eq!(told["state"]["id"], bundle.id());
    (String::from_utf8_lossy(&output.stdout).into_owned(), told)
}

fn with_all(shell: &str, answer: fn(u64) -> ScmpNotifResp, expected: &str) {
    for name in ["wharf-oci", "runc", "crun"] {
        let program = match name {
            "wharf-oci" => env!("CARGO_BIN_EXE_wharf-oci").into(),
            other => testkit::Runtime::named(other).path,
        };
        let (out, told) = supervised(&program, shell, answer);
        assert_eq!(out.trim_end(), expected, "{name}");
        assert_eq!(told["fds"], json!(["seccompFd"]), "{name}");
        assert_eq!(told["metadata"], "of the harbour", "{name}");
        assert!(told["pid"].as_i64().is_some_and(|pid| pid > 1), "{name}: {told}");
    }
}

#[test]
fn a_supervisor_refuses_a_call() {
    let refuse = |id| ScmpNotifResp::new_error(id, -libc::EDQUOT, ScmpNotifRespFlags::empty());
    with_all("mkdir /tmp/x 2>/dev/null || echo refused; ls /tmp", refuse, "refused");
}

#[test]
fn a_supervisor_says_done_and_does_nothing() {
    let pretend = |id| ScmpNotifResp::new_val(id, 0, ScmpNotifRespFlags::empty());
    with_all("mkdir /tmp/x && echo made; ls /tmp", pretend, "made");
}

#[test]
fn a_supervisor_lets_a_call_go_on() {
    let go_on = |id| ScmpNotifResp::new_continue(id, ScmpNotifRespFlags::empty());
    with_all("mkdir /tmp/x && ls /tmp", go_on, "x");
}
