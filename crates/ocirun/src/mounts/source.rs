//! What is mounted: trees of existing mounts and new filesystems, detached, by descriptor.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use model::oci::LinuxIdMapping;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};
use sys::mount_attr::{self, Depth, MountAttr};
use sys::spawn::{Cloned, SingleThread};
use sys::{Ctx, Error, Result};

use super::options::MountOptions;

/// A copy of the mount at `path`, with those below it if `recursive`, attached nowhere.
///
/// # Errors
/// The system's.
pub(crate) fn tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags).ctx("open mount", path)
}

/// A copy of the one mount that `file` is on, beginning at it.
///
/// # Errors
/// The system's.
pub(crate) fn tree_of(file: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(file, "", flags)
}

/// Whether a filesystem of this type must not be made read-only itself: others see it too, or it is filled first.
pub(super) fn shares_superblock(kind: &str) -> bool {
    matches!(kind, "proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue" | "cgroup" | "cgroup2")
}

/// A new filesystem of type `kind`, mounted nowhere yet.
///
/// # Errors
/// The system's, with the filesystem's own words if it has any.
pub(crate) fn new(kind: &str, source: Option<&str>, options: &MountOptions) -> Result<OwnedFd> {
    let source = source.filter(|source| !source.is_empty()).unwrap_or("none");
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).ctx("mount", kind)?;
    let told = |error: rustix::io::Errno, what: &str| {
        let mut words = [0u8; 512];
        match rustix::io::read(&context, &mut words) {
            Ok(len) if len > 2 => {
                let words = String::from_utf8_lossy(&words[2..len]).trim().to_lowercase();
                Error::other("mount", kind, format!("{words}: {}", Error::new("", "", error).cause()))
            }
            _ => Error::new("mount", format!("{kind} {what}").trim_end(), error),
        }
    };
    fsconfig_set_string(context.as_fd(), "source", source).map_err(|e| told(e, source))?;
    if options.readonly() && !shares_superblock(kind) {
        fsconfig_set_flag(context.as_fd(), "ro").map_err(|e| told(e, "ro"))?;
    }
    for (name, value) in &options.data {
        match value {
            None => fsconfig_set_flag(context.as_fd(), name.as_str()),
            Some(value) => fsconfig_set_string(context.as_fd(), name.as_str(), value.as_str()),
        }
        .map_err(|e| told(e, name))?;
    }
    fsconfig_create(context.as_fd()).map_err(|e| told(e, ""))?;
    let attributes = u32::try_from(options.set).unwrap_or(0);
    // read-only comes last, when what is mounted below has its mount points
    let attributes = MountAttrFlags::from_bits_retain(attributes) & !MountAttrFlags::MOUNT_ATTR_RDONLY;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(|e| told(e, ""))
}

/// Gives `mount` the attributes that `options` ask for.
///
/// # Errors
/// The system's.
pub(crate) fn dress(mount: impl AsFd, options: &MountOptions) -> rustix::io::Result<()> {
    let change = |set, clear, depth| match (set, clear) {
        (0, 0) => Ok(()),
        _ => mount_attr::set(mount.as_fd(), &MountAttr { set, clear, ..MountAttr::default() }, depth),
    };
    let errno = |e: std::io::Error| rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::INVAL);
    change(options.set, options.clear, Depth::One).map_err(errno)?;
    change(options.rec_set, options.rec_clear, Depth::All).map_err(errno)?;
    for (propagation, all) in &options.propagation {
        let depth = if *all { Depth::All } else { Depth::One };
        let attr = MountAttr { propagation: *propagation, ..MountAttr::default() };
        mount_attr::set(mount.as_fd(), &attr, depth).map_err(errno)?;
    }
    Ok(())
}

/// Sets the propagation of `mount`, a tree of its own, and all below it.
///
/// # Errors
/// The system's.
pub(crate) fn propagate(mount: impl AsFd, propagation: u64) -> std::io::Result<()> {
    mount_attr::set(mount, &MountAttr { propagation, ..MountAttr::default() }, Depth::All)
}

/// A user namespace with these mappings, held by a descriptor only.
///
/// # Errors
/// The system's.
pub(crate) fn user_namespace(
    proof: SingleThread,
    uids: &[LinuxIdMapping],
    gids: &[LinuxIdMapping],
) -> Result<OwnedFd> {
    let flags = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
    let (pid, pidfd) = match sys::spawn::clone(proof, flags, None).ctx("clone", "user namespace")? {
        Cloned::Child => loop {
            // Killed by the parent; waits so that the namespace has a /proc entry.
            rustix::thread::sched_yield();
            rustix::event::pause();
        },
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    let made = write_maps(pid, uids, gids).and_then(|()| {
        let path = format!("/proc/{pid}/ns/user");
        rustix::fs::open(
            &path,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .ctx("open", path)
    });
    let kill = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    if kill.is_ok() {
        rustix::process::waitid(
            rustix::process::WaitId::PidFd(pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        )
        .ctx("wait for", "user namespace")?;
    }
    made
}

/// Writes the id mappings of the process `pid`, which is in a new user namespace.
///
/// Who may map no id but their own has newuidmap(1) and newgidmap(1) for those that the system gave them (subuid(5)).
///
/// # Errors
/// The system's.
pub(crate) fn write_maps(pid: i32, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<()> {
    // Without rights one group can be mapped only by who gives up setgroups(2) (user_namespaces(7)).
    let alone = gids.len() <= 1 && gids.iter().all(|map| map.size <= 1);
    if !rustix::process::geteuid().is_root() && alone {
        let path = format!("/proc/{pid}/setgroups");
        std::fs::write(&path, "deny").ctx("write", path)?;
    }
    write_map(pid, "uid_map", "newuidmap", uids)?;
    write_map(pid, "gid_map", "newgidmap", gids)
}

fn write_map(pid: i32, file: &str, tool: &str, maps: &[LinuxIdMapping]) -> Result<()> {
    if maps.is_empty() {
        return Ok(());
    }
    let text: String =
        maps.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect();
    let path = format!("/proc/{pid}/{file}");
    match std::fs::write(&path, &text) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && !rustix::process::geteuid().is_root() => {}
        result => return result.ctx("write", path),
    }
    let failed = |why: &str| Error::other("write", &path, format!("operation not permitted ({tool}: {why})"));
    let mut command = std::process::Command::new(tool);
    command.arg(pid.to_string()).args(text.split_ascii_whitespace());
    let output = command.stdin(std::process::Stdio::null()).output();
    let output = output.map_err(|error| failed(&Error::new("", "", error).cause()))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(failed(&words.split_whitespace().collect::<Vec<_>>().join(" ")))
}
