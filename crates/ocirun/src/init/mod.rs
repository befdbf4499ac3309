//! A container's init, from its clone to its program.
//!
//! It runs in the new namespaces, as a copy of this program with one thread, and tells its parent over a socket how it
//! goes: `h` when the hooks of the runtime are to run, `c` when it is created, `e…` with an error's text. Then it waits
//! on its listening socket for `start`, which hears of an error of the last steps over the connection.

mod cgroups;
pub(crate) mod console;
pub(crate) mod devices;
mod masks;
mod rootfs;

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use model::oci::Hook;
use rustix::process::DumpableBehavior;
use sys::{Ctx, Error, Result, spawn};

use crate::become_program::{Cwd, Settled, settle};
use crate::exec::CgroupFiles;
use crate::hooks;
use crate::namespaces::Kind;
use crate::plan::InitPlan;
use crate::procfs::Procfs;
use crate::seccomp::Filter;
use crate::selinux;

pub(crate) use cgroups::{CgroupView, Tree};

/// The longest message of either side.
pub(crate) const MAX_MESSAGE: usize = 4096;

/// What init gets from its parent, besides the plan.
#[derive(Debug)]
pub(crate) struct Given {
    /// Messages to and from the parent.
    pub(crate) sync: OwnedFd,
    /// Where `start` connects.
    pub(crate) start: OwnedFd,
    /// The root filesystem, a detached mount.
    pub(crate) rootfs: Option<OwnedFd>,
    /// Detached mounts for the bind mounts, by index.
    pub(crate) trees: Vec<Option<OwnedFd>>,
    /// Detached mounts of device files, by index, where they can't be made.
    pub(crate) device_trees: Vec<Option<OwnedFd>>,
    /// Connected to whom wants the terminal.
    pub(crate) console: Option<OwnedFd>,
    /// The cgroups, as far as they are mounted.
    pub(crate) cgroups: Option<CgroupView>,
    /// How it joins its cgroup.
    pub(crate) cgroup: CgroupFiles,
    /// The filter.
    pub(crate) filter: Option<Filter>,
    /// For hooks; the pid comes later.
    pub(crate) state: model::oci::State,
    /// How many descriptors from 3 on are the program's.
    pub(crate) kept: u32,
}

/// Does everything; does not come back.
pub(crate) fn run(plan: &InitPlan, mut given: Given) -> ! {
    match prepare(plan, &mut given).and_then(|settled| send(&given.sync, b"c").map(|()| settled)) {
        Ok(settled) => go_on(plan, given, settled),
        Err(error) => {
            tell(&given.sync, &error);
            spawn::exit_now(1)
        }
    }
}

/// Sends `error` as an `e` message. Nobody is there to hear of a failure of this.
pub(crate) fn tell(socket: impl AsFd, error: &Error) {
    let mut text = format!("e{error}").into_bytes();
    text.truncate(MAX_MESSAGE);
    let _refused = rustix::net::send(socket, &text, rustix::net::SendFlags::NOSIGNAL);
}

/// Waits for a message that begins with `expected`, and gives the rest of it.
pub(crate) fn expect(sync: impl AsFd, expected: u8) -> Result<String> {
    let mut buffer = [0u8; MAX_MESSAGE];
    let (len, _) = rustix::io::retry_on_intr(|| {
        rustix::net::recv(sync.as_fd(), &mut buffer, rustix::net::RecvFlags::empty())
    })
    .ctx("receive", "from the runtime")?;
    match buffer[..len].split_first() {
        Some((first, rest)) if *first == expected => Ok(String::from_utf8_lossy(rest).into_owned()),
        _ => Err(Error::other("receive", "from the runtime", "it gave up")),
    }
}

