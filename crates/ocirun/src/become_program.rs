//! The last steps before a program runs: identity, limits, labels, working directory, capabilities, filter.
//!
//! ```text
//! settle: scheduling → limits → HOME → label → no_new_privs → cwd → ids → capabilities → program found → fds
//! (a container's init waits here for its start)
//! run:    filter → the last capability → ambient set → execve    (with no_new_privs: ambient set → filter → execve)
//! ```
//! Used by a container's init and by execs. Runs in a process of its own that has one thread.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Access, AtFlags, FileType, Gid, Mode, OFlags, Uid};
use sys::{Ctx, Error, Result, spawn};

use crate::inroot;
use crate::process::{Capabilities, ProcessPlan, Rlimit};
use crate::procfs::Procfs;
use crate::seccomp::Filter;

/// The capability without which, or no_new_privs, no filter can be loaded.
const CAP_SYS_ADMIN: u64 = 1 << 21;
/// As much of a container's passwd as is read.
const MAX_PASSWD: usize = 1 << 20;

/// A process that has become all but the program.
#[derive(Debug)]
pub(crate) struct Settled {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    capabilities: Capabilities,
    filter: FilterLoad,
}

/// When the filter is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FilterLoad {
    /// As the very last step, so that it forbids none of ours: no_new_privs allows it to everybody.
    Last,
    /// While CAP_SYS_ADMIN is there, which goes afterwards.
    BeforeCapabilities,
}

/// Whether the working directory is made if it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cwd {
    Make,
    MustExist,
}

/// Does all that can be done before the program's start.
///
/// `kept` descriptors from 3 on are the program's; `proc` is the host's procfs; `limits` has somebody outside raise limits
/// where this process can't.
///
/// # Errors
/// The first step that fails.
pub(crate) fn settle(
    plan: &ProcessPlan,
    filter: Option<&Filter>,
    proc: Procfs,
    kept: u32,
    cwd: Cwd,
    limits: impl FnOnce() -> Result<()>,
) -> Result<Settled> {
    if let Some((class, priority)) = plan.io_priority {
        spawn::set_io_priority(class, priority)
            .ctx_with("set", || format!("ioPriority {class}:{priority}"))?;
    }
    if let Some(attr) = plan.scheduler {
        spawn::set_scheduler(attr).ctx_with("set", || format!("scheduler policy {}", attr.policy))?;
    }
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .ctx("open", "/")?;
    let mut env = last_of_each(&plan.env);
    if plan.variable("HOME").is_none_or(<[u8]>::is_empty) {
        env.retain(|entry| !entry.to_bytes().starts_with(b"HOME="));
        env.push(home(root.as_fd(), plan.uid));
    }
    own_stdio(plan.uid);
    label(plan, &proc)?;
    drop(proc);
    if plan.no_new_privileges {
        rustix::thread::set_no_new_privs(true).ctx("set", "no_new_privs")?;
    }
    if cwd == Cwd::Make {
        // An error of this is one of the chdir to come.
        drop(inroot::make_dirs(root.as_fd(), &plan.cwd));
    }
    drop(root);
    // Late, as nothing is opened any more, and before the rights for it are given up.
    limits()?;
    for limit in &plan.rlimits {
        set_rlimit(None, limit)?;
    }
    let first = enter(&plan.cwd);
    become_user(plan)?;
    let keep_admin = filter.is_some() && !plan.no_new_privileges;
    let capabilities = plan.capabilities;
    let extra = if keep_admin { CAP_SYS_ADMIN } else { 0 };
    spawn::set_capabilities(
        capabilities.effective.0 | extra,
        capabilities.permitted.0 | extra,
        capabilities.inheritable.0,
    )
    .ctx("set", "capabilities")?;
    if first.is_err() {
        // Root squashed by a network filesystem: the user may be let in.
        enter(&plan.cwd)?;
    }
    rustix::process::umask(Mode::from_raw_mode(plan.umask));
    let path = find_program(plan, &env)?;
    spawn::cloexec_from(3 + kept).ctx("close", "descriptors")?;
    let filter = if keep_admin { FilterLoad::BeforeCapabilities } else { FilterLoad::Last };
    Ok(Settled { path, args: plan.args.clone(), env, capabilities, filter })
}

