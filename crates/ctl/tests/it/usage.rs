//! What is shown: tables, JSON, logs, events, limits.

use serde_json::Value;
use testkit::wait_until;

use crate::kit::Wharf;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn ps_top_stats_update() {
    let wharf = Wharf::new();
    wharf.ok(&wharf.with_rootfs(
        &["run", "-d", "--name", "a", "--memory", "64m", "--pids-limit", "50"],
        &["sleep", "1000"],
    ));
    let table = wharf.ok(&["ps"]);
    assert!(
        table.lines().nth(1).is_some_and(|l| l.contains("running") && l.contains(wharf.handler())),
        "{table}"
    );
    let list = json(&wharf.ok(&["ps", "--json"]));
    assert_eq!(list[0]["name"], "a");
    assert!(wharf.ok(&["top", "a"]).contains("sleep 1000"));
    let stats = json(&wharf.ok(&["stats", "--json", "a"]));
    assert_eq!(stats["stats"]["memory"]["limit"], 64 << 20, "{stats}");
    assert_eq!(stats["stats"]["pids"]["current"], 1, "{stats}");
    let now = json(&wharf.ok(&["update", "--memory", "128m", "--cpus", "0.5", "a"]));
    assert_eq!(now["memory"]["limit"], 128 << 20, "{now}");
    assert_eq!(now["cpu"]["quota"], 50_000, "{now}");
    let stats = json(&wharf.ok(&["stats", "--json", "a"]));
    assert_eq!(stats["stats"]["memory"]["limit"], 128 << 20, "{stats}");
}

/// CVE-2022-1227: no program of the image's is needed to list its processes, and none gets to run.
#[test]
fn top_runs_nothing_inside() {
    let wharf = Wharf::new();
    wharf.sleeper("a");
    let mark = wharf.rootfs.join("ran");
    for name in ["ps", "top", "nsenter"] {
        let program = wharf.rootfs.join("bin").join(name);
        let _ = std::fs::remove_file(&program);
        testkit::script(&wharf.rootfs.join("bin"), name, "#!/bin/sh\ntouch /ran\n");
    }
    assert!(wharf.ok(&["top", "a"]).contains("sleep 1000"));
    wharf.ok(&["pause", "a"]);
    assert!(wharf.ok(&["top", "a"]).contains("sleep 1000"), "nothing can run inside, and they are seen");
    wharf.ok(&["resume", "a"]);
    assert!(!mark.exists(), "a program of the image has run");
}

#[test]
fn logs_tail_since_timestamps_follow() {
    let wharf = Wharf::new();
    let line = "for i in 1 2 3 4; do echo line $i; done; echo last >&2";
    wharf.ok(&wharf.with_rootfs(&["run", "-d", "--name", "l"], &["sh", "-c", line]));
    // Following ends with the container.
    let said = wharf.call(&["logs", "--follow", "l"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("line 1\nline 2\nline 3\nline 4\n", "last\n"));
    let said = wharf.call(&["logs", "--tail", "2", "l"]);
    assert_eq!(format!("{}{}", said.out, said.err), "line 4\nlast\n");
    let said = wharf.call(&["logs", "--timestamps", "l"]);
    assert!(said.out.lines().all(|l| l.len() > 36 && l.as_bytes()[10] == b'T'), "{said:?}");
    assert_eq!(wharf.call(&["logs", "--since", "2100-01-01T00:00:00Z", "l"]).out, "");
}

#[test]
fn events_tell_the_whole_life() {
    let wharf = Wharf::new();
    let said = wharf.call(&wharf.with_rootfs(&["run", "--rm", "--name", "e"], &["sh", "-c", "exit 5"]));
    assert_eq!(said.code, 5, "{said:?}");
    let events: Vec<Value> = wharf.ok(&["events", "--no-follow", "--json"]).lines().map(json).collect();
    let what: Vec<_> = events.iter().map(|e| e["what"].as_str().unwrap_or_default()).collect();
    assert_eq!(what, ["created", "started", "exited", "deleted"], "{events:?}");
    let seqs: Vec<_> = events.iter().map(|e| e["seq"].as_u64().unwrap_or_default()).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
}

#[test]
fn handlers_and_check() {
    let wharf = Wharf::new();
    let handlers = json(&wharf.ok(&["handlers", "--json"]));
    let ours =
        handlers.as_array().unwrap().iter().find(|h| h["name"] == wharf.handler()).expect("the handler");
    assert!(ours["version"]["version"].is_string(), "{ours}");
    let said = wharf.call(&["check", "--json"]);
    let found = json(&said.out);
    assert!(
        found["findings"]
            .as_array()
            .is_some_and(|f| f.iter().any(|f| f["what"] == "kernel" && f["good"] == true)),
        "{found}"
    );
    assert_eq!(said.code, if found["good"] == true { 0 } else { 1 });
}

#[test]
fn completions_and_man_pages_are_made() {
    let wharf = Wharf::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(wharf.ok(&["completions", shell]).contains("wharf"));
    }
    let scratch = testkit::Scratch::new("man");
    wharf.ok(&["man", scratch.path().to_str().unwrap()]);
    wait_until("the man page of run", || scratch.path().join("wharf-run.1").exists());
    let page = std::fs::read_to_string(scratch.path().join("wharf.1")).unwrap();
    assert!(page.contains("Exit status"), "{page}");
}
