//! How control groups are mounted on this machine.

use std::path::{Path, PathBuf};

use rustix::fs::StatFs;
use sys::Ctx as _;

use super::Error;

/// Where everybody mounts them.
const ROOT: &str = "/sys/fs/cgroup";

/// Both of `linux/magic.h`.
const CGROUP1_SUPER_MAGIC: u64 = 0x0027_e0eb;
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// How control groups are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// One tree.
    V2 {
        /// Its mount point.
        root: PathBuf,
        /// Our own cgroup in it.
        own: PathBuf,
    },
    /// A tree for each controller or for a few together, and perhaps a v2 tree without limits beside them.
    V1 {
        /// The trees.
        hierarchies: Vec<Hierarchy>,
    },
}

/// One tree of the v1 layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// `memory`, `name=systemd`, or nothing for the v2 tree of the hybrid layout.
    pub controller: String,
    /// Its mount point.
    pub mount: PathBuf,
    /// Our own cgroup in it.
    pub own: PathBuf,
}

impl Layout {
    /// Looks at `/sys/fs/cgroup` and `/proc/self/cgroup`.
    ///
    /// # Errors
    /// `/proc/self/cgroup` can't be read.
    pub fn detect() -> Result<Self, Error> {
        let file = "/proc/self/cgroup";
        let text = std::fs::read_to_string(file).ctx("read", file)?;
        Ok(Self::from_proc(&text, Path::new(ROOT), &kind))
    }

    /// The layout that `/proc/self/cgroup` tells, as far as it is mounted below `root`.
    fn from_proc(text: &str, root: &Path, kind: &dyn Fn(&Path) -> Option<Kind>) -> Self {
        let lines = text.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, PathBuf::from(fields.next()?)))
        });
        let lines: Vec<_> = lines.collect();
        if kind(root) == Some(Kind::V2) {
            let own = lines.into_iter().find(|(controllers, _)| controllers.is_empty());
            return Self::V2 { root: root.to_owned(), own: own.map_or_else(|| "/".into(), |(_, own)| own) };
        }
        let mut hierarchies = Vec::new();
        for (controllers, own) in lines {
            let names: Vec<&str> = controllers.split(',').collect();
            let (directories, wanted) = match names.as_slice() {
                [""] => (vec!["unified"], Kind::V2),
                [name] if name.starts_with("name=") => (vec![&name[5..]], Kind::V1),
                _ => (std::iter::once(controllers).chain(names.iter().copied()).collect(), Kind::V1),
            };
            let mount =
                directories.iter().map(|name| root.join(name)).find(|path| kind(path) == Some(wanted));
            let Some(mount) = mount else { continue };
            for name in names {
                hierarchies.push(Hierarchy {
                    controller: name.to_owned(),
                    mount: mount.clone(),
                    own: own.clone(),
                });
            }
        }
        Self::V1 { hierarchies }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    V1,
    V2,
}

fn kind(path: &Path) -> Option<Kind> {
    let StatFs { f_type, .. } = rustix::fs::statfs(path).ok()?;
    #[expect(clippy::cast_sign_loss, reason = "magic numbers are bit patterns")]
    let magic = f_type as u64;
    match magic {
        CGROUP2_SUPER_MAGIC => Some(Kind::V2),
        CGROUP1_SUPER_MAGIC => Some(Kind::V1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_of_known_machines() {
        let root = Path::new("/cg");
        let v2 = |path: &Path| (path == root).then_some(Kind::V2);
        let layout = Layout::from_proc("0::/user.slice/s.scope\n", root, &v2);
        assert_eq!(layout, Layout::V2 { root: root.into(), own: "/user.slice/s.scope".into() });

        let text = "12:cpu,cpuacct:/a:b\n5:misc:/\n3:memory:/\n1:name=systemd:/x\n0::/x\n";
        let hybrid = |path: &Path| match path.to_str() {
            Some("/cg/cpu,cpuacct" | "/cg/memory" | "/cg/systemd") => Some(Kind::V1),
            Some("/cg/unified") => Some(Kind::V2),
            _ => None,
        };
        let Layout::V1 { hierarchies } = Layout::from_proc(text, root, &hybrid) else { panic!("v1") };
        let all: Vec<_> = hierarchies
            .iter()
            .map(|h| (h.controller.as_str(), h.mount.to_str().unwrap(), h.own.to_str().unwrap()))
            .collect();
        assert_eq!(
            all,
            [
                ("cpu", "/cg/cpu,cpuacct", "/a:b"),
                ("cpuacct", "/cg/cpu,cpuacct", "/a:b"),
                ("memory", "/cg/memory", "/"),
                ("name=systemd", "/cg/systemd", "/x"),
                ("", "/cg/unified", "/x"),
            ]
        );
    }

    #[test]
    fn this_machine_has_one() {
        match Layout::detect().unwrap() {
            Layout::V2 { root, .. } => assert!(root.join("cgroup.procs").exists()),
            Layout::V1 { hierarchies } => {
                assert!(hierarchies.iter().all(|h| h.mount.join("cgroup.procs").exists()));
                assert!(hierarchies.iter().any(|h| h.controller == "memory"));
            }
        }
    }
}
