//! `linux.cgroupsPath` → where the cgroup is (config-linux.md, "Cgroups Path").
//!
//! cgroupfs: an absolute path is taken from the mount point, a relative one from our own cgroup. Nothing leads out:
//! `..` is resolved before anything is joined. systemd: `slice:prefix:name`.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Driver, Error, Layout, Rights, impossible};

/// Where a container's cgroup is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Directory in each hierarchy by controller, as in [`super::Cgroup::paths`].
    pub paths: Vec<(String, PathBuf)>,
    /// The mount point of each, in the same order.
    pub mounts: Vec<PathBuf>,
    /// The scope, with the systemd driver.
    pub unit: Option<Unit>,
}

/// A systemd unit that stands for a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Such as `crio-ID.scope`.
    pub name: String,
    /// The slice it is in.
    pub slice: String,
    /// Whether the user's own systemd has it.
    pub user: bool,
}

impl Place {
    /// Where `cgroups_path` says, for the container `id`.
    ///
    /// # Errors
    /// A path that is not of the driver's form.
    pub fn of(
        cgroups_path: Option<&str>,
        id: &str,
        driver: Driver,
        rights: Rights,
        layout: &Layout,
    ) -> Result<Self, Error> {
        let path = cgroups_path.filter(|path| !path.is_empty());
        match driver {
            Driver::Cgroupfs => Ok(Self::cgroupfs(Path::new(path.unwrap_or(id)), layout)),
            Driver::Systemd => Self::systemd(path, id, rights, layout),
        }
    }

    fn cgroupfs(path: &Path, layout: &Layout) -> Self {
        let inner = clean(path);
        let absolute = path.is_absolute();
        match layout {
            Layout::V2 { root, own } => {
                // Our own cgroup has processes in it, so that it can't have controllers for children: beside it.
                let beside = own.parent().map(clean).unwrap_or_default();
                let inner = if absolute { inner } else { beside.join(inner) };
                Self {
                    paths: vec![(String::new(), root.join(inner))],
                    mounts: vec![root.clone()],
                    unit: None,
                }
            }
            Layout::V1 { hierarchies } => {
                let path = |own: &Path| if absolute { inner.clone() } else { clean(own).join(&inner) };
                Self {
                    paths: hierarchies
                        .iter()
                        .map(|h| (h.controller.clone(), h.mount.join(path(&h.own))))
                        .collect(),
                    mounts: hierarchies.iter().map(|h| h.mount.clone()).collect(),
                    unit: None,
                }
            }
        }
    }

    fn systemd(path: Option<&str>, id: &str, rights: Rights, layout: &Layout) -> Result<Self, Error> {
        let user = rights == Rights::Rootless;
        let invalid = |cause: String| impossible("linux.cgroupsPath", cause);
        let default = format!(":runc:{id}");
        let path = path.unwrap_or(&default);
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(invalid(format!("expected slice:prefix:name with the systemd driver, got {path:?}")));
        };
        let slice = match slice {
            "" if user => "user.slice",
            "" => "system.slice",
            slice => slice,
        };
        if name.is_empty() || name.contains('/') || prefix.contains('/') {
            return Err(invalid(format!("no unit can be named so: {path:?}")));
        }
        let directory =
            slice_directory(slice).ok_or_else(|| invalid(format!("invalid slice name {slice:?}")))?;
        let unit_name = match (prefix, name.ends_with(".slice")) {
            (_, true) => name.to_owned(),
            ("", false) => format!("{name}.scope"),
            (prefix, false) => format!("{prefix}-{name}.scope"),
        };
        let inner = directory.join(&unit_name);
        let unit = Some(Unit { name: unit_name, slice: slice.to_owned(), user });
        Ok(match layout {
            Layout::V2 { root, own } => {
                let root_inner = if user { user_manager_cgroup(own).join(inner) } else { inner };
                Self { paths: vec![(String::new(), root.join(root_inner))], mounts: vec![root.clone()], unit }
            }
            Layout::V1 { hierarchies } => Self {
                paths: hierarchies.iter().map(|h| (h.controller.clone(), h.mount.join(&inner))).collect(),
                mounts: hierarchies.iter().map(|h| h.mount.clone()).collect(),
                unit,
            },
        })
    }
}

/// The cgroup of `user@UID.service` above ours, which is where the user's systemd makes its units.
fn user_manager_cgroup(own: &Path) -> PathBuf {
    let is_manager = |name: &std::ffi::OsStr| {
        name.to_str().is_some_and(|name| name.starts_with("user@") && name.ends_with(".service"))
    };
    let manager = own.ancestors().find(|path| path.file_name().is_some_and(is_manager));
    let uid = crate::rights::outer_uid();
    let guess = || PathBuf::from(format!("/user.slice/user-{uid}.slice/user@{uid}.service"));
    clean(&manager.map_or_else(guess, Path::to_path_buf))
}

