//! Carries a plan out.
//!
//! Without a new user namespace this process itself goes into the new ones. With one, a child makes it, gets its
//! mappings from here, makes the others inside it, and waits until they are kept.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Signal, Uid};
use sys::mount::{self, Depth};
use sys::ns::{self, Kind, UnshareFlags};
use sys::process::{self, Fork, exit_now};

use super::{Plan, Source};
use crate::Error;

/// Does what `plan` says, or nothing.
pub(super) fn run(plan: &Plan) -> Result<(), Error> {
    // Before anything moves: whose own namespaces are to be kept are these.
    let mut held = Vec::new();
    for pin in &plan.pins {
        held.push(match pin.source {
            Source::New => None,
            Source::Own => Some(ns::open(own_pid(), pin.kind).map_err(fail)?),
            Source::Process(pid) => Some(ns::open(pid, pin.kind).map_err(fail)?),
        });
    }
    let new: Vec<Kind> =
        plan.pins.iter().filter(|pin| pin.source == Source::New).map(|pin| pin.kind).collect();
    let Made { fds, unwritten } = make(&new, plan)?;
    if new.contains(&Kind::Net) && plan.loopback {
        sys::spawn::loopback_up().map_err(|error| Error::io("turn on", "loopback interface", error))?;
    }
    for (path, value) in unwritten {
        write_sysctl(path, value).map_err(|error| Error::io("write", path.display(), error))?;
    }
    let mut made = fds.into_iter();
    let mut undo = Undo::default();
    for (pin, held) in plan.pins.iter().zip(held) {
        let missing = || Error::Usage(format!("namespace {} was not made", pin.kind.file()));
        let fd = held.or_else(|| made.next()).ok_or_else(missing)?;
        keep(&fd, &pin.path, &mut undo)?;
    }
    undo.steps.clear();
    Ok(())
}

type Sysctl = (PathBuf, String);

/// New namespaces.
struct Made<'a> {
    /// In the order that was asked for.
    fds: Vec<OwnedFd>,
    /// What is still to be written by this process, which is in them.
    unwritten: Vec<&'a Sysctl>,
}

/// Makes namespaces of these kinds, and enters all but the user namespace.
fn make<'a>(kinds: &[Kind], plan: &'a Plan) -> Result<Made<'a>, Error> {
    let Some(mappings) = &plan.mappings else {
        if !kinds.is_empty() {
            ns::unshare(ns::flags(kinds)).map_err(fail)?;
        }
        return Ok(Made { fds: open_all(own_pid(), kinds)?, unwritten: plan.sysctls.iter().collect() });
    };
    let owned = kinds.iter().copied().filter(|kind| *kind != Kind::User).collect::<Vec<_>>();
    let flags = ns::flags(&owned);
    let (mut ours, theirs) = UnixStream::pair().map_err(|error| Error::io("create", "socket pair", error))?;
    let child = match process::fork().map_err(fail)? {
        Fork::Parent(child) => child,
        Fork::Child => {
            drop(ours);
            exit_now(i32::from(in_child(theirs, flags, &plan.sysctls).is_err()));
        }
    };
    drop(theirs);
    let mut written = vec![WRITTEN; plan.sysctls.len()];
    let made = (|| {
        hear(&mut ours, &mut [0])?;
        for (file, text) in [("gid_map", &mappings[1]), ("uid_map", &mappings[0])] {
            let path = format!("/proc/{}/{file}", child.pid());
            fs::write(&path, text).map_err(|error| Error::io("write", path, error))?;
        }
        say(&mut ours, &[0])?;
        hear(&mut ours, &mut written)?;
        hear(&mut ours, &mut [0])?;
        open_all(child.pid(), kinds)
    })();
    // It only waits to be told that it is no longer needed; an error here means that it has ended.
    let _ = ours.shutdown(std::net::Shutdown::Both);
    let _ = process::wait::wait_pid_blocking(child.pid());
    let fds = made?;
    for (fd, kind) in fds.iter().zip(kinds).filter(|(_, kind)| **kind != Kind::User) {
        // What is written in /proc/sys then takes effect there, with this process's rights.
        ns::enter(fd, *kind).map_err(fail)?;
    }
    let unwritten = plan.sysctls.iter().zip(written).filter(|(_, how)| *how != WRITTEN);
    Ok(Made { fds, unwritten: unwritten.map(|(sysctl, _)| sysctl).collect() })
}

