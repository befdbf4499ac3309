//! Namespaces (namespaces(7)): entered, left, held by a descriptor or a file.

#![expect(unsafe_code, reason = "setns(2) with several kinds at once")]

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
pub use rustix::thread::UnshareFlags;

use crate::mount::{self, Depth, Unmount};
use crate::{Ctx as _, Error, Result, durable};

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Users and capabilities.
    User,
    /// Mounts.
    Mount,
    /// Host name.
    Uts,
    /// System V IPC and message queues.
    Ipc,
    /// Network.
    Net,
    /// Process ids; entering one is for children only.
    Pid,
    /// The cgroup that is shown as the root.
    Cgroup,
    /// Clocks; entering one is for children only.
    Time,
}

impl Kind {
    /// All of them, in an order in which they can be entered one by one.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Cgroup, Self::Ipc, Self::Uts, Self::Net, Self::Pid, Self::Time, Self::Mount];

    /// Its file in `/proc/PID/ns`.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Uts => "uts",
            Self::Ipc => "ipc",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// Its flag for clone(2), unshare(2) and setns(2).
    #[must_use]
    pub fn flag(self) -> UnshareFlags {
        match self {
            Self::User => UnshareFlags::NEWUSER,
            Self::Mount => UnshareFlags::NEWNS,
            Self::Uts => UnshareFlags::NEWUTS,
            Self::Ipc => UnshareFlags::NEWIPC,
            Self::Net => UnshareFlags::NEWNET,
            Self::Pid => UnshareFlags::NEWPID,
            Self::Cgroup => UnshareFlags::NEWCGROUP,
            Self::Time => UnshareFlags::NEWTIME,
        }
    }
}

/// The flags of several kinds.
#[must_use]
pub fn flags(kinds: &[Kind]) -> UnshareFlags {
    kinds.iter().fold(UnshareFlags::empty(), |flags, kind| flags | kind.flag())
}

/// Opens a process's namespace.
///
/// # Errors
/// [`Error::is_gone`] if there is no such process, or the kernel has no such namespaces.
pub fn open(pid: i32, kind: Kind) -> Result<OwnedFd> {
    open_path(format!("/proc/{pid}/ns/{}", kind.file()))
}

/// Opens a namespace's file: in `/proc`, or where one is [pinned](pin).
///
/// # Errors
/// If it is no namespace.
pub fn open_path(path: impl AsRef<Path>) -> Result<OwnedFd> {
    let path = path.as_ref();
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).ctx("open", path)?;
    let kind = rustix::fs::fstatfs(&fd).ctx("statfs", path)?.f_type;
    // The magic numbers of nsfs, and of the proc that had namespaces before Linux 3.19.
    if kind != 0x6e73_6673 {
        return Err(Error::other("open", path, "not a namespace"));
    }
    Ok(fd)
}

/// Moves this thread into the namespace that `fd` is open on, which must be of this kind.
pub fn enter(fd: impl AsFd, kind: Kind) -> Result<()> {
    set(fd, kind.flag(), kind.file())
}

/// Moves this thread into several namespaces of the process that `pidfd` is of, all or none (Linux 5.8).
pub fn enter_process(pidfd: impl AsFd, kinds: UnshareFlags) -> Result<()> {
    set(pidfd, kinds, "process")
}

fn set(fd: impl AsFd, flags: UnshareFlags, object: &str) -> Result<()> {
    // SAFETY: takes numbers only. CLONE_FILES and the like are refused by the kernel.
    let result =
        unsafe { libc::setns(fd.as_fd().as_raw_fd(), i32::from_ne_bytes(flags.bits().to_ne_bytes())) };
    if result == 0 {
        return Ok(());
    }
    Err(Error::new("enter namespace", object, std::io::Error::last_os_error()))
}

/// Moves this thread into new namespaces (unshare(2)).
pub fn unshare(kinds: UnshareFlags) -> Result<()> {
    if kinds.contains(UnshareFlags::FILES) {
        return Err(Error::other("unshare", "files", "would leave descriptors that other threads own"));
    }
    // SAFETY: the descriptor table stays shared, which is the one thing that could go wrong.
    unsafe { rustix::thread::unshare_unsafe(kinds) }.ctx("unshare", "namespaces")
}

/// Keeps the namespace that `fd` is open on alive by a file at `path` (a bind mount), which is made.
///
/// # Errors
/// `EEXIST` if there is a file already.
pub fn pin(fd: impl AsFd, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    std::fs::OpenOptions::new().write(true).create_new(true).open(path).ctx("create", path)?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()));
    let result = mount::bind(source, path, Depth::One);
    if result.is_err() {
        // The mount's error is the one to tell.
        let _ = durable::remove(path);
    }
    result
}

/// Removes what [`pin`] made. What is not there is removed already.
pub fn unpin(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    // There may be several on top of each other.
    while mount::unmount(path, Unmount::Detach)? {}
    durable::remove(path)
}

/// Whether two descriptors are open on one namespace.
pub fn same(one: impl AsFd, other: impl AsFd) -> Result<bool> {
    let id = |fd: std::os::fd::BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    Ok(id(one.as_fd()).ctx("stat", "namespace")? == id(other.as_fd()).ctx("stat", "namespace")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::tests::TempDir;

    fn own(kind: Kind) -> OwnedFd {
        open_path(format!("/proc/thread-self/ns/{}", kind.file())).unwrap()
    }

    #[test]
    fn namespaces_are_pinned_and_entered() {
        let dir = TempDir::new("ns");
        let path = dir.0.join("uts");
        std::thread::spawn({
            let path = path.clone();
            move || {
                unshare(UnshareFlags::NEWUTS).unwrap();
                rustix::system::sethostname(b"pinned").unwrap();
                pin(own(Kind::Uts), &path).unwrap();
            }
        })
        .join()
        .unwrap();
        pin(own(Kind::Uts), &path).unwrap_err();
        let pinned = open_path(&path).unwrap();
        assert!(!same(&pinned, own(Kind::Uts)).unwrap());
        std::thread::spawn(move || {
            enter(&pinned, Kind::Net).unwrap_err();
            enter(&pinned, Kind::Uts).unwrap();
            assert!(same(&pinned, own(Kind::Uts)).unwrap());
            assert_eq!(rustix::system::uname().nodename().to_bytes(), b"pinned");
        })
        .join()
        .unwrap();
        unpin(&path).unwrap();
        unpin(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn several_are_entered_by_pidfd() {
        let mut unshared = std::process::Command::new("unshare");
        let mut child = unshared.args(["-u", "-i", "sleep", "1000"]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // Until it has run sleep.
        while std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() != "sleep\n" {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        std::thread::spawn(move || {
            let pidfd = crate::pidfd::PidFd::open(pid).unwrap();
            enter_process(&pidfd, flags(&[Kind::Uts, Kind::Ipc])).unwrap();
            assert!(same(open(pid, Kind::Uts).unwrap(), own(Kind::Uts)).unwrap());
            assert!(same(open(pid, Kind::Ipc).unwrap(), own(Kind::Ipc)).unwrap());
        })
        .join()
        .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(open(pid, Kind::Uts).unwrap_err().is_gone());
        assert!(open_path("/dev/null").unwrap_err().to_string().ends_with("not a namespace"));
        unshare(UnshareFlags::FILES).unwrap_err();
    }
}