impl Settled {
    /// The program's environment.
    pub(crate) fn env(&self) -> &[CString] {
        &self.env
    }

    /// Loads the filter, gives up what was kept for that, and executes the program. `told` gets the notify descriptor.
    ///
    /// # Errors
    /// Always one: the step that failed.
    pub(crate) fn run(self, filter: Option<&Filter>, told: impl FnOnce(OwnedFd) -> Result<()>) -> Error {
        spawn::reset_signals();
        match self.last_steps(filter, told) {
            Ok(()) => {
                let cause = spawn::execve(&self.path, &self.args, &self.env);
                Error::new("exec", std::ffi::OsStr::from_bytes(self.path.to_bytes()), cause)
            }
            Err(error) => error,
        }
    }

    fn last_steps(&self, filter: Option<&Filter>, told: impl FnOnce(OwnedFd) -> Result<()>) -> Result<()> {
        let load = || match filter.map(Filter::load).transpose().ctx("load", "seccomp filter")?.flatten() {
            Some(listener) => told(listener),
            None => Ok(()),
        };
        if self.filter == FilterLoad::Last {
            self.raise_ambient()?;
            return load();
        }
        load()?;
        let sets = self.capabilities;
        spawn::set_capabilities(sets.effective.0, sets.permitted.0, sets.inheritable.0)
            .ctx("set", "capabilities")?;
        self.raise_ambient()
    }

    fn raise_ambient(&self) -> Result<()> {
        // Only what is permitted and inheritable too can be ambient; the rest is not an error, as in runc.
        for number in 0..64 {
            if self.capabilities.ambient.contains(number) {
                let possible = self.capabilities.permitted.intersection(self.capabilities.inheritable);
                let raised = spawn::raise_ambient(number);
                if possible.contains(number) {
                    raised.ctx_with("raise ambient capability", || number.to_string())?;
                }
            }
        }
        Ok(())
    }
}

/// Sets one limit of this process, or of `pid`.
///
/// # Errors
/// The system's: raising a ceiling needs CAP_SYS_RESOURCE of the host.
pub(crate) fn set_rlimit(pid: Option<i32>, limit: &Rlimit) -> Result<()> {
    let value = |number: u64| (number != u64::MAX).then_some(number);
    let new = rustix::process::Rlimit { current: value(limit.soft), maximum: value(limit.hard) };
    let pid = pid.and_then(rustix::process::Pid::from_raw);
    rustix::process::prlimit(pid, limit.resource, new)
        .map(drop)
        .ctx_with("set", || format!("{} {}:{}", limit.name, limit.soft, limit.hard))
}

/// The last of the variables of one name, in their order: getenv(3) takes the first, and whoever adds one means to override.
fn last_of_each(env: &[CString]) -> Vec<CString> {
    let (mut seen, mut kept) =
        (std::collections::HashSet::with_capacity(env.len()), Vec::with_capacity(env.len()));
    for entry in env.iter().rev() {
        if seen.insert(entry.to_bytes().split(|byte| *byte == b'=').next()) {
            kept.push(entry.clone());
        }
    }
    kept.reverse();
    kept
}

fn home(root: BorrowedFd<'_>, uid: u32) -> CString {
    // No passwd, or an odd one, is no reason to fail: most small images have none.
    let text = inroot::read(root, "/etc/passwd", MAX_PASSWD).unwrap_or_default();
    let home = crate::passwd::home(&text, uid).unwrap_or(b"/");
    let entry = [b"HOME=", home].concat();
    CString::new(entry).unwrap_or_else(|_| c"HOME=/".to_owned())
}

/// Makes the standard streams the user's, so that it can open /dev/stdout.
fn own_stdio(uid: u32) {
    for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let Ok(stat) = rustix::fs::fstat(fd) else { continue };
        let null = rustix::fs::makedev(1, 3);
        let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        if stat.st_uid == uid || device && stat.st_rdev == null {
            continue;
        }
        // Sockets, other filesystems and unmapped owners say no, as they do to runc: the program still has the stream.
        let _refused = rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None);
    }
}

