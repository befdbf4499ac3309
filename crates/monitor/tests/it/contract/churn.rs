//! Many containers at once, with clients, reopens and execs coming and going: nothing lost, memory flat.
//!
//! `WHARF_SOAK_SECONDS=600 WHARF_SOAK_CONTAINERS=50` makes a soak of it.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::Exit;
use monitor::control::Client as Control;
use monitor::control::protocol::{Exec, FdRole, Op};
use testkit::Bundle;

use crate::attach_client::Client;
use crate::stand::Stand;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Numbered lines, now many and now few, until it is told to end; then how many there were.
const WRITER: &str = "trap 'end=1' TERM; n=0; end=; while [ -z \"$end\" ]; do i=0; while [ $i -lt $((n % 97)) ]; do \
                      n=$((n+1)); i=$((i+1)); echo line-$n; done; n=$((n+1)); echo line-$n; sleep 0.02; done; echo total-$n";

fn private_kib(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn churn_loses_nothing() {
    let (seconds, count) = (setting("WHARF_SOAK_SECONDS", 6), setting("WHARF_SOAK_CONTAINERS", 6));
    let stands: Vec<Stand> = (0..count)
        .map(|_| {
            let stand = Stand::new(Bundle::shell("churn", WRITER));
            let control = stand.dir.join("control");
            stand.podman().arg("--control-socket").arg(&control).spawn().pid_message("data");
            stand.start();
            stand
        })
        .collect();
    let pids: Vec<i32> = stands.iter().map(Stand::monitor_pid).collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut renamed: BTreeMap<usize, Vec<PathBuf>> = BTreeMap::new();
    let mut early = BTreeMap::new();
    let mut round = 0usize;
    // At least two full rounds, however slow the machine is.
    while Instant::now() < end || round < 2 * stands.len() {
        let (at, stand) = (round % stands.len(), &stands[round % stands.len()]);
        let mut control = Control::connect(&stand.dir.join("control")).unwrap();
        let mut client = Client::connect(stand.bundle.path());
        client.expect("line-");
        let old = stand.dir.join(format!("log.{round}"));
        std::fs::rename(stand.log(), &old).unwrap();
        control.act(Op::ReopenLog, &[]).unwrap();
        assert!(stand.log().exists(), "the log is there when the answer is");
        renamed.entry(at).or_default().push(old);
        let (mut out, out_end) = {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
            (std::fs::File::from(read), write)
        };
        let process = Some(stand.process_json(&["sh", "-c", &format!("echo {round}; exit 3")], false));
        let exec = Exec { process, timeout_ms: Some(60_000), kill_on_close: false };
        let started = control.exec(exec, &[(FdRole::Stdout, out_end.as_fd())]).unwrap().unwrap();
        drop(out_end);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut out, &mut text).unwrap();
        assert_eq!((text, control.exec_end(&started).unwrap().exit), (format!("{round}\n"), Exit::Code(3)));
        early.entry(at).or_insert_with(|| private_kib(pids[at]));
        round += 1;
    }
    let mut most = (0, 0);
    for (at, stand) in stands.iter().enumerate() {
        let (before, now) = (early[&at], private_kib(pids[at]));
        assert!(now <= before + 400, "monitor {at} grew from {before} to {now} KiB in {round} rounds");
        most = (most.0.max(before), most.1.max(now));
        stand.kill("TERM");
    }
    let (mut logs, mut lines) = (0, 0);
    for (at, stand) in stands.iter().enumerate() {
        assert_eq!(stand.exit_file(), "0");
        stand.wait_gone(pids[at]);
        let mut files = renamed.remove(&at).unwrap_or_default();
        files.push(stand.log());
        lines += check_lines(&files);
        logs += files.len();
    }
    let (before, now) = most;
    println!(
        "{count} containers, {round} rounds (a client, a reopen, an exec), {lines} lines in {logs} logs; \
         private memory of a monitor at most {before} KiB early, {now} KiB at the end"
    );
}

/// The files in their order hold each line once, and none is missing; how many there are.
fn check_lines(files: &[PathBuf]) -> u64 {
    let mut next = 1u64;
    for file in files {
        next = check_file(file, next);
    }
    let text = std::fs::read_to_string(files.last().unwrap()).unwrap();
    assert!(text.trim_end().ends_with(&format!(" stdout F total-{}", next - 1)), "the last line");
    next - 1
}

fn check_file(file: &Path, mut next: u64) -> u64 {
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[1..3], ["stdout", "F"], "{line}");
        if let Some(number) = words[3].strip_prefix("line-") {
            assert_eq!(number, next.to_string(), "{}", file.display());
            next += 1;
        }
    }
    next
}
