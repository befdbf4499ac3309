//! The terminal of a container or an exec: made in the container's own devpts, told to whoever asked for it.
//!
//! Nothing is opened by a path that a container could have changed: the master is opened in-root and checked, the slave
//! comes from the master, and /dev/console is that slave's own mount (CVE-2025-52565).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags, fstat, fstatfs};
use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcsetwinsize};
use sys::{Ctx, Error, Result};

use super::devices;
use crate::inroot;
use crate::mounts::attach::attach;
use crate::mounts::source;
use crate::process::ProcessPlan;

/// `DEVPTS_SUPER_MAGIC` of `linux/magic.h`.
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Makes a terminal, sends its master over `socket`, and gives its slave; mounts it as /dev/console of `root`.
pub(crate) fn make(root: Option<BorrowedFd<'_>>, socket: &OwnedFd, plan: &ProcessPlan) -> Result<OwnedFd> {
    let slash;
    let at = match root {
        Some(root) => root,
        None => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            slash = rustix::fs::open("/", flags, 0.into()).ctx("open", "/")?;
            slash.as_fd()
        }
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = match inroot::open(at, "/dev/pts/ptmx", flags) {
        Err(error) if error.is_gone() => inroot::open(at, "/dev/ptmx", flags)?,
        result => result?,
    };
    check_master(&master)?;
    rustix::pty::unlockpt(&master).ctx("unlock", "terminal")?;
    let open = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, open).ctx("open", "terminal")?;
    if let Some(size) = plan.terminal
        && (size.height != 0 || size.width != 0)
    {
        let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).ctx("set size of", "terminal")?;
    }
    if let Some(root) = root {
        let tree = source::tree_of(&slave).ctx("open mount of", "terminal")?;
        let target = devices::target(root, "/dev/console")?;
        attach(&tree, &target).ctx("mount", "/dev/console")?;
    }
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap_or_else(|_| c"/dev/ptmx".to_owned());
    sys::socket::send_with_fds(socket, name.to_bytes(), &[master.as_fd()])?;
    Ok(slave)
}

/// Makes `slave` the controlling terminal and the standard streams of this process, which leads a session.
pub(crate) fn take(slave: OwnedFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(&slave).ctx("take", "terminal")?;
    rustix::stdio::dup2_stdin(&slave).ctx("open", "stdin")?;
    rustix::stdio::dup2_stdout(&slave).ctx("open", "stdout")?;
    rustix::stdio::dup2_stderr(&slave).ctx("open", "stderr")
}

fn check_master(master: &OwnedFd) -> Result<()> {
    let stat = fstat(master).ctx("stat", "/dev/pts/ptmx")?;
    let kind = fstatfs(master).ctx("stat", "/dev/pts/ptmx")?.f_type;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if is_device && stat.st_rdev == rustix::fs::makedev(5, 2) && u64::try_from(kind) == Ok(DEVPTS_MAGIC) {
        return Ok(());
    }
    Err(Error::other("open", "/dev/pts/ptmx", "not the terminal multiplexer of a devpts"))
}
