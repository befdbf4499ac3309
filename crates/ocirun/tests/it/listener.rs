//! `SCMP_ACT_NOTIFY`, to and fro: a listener of the test's gets the descriptor, and answers the container's calls.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use testkit::{Bundle, wait_until};

use crate::kit::Oci;

/// Takes descriptors at a socket, notes what it is told with them, lets the first mkdir(2) of each fail with ENOSPC, and says
/// of the others that they have succeeded. The requests are those of seccomp_unotify(2).
const LISTENER: &str = r#"
import fcntl, os, socket, struct, sys, threading
RECEIVE, ANSWER = 0xc0502100, 0xc0182101
def serve(connection, number):
    told, fds, _, _ = socket.recv_fds(connection, 65536, 4)
    while True:
        more = connection.recv(65536)
        if not more: break
        told += more
    with open(f"told-{number}.new", "wb") as f: f.write(told + b"\n%d" % len(fds))
    os.rename(f"told-{number}.new", f"told-{number}")
    error = -28
    while True:
        request = bytearray(80)
        try:
            fcntl.ioctl(fds[0], RECEIVE, request, True)
            id, = struct.unpack_from("=Q", request)
            fcntl.ioctl(fds[0], ANSWER, bytearray(struct.pack("=QqiI", id, 0, error, 0)), True)
            error = 0
        except OSError:
            return
listener = socket.socket(socket.AF_UNIX)
listener.bind("notify.sock")
listener.listen(8)
open("listens", "w").close()
for number in range(100):
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection, number), daemon=True).start()
"#;

struct Listener {
    child: Child,
    dir: PathBuf,
}

impl Listener {
    fn start(bundle: &Bundle) -> Self {
        let dir = bundle.path().to_owned();
        let child = Command::new(testkit::require("python3"))
            .args(["-c", LISTENER])
            .current_dir(&dir)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let listener = Self { child, dir };
        wait_until("the listener", || listener.dir.join("listens").exists());
        listener
    }

    /// What it was told with its `n`th descriptor.
    fn told(&self, n: usize) -> Value {
        let path = self.dir.join(format!("told-{n}"));
        wait_until("a descriptor to arrive", || path.exists());
        let text = fs::read_to_string(path).unwrap();
        let (document, count) = text.rsplit_once('\n').unwrap();
        assert_eq!(count, "1", "descriptors");
        serde_json::from_str(document).unwrap()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// With a filter that asks the listener about mkdir(2).
fn asking(what: &str, line: &str) -> Bundle {
    let mut bundle = Bundle::shell(what, line);
    let path = bundle.path().join("notify.sock");
    bundle.change(|spec| {
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "listenerPath": path,
            "listenerMetadata": "berth 7",
            "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    bundle
}

const PROBE: &str = "mkdir /a 2>&1; mkdir /b && test ! -e /b && echo told so";
const SEEN: &str = "mkdir: can't create directory '/a': No space left on device\ntold so\n";

#[test]
fn calls_are_answered_by_the_listener() {
    for privileged in [true, false] {
        let bundle = asking("notify", PROBE)
            .edit(|spec| spec["process"]["noNewPrivileges"] = json!(!privileged))
            .edit(|spec| spec["annotations"] = json!({"org.example.a": "b"}));
        let (oci, listener) = (Oci::new(), Listener::start(&bundle));
        assert_eq!(oci.run_bundle(&bundle).ok().out, SEEN);
        let told = listener.told(0);
        assert_eq!(told["fds"], json!(["seccompFd"]), "{told}");
        assert_eq!(told["metadata"], "berth 7");
        assert_eq!(told["state"]["id"], bundle.id());
        assert_eq!(told["state"]["annotations"], json!({"org.example.a": "b"}));
        assert_eq!(told["pid"], told["state"]["pid"]);
        assert!(told["ociVersion"].is_string() && told["pid"].as_i64().unwrap() > 1, "{told}");
    }
}

#[test]
fn an_exec_brings_a_descriptor_of_its_own() {
    let bundle = asking("notifyexec", "sleep 1000");
    let (oci, listener) = (Oci::new(), Listener::start(&bundle));
    let container = oci.start(&bundle);
    let init = listener.told(0);
    assert_eq!(init["pid"], container.pid());
    assert_eq!(container.exec(&[], &["sh", "-c", PROBE]).ok().out, SEEN);
    let exec = listener.told(1);
    assert_ne!(exec["pid"], init["pid"]);
    assert_eq!((&exec["state"]["pid"], &exec["state"]["status"]), (&init["pid"], &json!("running")));
}

#[test]
fn without_a_listener_nothing_starts() {
    let mut bundle = asking("notifynone", "echo ran");
    let (oci, socket) = (Oci::new(), bundle.path().join("notify.sock"));
    let container = oci.create(&bundle);
    oci.run(&["start", bundle.id()]).fails(&format!("connect to {}", socket.display()));
    container.wait_for_status("stopped");
    assert_eq!(container.output(), "");
    drop(container);
    let listener = Listener::start(&bundle);
    bundle.change(|spec| spec["process"]["args"] = json!(["sleep", "1000"]));
    let container = oci.start(&bundle);
    listener.told(0);
    drop(listener);
    fs::remove_file(&socket).unwrap();
    let exec =
        container.exec(&[], &["sh", "-c", "echo ran"]).fails(&format!("connect to {}", socket.display()));
    assert_eq!((exec.code, exec.out.as_str()), (255, ""));
}
