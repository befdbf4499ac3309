//! A root file system of nothing but a static busybox.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::{locked, require};

const DIRS: [&str; 12] =
    ["bin", "dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "var/tmp"];
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    nobody:x:65534:65534:nobody:/home:/bin/sh\n\
    sailor:x:1000:1000:sailor:/home:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\nsailor:x:1000:\nharbour:x:2000:sailor\n";

/// The machine's one copy of the image, made at the first call: `/tmp/.wharf-testkit-UID/rootfs-VERSION`.
///
/// Never run a container on it: take a copy with [`install_rootfs`].
pub fn rootfs_image() -> PathBuf {
    let busybox = require("busybox");
    let meta = fs::metadata(&busybox).unwrap_or_else(|error| panic!("stat {}: {error}", busybox.display()));
    let cache = crate::programs::cache();
    let image = cache.join(format!("rootfs-3-{}-{}", meta.len(), meta.mtime()));
    if image.is_dir() {
        return image;
    }
    locked(&cache.join("rootfs.lock"), || {
        if image.is_dir() {
            return;
        }
        let draft = cache.join(format!("draft-{}", std::process::id()));
        // A draft can be there only if a process with our id died half way.
        let _ = fs::remove_dir_all(&draft);
        build(&busybox, &draft).unwrap_or_else(|error| panic!("build {}: {error}", draft.display()));
        fs::rename(&draft, &image).unwrap_or_else(|error| panic!("rename to {}: {error}", image.display()));
    });
    image
}

fn build(busybox: &Path, root: &Path) -> std::io::Result<()> {
    for dir in DIRS {
        fs::create_dir_all(root.join(dir))?;
    }
    for dir in ["tmp", "var/tmp"] {
        fs::set_permissions(root.join(dir), fs::Permissions::from_mode(0o1777))?;
    }
    for (link, target) in [("sbin", "bin"), ("lib", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin")] {
        symlink(target, root.join(link))?;
    }
    fs::write(root.join("etc/passwd"), PASSWD)?;
    fs::write(root.join("etc/group"), GROUP)?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    let list = Command::new(busybox).arg("--list").output()?;
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(())
}

/// Puts a copy of the image at `target` (which is made). The busybox program is a hard link where the file
/// system allows it, everything else is the copy's own.
pub fn install_rootfs(target: &Path) {
    let image = rootfs_image();
    copy(&image, target)
        .unwrap_or_else(|error| panic!("copy {} to {}: {error}", image.display(), target.display()));
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if entry.file_name() != "busybox" || fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}