/// Where systemd keeps a slice: `a-b.slice` is `a.slice/a-b.slice`.
pub(super) fn slice_directory(slice: &str) -> Option<PathBuf> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(PathBuf::new());
    }
    if stem.is_empty() || stem.contains('/') || stem.split('-').any(str::is_empty) {
        return None;
    }
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    Some(ends.map(|end| format!("{}.slice", &stem[..end])).collect())
}

/// The path without a leading `/`, with `.` and `..` resolved and never leading out.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Hierarchy;

    fn v2() -> Layout {
        Layout::V2 { root: "/cg".into(), own: "/user.slice/own.scope".into() }
    }

    fn v1() -> Layout {
        let hierarchy = |controller: &str, own: &str| Hierarchy {
            controller: controller.to_owned(),
            mount: Path::new("/cg").join(controller),
            own: own.into(),
        };
        Layout::V1 { hierarchies: vec![hierarchy("memory", "/deep/own"), hierarchy("pids", "/")] }
    }

    fn check(path: Option<&str>, driver: Driver, layout: &Layout) -> String {
        match Place::of(path, "c1", driver, Rights::Root, layout) {
            Ok(place) => {
                let paths: Vec<_> = place.paths.iter().map(|(_, path)| path.display().to_string()).collect();
                paths.join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn cgroupfs_paths() {
        let cases = [
            (None, "/cg/user.slice/c1", "/cg/memory/deep/own/c1 /cg/pids/c1"),
            (Some(""), "/cg/user.slice/c1", "/cg/memory/deep/own/c1 /cg/pids/c1"),
            (Some("/a/b"), "/cg/a/b", "/cg/memory/a/b /cg/pids/a/b"),
            (Some("a/./b"), "/cg/user.slice/a/b", "/cg/memory/deep/own/a/b /cg/pids/a/b"),
            (Some("/../../etc"), "/cg/etc", "/cg/memory/etc /cg/pids/etc"),
            (Some("../../../etc"), "/cg/user.slice/etc", "/cg/memory/deep/own/etc /cg/pids/etc"),
            (Some("/a/../../b//c/"), "/cg/b/c", "/cg/memory/b/c /cg/pids/b/c"),
        ];
        for (path, unified, split) in cases {
            assert_eq!(check(path, Driver::Cgroupfs, &v2()), unified, "{path:?}");
            assert_eq!(check(path, Driver::Cgroupfs, &v1()), split, "{path:?}");
        }
    }

    #[test]
    fn systemd_paths() {
        let cases = [
            (None, "/cg/system.slice/runc-c1.scope"),
            (Some(":crio:x"), "/cg/system.slice/crio-x.scope"),
            (Some("a-b-c.slice:crio:x"), "/cg/a.slice/a-b.slice/a-b-c.slice/crio-x.scope"),
            (Some("-.slice:crio:x"), "/cg/crio-x.scope"),
            (Some("system.slice:crio:x.slice"), "/cg/system.slice/x.slice"),
            (Some("system.slice::x"), "/cg/system.slice/x.scope"),
            (
                Some("/a/b"),
                "linux.cgroupsPath: expected slice:prefix:name with the systemd driver, got \"/a/b\"",
            ),
            (
                Some("a:b:c:d"),
                "linux.cgroupsPath: expected slice:prefix:name with the systemd driver, got \"a:b:c:d\"",
            ),
            (Some("a--b.slice:crio:x"), "linux.cgroupsPath: invalid slice name \"a--b.slice\""),
            (Some("system:crio:x"), "linux.cgroupsPath: invalid slice name \"system\""),
            (Some("../x.slice:crio:x"), "linux.cgroupsPath: invalid slice name \"../x.slice\""),
            (
                Some("system.slice:crio:../x"),
                "linux.cgroupsPath: no unit can be named so: \"system.slice:crio:../x\"",
            ),
        ];
        for (path, expected) in cases {
            assert_eq!(check(path, Driver::Systemd, &v2()), expected, "{path:?}");
        }
        assert_eq!(
            check(Some("s.slice:p:n"), Driver::Systemd, &v1()),
            "/cg/memory/s.slice/p-n.scope /cg/pids/s.slice/p-n.scope"
        );
    }

    #[test]
    fn a_users_units_are_below_the_users_manager() {
        let layout = Layout::V2 {
            root: "/cg".into(),
            own: "/user.slice/user-7.slice/user@7.service/app.slice/x.scope".into(),
        };
        let place = Place::of(Some(":p:n"), "c1", Driver::Systemd, Rights::Rootless, &layout).unwrap();
        let expected = "/cg/user.slice/user-7.slice/user@7.service/user.slice/p-n.scope";
        assert_eq!(place.paths[0].1, Path::new(expected));
    }
}
