//! What a person at a terminal sees.

use testkit::Terminal;

use super::{IMAGE, all};

fn status(terminal: &mut Terminal) -> Option<i32> {
    terminal.wait().code()
}

#[test]
fn run_on_a_terminal() {
    all(|podman| {
        let args = [
            "--rm",
            "-it",
            IMAGE,
            "sh",
            "-c",
            // The size may come after the start, whoever the monitor is. busybox fails where there is none yet.
            "test -t 0 && echo is-tty; until stty size 2>/dev/null; do sleep 0.1; done; read x; echo got-$x; exit 5",
        ];
        let mut terminal = podman.on_terminal(&podman.run_args("run", &args));
        terminal.expect("is-tty");
        terminal.expect("24 80");
        terminal.send("salt\n");
        terminal.expect("got-salt");
        status(&mut terminal)
    });
}

#[test]
fn resizing_reaches_the_container() {
    all(|podman| {
        let args = ["--rm", "-it", IMAGE, "sh", "-c", "echo up; while read x; do stty size; done"];
        let terminal = podman.on_terminal(&podman.run_args("run", &args));
        terminal.expect("up");
        terminal.resize(31, 97);
        testkit::wait_until("the new size", || {
            terminal.send("x\n");
            std::thread::sleep(std::time::Duration::from_millis(200));
            terminal.text().contains("31 97")
        });
    });
}

#[test]
fn exec_on_a_terminal() {
    all(|podman| {
        podman.detached("c", &[IMAGE, "sh", "-c", "while :; do sleep 0.1; done"]);
        let mut terminal = podman.on_terminal(&[
            "exec",
            "-it",
            "c",
            "sh",
            "-c",
            "test -t 1 && echo is-tty; read x; exit $x",
        ]);
        terminal.expect("is-tty");
        terminal.send("12\n");
        status(&mut terminal)
    });
}

#[test]
fn detach_and_attach_again() {
    all(|podman| {
        let args = [
            "--name",
            "c",
            "-it",
            IMAGE,
            "sh",
            "-c",
            "echo up; while read x; do echo got-$x; [ $x = bye ] && exit 8; done",
        ];
        let mut first = podman.on_terminal(&podman.run_args("run", &args));
        first.expect("up");
        first.send("one\n");
        first.expect("got-one");
        // Ctrl-P, Ctrl-Q: podman knows them only when each comes alone.
        first.send("\u{10}");
        std::thread::sleep(std::time::Duration::from_millis(500));
        first.send("\u{11}");
        let detached = status(&mut first);
        assert_eq!(podman.inspect("c", "{{.State.Status}}"), "running");
        let mut second = podman.on_terminal(&["attach", "c"]);
        second.send("two\n");
        second.expect("got-two");
        second.send("bye\n");
        (detached, status(&mut second), podman.good(&["logs", "c"]).contains("got-two"))
    });
}
