//! The life of containers.

use testkit::wait_until;

use crate::kit::Wharf;

#[test]
fn run_gives_output_and_the_programs_own_status() {
    let wharf = Wharf::new();
    let said =
        wharf.call(&wharf.with_rootfs(&["run", "--rm"], &["sh", "-c", "echo out; echo err >&2; exit 7"]));
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (7, "out\n", "err\n"));
    assert_eq!(wharf.ok(&["ps", "--all", "--quiet"]), "");
}

#[test]
fn input_goes_in_and_its_end_too() {
    let wharf = Wharf::new();
    let said = wharf.feed(&wharf.with_rootfs(&["run", "--rm", "-i"], &["wc", "-c"]), "four\n");
    assert_eq!((said.code, said.out.trim()), (0, "5"), "{said:?}");
}

#[test]
fn flags_reach_the_program() {
    let wharf = Wharf::new();
    let head = [
        "run",
        "--rm",
        "-e",
        "COLOUR=blue",
        "-w",
        "/tmp",
        "--hostname",
        "box",
        "--user",
        "12:34",
        "--memory",
        "64m",
    ];
    let line = "echo $COLOUR $(pwd) $(hostname) $(id -u):$(id -g)";
    let said = wharf.call(&wharf.with_rootfs(&head, &["sh", "-c", line]));
    assert_eq!(said.out, "blue /tmp box 12:34\n", "{said:?}");
    let said = wharf.call(&wharf.with_rootfs(&["run", "--rm", "--read-only"], &["sh", "-c", "echo x > /x"]));
    assert_ne!(said.code, 0, "{said:?}");
}

#[test]
fn create_start_exec_pause_stop_rm() {
    let wharf = Wharf::new();
    let program = ["sh", "-c", "echo began; trap 'exit 3' TERM; sleep 1000 & wait"];
    let id = wharf.ok(&wharf.with_rootfs(&["create", "--name", "web"], &program));
    assert_eq!(wharf.state("web")["state"], "created");
    wharf.ok(&["start", "web"]);
    let said = wharf.call(&["exec", "web", "sh", "-c", "echo in; echo bad >&2; exit 9"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (9, "in\n", "bad\n"));
    let said = wharf.feed(&["exec", "-i", "web", "cat"], "through\n");
    assert_eq!((said.code, said.out.as_str()), (0, "through\n"), "{said:?}");
    let said = wharf.call(&[
        "exec",
        "-e",
        "A=b",
        "-u",
        "5:6",
        "-w",
        "/tmp",
        "web",
        "sh",
        "-c",
        "echo $A $(id -u):$(id -g) $(pwd)",
    ]);
    assert_eq!(said.out, "b 5:6 /tmp\n", "{said:?}");
    // Made of a root file system: its bundle is its own directory.
    assert!(wharf.state("web")["bundle"].as_str().unwrap().ends_with(&id), "{}", wharf.state("web"));
    wharf.ok(&["pause", "web"]);
    assert_eq!(wharf.state("web")["state"], "paused");
    assert_eq!(wharf.call(&["exec", "web", "true"]).code, 125);
    wharf.ok(&["resume", &id[..12]]);
    wharf.ok(&["stop", "--time", "30", "web"]);
    let state = wharf.state("web");
    assert_eq!((&state["state"], &state["ended"]["code"]), (&"exited".into(), &3.into()), "{state}");
    assert_eq!(wharf.ok(&["logs", "web"]), "began");
    assert_eq!(wharf.ok(&["wait", "web"]), "3");
    wharf.ok(&["rm", "web"]);
    assert_eq!(wharf.call(&["inspect", "web"]).code, 3);
}

#[test]
fn rm_with_detach_removes_it_in_the_end() {
    let wharf = Wharf::new();
    let id = wharf.ok(&wharf.with_rootfs(&["run", "-d", "--rm"], &["sleep", "1"]));
    assert_eq!(id.len(), 64);
    wait_until("the removal of a container that is over", || wharf.call(&["inspect", &id]).code == 3);
    assert_eq!(wharf.ok(&["ps", "--all", "--quiet"]), "");
}

#[test]
fn a_signal_to_run_reaches_the_container() {
    let wharf = Wharf::new();
    let program = ["sh", "-c", "trap 'exit 12' TERM; echo ready; sleep 1000 & wait"];
    let mut child =
        wharf.command(&wharf.with_rootfs(&["run", "--name", "sig"], &program)).spawn().expect("run wharf");
    wait_until("the container's first line", || wharf.call(&["logs", "sig"]).out.contains("ready"));
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(12));
}

#[test]
fn kill_sends_any_signal() {
    let wharf = Wharf::new();
    wharf.ok(&wharf.with_rootfs(
        &["run", "-d", "--name", "k"],
        &["sh", "-c", "trap 'echo got; exit 4' USR1; echo up; sleep 1000 & wait"],
    ));
    wait_until("its trap", || wharf.call(&["logs", "k"]).out.contains("up"));
    wharf.ok(&["kill", "--signal", "SIGUSR1", "k"]);
    assert_eq!(wharf.ok(&["wait", "k"]), "4");
    assert_eq!(wharf.call(&["kill", "k"]).code, 4);
    wharf.sleeper("dead");
    wharf.ok(&["kill", "dead"]);
    assert_eq!(wharf.ok(&["wait", "dead"]), "137");
}

#[test]
fn a_bundle_is_run_as_it_is_and_not_written() {
    let wharf = Wharf::new();
    let bundle = testkit::Bundle::shell("given", "echo from a bundle");
    let path = bundle.path().to_str().unwrap().to_owned();
    let list = || {
        let mut names: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = list();
    let said = wharf.call(&["run", "--rm", "--bundle", &path]);
    assert_eq!((said.code, said.out.as_str()), (0, "from a bundle\n"), "{said:?}");
    assert_eq!(list(), before);
}