/// As [`expect`], for whoever may hear an error in place of it: the inner error is its text.
pub(crate) fn expect_or_error(sync: impl AsFd, expected: u8) -> Result<Result<(), String>> {
    let mut buffer = [0u8; MAX_MESSAGE];
    let (len, _) = rustix::io::retry_on_intr(|| {
        rustix::net::recv(sync.as_fd(), &mut buffer, rustix::net::RecvFlags::empty())
    })
    .ctx("receive", "from the process")?;
    Ok(match buffer[..len].split_first() {
        Some((first, _)) if *first == expected => Ok(()),
        Some((_, text)) => Err(String::from_utf8_lossy(text).into_owned()),
        None => Err("start process: it ended".to_owned()),
    })
}

pub(crate) fn send(sync: impl AsFd, message: &[u8]) -> Result<()> {
    rustix::net::send(sync, message, rustix::net::SendFlags::NOSIGNAL).map(drop).ctx("send", "to the runtime")
}

/// All up to the wait for the start. Nothing stays open then that is not needed afterwards.
fn prepare(plan: &InitPlan, given: &mut Given) -> Result<Settled> {
    let pid = expect(&given.sync, b'g')?;
    given.state.pid = pid.parse().unwrap_or(0);
    std::mem::take(&mut given.cgroup).enter(None)?;
    spawn::reset_affinity();
    if let Some(policy) = &plan.memory_policy {
        policy.apply()?;
    }
    sys::fail::point("oci.init.begin").ctx("pass", "oci.init.begin")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).ctx("clear", "dumpable")?;
    if plan.namespaces.has(Kind::User) {
        // In the new namespace: its root, until the program's user is taken on.
        be_root()?;
    }
    if plan.namespaces.is_new(Kind::Cgroup) {
        // Only now is this process where the namespace's root is to be.
        spawn::unshare(libc::CLONE_NEWCGROUP).ctx("unshare", "cgroup namespace")?;
    }
    rustix::process::setsid().ctx("make", "session")?;
    let proc = Procfs::open()?;
    if let Some(name) = &plan.keyring {
        let label = plan.process.selinux.as_deref().filter(|_| selinux::is_enabled());
        selinux::with_key_label(&proc, label, || join_keyring(name))?;
    }
    if plan.namespaces.is_new(Kind::Network) {
        spawn::loopback_up().ctx("turn on", "lo")?;
    }
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).ctx("set hostname", name)?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes()).ctx("set domainname", name)?;
    }
    if let Some(domain) = plan.personality {
        spawn::set_personality(domain).ctx("set", "personality")?;
    }
    let slave = rootfs::enter(plan, given, &proc)?;
    sys::fail::point("oci.init.rooted").ctx("pass", "oci.init.rooted")?;
    match slave {
        Some(slave) => console::take(slave)?,
        None if plan.namespaces.has(Kind::Mount) => own_null(),
        None => {}
    }
    drop((given.rootfs.take(), std::mem::take(&mut given.trees), std::mem::take(&mut given.device_trees)));
    drop((given.console.take(), given.cgroups.take()));
    let outside = plan.namespaces.has(Kind::User) && !plan.process.rlimits.is_empty();
    settle(&plan.process, given.filter.as_ref(), proc, given.kept, Cwd::Make, || {
        if !outside {
            return Ok(());
        }
        send(&given.sync, b"r")?;
        expect(&given.sync, b'r').map(drop)
    })
}

