//! Users and groups by the names that a root file system has for them: passwd(5) and group(5), read
//! without leaving it.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, bail};
use model::spec::User;
use model::users::{self, number_or_name};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// The most that is read of a passwd or group file, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// Looks up `USER[:GROUP]` in the root file system at `root`.
pub(crate) fn look_up(root: &Path, text: &str) -> anyhow::Result<User> {
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    let number = |what, text| number_or_name(what, text).map_err(anyhow::Error::msg);
    // Numbers only: nothing to look up.
    if let (Some(uid), Some(group)) = (number("user", user)?, group)
        && let Some(gid) = number("group", group)?
    {
        return Ok(User { uid, gid, additional_gids: Vec::new() });
    }
    let passwd = read(root, "etc/passwd")?;
    let groups = read(root, "etc/group")?;
    users::resolve(user, group, &passwd, &groups).map_err(anyhow::Error::msg)
}

fn read(root: &Path, file: &str) -> anyhow::Result<String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let at = || format!("open {file} in {}", root.display());
    let dir = rustix::fs::openat(CWD, root, flags, Mode::empty()).with_context(at)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let fd: OwnedFd = match rustix::fs::openat2(dir, file, flags, Mode::empty(), inside) {
        Err(rustix::io::Errno::NOENT) => return Ok(String::new()),
        result => result.with_context(at)?,
    };
    let kind = rustix::fs::fstat(&fd).with_context(at)?.st_mode;
    if rustix::fs::FileType::from_raw_mode(kind) != rustix::fs::FileType::RegularFile {
        bail!("open {file} in {}: not a regular file", root.display());
    }
    let mut bytes = Vec::new();
    std::fs::File::from(fd).take(FILE_MAX).read_to_end(&mut bytes).with_context(at)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_alone_need_no_files() {
        let user = User { uid: 7, gid: 8, additional_gids: Vec::new() };
        assert_eq!(look_up(Path::new("/nowhere"), "7:8").unwrap(), user);
        for odd in ["4294967296:0", "0:-1", "7:"] {
            assert!(look_up(Path::new("/nowhere"), odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_link_out_of_the_root_stays_inside() {
        let root = std::env::temp_dir().join(format!("wharf-users-{}", std::process::id()));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::os::unix::fs::symlink("/../../../etc/passwd", root.join("etc/passwd")).unwrap();
        let read = read(&root, "etc/passwd");
        std::os::unix::net::UnixListener::bind(root.join("etc/group")).unwrap();
        let socket = super::read(&root, "etc/group");
        std::fs::create_dir(root.join("etc/dir")).unwrap();
        let dir = super::read(&root, "etc/dir");
        std::fs::remove_dir_all(&root).unwrap();
        // The link means etc/passwd inside, which is the link itself: a loop, and never the host's file.
        assert!(read.is_err() && socket.is_err() && dir.is_err());
    }
}
