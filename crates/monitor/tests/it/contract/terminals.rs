//! Contract §5: the console socket and the terminal.

use testkit::{Bundle, wait_until};

use crate::attach_client::Client;
use crate::stand::Stand;

const SLEEPER: &str = "trap 'exit 0' TERM; while :; do sleep 1; done";

fn on_terminal(line: &str) -> Stand {
    Stand::new(Bundle::shell("tty", line).terminal())
}

#[test]
fn a_terminal_is_one_stream_with_carriage_returns() {
    let stand = on_terminal("read x; echo out; echo err >&2; test -t 0 && test -t 2 && echo tty; exit 4");
    stand.podman().arg("-t").spawn().pid_message("data");
    let mut client = Client::connect(stand.bundle.path());
    stand.start();
    client.send(b"go\n");
    let text = String::from_utf8(client.rest(2)).unwrap();
    assert!(text.ends_with("out\r\nerr\r\ntty\r\n"), "{text:?}");
    assert_eq!(stand.exit_file(), "4");
    stand.wait_gone(stand.monitor_pid());
    let lines = stand.log_lines();
    assert!(lines.contains(&"stdout F err\r".to_owned()), "{lines:?}");
}

#[test]
fn sizes_follow_the_ctl_lines() {
    let stand = on_terminal("while read x; do stty size; done");
    stand.podman().arg("-t").spawn().pid_message("data");
    let ctl = stand.bundle.path().join("ctl");
    let mut client = Client::connect(stand.bundle.path());
    stand.start();
    for size in ["33 77", "44 88"] {
        std::fs::write(&ctl, format!("1 1001 5\n1 {size}\n")).unwrap();
        wait_until("the new size", || {
            client.seen.clear();
            client.send(b"\n");
            // The echo of the newline, and the answer.
            while client.seen.iter().filter(|&&b| b == b'\n').count() < 2 {
                client.packet().unwrap();
            }
            String::from_utf8_lossy(&client.seen).contains(size)
        });
    }
}

#[test]
fn a_size_before_the_terminal_is_kept_for_it() {
    let stand = Stand::shell(SLEEPER);
    stand.podman().spawn().pid_message("data");
    stand.start();
    let call = stand.podman_exec(&["x"]).args(["-t", "--exec-attach"]).start_pipe().attach_pipe();
    stand.process(&["sh", "-c", "until stty size 2>/dev/null | grep .; do sleep 0.1; done"], true);
    let monitor = call.spawn();
    monitor.go();
    crate::stand::wait_readable(monitor.attach.as_ref().unwrap(), "the attach message");
    let session = stand.dir.join("session");
    std::fs::write(session.join("ctl"), "1 21 42\n").unwrap();
    let mut client = Client::connect(&session);
    monitor.go();
    monitor.pid_message("data");
    client.expect("21 42");
    assert_eq!(monitor.message().unwrap()["data"], 0);
}

#[test]
fn nothing_of_the_console_socket_is_left() {
    let stand = on_terminal("exit 0").arg_tmpdir();
    let call = stand.podman().arg("-t").env("TMPDIR", stand.dir.join("tmp").display());
    assert_eq!(stand.run(call), "0");
    assert_eq!(std::fs::read_dir(stand.dir.join("tmp")).unwrap().count(), 0);
}

impl Stand {
    fn arg_tmpdir(self) -> Self {
        self.dir.dir("tmp");
        self
    }
}

#[test]
fn a_runtime_that_opens_the_console_and_dies_is_quoted() {
    let python = testkit::require("python3");
    let stand = Stand::fake(&format!(
        "{} -c 'import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])' $CONSOLE\necho broken \
         >&2; exit 1",
        python.display()
    ));
    let monitor = stand.podman().arg("-t").spawn();
    let message = monitor.message().unwrap();
    assert_eq!((message["data"].as_i64(), message["message"].as_str()), (Some(-1), Some("broken")));
}

#[test]
fn what_comes_through_the_console_and_is_no_terminal_is_refused() {
    let python = testkit::require("python3");
    let code = "import socket,sys,array,os\ns=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n\
                f=os.open(\"/dev/null\",os.O_RDWR)\ns.sendmsg([b\"x\"],[(socket.SOL_SOCKET,socket.SCM_RIGHTS,array.array(\"i\",[f]))])\n";
    let mut stand = Stand::fake("");
    let script = testkit::script(&stand.dir, "console.py", code);
    stand.set_fake(&format!("{} {} $CONSOLE; echo $$ >$PIDFILE; exit 0", python.display(), script.display()));
    let message = stand.podman().arg("-t").spawn().message().unwrap();
    assert_eq!(message["message"], "Runtime did not set up terminal");
}

#[test]
fn a_runtime_that_never_opens_the_console_can_be_killed() {
    let stand = Stand::fake("echo $$ >$DIR/self; exec sleep 1000");
    let monitor = stand.podman().arg("-t").spawn();
    wait_until("the runtime", || {
        std::fs::read_to_string(stand.dir.join("self")).is_ok_and(|s| s.ends_with('\n'))
    });
    let pid = std::fs::read_to_string(stand.dir.join("self")).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let message = monitor.message().unwrap();
    assert_eq!(message["data"], -1);
    assert!(message["message"].as_str().unwrap().contains("killed by signal 9"), "{message}");
}

#[test]
fn a_container_that_closes_its_terminal_goes_on() {
    let stand = on_terminal("echo open; exec <&- >&- 2>&-; sleep 1; exit 6");
    stand.podman().arg("-t").spawn().pid_message("data");
    let mut client = Client::connect(stand.bundle.path());
    stand.start();
    client.expect("open");
    assert_eq!(stand.exit_file(), "6");
}