/// Standard streams that are the host's null device become the container's, as runc makes them: nothing of the host's /dev
/// stays open, and a checkpoint finds the file.
fn own_null() {
    use rustix::fs::{FileType, OFlags, fstat, makedev, open};
    use rustix::stdio;
    let is_null = |fd: std::os::fd::BorrowedFd<'_>| {
        fstat(fd).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
                && stat.st_rdev == makedev(1, 3)
        })
    };
    let streams = [stdio::stdin(), stdio::stdout(), stdio::stderr()].map(is_null);
    if streams == [false; 3] {
        return;
    }
    // An image without one, or with another thing of its name: then they stay what they are.
    let there = rustix::fs::statat(rustix::fs::CWD, "/dev/null", rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    if !there.is_ok_and(|stat| stat.st_rdev == makedev(1, 3)) {
        return;
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(null) = open("/dev/null", flags, rustix::fs::Mode::empty()) else { return };
    if !is_null(null.as_fd()) {
        return;
    }
    let [stdin, stdout, stderr] = streams;
    let _refused = stdin.then(|| stdio::dup2_stdin(&null));
    let _refused = stdout.then(|| stdio::dup2_stdout(&null));
    let _refused = stderr.then(|| stdio::dup2_stderr(&null));
}

/// The start: hooks, filter, execve.
fn go_on(plan: &InitPlan, mut given: Given, settled: Settled) -> ! {
    drop(given.sync);
    // Nobody is there to be told; whoever started it sees it end.
    let Ok(connection) = wait_for_start(given.start) else { spawn::exit_now(1) };
    given.state.status = "created".to_owned();
    let failed = |error: &Error| -> ! {
        tell(&connection, error);
        // What `start` tells, the container's own stderr has too: nobody may be there any more.
        let _refused = rustix::io::write(rustix::stdio::stderr(), format!("{error}\n").as_bytes());
        spawn::exit_now(1)
    };
    let start_container = with_environment(&plan.hooks.start_container, settled.env());
    if let Err(error) = hooks::run(&start_container, "startContainer", &given.state) {
        failed(&Error::other("start", "container", error.to_string()));
    }
    let error = settled.run(given.filter.as_ref(), |listener| hand_over(&connection, &listener));
    failed(&error)
}

/// Hooks that run in the container have the program's environment where they bring none.
fn with_environment(hooks: &[Hook], env: &[CString]) -> Vec<Hook> {
    let mut hooks = hooks.to_vec();
    for hook in hooks.iter_mut().filter(|hook| hook.env.is_empty()) {
        hook.env = env.iter().filter_map(|entry| entry.to_str().ok().map(str::to_owned)).collect();
    }
    hooks
}

/// Lets whoever started this take a copy of the notify descriptor: `write` is the one call that a filter never notifies.
/// Ends this process if it was not taken: the program must not run, and why is told there.
///
/// # Errors
/// The system's.
pub(crate) fn hand_over(connection: &OwnedFd, listener: &OwnedFd) -> Result<()> {
    use std::os::fd::AsRawFd as _;
    let message = format!("l{}", listener.as_raw_fd());
    rustix::io::write(connection, message.as_bytes()).ctx("send", "notify descriptor")?;
    let mut answer = [0u8; 1];
    match rustix::io::read(connection, &mut answer).ctx("receive", "answer to the notify descriptor")? {
        1 => Ok(()),
        _ => spawn::exit_now(255),
    }
}

/// Root of the user namespace, with nothing left of the ids outside.
pub(crate) fn be_root() -> Result<()> {
    use rustix::fs::{Gid, Uid};
    let failed = |what| move |error| Error::new("set", what, error);
    match rustix::thread::set_thread_groups(&[]) {
        Ok(()) | Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(Error::new("set", "groups", error)),
    }
    // Where id 0 is not mapped the ids stay what they are.
    let stay = |result: rustix::io::Result<()>| match result {
        Err(rustix::io::Errno::INVAL) => Ok(()),
        result => result,
    };
    stay(rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT))
        .map_err(failed("group id 0"))?;
    stay(rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)).map_err(failed("user id 0"))
}

pub(crate) fn join_keyring(name: &str) -> Result<()> {
    let c_name =
        std::ffi::CString::new(name).map_err(|_| Error::other("join keyring", name, "NUL in its name"))?;
    match spawn::join_session_keyring(&c_name) {
        // A kernel without keyrings has nothing that could leak.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        result => result.ctx("join keyring", name),
    }
}

fn wait_for_start(socket: OwnedFd) -> Result<OwnedFd> {
    let connection =
        rustix::io::retry_on_intr(|| rustix::net::accept_with(&socket, rustix::net::SocketFlags::CLOEXEC))
            .ctx("wait for", "start")?;
    drop(socket);
    expect(&connection, b's')?;
    Ok(connection)
}
