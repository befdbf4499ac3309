//! What is wrong, and what it gets: a status by kind, one line that names operation, object and cause.

use crate::kit::Wharf;

#[test]
fn every_mistake_has_its_status_and_its_line() {
    let wharf = Wharf::new();
    wharf.sleeper("there");
    let long = "x".repeat(1 << 16);
    let taken = wharf.with_rootfs(&["create", "--name", "there"], &["true"]);
    let bad_id = wharf.with_rootfs(&["create", "--id", "../x"], &["true"]);
    let bad_cap = wharf.with_rootfs(&["create", "--cap-add", "FLY"], &["true"]);
    let bad_handler = wharf.with_rootfs(&["create", "--handler", "nope"], &["true"]);
    let cases: [(&[&str], i32, &str); 14] = [
        (&["stop", "nobody"], 3, "nobody"),
        (&["rm", "nobody"], 3, "nobody"),
        (&["rm", "there"], 4, "running"),
        (&["start", "there"], 4, "running"),
        (&["resume", "there"], 4, "running"),
        (&["inspect", "../x"], 2, "../x"),
        (&["inspect", &long], 2, "65536 bytes"),
        (&taken, 5, "taken"),
        (&bad_id, 1, "../x"),
        (&bad_cap, 1, "FLY"),
        (&bad_handler, 3, "nope"),
        (&["create", "--bundle", "/nonexistent"], 6, "/nonexistent"),
        (&["create", "--rootfs", "/nonexistent", "true"], 1, "/nonexistent"),
        (&["update", "there"], 1, "no limit"),
    ];
    for (words, code, needle) in cases {
        let said = wharf.call(words);
        let shown: Vec<_> = words.iter().map(|w| &w[..w.len().min(40)]).collect();
        assert!(said.err.contains(needle), "{shown:?}: {said:?}");
        assert_eq!(said.err.lines().count(), 1, "{shown:?}: {said:?}");
        // A bundle that is not there may be told as a wrong request or as a missing file.
        let codes = if code == 6 { vec![2, 3, 6] } else { vec![code] };
        assert!(codes.contains(&said.code), "{shown:?}: {said:?}");
    }
    assert_eq!(wharf.ok(&["ps", "--all", "--quiet"]).lines().count(), 1);
}

#[test]
fn a_program_that_can_t_be_run() {
    let wharf = Wharf::new();
    let said = wharf.call(&wharf.with_rootfs(&["run", "--rm"], &["/nope"]));
    assert_eq!(said.code, 127, "{said:?}");
    let said = wharf.call(&wharf.with_rootfs(&["run", "--rm"], &["/etc"]));
    assert_eq!(said.code, 126, "{said:?}");
    let said = wharf.call(&wharf.with_rootfs(&["run", "--rm", "--volume", "/nope:/x"], &["true"]));
    assert_eq!(said.code, 125, "{said:?}");
    wharf.sleeper("x");
    assert_eq!(wharf.call(&["exec", "x", "/nope"]).code, 127);
    assert_eq!(wharf.call(&["exec", "nobody", "true"]).code, 125);
    assert_eq!(wharf.ok(&["ps", "--all", "--quiet"]).lines().count(), 1);
}

#[test]
fn an_exec_that_takes_too_long_is_killed() {
    let wharf = Wharf::new();
    wharf.sleeper("x");
    let said = wharf.call(&["exec", "--timeout", "500ms", "x", "sleep", "1000"]);
    assert_eq!(said.code, 125, "{said:?}");
    assert!(said.err.contains("not done in its time"), "{said:?}");
    testkit::wait_until("the end of the killed exec", || {
        wharf.ok(&["top", "x"]).matches("sleep").count() <= 2
    });
}

#[test]
fn a_create_that_is_interrupted_leaves_nothing() {
    let wharf = Wharf::new();
    let begun = wharf.rootfs.join("begun");
    // A runtime that is called, and does not come to an end.
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *' create '*) touch {}; exec sleep 1000;; *' --version '*) echo slow;; esac\n",
        begun.display()
    );
    let slow = testkit::script(&wharf.rootfs, "slow", &text);
    let config = wharf.rootfs.join("wharfinger.conf");
    let text = format!(
        "[crio.runtime]\ndefault_runtime = \"slow\"\n[crio.runtime.runtimes.slow]\nruntime_path = {:?}\n",
        slow.display().to_string()
    );
    std::fs::write(&config, text).unwrap();
    let words = ["--config", config.to_str().unwrap(), "create", "--handler", "slow", "--id", "interrupted"];
    let mut command = wharf.command(&wharf.with_rootfs(&words, &["true"]));
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    testkit::wait_until("the runtime's create", || begun.exists());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("create interrupted: given up for signal SIGINT"), "{said}");
    assert_eq!(wharf.ok(&["ps", "-a", "-q"]), "");
}
