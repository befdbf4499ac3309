//! Cloning a container's init into its namespaces.
//!
//! New namespaces are made by the clone itself, the user namespace first. Those that are joined are joined by this process
//! and left again after the clone. A user or a mount namespace can't be left, so that a process in between joins those,
//! clones a brother (`CLONE_PARENT`), and ends.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use sys::pidfd::PidFd;
use sys::spawn::{self, Cloned, SingleThread};
use sys::{Ctx, Error, Result};

use crate::init::{self, Given};
use crate::namespaces::Kind;
use crate::plan::InitPlan;

/// Starts init; it waits for its `g` message. Comes back in the runtime only.
///
/// # Errors
/// The system's; a path that is no namespace of its kind.
pub(crate) fn into_namespaces(
    proof: SingleThread,
    plan: &InitPlan,
    sync: OwnedFd,
    given: Given,
) -> Result<(PidFd, OwnedFd)> {
    let far = plan.namespaces.joined(Kind::User).is_some() || plan.namespaces.joined(Kind::Mount).is_some();
    // Ours: init must not hold it too, or it would not hear of our end.
    if far { by_way(proof, plan, sync, given) } else { straight(proof, plan, sync, given) }
}

fn new_flags(plan: &InitPlan) -> u64 {
    let mut flags = 0;
    for kind in Kind::ALL {
        // The cgroup namespace comes when init is in its cgroup, the time namespace with its offsets before.
        if plan.namespaces.is_new(kind) && !matches!(kind, Kind::Cgroup | Kind::Time) {
            flags |= u64::from(kind.flag().cast_unsigned());
        }
    }
    flags
}

fn open_namespace(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ctx("open namespace", path)
}

fn join(kind: Kind, path: &Path, file: &OwnedFd) -> Result<()> {
    match spawn::setns(file, kind.flag()) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && kind != Kind::User => Err(Error::other(
            "join namespace",
            path,
            format!("not a {} namespace that can be joined", kind.name()),
        )),
        result => result.ctx("join namespace", path),
    }
}

/// A namespace of this process that it goes back to.
struct Back(Kind, OwnedFd);

impl Back {
    fn remember(kind: Kind) -> Result<Self> {
        Ok(Self(kind, open_namespace(Path::new(&format!("/proc/self/ns/{}", kind.file())))?))
    }
}

fn straight(proof: SingleThread, plan: &InitPlan, sync: OwnedFd, given: Given) -> Result<(PidFd, OwnedFd)> {
    let mut back = Vec::new();
    let entered = enter_joined(plan, &mut back);
    let cloned = entered.and_then(|()| {
        spawn::clone(proof, new_flags(plan), given.cgroup.unified.as_ref().map(AsFd::as_fd))
            .ctx("clone", "init")
    });
    if let Ok(Cloned::Child) = cloned {
        drop((back, sync));
        init::run(plan, given)
    }
    for Back(kind, file) in back {
        spawn::setns(&file, kind.flag()).ctx("go back to namespace", kind.name())?;
    }
    match cloned? {
        Cloned::Child => spawn::exit_now(1),
        Cloned::Parent { pid, pidfd } => Ok((PidFd::from_fd(pidfd, pid), sync)),
    }
}

fn enter_joined(plan: &InitPlan, back: &mut Vec<Back>) -> Result<()> {
    for kind in Kind::ALL {
        let Some(path) = plan.namespaces.joined(kind) else { continue };
        let file = open_namespace(path)?;
        back.push(Back::remember(kind)?);
        join(kind, path, &file)?;
    }
    if plan.namespaces.is_new(Kind::Time) {
        back.push(Back::remember(Kind::Time)?);
        make_time(plan)?;
    }
    Ok(())
}

