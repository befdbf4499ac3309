//! Mounts of type cgroup: the container's own cgroups, and nothing else of the host's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::symlinkat;
use rustix::io::Errno;
use sys::mount_attr::{self, Depth, MountAttr};
use sys::{Ctx, Error, Result};

use crate::inroot;
use crate::mounts::attach;
use crate::mounts::options::MountOptions;
use crate::mounts::source;
use crate::namespaces::Kind;
use crate::plan::{InitPlan, PlannedMount};
use crate::selinux;

/// The cgroup trees and where in them the container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CgroupView {
    /// One tree; the container's directory.
    V2(PathBuf),
    /// Many.
    V1(Vec<Tree>),
}

/// One v1 tree, or the v2 tree beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    /// The mount point's name, such as `cpu,cpuacct`.
    pub(crate) name: String,
    /// Its controllers, or `name=systemd`; none for v2.
    pub(crate) controllers: Vec<String>,
    /// The container's directory.
    pub(crate) directory: PathBuf,
}

/// Mounts the container's cgroups at the mount's destination; gives the mount that is to be read-only, if it is.
pub(super) fn mount(
    root: BorrowedFd<'_>,
    mount: &PlannedMount,
    view: &CgroupView,
    plan: &InitPlan,
) -> Result<OwnedFd> {
    let own_namespace = plan.namespaces.has(Kind::Cgroup);
    match view {
        CgroupView::V2(directory) => v2(root, mount, directory, own_namespace),
        CgroupView::V1(trees) => v1(root, mount, trees, plan),
    }
}

fn v2(root: BorrowedFd<'_>, mount: &PlannedMount, directory: &Path, own_namespace: bool) -> Result<OwnedFd> {
    let destination = &mount.destination;
    let target = attach::directory(root, destination)?;
    let made = if own_namespace {
        let plain = MountOptions { set: mount.options.set, ..MountOptions::default() };
        match source::new("cgroup2", Some("cgroup"), &plain) {
            Err(error) if matches!(error.errno(), Some(libc::EPERM | libc::EBUSY)) => {
                bound(directory, &mount.options)?
            }
            result => result?,
        }
    } else {
        bound(directory, &mount.options)?
    };
    attach::attach(&made, &target).ctx("mount", destination)?;
    Ok(made)
}

/// The container's directory of a tree that the host has mounted.
fn bound(directory: &Path, options: &MountOptions) -> Result<OwnedFd> {
    let tree = source::tree(directory, false)?;
    let set = options.set & !mount_attr::RDONLY;
    mount_attr::set(&tree, &MountAttr { set, ..MountAttr::default() }, Depth::One).ctx("mount", directory)?;
    Ok(tree)
}

fn v1(root: BorrowedFd<'_>, mount: &PlannedMount, trees: &[Tree], plan: &InitPlan) -> Result<OwnedFd> {
    let destination = mount.destination.trim_end_matches('/');
    let defaults = mount_attr::NOSUID | mount_attr::NODEV | mount_attr::NOEXEC;
    let set = mount.options.set & !mount_attr::RDONLY | defaults;
    let mut data = vec![("mode".to_owned(), Some("755".to_owned()))];
    data.extend(plan.mount_label.as_deref().map(selinux::context));
    let options = MountOptions { set, data, ..MountOptions::default() };
    let top = attach::filesystem(root, destination, "tmpfs", Some("tmpfs"), &options)?;
    for tree in trees {
        let made = if plan.namespaces.has(Kind::Cgroup) { fresh(tree, set)? } else { None };
        let made = match made {
            Some(made) => made,
            None => match bound(&tree.directory, &options) {
                // A tree of which the container has no directory is not shown.
                Err(error) if error.is_gone() => continue,
                result => result?,
            },
        };
        if mount.options.readonly() {
            // Each on its own: the tmpfs above being read-only says nothing of these.
            attach::make_readonly(&made, &tree.name)?;
        }
        let path = format!("{destination}/{}", tree.name);
        attach::attach(&made, inroot::make_dirs(root, &path)?).ctx("mount", &path)?;
        if tree.controllers.len() > 1 {
            for controller in &tree.controllers {
                link(&top, &tree.name, controller)?;
            }
        }
    }
    Ok(top)
}

/// A new mount of the tree; in a cgroup namespace it begins at the container's cgroup.
fn fresh(tree: &Tree, set: u64) -> Result<Option<OwnedFd>> {
    let (kind, data) = match tree.controllers.as_slice() {
        [] => ("cgroup2", Vec::new()),
        [name] if name.starts_with("name=") => {
            ("cgroup", vec![("none".to_owned(), None), ("name".to_owned(), Some(name[5..].to_owned()))])
        }
        names => ("cgroup", names.iter().map(|name| (name.clone(), None)).collect()),
    };
    let options = MountOptions { set, data, ..MountOptions::default() };
    match source::new(kind, Some("cgroup"), &options) {
        Ok(made) => Ok(Some(made)),
        // Not in every user namespace.
        Err(error)
            if matches!(error.errno(), Some(libc::EPERM | libc::EBUSY | libc::EINVAL | libc::ENOENT)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn link(top: &OwnedFd, target: &str, name: &str) -> Result<()> {
    let dir = rustix::fs::openat(
        top.as_fd(),
        ".",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        0.into(),
    )
    .ctx("open", "cgroups")?;
    match symlinkat(target, &dir, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(Error::new("make link", name, error)),
    }
}
