//! Users and groups by the names that a root file system has for them: passwd(5) and group(5), read
//! without leaving it.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, bail};
use model::spec::User;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// The most that is read of a passwd or group file, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// Looks up `USER[:GROUP]` in the root file system at `root`.
pub(crate) fn look_up(root: &Path, text: &str) -> anyhow::Result<User> {
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    let numbers = |text: &str| text.parse::<u32>().ok();
    // Numbers only: nothing to look up.
    if let (Some(uid), Some(gid)) = (numbers(user), group.map_or(Some(0), numbers))
        && group.is_some()
    {
        return Ok(User { uid, gid, additional_gids: Vec::new() });
    }
    let passwd = read(root, "etc/passwd")?;
    let groups = read(root, "etc/group")?;
    resolve(user, group, &passwd, &groups)
}

fn resolve(user: &str, group: Option<&str>, passwd: &str, groups: &str) -> anyhow::Result<User> {
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.len() >= 4 && (fields[0] == user || (fields[2] == user && user.parse::<u32>().is_ok()))
    });
    let (uid, own_gid, name) = match &entry {
        Some(fields) => (number(fields[2])?, number(fields[3])?, Some(fields[0])),
        None => match user.parse() {
            Ok(uid) => (uid, 0, None),
            Err(_) => bail!("user {user:?}: not in the root file system's /etc/passwd"),
        },
    };
    let Some(group) = group else {
        let additional_gids = name.map(|name| memberships(name, own_gid, groups)).unwrap_or_default();
        return Ok(User { uid, gid: own_gid, additional_gids });
    };
    let found = groups
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|f| f.len() >= 3 && f[0] == group);
    let gid = match (found, group.parse()) {
        (Some(fields), _) => number(fields[2])?,
        (None, Ok(gid)) => gid,
        (None, Err(_)) => bail!("group {group:?}: not in the root file system's /etc/group"),
    };
    Ok(User { uid, gid, additional_gids: Vec::new() })
}

fn memberships(name: &str, own: u32, groups: &str) -> Vec<u32> {
    let member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let gid = fields.get(2)?.parse().ok()?;
        fields.get(3)?.split(',').any(|m| m == name).then_some(gid)
    };
    groups.lines().filter_map(member).filter(|gid| *gid != own).collect()
}

fn number(text: &str) -> anyhow::Result<u32> {
    text.parse().with_context(|| format!("{text:?} in /etc/passwd or /etc/group is no number"))
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
    let mut bytes = Vec::new();
    std::fs::File::from(fd).take(FILE_MAX).read_to_end(&mut bytes).with_context(at)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:40:web,root\n";

    #[test]
    fn names_and_numbers() {
        let user = |uid, gid, more: &[u32]| User { uid, gid, additional_gids: more.to_vec() };
        for (who, group, expected) in [
            ("web", None, user(33, 34, &[40])),
            ("33", None, user(33, 34, &[40])),
            ("77", None, user(77, 0, &[])),
            ("web", Some("logs"), user(33, 40, &[])),
            ("web", Some("5"), user(33, 5, &[])),
        ] {
            assert_eq!(resolve(who, group, PASSWD, GROUP).unwrap(), expected, "{who} {group:?}");
        }
        assert!(resolve("nobody", None, PASSWD, GROUP).unwrap_err().to_string().contains("nobody"));
        assert!(resolve("web", Some("nope"), PASSWD, GROUP).is_err());
    }

    #[test]
    fn a_link_out_of_the_root_stays_inside() {
        let root = std::env::temp_dir().join(format!("wharf-users-{}", std::process::id()));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::os::unix::fs::symlink("/../../../etc/passwd", root.join("etc/passwd")).unwrap();
        let read = read(&root, "etc/passwd");
        std::fs::remove_dir_all(&root).unwrap();
        // The link means etc/passwd inside, which is the link itself: a loop, and never the host's file.
        assert!(read.is_err());
    }
}
