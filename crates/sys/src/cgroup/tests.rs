use std::time::{Duration, Instant};

use super::*;
use crate::pidfd::PidFd;
use crate::proc::parse_mountinfo;
use crate::process::{Child, Command};

/// A group of a test's own, removed with what is in it.
struct Own(Cgroup);

impl Own {
    fn new(what: &str) -> Self {
        let path = format!("/wh-sys-{}-{what}/inner", std::process::id());
        let own = Self(Layout::detect().unwrap().cgroup(path).unwrap());
        own.0.create().unwrap();
        own
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let path = std::path::Path::new(self.0.places()[0].path.as_str()).parent().unwrap();
        let outer = Layout::detect().unwrap().cgroup(path).unwrap();
        let _ = outer.kill();
        let _ = outer.remove();
    }
}

/// Starts a shell script in the group.
fn run(cgroup: &Cgroup, script: &str) -> Child {
    let stopped =
        Command::new("/bin/sh").args(["-c", script]).env("PATH", "/usr/bin:/bin").spawn_stopped().unwrap();
    cgroup.add(stopped.pid()).unwrap();
    stopped.release().unwrap()
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn layouts_are_read_from_mounts() {
    let hybrid = parse_mountinfo(
        b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
          32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
          33 31 0:30 /docker/x /mnt/memory rw - cgroup cgroup rw,memory\n\
          34 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
          35 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
          36 31 0:38 /a /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n",
    );
    let layout = Layout::of_mounts(&hybrid);
    assert_eq!(layout.mode(), Mode::Hybrid);
    let names: Vec<&[String]> = layout.hierarchies().iter().map(|h| h.controllers.as_slice()).collect();
    assert_eq!(names, [&["cpu", "cpuacct"][..], &["memory"], &["name=systemd"], &[]]);
    let group = layout.cgroup("a//b/./c/").unwrap();
    let dirs: Vec<String> = group.places().iter().map(|place| place.dir.display().to_string()).collect();
    assert_eq!(
        dirs,
        [
            "/sys/fs/cgroup/cpu,cpuacct/a/b/c",
            "/sys/fs/cgroup/memory/a/b/c",
            "/sys/fs/cgroup/systemd/a/b/c",
            "/sys/fs/cgroup/unified/b/c"
        ]
    );
    assert_eq!(group.place("cpuacct").unwrap().path, "/a/b/c");
    assert_eq!(group.place("io").unwrap().version, Version::V2);
    layout.cgroup("/a/../b").unwrap_err();
    let lines = crate::proc::parse_cgroups("3:memory:/m\n2:cpu,cpuacct:/c\n0::/a/u\n");
    let group = layout.of_lines(&lines);
    assert_eq!(group.place("memory").unwrap().path, "/m");
    assert_eq!(group.place("cpu").unwrap().path, "/c");
    assert_eq!(group.v2().unwrap().dir, std::path::Path::new("/sys/fs/cgroup/unified/u"));
    let unified = parse_mountinfo(b"31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    assert_eq!(Layout::of_mounts(&unified).mode(), Mode::Unified);
    assert_eq!(Layout::of_mounts(&hybrid[1..3]).mode(), Mode::Legacy);
}

#[test]
fn groups_are_made_filled_and_removed() {
    let own = Own::new("basic");
    let group = &own.0;
    assert!(group.exists() && group.places().iter().all(Place::exists));
    group.create().unwrap();
    assert_eq!(group.pids().unwrap(), [0; 0]);
    let child = run(group, "exec sleep 1000");
    assert_eq!(group.pids().unwrap(), [child.pid()]);
    let of_pid = Cgroup::of_pid(child.pid()).unwrap();
    assert_eq!(of_pid.places(), group.places());
    assert!(group.contains(child.pid()) && !group.contains(1));
    let below = group.child("exec-1");
    below.create().unwrap();
    below.add(child.pid()).unwrap();
    assert_eq!(group.pids().unwrap(), [child.pid()]);
    assert!(group.events().unwrap().populated);
    let error = group.remove_within(Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.errno(), Some(libc::EBUSY));
    group.kill().unwrap();
    assert_eq!(child.wait().unwrap().status.signal(), Some(libc::SIGKILL));
    assert!(!group.events().unwrap().populated);
    group.remove().unwrap();
    group.remove().unwrap();
    assert!(!group.exists());
    assert_eq!(group.pids().unwrap(), [0; 0]);
    group.kill().unwrap();
    group.thaw().unwrap();
    assert!(group.add(1).unwrap_err().is_gone());
    assert!(group.stats().unwrap_err().is_gone());
}

#[test]
fn joined_from_within_by_descriptors() {
    let own = Own::new("join");
    let fds = own.0.procs_fds().unwrap();
    let mut command = Command::new("sleep");
    command.arg("1000");
    for fd in &fds {
        command.cgroup_procs(std::os::fd::AsFd::as_fd(fd));
    }
    let child = command.spawn().unwrap();
    assert_eq!(Cgroup::of_pid(child.pid()).unwrap().places(), own.0.places());
    own.0.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn only_chosen_controllers() {
    let path = format!("/wh-sys-{}-chosen/inner", std::process::id());
    let own = Own(Layout::detect().unwrap().cgroup(path).unwrap());
    own.0.create_with(&["pids"]).unwrap();
    for place in own.0.places() {
        let chosen = place.version == Version::V2 || place.controllers.iter().any(|name| name == "pids");
        assert_eq!(place.exists(), chosen, "{place:?}");
    }
    let child = run(&own.0, "exec sleep 1000");
    assert_eq!(own.0.pids().unwrap(), [child.pid()]);
    own.0.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn frozen_processes_stop_and_go_on() {
    let own = Own::new("freeze");
    let child = run(&own.0, "while :; do :; done & while :; do sleep 0.01; done");
    for _ in 0..3 {
        own.0.freeze().unwrap();
        assert!(own.0.is_frozen().unwrap() && own.0.events().unwrap().frozen);
        let before = own.0.stats().unwrap().cpu.unwrap().usage_ns;
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(own.0.stats().unwrap().cpu.unwrap().usage_ns, before);
        own.0.freeze().unwrap();
        own.0.thaw().unwrap();
        own.0.thaw().unwrap();
        eventually("thawed", || !own.0.is_frozen().unwrap());
        eventually("runs on", || own.0.stats().unwrap().cpu.unwrap().usage_ns > before);
    }
    // Frozen ones are killed too.
    own.0.freeze().unwrap();
    own.0.kill().unwrap();
    assert_eq!(own.0.pids().unwrap(), [0; 0]);
    child.wait().unwrap();
}

#[test]
fn version_2_freezes_where_there_is_no_freezer() {
    let own = Own::new("freeze-v2");
    let Some(place) = own.0.v2() else {
        println!("NOT TESTED: no version 2 hierarchy is mounted");
        return;
    };
    let group = Cgroup::new(vec![place.clone()]);
    let child = run(&group, "while :; do sleep 0.01; done");
    group.freeze().unwrap();
    assert!(group.is_frozen().unwrap());
    let events = group.events().unwrap();
    assert!(events.frozen && events.populated);
    assert!(group.events_fd().unwrap().is_some());
    group.thaw().unwrap();
    eventually("thawed", || !group.is_frozen().unwrap());
    group.kill().unwrap();
    child.wait().unwrap();
    eventually("empty", || !group.events().unwrap().populated);
}

#[test]
fn forking_groups_are_killed() {
    let own = Own::new("forks");
    // Without version 2's help too.
    let v1 = own.0.places().iter().filter(|place| place.version == Version::V1).cloned().collect();
    for group in [Cgroup::new(v1), own.0.clone()] {
        if group.places().is_empty() {
            continue;
        }
        let script = "n() { while :; do (sleep 0.05; :) & sleep 0.01; done; }; n & n & setsid sh -c 'trap \"\" TERM; sleep 1000' & wait";
        let child = run(&group, script);
        eventually("several run", || group.pids().unwrap().len() > 4);
        group.kill().unwrap();
        assert_eq!(group.pids().unwrap(), [0; 0]);
        child.wait().unwrap();
    }
}

#[test]
fn signals_reach_all() {
    let own = Own::new("signal");
    let child = run(&own.0, "sleep 1000 & sleep 1000 & wait");
    eventually("all run", || own.0.pids().unwrap().len() == 3);
    let signalled = own.0.signal(libc::SIGTERM).unwrap();
    assert_eq!(signalled.len(), 3);
    assert!(signalled.iter().all(|pidfd: &PidFd| pidfd.wait(Some(Duration::from_secs(30))).unwrap()));
    child.wait().unwrap();
}

#[test]
fn files_are_read_and_written() {
    let own = Own::new("files");
    let group = &own.0;
    let (file, none) = match group.place("pids").unwrap().version {
        Version::V1 => ("pids.max", "max"),
        Version::V2 => ("pids.max", "max"),
    };
    assert_eq!(group.read("pids", file).unwrap().trim(), none);
    group.write("pids", file, "77").unwrap();
    assert_eq!(group.stats().unwrap().pids.unwrap().limit, Some(77));
    assert!(group.read("pids", "pids.none").unwrap_err().is_gone());
    group.read("pids", "../pids.max").unwrap_err();
    let elsewhere = Place { dir: "/tmp".into(), ..group.place("pids").unwrap().clone() };
    let error = Cgroup::new(vec![elsewhere]).read("pids", "x").unwrap_err();
    assert!(error.to_string().ends_with("not on a cgroup file system"), "{error}");
}

#[test]
fn usage_is_counted() {
    let own = Own::new("stats");
    let child = run(&own.0, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 1000");
    eventually("sleeps", || crate::proc::stat(child.pid()).unwrap().comm == "sleep");
    let stats = own.0.stats().unwrap();
    let cpu = stats.cpu.unwrap();
    assert!(cpu.usage_ns > 0 && cpu.user_ns + cpu.system_ns > 0, "{cpu:?}");
    let memory = stats.memory.unwrap();
    assert!(memory.usage > 0 && memory.page_faults > 0 && memory.limit.is_none(), "{memory:?}");
    assert!(memory.working_set <= memory.usage);
    assert_eq!(stats.pids, Some(PidsStats { current: 1, limit: None }));
    // The root has less to tell, but is no error.
    Layout::detect().unwrap().cgroup("/").unwrap().stats().unwrap();
    own.0.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn want_of_memory_is_told() {
    let own = Own::new("oom");
    let group = &own.0;
    let file = match group.place("memory").unwrap().version {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => "memory.max",
    };
    group.write("memory", file, "16777216").unwrap();
    assert_eq!(group.stats().unwrap().memory.unwrap().limit, Some(16_777_216));
    if group.read("memory", "memory.swap.max").is_ok() {
        group.write("memory", "memory.swap.max", "0").unwrap();
    }
    let watch = OomWatch::new(group).unwrap().unwrap();
    assert!(!watch.take().unwrap());
    assert_eq!((watch.kills().unwrap(), group.oom_kills().unwrap()), (Some(0), Some(0)));
    let child = run(group, "exec dd if=/dev/zero of=/dev/null bs=256M count=1 2>/dev/null");
    assert_eq!(child.wait().unwrap().status.signal(), Some(libc::SIGKILL));
    assert!(crate::poll::readable(&watch, Some(Duration::from_secs(30))).unwrap());
    assert!(watch.take().unwrap());
    eventually("counted", || watch.kills().unwrap() == Some(1));
    assert_eq!(group.oom_kills().unwrap(), Some(1));
    group.remove().unwrap();
    assert_eq!(watch.kills().unwrap(), None);
    assert_eq!(group.oom_kills().unwrap(), None);
}

#[test]
fn the_root_is_left_alone() {
    let root = Layout::detect().unwrap().cgroup("/").unwrap();
    assert!(!root.exists());
    assert_eq!(root.pids().unwrap(), [0; 0]);
    root.kill().unwrap();
    root.remove().unwrap();
    root.freeze().unwrap_err();
    assert!(!root.is_frozen().unwrap());
}

#[test]
fn who_kills_is_not_killed() {
    let own = Own::new("self");
    if own.0.places().len() < 2 {
        println!("NOT TESTED: there is one hierarchy only");
        return;
    }
    // One hierarchy of the group is shared with this process, as with a container that was not put there.
    let shared = &own.0.places()[0];
    let before = Cgroup::of_pid(std::process::id().try_into().unwrap()).unwrap();
    let only = Cgroup::new(vec![shared.clone()]);
    only.add(0).unwrap();
    for error in [only.kill(), only.freeze(), only.signal(libc::SIGTERM).map(drop)] {
        assert!(error.unwrap_err().to_string().ends_with("it holds this process"));
    }
    let child = run(&Cgroup::new(own.0.places()[1..].to_vec()), "exec sleep 1000");
    let killed = own.0.kill();
    let back = Cgroup::new(vec![before.places()[0].clone()]).add(0);
    killed.unwrap();
    back.unwrap();
    assert_eq!(child.wait().unwrap().status.signal(), Some(libc::SIGKILL));
}
