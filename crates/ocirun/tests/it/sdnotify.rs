//! A container that tells a service manager that it is ready.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use testkit::{Bundle, wait_until};

use crate::kit::Oci;

/// The container's socket, from outside: any process there may write to it.
fn tell(pid: i32, text: &str) {
    let path = format!("/proc/{pid}/root/run/notify/notify.sock");
    UnixDatagram::unbound().unwrap().send_to(text.as_bytes(), path).unwrap();
}

/// What the service manager hears, with the descriptors that come along, up to the barrier.
fn heard(manager: &UnixDatagram) -> (Vec<String>, Vec<std::os::fd::OwnedFd>) {
    let mut texts = Vec::new();
    loop {
        let mut buffer = [0u8; 256];
        let received = sys::socket::recv_with_fds(manager, &mut buffer, 1).unwrap();
        texts.push(String::from_utf8_lossy(&buffer[..received.len]).into_owned());
        if !received.fds.is_empty() {
            return (texts, received.fds);
        }
    }
}

fn manager(bundle: &Bundle) -> (UnixDatagram, String) {
    let path = bundle.path().join("manager");
    let socket = UnixDatagram::bind(&path).unwrap();
    // A test that waits for what does not come fails.
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    (socket, path.to_string_lossy().into_owned())
}

#[test]
fn a_start_waits_until_the_container_is_ready() {
    let line = "echo $NOTIFY_SOCKET; touch /run/notify/x || echo read-only; exec sleep 1000";
    let (oci, bundle) = (Oci::new(), Bundle::shell("sdready", line));
    let (socket, name) = manager(&bundle);
    let out = fs::File::create(bundle.path().join("out")).unwrap();
    let mut create = oci.command();
    create.args(["create", "--bundle", &bundle.path().to_string_lossy(), bundle.id()]);
    let create = create.env("NOTIFY_SOCKET", &name).stdout(out.try_clone().unwrap()).stderr(out);
    assert!(create.status().unwrap().success());
    let container = crate::kit::Container { oci: &oci, bundle: &bundle };
    let mut start = oci.command().env("NOTIFY_SOCKET", &name).args(["start", bundle.id()]).spawn().unwrap();
    wait_until("the program", || container.output().contains("read-only"));
    assert!(container.output().starts_with("/run/notify/notify.sock\n"), "{}", container.output());
    tell(container.pid(), "STATUS=not yet");
    tell(container.pid(), "STATUS=now\nREADY=1");
    let (texts, barrier) = heard(&socket);
    assert_eq!(texts, ["READY=1".to_owned(), format!("MAINPID={}", container.pid()), "BARRIER=1".to_owned()]);
    assert_eq!(start.try_wait().unwrap(), None, "it does not wait for the manager");
    drop(barrier);
    assert!(start.wait().unwrap().success());
}

#[test]
fn in_the_foreground_we_are_the_service() {
    let (oci, bundle) =
        (Oci::new(), Bundle::shell("sdrun", "while ! [ -e /go ]; do sleep 0.05; done; exit 5"));
    let (socket, name) = manager(&bundle);
    let mut command = oci.command();
    command.args(["run", "--bundle", &bundle.path().to_string_lossy(), bundle.id()]);
    let mut run = command.env("NOTIFY_SOCKET", &name).spawn().unwrap();
    let container = crate::kit::Container { oci: &oci, bundle: &bundle };
    wait_until("the container", || oci.run(&["state", bundle.id()]).out.contains("running"));
    tell(container.pid(), "READY=1\n");
    let (texts, barrier) = heard(&socket);
    assert_eq!(texts, ["READY=1".to_owned(), format!("MAINPID={}", run.id()), "BARRIER=1".to_owned()]);
    drop(barrier);
    fs::write(bundle.rootfs().join("go"), "").unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(5));
}

#[test]
fn a_container_that_ends_without_a_word_keeps_nobody_waiting() {
    let (oci, bundle) = (Oci::new(), Bundle::shell("sdend", "exit 3"));
    let (_socket, name) = manager(&bundle);
    let mut command = oci.command();
    command.args(["run", "--detach", "--bundle", &bundle.path().to_string_lossy(), bundle.id()]);
    assert!(command.env("NOTIFY_SOCKET", &name).status().unwrap().success());
    let container = crate::kit::Container { oci: &oci, bundle: &bundle };
    container.wait_for_status("stopped");
}
