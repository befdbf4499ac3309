//! Mounts that are opened outside: with the runtime's rights, before init is cloned.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use sys::mount_attr::{self, Depth, MountAttr};
use sys::spawn::SingleThread;
use sys::{Ctx, Error, Result};

use super::options;
use super::source;
use crate::namespaces::Kind;
use crate::plan::{InitPlan, PlannedMount, What};
use crate::procfs::is_procfs;

/// The root filesystem with all that is mounted below it.
///
/// # Errors
/// The system's.
pub(crate) fn rootfs(plan: &InitPlan) -> Result<OwnedFd> {
    let tree = source::tree(&plan.rootfs, true)?;
    detach(&tree, plan, &plan.rootfs)?;
    // Of the host's mounts the root itself is none, whatever those below it hear: a shared one can't be pivoted to.
    let private = MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    mount_attr::set(&tree, &private, Depth::One).ctx("make private", &plan.rootfs)?;
    Ok(tree)
}

/// The copy hears of what is mounted on the host, as the mounts of a new namespace do, unless it shares all.
fn detach(tree: &OwnedFd, plan: &InitPlan, path: &Path) -> Result<()> {
    match plan.propagation {
        Some((flag, _)) if options::is_shared(flag) => Ok(()),
        Some((flag, true)) if flag == libc::MS_PRIVATE => source::propagate(tree, libc::MS_PRIVATE),
        _ => source::propagate(tree, libc::MS_SLAVE),
    }
    .ctx("set propagation of", path)
}

/// A tree for each bind mount, with its attributes; nothing for the others.
///
/// # Errors
/// The system's.
pub(crate) fn trees(proof: SingleThread, plan: &InitPlan) -> Result<Vec<Option<OwnedFd>>> {
    plan.mounts
        .iter()
        .map(|mount| match &mount.what {
            What::Bind(path) => tree(proof, plan, mount, path).map(Some),
            _ => Ok(None),
        })
        .collect()
}

fn tree(proof: SingleThread, plan: &InitPlan, mount: &PlannedMount, path: &Path) -> Result<OwnedFd> {
    let tree = source::tree(path, mount.options.bind == Some(true))?;
    if mount.destination.trim_end_matches('/') == "/proc" && !is_procfs(&tree).ctx("stat", path)? {
        return Err(Error::other("mount", "/proc", format!("{} is no procfs", path.display())));
    }
    detach(&tree, plan, path)?;
    if let Some((uids, gids)) = &mount.id_maps {
        let namespace = match (uids.is_empty(), plan.namespaces.joined(Kind::User)) {
            // Its mappings are the container's, whatever config.json says they are.
            (true, Some(joined)) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                rustix::fs::open(joined, flags, Mode::empty()).ctx("open namespace", joined)?
            }
            (true, None) if plan.uid_maps.is_empty() => {
                return Err(Error::other("map ids of", path, "there is no mapping"));
            }
            (true, None) => source::user_namespace(proof, &plan.uid_maps, &plan.gid_maps)?,
            (false, _) => source::user_namespace(proof, uids, gids)?,
        };
        let attr =
            MountAttr { set: mount_attr::IDMAP, userns: Some(namespace.as_fd()), ..MountAttr::default() };
        let depth = if mount.options.idmap == Some(true) { Depth::All } else { Depth::One };
        mount_attr::set(&tree, &attr, depth).ctx("map ids of", path)?;
    }
    source::dress(&tree, &mount.options).ctx("mount", path)?;
    Ok(tree)
}

/// A tree for each device where they can't be made: in a user namespace.
///
/// # Errors
/// The system's.
pub(crate) fn devices(plan: &InitPlan) -> Result<Vec<Option<OwnedFd>>> {
    if !plan.namespaces.has(Kind::User) || !plan.fill_dev {
        return Ok(Vec::new());
    }
    plan.devices
        .iter()
        .map(|device| match device.kind.as_str() {
            "p" => Ok(None),
            _ if device.path == "/dev/ptmx" => Ok(None),
            _ => crate::init::devices::host(device).map(Some).ctx("open device", &device.path),
        })
        .collect()
}