/// What the child says of a sysctl.
const WRITTEN: u8 = 1;
const REFUSED: u8 = 2;

/// The child's part. Nobody hears of its errors but by its end.
fn in_child(mut parent: UnixStream, flags: UnshareFlags, sysctls: &[Sysctl]) -> Result<(), Error> {
    process::set_parent_death_signal(Signal::KILL.as_raw()).map_err(fail)?;
    ns::unshare(UnshareFlags::NEWUSER).map_err(fail)?;
    say(&mut parent, &[0])?;
    hear(&mut parent, &mut [0])?;
    let root = |error| Error::io("become", "root of the user namespace", error);
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(root)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(root)?;
    if !flags.is_empty() {
        ns::unshare(flags).map_err(fail)?;
    }
    // Ids in values count in the user namespace. What its root may not write, the parent does.
    let how = |(path, value): &Sysctl| if write_sysctl(path, value).is_ok() { WRITTEN } else { REFUSED };
    say(&mut parent, &sysctls.iter().map(how).collect::<Vec<u8>>())?;
    say(&mut parent, &[0])?;
    // Until the other side closes.
    let _ = parent.read(&mut [0]);
    Ok(())
}

fn write_sysctl(path: &Path, value: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(Path::new("/proc/sys").join(path))?;
    file.write_all(value.as_bytes())
}

fn say(other: &mut UnixStream, bytes: &[u8]) -> Result<(), Error> {
    other.write_all(bytes).map_err(|error| Error::io("write to", "the other process", error))
}

fn hear(other: &mut UnixStream, bytes: &mut [u8]) -> Result<(), Error> {
    other.read_exact(bytes).map_err(|error| Error::io("make", "user namespace", error))
}

fn open_all(pid: i32, kinds: &[Kind]) -> Result<Vec<OwnedFd>, Error> {
    kinds.iter().map(|kind| ns::open(pid, *kind).map_err(fail)).collect()
}

/// Keeps the namespace by a file at `path`, which may be there already (CRI-O makes it for its owner).
fn keep(fd: &OwnedFd, path: &Path, undo: &mut Undo) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| Error::io("create", parent.display(), error))?;
    }
    match ns::pin(fd, path) {
        Ok(()) => undo.steps.push((path.to_owned(), Trace::File)),
        Err(error) if error.errno() == Some(rustix::io::Errno::EXIST.raw_os_error()) => {
            use std::os::fd::AsRawFd as _;
            let source = format!("/proc/self/fd/{}", fd.as_raw_fd());
            mount::bind(source, path, Depth::One).map_err(fail)?;
            undo.steps.push((path.to_owned(), Trace::Mount));
        }
        Err(error) => return Err(fail(error)),
    }
    Ok(())
}

/// What was made at a path.
#[derive(Debug)]
enum Trace {
    File,
    Mount,
}

/// Takes back what was done, unless it is emptied first.
#[derive(Debug, Default)]
struct Undo {
    steps: Vec<(PathBuf, Trace)>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        for (path, made) in self.steps.drain(..).rev() {
            // The error that led here is the one to tell of.
            let _ = match made {
                Trace::File => ns::unpin(&path),
                Trace::Mount => mount::unmount(&path, mount::Unmount::Detach).map(drop),
            };
        }
    }
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

fn fail(error: sys::Error) -> Error {
    Error::io(error.op, error.object, error.source)
}
