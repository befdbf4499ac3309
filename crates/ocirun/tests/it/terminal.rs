//! Terminals: to a console socket, and to our own terminal in the foreground.

use std::os::unix::net::UnixListener;

use serde_json::json;
use testkit::{Bundle, Terminal, wait_until};

use crate::kit::Oci;

/// The terminal's master that a runtime sends to `listener`.
fn master(listener: &UnixListener) -> std::fs::File {
    let (stream, _) = listener.accept().unwrap();
    let mut name = [0u8; 256];
    let received = sys::socket::recv_with_fds(&stream, &mut name, 1).unwrap();
    received.fds.into_iter().next().unwrap().into()
}

fn read_until(master: &mut std::fs::File, needle: &str) -> String {
    use std::io::Read as _;
    let mut text = String::new();
    let mut buffer = [0u8; 1024];
    while !text.contains(needle) {
        match master.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(len) => text.push_str(&String::from_utf8_lossy(&buffer[..len])),
        }
    }
    assert!(text.contains(needle), "{needle:?} is not in {text:?}");
    text
}

#[test]
fn a_console_socket_gets_the_master() {
    let oci = Oci::new();
    let bundle = Bundle::shell(
        "tty",
        "tty; stty size; test -c /dev/console && ls -l /dev/console; read x; echo got $x",
    )
    .terminal()
    .edit(|spec| spec["process"]["consoleSize"] = json!({"height": 33, "width": 99}));
    let path = bundle.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    oci.create_with(&bundle, &["--console-socket", &path.to_string_lossy()]).ok();
    let container = crate::kit::Container { oci: &oci, bundle: &bundle };
    let mut master = master(&listener);
    oci.run(&["start", bundle.id()]).ok();
    let text = read_until(&mut master, "/dev/console");
    assert!(text.contains("/dev/pts/0") && text.contains("33 99"), "{text:?}");
    use std::io::Write as _;
    master.write_all(b"word\n").unwrap();
    read_until(&mut master, "got word");
    container.wait_for_status("stopped");
}

#[test]
fn an_exec_gets_a_terminal_of_the_container() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("exectty"));
    let _container = oci.start(&bundle);
    let path = bundle.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let args = ["exec", "--detach", "--tty", "--console-socket", &path.to_string_lossy(), bundle.id()];
    oci.run(&[&args[..], &["sh", "-c", "tty; ps -o pid,tty | cat; echo end"]].concat()).ok();
    let mut master = master(&listener);
    let text = read_until(&mut master, "end");
    assert!(text.contains("/dev/pts/0"), "{text:?}");
}

#[test]
fn a_terminal_and_a_socket_come_together() {
    let oci = Oci::new();
    let bundle = Bundle::sleeper("ttyalone").terminal();
    oci.create_with(&bundle, &[]).fails("cannot allocate tty");
    let path = bundle.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let bundle = bundle.edit(|spec| spec["process"]["terminal"] = json!(false));
    oci.create_with(&bundle, &["--console-socket", &path.to_string_lossy()]).fails("without a terminal");
    oci.create_with(&bundle, &["--console-socket", "/nonexistent/s"]).fails("/nonexistent/s");
}

#[test]
fn our_own_terminal_in_the_foreground() {
    let oci = Oci::new();
    let bundle = Bundle::shell("ownterm", "tty; read x; echo got $x; exit 6").terminal();
    let root = oci.root().to_string_lossy().into_owned();
    let path = bundle.path().to_string_lossy().into_owned();
    let argv = [env!("CARGO_BIN_EXE_wharf-oci"), "--root", &root, "run", "--bundle", &path, bundle.id()];
    let mut terminal = Terminal::spawn(&argv, &[]);
    terminal.expect("/dev/pts/0");
    terminal.send("word\n");
    terminal.expect("got word");
    assert_eq!(terminal.wait().code(), Some(6));
    wait_until("the container to go", || !oci.root().join(bundle.id()).exists());
}