fn label(plan: &ProcessPlan, proc: &Procfs) -> Result<()> {
    if let Some(profile) = &plan.apparmor {
        let text = format!("exec {profile}");
        let file = match proc.write("self/attr/apparmor/exec", text.as_bytes()) {
            Err(error) if error.is_gone() => proc.write("self/attr/exec", text.as_bytes()),
            result => result,
        };
        file.map_err(|error| Error::other("apply AppArmor profile", profile, error.to_string()))?;
    }
    if let Some(label) = &plan.selinux {
        proc.write("self/attr/exec", label.as_bytes())
            .map_err(|error| Error::other("set SELinux label", label, error.to_string()))?;
    }
    Ok(())
}

/// Changes to `cwd`, and makes sure that it is in this root: a descriptor left open would be a way out.
fn enter(cwd: &str) -> Result<()> {
    rustix::process::chdir(cwd).ctx("change directory to", cwd)?;
    let here = rustix::process::getcwd(Vec::new()).ctx("read working directory", cwd)?;
    if here.to_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(Error::other("change directory to", cwd, "it is outside of the container's root"))
    }
}

fn become_user(plan: &ProcessPlan) -> Result<()> {
    for number in 0..64 {
        if !plan.capabilities.bounding.contains(number) {
            match spawn::drop_bounding(number) {
                // The kernel has no capability of this number, nor of any above.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
                result => result.ctx_with("drop capability", || number.to_string())?,
            }
        }
    }
    rustix::thread::set_keep_capabilities(true).ctx("set", "keepcaps")?;
    let groups: Vec<Gid> = plan.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match rustix::thread::set_thread_groups(&groups) {
        // A user namespace made without privilege may not; there is nothing to set then.
        Err(rustix::io::Errno::PERM) if groups.is_empty() => {}
        result => result.ctx_with("set", || format!("groups {:?}", plan.groups))?,
    }
    let gid = Gid::from_raw(plan.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).ctx_with("set", || format!("group id {}", plan.gid))?;
    let uid = Uid::from_raw(plan.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).ctx_with("set", || format!("user id {}", plan.uid))?;
    rustix::thread::set_keep_capabilities(false).ctx("clear", "keepcaps")?;
    spawn::clear_ambient().ctx("clear", "ambient capabilities")
}

/// The program's path: as it is with a slash in it, else found along the PATH of the container.
fn find_program(plan: &ProcessPlan, env: &[CString]) -> Result<CString> {
    let Some(name) = plan.args.first() else { return Err(Error::other("exec", "", "no program")) };
    let shown = name.to_string_lossy();
    if name.is_empty() {
        return Err(Error::other("exec", "\"\"", "executable file not found in $PATH"));
    }
    if name.to_bytes().contains(&b'/') {
        return executable(name).map(|()| name.clone()).ctx("exec", &*shown);
    }
    let path = env.iter().rev().find_map(|entry| entry.to_bytes().strip_prefix(b"PATH=")).unwrap_or(b"");
    let mut denied = None;
    // Without a path there is none, not even the working directory, as an empty entry of a path would be.
    for dir in path.split(|byte| *byte == b':').filter(|_| !path.is_empty()) {
        let dir = if dir.is_empty() { b"." } else { dir };
        let Ok(candidate) = CString::new([dir, b"/", name.to_bytes()].concat()) else { continue };
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(rustix::io::Errno::ACCESS) => denied = Some(rustix::io::Errno::ACCESS),
            Err(_) => {}
        }
    }
    match denied {
        Some(errno) => Err(Error::new("exec", &*shown, errno)),
        None => Err(Error::other("exec", &*shown, "executable file not found in $PATH")),
    }
}

fn executable(path: &CString) -> rustix::io::Result<()> {
    let stat = rustix::fs::stat(path.as_c_str())?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(rustix::io::Errno::ACCESS); // as execve(2) says
    }
    rustix::fs::accessat(rustix::fs::CWD, path.as_c_str(), Access::EXEC_OK, AtFlags::EACCESS)
}
