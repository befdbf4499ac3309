//! The root filesystem: mounts on it, devices in it, and then the change of root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use sys::mount_attr::{self, Depth, MountAttr};
use sys::proc::Mount;
use sys::spawn::SingleThread;
use sys::{Ctx, Error, Result};

use super::{Given, cgroups, console, devices, expect, masks, send};
use crate::hooks;
use crate::mounts::attach;
use crate::mounts::options::{self, MountOptions};
use crate::mounts::prepare;
use crate::namespaces::Kind;
use crate::plan::{InitPlan, PlannedMount, Sysctl, What};
use crate::procfs::{self, Procfs};

const SLAVE: u64 = libc::MS_SLAVE;
const PRIVATE: u64 = libc::MS_PRIVATE;
/// `f_type` of statfs(2) for sysfs.
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// Makes the container's root what this process sees as `/`; gives its terminal, if it has one.
pub(super) fn enter(plan: &InitPlan, given: &mut Given, proc: &Procfs) -> Result<Option<OwnedFd>> {
    if !plan.namespaces.has(Kind::Mount) {
        let slave =
            given.console.as_ref().map(|socket| console::make(None, socket, &plan.process)).transpose()?;
        runtime_hooks(plan, given)?;
        write_sysctls(plan, proc)?;
        rustix::process::chroot(&plan.rootfs).ctx("change root to", &plan.rootfs)?;
        rustix::process::chdir("/").ctx("change directory to", "/")?;
        return Ok(slave);
    }
    let root = place_root(plan, given)?;
    let mut late = Vec::new();
    for (index, mount) in plan.mounts.iter().enumerate() {
        let tree = given.trees.get_mut(index).and_then(Option::take);
        if let Some(mounted) = mount_one(root.as_fd(), mount, tree, given, plan)? {
            late.push((mounted, &mount.destination));
        }
    }
    let umask = rustix::process::umask(Mode::empty());
    if plan.fill_dev {
        devices::make(root.as_fd(), &plan.devices, &given.device_trees)?;
        devices::links(root.as_fd())?;
    }
    rustix::process::umask(umask);
    let slave = given
        .console
        .as_ref()
        .map(|socket| console::make(Some(root.as_fd()), socket, &plan.process))
        .transpose()?;
    runtime_hooks(plan, given)?;
    let run = hooks::run(&plan.hooks.create_container, "createContainer", &given.state);
    run.map_err(|error| Error::other("create", "container", error.to_string()))?;
    write_sysctls(plan, proc)?;
    masks::apply(root.as_fd(), &plan.masked, &plan.readonly, plan.mount_label.as_deref())?;
    for (mounted, destination) in late {
        attach::make_readonly(&mounted, destination)?;
    }
    if plan.root_readonly {
        attach::make_readonly(&root, "/")?;
    }
    if plan.no_pivot {
        move_root(&root)?;
    } else {
        pivot(&root)?;
    }
    if let Some((propagation, all)) = plan.propagation {
        let depth = if all { Depth::All } else { Depth::One };
        let attr = MountAttr { propagation, ..MountAttr::default() };
        mount_attr::set(open_dir("/")?, &attr, depth).ctx("set propagation of", "/")?;
    }
    Ok(slave)
}

fn open_dir(path: impl AsRef<Path>) -> Result<OwnedFd> {
    let path = path.as_ref();
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .ctx("open", path)
}

/// Cuts this mount namespace off from the host's, and puts the root filesystem's mount where its path is.
fn place_root(plan: &InitPlan, given: &mut Given) -> Result<OwnedFd> {
    if plan.namespaces.is_new(Kind::Mount) {
        let propagation = match plan.propagation {
            Some((flag, _)) if options::is_shared(flag) => flag,
            Some((flag, true)) if flag == PRIVATE => flag,
            _ => SLAVE,
        };
        let attr = MountAttr { propagation, ..MountAttr::default() };
        mount_attr::set(open_dir("/")?, &attr, Depth::All).ctx("set propagation of", "/")?;
    }
    let root = match given.rootfs.take() {
        Some(root) => root,
        None => {
            // A runtime without privilege: what it could not open, this process can, as root of its namespaces.
            given.trees = prepare::trees(SingleThread::check()?, plan)?;
            given.device_trees = prepare::devices(plan)?;
            prepare::rootfs(plan)?
        }
    };
    match open_dir(&plan.rootfs) {
        Ok(target) => {
            if plan.propagation.is_some_and(|(flag, _)| options::is_shared(flag)) {
                unshare_parent(&target, plan)?;
            }
            attach::attach(&root, &target).ctx("mount", &plan.rootfs)?;
        }
        // In a user namespace whose root may not go there: on top of what / is now, which is left anyhow.
        Err(error) if error.errno() == Some(libc::EACCES) => {
            attach::attach(&root, open_dir("/")?).ctx("mount", &plan.rootfs)?;
        }
        Err(error) => return Err(error),
    }
    Ok(root)
}

/// Makes the mount that `target` is on private: a root can't be changed below a shared mount.
fn unshare_parent(target: &OwnedFd, plan: &InitPlan) -> Result<()> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    let mut at = target.try_clone().ctx("open", &plan.rootfs)?;
    loop {
        let stat = statx(&at, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE).ctx("stat", &plan.rootfs)?;
        if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            let attr = MountAttr { propagation: PRIVATE, ..MountAttr::default() };
            return mount_attr::set(&at, &attr, Depth::One).ctx("make private", &plan.rootfs);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        at = rustix::fs::openat(&at, "..", flags, Mode::empty()).ctx("open", "..")?;
    }
}

