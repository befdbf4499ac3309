//! At a real terminal: sizes, Ctrl-C, detach keys.

use testkit::{Terminal, wait_until};

use crate::kit::Wharf;

fn at_terminal(wharf: &Wharf, words: &[&str]) -> Terminal {
    let head = wharf.head();
    let argv: Vec<&str> = head.iter().map(String::as_str).chain(words.iter().copied()).collect();
    Terminal::spawn(&argv, &[("WHARF_HANDLER", wharf.handler()), ("PATH", &crate::kit::path())])
}

#[test]
fn a_shell_with_sizes_and_ctrl_c() {
    let wharf = Wharf::new();
    let mut terminal =
        at_terminal(&wharf, &wharf.with_rootfs(&["run", "--rm", "--name", "c", "-it"], &["sh"]));
    terminal.expect("# ");
    terminal.resize(33, 101);
    // The new size arrives when it arrives: asked until it is there.
    wait_until("the new size in the container", || {
        terminal.send("stty size\n");
        std::thread::sleep(std::time::Duration::from_millis(200));
        terminal.text().contains("33 101")
    });
    terminal.send("sleep 1000\n");
    wait_until("the program that is to be interrupted", || {
        wharf.call(&["top", "c"]).out.contains("sleep 1000")
    });
    terminal.send("\x03");
    terminal.send("echo sum=$((40+2))\n");
    terminal.expect("sum=42");
    terminal.send("exit 6\n");
    assert_eq!(terminal.wait().code(), Some(6), "{}", terminal.text());
}

#[test]
fn detach_and_attach_again() {
    let wharf = Wharf::new();
    let mut first = at_terminal(&wharf, &wharf.with_rootfs(&["run", "--name", "t", "-it"], &["sh"]));
    first.expect("# ");
    first.send("A=kept\n\x10\x11");
    assert_eq!(first.wait().code(), Some(0), "{}", first.text());
    assert_eq!(wharf.state("t")["state"], "running");
    let mut second = at_terminal(&wharf, &["attach", "t"]);
    // A prompt that was shown before is not shown again: type until it answers.
    wait_until("an answer after attaching", || {
        second.send("echo $A$((1+1))\n");
        std::thread::sleep(std::time::Duration::from_millis(200));
        second.text().contains("kept2")
    });
    second.send("exit 8\n");
    assert_eq!(second.wait().code(), Some(8), "{}", second.text());
}

#[test]
fn exec_with_a_terminal() {
    let wharf = Wharf::new();
    wharf.sleeper("x");
    let mut terminal =
        at_terminal(&wharf, &["exec", "-it", "x", "sh", "-c", "tty; read a; echo got $a; exit 2"]);
    terminal.expect("/dev/pts/");
    terminal.send("word\n");
    terminal.expect("got word");
    assert_eq!(terminal.wait().code(), Some(2), "{}", terminal.text());
}
