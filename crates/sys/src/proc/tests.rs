use std::process::{Command, Stdio};

use super::*;

fn pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

#[test]
fn stat_with_a_hostile_name() {
    let rest = "S 2 3 4 0 -1 4194560 1 2 3 4 11 12 15 16 20 0 5 0 777 1 2 3";
    let zeros = " 0".repeat(28);
    let stat = parse_stat(&format!("42 (a) R 1 (b\n) {rest}{zeros} 256\n")).unwrap();
    assert_eq!(stat.comm, "a) R 1 (b\n");
    assert_eq!((stat.pid, stat.state, stat.ppid, stat.pgrp, stat.session), (42, 'S', 2, 3, 4));
    assert_eq!((stat.utime, stat.stime, stat.num_threads, stat.start_time), (11, 12, 5, 777));
    for bad in ["", "1", "1 (x", "1 (x) S", "x (x) S 1 2 3"] {
        assert_eq!(parse_stat(bad), None, "{bad:?}");
    }
}

#[test]
fn our_own_stat() {
    let stat = stat(pid()).unwrap();
    assert_eq!(stat.pid, pid());
    assert_eq!(stat.ppid, rustix::process::getppid().unwrap().as_raw_pid());
    assert_eq!(start_time(pid()).unwrap(), stat.start_time);
    assert!(super::stat(i32::MAX).unwrap_err().is_gone());
}

#[test]
fn a_zombie_shows_its_status() {
    let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
    let id = i32::try_from(child.id()).unwrap();
    crate::pidfd::PidFd::open(id).unwrap().wait(None).unwrap();
    let stat = stat(id).unwrap();
    assert_eq!((stat.state, stat.exit_code), ('Z', 3 << 8));
    child.wait().unwrap();
}

#[test]
fn children_are_listed() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let id = i32::try_from(child.id()).unwrap();
    assert!(children(pid()).unwrap().contains(&id));
    assert!(children_by_scan(pid()).unwrap().contains(&id));
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(!children(pid()).unwrap().contains(&id));
    assert_eq!(children(i32::MAX).unwrap(), [0; 0]);
}

#[test]
fn cgroup_lines() {
    let lines =
        parse_cgroups("4:memory:/a:b\n2:cpu,cpuacct:/\n1:name=systemd:/x (deleted)\n0::/u\nnonsense\n");
    let line = |hierarchy, controllers: &[&str], path: &str| CgroupLine {
        hierarchy,
        controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
        path: path.to_owned(),
    };
    assert_eq!(
        lines,
        [
            line(4, &["memory"], "/a:b"),
            line(2, &["cpu", "cpuacct"], "/"),
            line(1, &["name=systemd"], "/x"),
            line(0, &[], "/u")
        ]
    );
    assert!(!cgroups(pid()).unwrap().is_empty());
    assert!(pids_in_cgroup("/").unwrap().contains(&pid()));
    assert_eq!(pids_in_cgroup("/none/such").unwrap(), [0; 0]);
}

#[test]
fn mountinfo_with_escapes() {
    let text = b"36 35 98:0 /mnt\\0401 /mnt/a\\134b rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
        37 36 0:5 / /x rw - tmpfs none rw\nshort line\n";
    let mounts = parse_mountinfo(text);
    assert_eq!(mounts.len(), 2);
    assert_eq!(mounts[0].root, Path::new("/mnt 1"));
    assert_eq!(mounts[0].mount_point, Path::new("/mnt/a\\b"));
    assert_eq!(mounts[0].propagation, ["master:1", "shared:2"]);
    assert_eq!(mounts[0].super_options, ["rw", "errors=continue"]);
    assert_eq!((mounts[1].device, mounts[1].propagation.len()), ((0, 5), 0));
    assert!(super::mounts().unwrap().iter().any(|mount| mount.mount_point == Path::new("/proc")));
    assert_eq!(mounts_of(pid()).unwrap().len(), super::mounts().unwrap().len());
}

#[test]
fn clocks_and_boot() {
    assert!(now_ns() > 1_700_000_000_000_000_000);
    assert!(boottime_ns() >= monotonic_ns() - 1_000_000_000);
    assert_eq!(boot_id().unwrap().len(), 36);
    assert_eq!(boot_id().unwrap(), boot_id().unwrap());
}

#[test]
fn own_descriptors() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    assert!(open_fds().unwrap().contains(&(number, PathBuf::from("/dev/null"))));
}