/// Mounts one; gives the mount if it is to be read-only once everything is in place.
fn mount_one(
    root: BorrowedFd<'_>,
    mount: &PlannedMount,
    tree: Option<OwnedFd>,
    given: &Given,
    plan: &InitPlan,
) -> Result<Option<OwnedFd>> {
    let destination = &mount.destination;
    match &mount.what {
        What::Bind(_) => {
            let tree = tree.ok_or_else(|| Error::other("mount", destination, "its source was not opened"))?;
            attach::bind(root, destination, tree.as_fd())?;
            Ok(None)
        }
        What::Remount => attach::remount(root, destination, &mount.options).map(|()| None),
        What::Cgroup => {
            let Some(view) = &given.cgroups else { return Ok(None) };
            let mounted = cgroups::mount(root, mount, view, plan)?;
            Ok(mount.options.readonly().then_some(mounted))
        }
        What::New(kind, source) => {
            let mounted = attach::filesystem(root, destination, kind, source.as_deref(), &mount.options)?;
            recursive(&mounted, &mount.options, destination)?;
            if !mount.options.readonly() {
                return Ok(None);
            }
            // What is mounted or made below a tmpfs needs it writable a little longer.
            if kind == "tmpfs" {
                return Ok(Some(mounted));
            }
            attach::make_readonly(&mounted, destination)?;
            Ok(None)
        }
    }
}

fn recursive(mounted: &OwnedFd, options: &MountOptions, destination: &str) -> Result<()> {
    if options.rec_set == 0 && options.rec_clear == 0 {
        return Ok(());
    }
    let attr = MountAttr { set: options.rec_set, clear: options.rec_clear, ..MountAttr::default() };
    mount_attr::set(mounted, &attr, Depth::All).ctx("mount", destination)
}

/// Lets the parent run the hooks of the runtime's namespaces, and set what needs its rights.
fn runtime_hooks(plan: &InitPlan, given: &Given) -> Result<()> {
    if !plan.needs_parent() {
        return Ok(());
    }
    send(&given.sync, b"h")?;
    expect(&given.sync, b'h').map(drop)
}

fn write_sysctls(plan: &InitPlan, proc: &Procfs) -> Result<()> {
    for Sysctl { path, value, .. } in &plan.sysctl {
        proc.write(&format!("sys/{path}"), value.as_bytes())?;
    }
    Ok(())
}

/// Makes `root` the root of this mount namespace and lets go of the old one.
fn pivot(root: &OwnedFd) -> Result<()> {
    let old = open_dir("/")?;
    rustix::process::fchdir(root).ctx("change directory to", "the new root")?;
    rustix::process::pivot_root(".", ".").ctx("pivot root to", "the new root")?;
    rustix::process::fchdir(&old).ctx("change directory to", "the old root")?;
    // What is unmounted here stays mounted on the host.
    let attr = MountAttr { propagation: SLAVE, ..MountAttr::default() };
    mount_attr::set(&old, &attr, Depth::All).ctx("set propagation of", "the old root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).ctx("unmount", "the old root")?;
    rustix::process::chdir("/").ctx("change directory to", "/")
}

/// For an initial ramdisk, whose root can't be pivoted away: moves `root` over it.
fn move_root(root: &OwnedFd) -> Result<()> {
    // Reachable below the new root no more, but whoever may call chroot could look for them.
    let mounts = sys::proc::mounts()?;
    let ours = ours(root, &mounts)?;
    for mount in mounts.iter().filter(|mount| !ours.contains(&mount.id)) {
        if matches!(mount.fs_type.as_str(), "proc" | "sysfs") && mount.root == Path::new("/") {
            take_away(&mount.mount_point)?;
        }
    }
    let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(root, "", rustix::fs::CWD, "/", flags).ctx("move root to", "/")?;
    rustix::process::fchdir(root).ctx("change directory to", "the new root")?;
    rustix::process::chroot(".").ctx("change root to", "the new root")?;
    rustix::process::chdir("/").ctx("change directory to", "/")
}

/// The ids of the mount `root` and of all below it.
fn ours(root: &OwnedFd, mounts: &[Mount]) -> Result<Vec<u64>> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let stat = statx(root, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ctx("stat", "the new root")?;
    let mut ours = vec![stat.stx_mnt_id];
    // What is mounted on the last of them, and so on.
    let mut next = 0;
    while let Some(parent) = ours.get(next).copied() {
        ours.extend(mounts.iter().filter(|mount| mount.parent == parent && mount.id != parent).map(|m| m.id));
        next += 1;
    }
    Ok(ours)
}

/// Unmounts a procfs or sysfs; one that can't be, as it was mounted by another user namespace, is covered.
fn take_away(path: &Path) -> Result<()> {
    use rustix::mount::{MountFlags, mount};
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::INVAL | Errno::PERM) => {}
        Err(error) => return Err(Error::new("unmount", path, error)),
    }
    // Gone with the mount that it was on, and with others this way.
    let kind = rustix::fs::statfs(path).map(|stat| u64::try_from(stat.f_type).unwrap_or(0));
    if !kind.is_ok_and(|kind| matches!(kind, procfs::MAGIC | SYSFS_MAGIC)) {
        return Ok(());
    }
    mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).ctx("cover", path)
}
