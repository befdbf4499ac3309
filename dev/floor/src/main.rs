//! The least that the kernel must do for a container: what any runtime is measured against.
//!
//! `floor life ROOTFS CGROUP PROGRAM ARG…` makes cgroups, namespaces and mounts, runs the program, waits,
//! and removes the cgroups. `floor exec PID CGROUP PROGRAM ARG…` runs one in a container that is there.
//! No configuration is read, no state kept, no seccomp filter loaded, nothing is checked.
#![allow(clippy::print_stderr, reason = "a tool of the bench")]

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount,
};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};
use sys::process::{Fork, exit_now, fork};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["life", root, cgroup, command @ ..] => life(Path::new(root), cgroup, command),
        ["exec", pid, cgroup, command @ ..] => exec(pid, cgroup, command),
        _ => {
            Err(anyhow::anyhow!("usage: floor life ROOTFS CGROUP PROGRAM… | floor exec PID CGROUP PROGRAM…"))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn life(root: &Path, cgroup: &str, command: &[&str]) -> Result<()> {
    let cgroups = cgroups(cgroup);
    for dir in &cgroups {
        fs::create_dir_all(dir).with_context(|| format!("mkdir {}", dir.display()))?;
        limit(dir)?;
    }
    let done = in_child(|| {
        join(&cgroups)?;
        unshare(
            UnshareFlags::NEWNS
                | UnshareFlags::NEWUTS
                | UnshareFlags::NEWIPC
                | UnshareFlags::NEWNET
                | UnshareFlags::NEWPID,
        )?;
        in_child(|| {
            mounts(root)?;
            rustix::system::sethostname(b"floor").context("set the host name")?;
            run(command)
        })
    });
    for dir in cgroups.iter().rev() {
        fs::remove_dir(dir).with_context(|| format!("rmdir {}", dir.display()))?;
    }
    done
}

fn exec(pid: &str, cgroup: &str, command: &[&str]) -> Result<()> {
    let pidfd = sys::pidfd::PidFd::open(pid.parse().context("parse the pid")?)?;
    join(&cgroups(cgroup))?;
    let enter = |spaces| {
        rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), spaces).context("enter the namespaces")
    };
    // A pid namespace is for children; the others come after the fork, which looks into /proc.
    enter(ThreadNameSpaceType::PROCESS_ID)?;
    in_child(|| {
        enter(
            ThreadNameSpaceType::MOUNT
                | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
                | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
                | ThreadNameSpaceType::NETWORK,
        )?;
        run(command)
    })
}

/// The directory of a cgroup in every hierarchy that is mounted.
fn cgroups(path: &str) -> Vec<PathBuf> {
    let path = path.trim_start_matches('/');
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return vec![Path::new("/sys/fs/cgroup").join(path)];
    }
    let names =
        ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd", "hugetlb"];
    let dirs = names.iter().map(|name| Path::new("/sys/fs/cgroup").join(name));
    dirs.filter(|dir| dir.join("cgroup.procs").exists()).map(|dir| dir.join(path)).collect()
}

fn limit(dir: &Path) -> Result<()> {
    let limits = [
        ("memory.limit_in_bytes", "268435456"),
        ("memory.max", "268435456"),
        ("cpu.shares", "512"),
        ("cpu.weight", "20"),
        ("pids.max", "512"),
    ];
    for (file, text) in limits.iter().filter(|(file, _)| dir.join(file).exists()) {
        fs::write(dir.join(file), text).with_context(|| format!("write {}/{file}", dir.display()))?;
    }
    if !dir.starts_with("/sys/fs/cgroup/cpuset") {
        return Ok(());
    }
    // A cpuset of v1 is empty until it is told, from the top.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let all =
            fs::read_to_string(Path::new("/sys/fs/cgroup/cpuset").join(file)).context("read the cpuset")?;
        for up in [dir.parent().unwrap_or(dir), dir] {
            if up != Path::new("/sys/fs/cgroup/cpuset") {
                fs::write(up.join(file), all.trim())
                    .with_context(|| format!("write {}/{file}", up.display()))?;
            }
        }
    }
    Ok(())
}

