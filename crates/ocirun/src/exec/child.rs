//! The exec's own process, from its clone to its program.

use std::convert::Infallible;
use std::os::fd::OwnedFd;

use sys::{Ctx, Error, Result, spawn};

use super::{CgroupFiles, Streams, Target};
use crate::become_program::{Cwd, settle};
use crate::init::{self, console};
use crate::process::ProcessPlan;
use crate::procfs::Procfs;
use crate::selinux;

/// Does everything; does not come back.
pub(super) fn run(
    target: &Target,
    plan: &ProcessPlan,
    streams: Streams,
    own: Option<&CgroupFiles>,
    socket: OwnedFd,
) -> ! {
    let Err(error) = steps(target, plan, streams, own, &socket);
    init::tell(&socket, &error);
    spawn::exit_now(255)
}

fn steps(
    target: &Target,
    plan: &ProcessPlan,
    streams: Streams,
    own: Option<&CgroupFiles>,
    socket: &OwnedFd,
) -> Result<Infallible> {
    let proc = Procfs::open()?;
    affinity(plan.affinity[0].as_deref())?;
    target.cgroup.enter(own)?;
    match &plan.affinity {
        [None, None] => spawn::reset_affinity(),
        [_, last] => affinity(last.as_deref())?,
    }
    if let Some(policy) = &target.memory_policy {
        policy.apply()?;
    }
    // As long as /sys is the host's.
    let key_label = plan.selinux.as_deref().filter(|_| selinux::is_enabled());
    if let Some(value) = plan.oom_score_adj {
        proc.write("self/oom_score_adj", value.to_string().as_bytes())?;
    }
    let dumpable = rustix::process::DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(dumpable).ctx("clear", "dumpable")?;
    if target.namespaces != 0 {
        spawn::setns(&target.init, target.namespaces).ctx("join", "the container's namespaces")?;
    }
    if let Some(root) = &target.root {
        rustix::process::fchdir(root).ctx("change directory to", "the container's root")?;
        rustix::process::chroot(".").ctx("change root to", "the container's root")?;
    }
    if target.user_namespace {
        init::be_root()?;
    }
    rustix::process::setsid().ctx("make", "session")?;
    if let Some(name) = &target.keyring {
        selinux::with_key_label(&proc, key_label, || init::join_keyring(name))?;
    }
    match &streams.console {
        Some(console) => {
            let slave = console::make(None, console, plan)?;
            console::take(slave)?;
        }
        None => {
            let [stdin, stdout, stderr] = &streams.stdio;
            if let Some(fd) = stdin {
                rustix::stdio::dup2_stdin(fd).ctx("open", "stdin")?;
            }
            if let Some(fd) = stdout {
                rustix::stdio::dup2_stdout(fd).ctx("open", "stdout")?;
            }
            if let Some(fd) = stderr {
                rustix::stdio::dup2_stderr(fd).ctx("open", "stderr")?;
            }
        }
    }
    let settled = settle(plan, target.filter.as_ref(), proc, streams.kept, Cwd::MustExist, || {
        if target.user_namespace && !plan.rlimits.is_empty() {
            init::send(socket, b"r")?;
            init::expect(socket, b'r').map(drop)
        } else {
            Ok(())
        }
    })?;
    Err(settled.run(target.filter.as_ref(), |listener| init::hand_over(socket, &listener)))
}

fn affinity(cpus: Option<&[usize]>) -> Result<()> {
    let Some(cpus) = cpus else { return Ok(()) };
    let mut set = rustix::thread::CpuSet::new();
    for cpu in cpus {
        if *cpu >= rustix::thread::CpuSet::MAX_CPU {
            return Err(Error::other("set", "execCPUAffinity", format!("processor {cpu} is out of range")));
        }
        set.set(*cpu);
    }
    rustix::thread::sched_setaffinity(None, &set).ctx("set", "execCPUAffinity")
}