/// Makes the time namespace that the next child is in, with its offsets.
fn make_time(plan: &InitPlan) -> Result<()> {
    spawn::unshare(Kind::Time.flag()).ctx("unshare", "time namespace")?;
    let path = "/proc/self/timens_offsets";
    for (clock, offset) in &plan.time_offsets {
        std::fs::write(path, format!("{clock} {} {}\n", offset.secs, offset.nanosecs)).ctx("write", path)?;
    }
    Ok(())
}

fn by_way(proof: SingleThread, plan: &InitPlan, sync: OwnedFd, given: Given) -> Result<(PidFd, OwnedFd)> {
    let mut joined = Vec::new();
    for kind in Kind::ALL {
        if let Some(path) = plan.namespaces.joined(kind) {
            joined.push((kind, path, open_namespace(path)?));
        }
    }
    let pidfd =
        match spawn::clone(proof, 0, given.cgroup.unified.as_ref().map(AsFd::as_fd)).ctx("clone", "init")? {
            Cloned::Parent { pid, pidfd } => PidFd::from_fd(pidfd, pid),
            Cloned::Child => {
                drop(sync);
                let Ok(near) = given.sync.try_clone() else { spawn::exit_now(1) };
                match in_between(proof, plan, &joined) {
                    Ok(Cloned::Child) => {
                        drop((joined, near));
                        init::run(plan, given)
                    }
                    Ok(Cloned::Parent { pid, .. }) => match init::send(&near, format!("p{pid}").as_bytes()) {
                        Ok(()) => spawn::exit_now(0),
                        Err(_) => spawn::exit_now(1),
                    },
                    Err(error) => init::tell(&near, &error),
                }
                spawn::exit_now(1)
            }
        };
    // Our copy of init's end would keep a message from being the last one.
    drop(given);
    let pid = match receive_pid(&sync) {
        Ok(pid) => pid,
        Err(error) => {
            sys::process::wait::wait_pid_blocking(pidfd.pid())?;
            return Err(error);
        }
    };
    let init = PidFd::open(pid);
    sys::process::wait::wait_pid_blocking(pidfd.pid())?;
    init.map(|init| (init, sync))
}

fn in_between(
    proof: SingleThread,
    plan: &InitPlan,
    joined: &[(Kind, &std::path::PathBuf, OwnedFd)],
) -> Result<Cloned> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .ctx("clear", "dumpable")?;
    if plan.namespaces.is_new(Kind::Time) {
        make_time(plan)?;
    }
    // What belongs to the host is joined with our rights, before they are given up for those in the user namespace; what
    // we have no right to may belong to that.
    let (user, others): (Vec<_>, Vec<_>) = joined.iter().partition(|(kind, ..)| *kind == Kind::User);
    let mut left = Vec::new();
    for entry in others {
        let (kind, path, file) = entry;
        match join(*kind, path, file) {
            Err(error) if error.errno() == Some(libc::EPERM) && !user.is_empty() => left.push(entry),
            result => result?,
        }
    }
    for (kind, path, file) in user.into_iter().chain(left) {
        join(*kind, path, file)?;
    }
    if plan.namespaces.joined(Kind::User).is_some() {
        init::be_root()?;
    }
    let flags = new_flags(plan) | u64::from(libc::CLONE_PARENT.cast_unsigned());
    spawn::clone(proof, flags, None).ctx("clone", "init")
}

fn receive_pid(sync: &OwnedFd) -> Result<i32> {
    let mut buffer = [0u8; init::MAX_MESSAGE];
    let (len, _) = rustix::io::retry_on_intr(|| {
        rustix::net::recv(sync.as_fd(), &mut buffer, rustix::net::RecvFlags::empty())
    })
    .ctx("receive", "from init")?;
    let text = String::from_utf8_lossy(buffer[..len].get(1..).unwrap_or_default()).into_owned();
    match (buffer[..len].first(), text.parse()) {
        (Some(b'p'), Ok(pid)) => Ok(pid),
        (Some(b'e'), _) => Err(Error::other("start", "init", text)),
        _ => Err(Error::other("start", "init", "it ended")),
    }
}