fn join(cgroups: &[PathBuf]) -> Result<()> {
    for dir in cgroups {
        // A thread alone is moved without the kernel's lock on all forks, which costs milliseconds (v1 only).
        let tasks = dir.join("tasks");
        let file = if tasks.exists() { tasks } else { dir.join("cgroup.procs") };
        fs::write(&file, "0").with_context(|| format!("join {}", dir.display()))?;
    }
    Ok(())
}

#[expect(deprecated, reason = "this process has one thread, so no descriptor can be missed by another")]
fn unshare(flags: UnshareFlags) -> Result<()> {
    rustix::thread::unshare(flags).context("unshare")
}

/// Does the work in a new process and waits for it.
fn in_child(work: impl FnOnce() -> Result<()>) -> Result<()> {
    match fork()? {
        Fork::Child => {
            let done = work();
            if let Err(error) = &done {
                eprintln!("floor: {error:#}");
            }
            exit_now(i32::from(done.is_err()))
        }
        Fork::Parent(child) => {
            let ended = sys::process::wait::wait_pid_blocking(child.pid())?;
            match ended {
                sys::process::Reap::Ended(reaped) if reaped.status.success() => Ok(()),
                other => bail!("the child: {other:?}"),
            }
        }
    }
}

fn run(command: &[&str]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no program")?;
    Err(Command::new(program).args(arguments).env_clear().exec()).with_context(|| format!("exec {program}"))
}

/// The mounts of a container as `testkit::default_spec` has them.
fn mounts(root: &Path) -> Result<()> {
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .context("make / a slave")?;
    mount_bind(root, root).context("bind the root")?;
    let safe = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    let put = |kind: &str, place: &str, flags: MountFlags, data: &str| -> Result<()> {
        let target = root.join(place);
        fs::create_dir_all(&target).with_context(|| format!("mkdir {place}"))?;
        let data = std::ffi::CString::new(data).context("mount data")?;
        mount(kind, &target, kind, flags, Some(data.as_c_str()))
            .with_context(|| format!("mount {kind} on {place}"))
    };
    put("proc", "proc", safe, "")?;
    put("tmpfs", "dev", MountFlags::NOSUID, "mode=755,size=65536k")?;
    put(
        "devpts",
        "dev/pts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
    )?;
    put("tmpfs", "dev/shm", safe, "mode=1777,size=65536k")?;
    put("mqueue", "dev/mqueue", safe, "")?;
    put("sysfs", "sys", safe | MountFlags::RDONLY, "")?;
    put("tmpfs", "sys/fs/cgroup", safe, "mode=755")?;
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        let target = root.join("dev").join(device);
        fs::write(&target, "").with_context(|| format!("make {}", target.display()))?;
        mount_bind(Path::new("/dev").join(device), &target).with_context(|| format!("bind {device}"))?;
    }
    for path in ["bus", "fs", "irq", "sys", "sysrq-trigger"] {
        let target = root.join("proc").join(path);
        if !target.exists() {
            continue;
        }
        mount_bind(&target, &target).with_context(|| format!("bind {path}"))?;
        mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY | safe, "")
            .with_context(|| format!("remount {path}"))?;
    }
    for path in ["proc/kcore", "proc/keys", "proc/timer_list"] {
        let target = root.join(path);
        if target.exists() {
            mount_bind("/dev/null", &target).with_context(|| format!("mask {path}"))?;
        }
    }
    rustix::process::chdir(root).context("chdir to the root")?;
    rustix::process::pivot_root(".", ".").context("pivot_root")?;
    unmount(".", UnmountFlags::DETACH).context("unmount the old root")?;
    rustix::process::chdir("/").context("chdir to /")
}
