//! Contract §4: attach clients, the socket's place, and the ctl fifo.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use testkit::wait_until;

use crate::attach_client::Client;
use crate::stand::Stand;

const CAT: &str = "cat; echo end; exit 3";
const SLEEPER: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

fn write_line(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn the_socket_is_in_the_bundle_and_ours_alone() {
    let stand = Stand::shell(SLEEPER);
    stand.podman().spawn().pid_message("data");
    let bundle = stand.bundle.path();
    let metadata = std::fs::metadata(bundle.join("attach")).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
    let ctl = std::fs::metadata(bundle.join("ctl")).unwrap();
    assert!(ctl.file_type().is_fifo());
    assert_eq!(ctl.permissions().mode() & 0o777, 0o640);
    stand.start();
    stand.kill("KILL");
    stand.wait_gone(stand.monitor_pid());
    assert!(!bundle.join("attach").exists());
}

#[test]
fn the_link_in_the_socket_directory() {
    let stand = Stand::shell(SLEEPER);
    let link = stand.dir.join("sockets").join(stand.id());
    std::os::unix::fs::symlink("/stale", &link).unwrap();
    std::fs::write(stand.bundle.path().join("attach"), "stale").unwrap();
    stand.crio().spawn().pid_message("pid");
    assert_eq!(std::fs::read_link(&link).unwrap(), stand.bundle.path());
    let mut client = Client::connect(&link);
    stand.start();
    stand.kill("KILL");
    assert_eq!(client.rest(2), b"");
    stand.wait_gone(stand.monitor_pid());
    assert!(std::fs::symlink_metadata(&link).is_err() && !stand.bundle.path().join("attach").exists());
}

#[test]
fn a_long_path_is_no_obstacle() {
    let stand = Stand::fake("beget 'sleep 1; echo far; exit 2'");
    let deep = stand.dir.dir(&format!("{}/{}", "d".repeat(120), "e".repeat(120)));
    let call = stand
        .podman()
        .without("-b", 1)
        .arg("-b")
        .arg(&deep)
        .arg("--control-socket")
        .arg(deep.join("control"));
    call.spawn().pid_message("data");
    let mut client = Client::connect(&deep);
    assert_eq!(client.rest(2), b"far\n");
    assert_eq!(stand.exit_file(), "2");
}

#[test]
fn all_clients_see_both_streams_and_their_end() {
    let stand = Stand::shell("read x; echo out; echo err >&2; exit 0");
    stand.podman().arg("-i").spawn().pid_message("data");
    let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(stand.bundle.path())).collect();
    stand.start();
    clients[3].send(b"go\n");
    for client in &mut clients {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some((stream, bytes)) = client.packet() {
            match stream {
                2 => out.extend(bytes),
                3 => err.extend(bytes),
                other => panic!("stream {other}"),
            }
        }
        assert_eq!((out.as_slice(), err.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    }
}

#[test]
fn all_clients_feed_the_same_stdin_and_the_first_end_closes_it() {
    let stand = Stand::shell(CAT);
    stand.podman().arg("-i").spawn().pid_message("data");
    stand.start();
    let (mut one, two) = (Client::connect(stand.bundle.path()), Client::connect(stand.bundle.path()));
    one.send(b"one\n");
    one.expect("one\n");
    two.send(b"two\n");
    one.expect("two\n");
    two.end_input();
    one.expect("end\n");
    assert_eq!(stand.exit_file(), "3");
}

#[test]
fn leave_stdin_open_outlives_clients() {
    let stand = Stand::shell(CAT);
    stand.podman().args(["-i", "--leave-stdin-open"]).spawn().pid_message("data");
    stand.start();
    let one = Client::connect(stand.bundle.path());
    one.send(b"one\n");
    one.end_input();
    drop(one);
    wait_until("the first client's words", || stand.log_lines() == ["stdout F one"]);
    let mut two = Client::connect(stand.bundle.path());
    two.send(b"two\n");
    two.expect("two\n");
    stand.kill("KILL");
    assert_eq!(stand.exit_file(), "137");
}

#[test]
fn without_stdin_input_stays_unread() {
    let stand = Stand::shell("cat; echo end; sleep 1000");
    stand.podman().spawn().pid_message("data");
    stand.start();
    let mut client = Client::connect(stand.bundle.path());
    client.send(b"to nobody\n");
    wait_until("stdin is /dev/null", || stand.log_lines() == ["stdout F end"]);
    stand.kill("KILL");
    client.rest(2);
    assert_eq!(stand.exit_file(), "137");
}

#[test]
fn a_mebibyte_through_stdin_and_back() {
    let stand = Stand::shell("cat");
    stand.podman().arg("-i").spawn().pid_message("data");
    let mut client = Client::connect(stand.bundle.path());
    stand.start();
    let line = "0123456789abcdef".repeat(2047) + "\n";
    let sender = Client { socket: client.socket.try_clone().unwrap(), seen: Vec::new() };
    let text = line.clone();
    let thread = std::thread::spawn(move || {
        for _ in 0..32 {
            sender.send(text.as_bytes());
        }
        sender.end_input();
    });
    let back = client.rest(2);
    thread.join().unwrap();
    assert_eq!(back.len(), line.len() * 32);
    assert!(back.chunks(line.len()).all(|chunk| chunk == line.as_bytes()));
    assert_eq!(stand.exit_file(), "0");
}

#[test]
fn a_client_that_does_not_read_harms_nobody() {
    let stand = Stand::shell("read x; head -c 30000000 /dev/zero | tr '\\0' x; echo; echo over");
    stand.podman().arg("-i").spawn().pid_message("data");
    stand.start();
    let deaf = Client::connect(stand.bundle.path());
    let mut good = Client::connect(stand.bundle.path());
    deaf.send(b"go\n");
    let all = good.rest(2);
    assert_eq!(all.len(), 30_000_006);
    assert_eq!(stand.exit_file(), "0");
}

#[test]
fn ctl_lines_split_joined_and_wrong() {
    let stand = Stand::shell("read x; echo after; sleep 1000");
    stand.podman().arg("-i").spawn().pid_message("data");
    stand.start();
    let ctl = stand.bundle.path().join("ctl");
    let client = Client::connect(stand.bundle.path());
    let old = stand.dir.join("log.old");
    std::fs::rename(stand.log(), &old).unwrap();
    for piece in [
        "nonsense\n",
        "1 24\n",
        "9 9 9\n",
        "1 0x10 5\n",
        "1 24 80\n",
        "\n\n",
        &"x".repeat(3000),
        "\n2 ",
        "0",
        " 0\n",
    ] {
        write_line(&ctl, piece);
    }
    wait_until("the log is opened anew", || stand.log().exists());
    client.send(b"go\n");
    wait_until("the new log", || stand.log_lines() == ["stdout F after"]);
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "");
}

#[test]
fn nobody_writes_to_a_bundle_that_is_not_there() {
    let stand = Stand::fake("touch $DIR/ran");
    let monitor = stand.podman().without("-b", 1).args(["-b", "/no/such/bundle"]).spawn();
    monitor.first();
    let message = monitor.message().expect("the caller is told");
    assert_eq!(message["data"], -1);
    assert!(message["message"].as_str().unwrap().contains("/no/such/bundle"), "{message}");
    assert!(!stand.dir.join("ran").exists());
}
